"""A Slurm cluster of this one machine, for tests: its daemons, started by root without systemd, in a folder of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

HAS_SLURM = os.geteuid() == 0 and all(shutil.which(name) for name in ("slurmctld", "slurmd", "munged", "srun"))
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=1
MailProg=/bin/true
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus}
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@contextlib.contextmanager
def slurm_cluster(folder: Path) -> Iterator[None]:
    """Run a cluster of one node in `folder`, which `srun` and `sbatch` of this process and its children use."""
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    with contextlib.ExitStack() as sockets:  # two ports that are free
        bound = [sockets.enter_context(socket.socket()) for _ in range(2)]
        for each in bound:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in bound]
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, ports=ports, folder=folder, cpus=os.cpu_count()))
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(conf)
    munge = [f"--{name}={folder}/munge.{ending}" for name, ending in MUNGE.items()]
    daemons = [
        subprocess.Popen([shutil.which(name) or name, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name, options in (
            ("munged", ["--foreground", "--force", *munge]),
            ("slurmctld", ["-D", "-f", str(conf)]),
            ("slurmd", ["-D", "-f", str(conf), "-N", host]),
        )
    ]
    try:
        deadline = time.monotonic() + 60
        while not _idle():
            assert time.monotonic() < deadline, [path.read_text()[-1000:] for path in folder.glob("*.log")]
            time.sleep(0.2)
        yield
    finally:
        subprocess.run(["scancel", f"--user={os.getuid()}"])  # what a failed test leaves
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and _squeue():
            time.sleep(0.2)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:  # slurmd waits for what it runs
                daemon.kill()
                daemon.wait()
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before


MUNGE = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


def _squeue() -> str:
    """Return the jobs that wait or run."""
    return subprocess.run(["squeue", "-h"], capture_output=True, text=True).stdout.strip()


def _idle() -> bool:
    """Tell whether the node takes jobs."""
    found = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)
    return found.stdout.strip() == "idle"
