"""Claims: one holder at a time, whoever dies, sleeps or lives on another host; and no write of a holder that lost its claim."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers_errors import refused

from gitbench import claim as claims
from gitbench.claim import Claim, ClaimLost, claimed, holder
from gitbench.files import atomic_path, guarded, write_text

HOLD = "import sys, time; from pathlib import Path; from gitbench.claim import Claim\n"


def beside(path: Path) -> list[str]:
    """Return the names of what lies beside a claimed path."""
    return sorted(each.name for each in path.parent.iterdir())


def elsewhere(path: Path, age: float) -> Path:
    """Make a claim that a process of another host holds, touched so many seconds ago; return its file."""
    file = path.with_name(f"{path.name}.1")
    file.write_text(json.dumps({"host": "b", "system": "b boot", "pid": os.getpid(), "start": "1"}))
    moment = time.time() - age
    os.utime(file, (moment, moment))
    return file


def test_one_process_holds_and_gives_up(tmp_path):
    one, two = Claim(tmp_path / "x"), Claim(tmp_path / "x")
    assert one.take() and not two.take() and not one.take()
    one.check()
    found = holder(tmp_path / "x")
    assert found is not None and found.pid == os.getpid() and not found.dead
    with pytest.raises(ClaimLost):
        two.check()
    two.release()  # what it does not hold
    assert holder(tmp_path / "x") is not None
    one.release()
    assert holder(tmp_path / "x") is None and beside(tmp_path / "x") == []
    assert two.take()


def _count(path: Path, times: int) -> None:
    for _ in range(times):
        with claimed(path.with_name("claim")):
            before = int(path.read_text())
            time.sleep(0.001)
            path.write_text(str(before + 1))


def test_processes_that_take_turns_lose_no_count(tmp_path):
    counter = tmp_path / "count"
    counter.write_text("0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_count, args=(counter, 15)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert counter.read_text() == "45" and beside(counter) == ["count"]


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_that_take_it_at_once_one_has_it(tmp_path, stale):
    for number in range(20):
        path = tmp_path / f"x{number}"
        if stale:
            elsewhere(path, claims.STALE + 1)
        contenders, start = [Claim(path) for _ in range(6)], threading.Barrier(6)
        with ThreadPoolExecutor(6) as pool:
            taken = list(pool.map(lambda each, start=start: start.wait() is None or each.take(), contenders))
        assert sum(taken) == 1, taken
        contenders[taken.index(True)].check()
        assert len(list(tmp_path.glob(f"x{number}.*"))) == 1


def test_a_killed_process_of_this_host_holds_nothing(tmp_path):
    code = HOLD + "assert Claim(Path(sys.argv[1])).take(); print(1, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x")], stdout=subprocess.PIPE)
    process.stdout.readline()
    assert holder(tmp_path / "x").pid == process.pid and not Claim(tmp_path / "x").take()
    process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while holder(tmp_path / "x") is not None:  # nobody has reaped it yet
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert Claim(tmp_path / "x").take()
    process.communicate()


def test_a_holder_on_another_host_is_respected_until_it_has_not_touched_its_claim_for_long(tmp_path):
    """Its pid is one that lives here, and would be one that does not: that says nothing."""
    file = elsewhere(tmp_path / "x", claims.STALE - 5)
    assert not Claim(tmp_path / "x").take() and holder(tmp_path / "x").host == "b"
    moment = time.time() - claims.STALE - 1
    os.utime(file, (moment, moment))
    assert holder(tmp_path / "x") is None and Claim(tmp_path / "x").take()
    assert beside(tmp_path / "x") == ["x.2"]


def test_clocks_of_hosts_need_not_agree(tmp_path, monkeypatch):
    elsewhere(tmp_path / "x", 0)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert not Claim(tmp_path / "x").take()


def test_a_held_claim_is_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.02)
    one = Claim(tmp_path / "x")
    assert one.take()
    (file,) = tmp_path.glob("x.*")
    os.utime(file, (1, 1))
    deadline = time.monotonic() + 10
    while file.stat().st_mtime < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("followed", [False, True], ids=["by one", "by two, so that numbers began anew"])
def test_a_process_that_slept_finds_its_claim_taken_over_and_writes_nothing(tmp_path, followed):
    """It is stopped as by Ctrl-Z, or with its machine; then it goes on, just before it would have written."""
    code = HOLD + (
        "import os, signal, gitbench.claim; from gitbench.files import guarded, write_text\n"
        "folder = Path(sys.argv[1]); claim = Claim(folder / 'claim', lost=lambda: print('lost', flush=True))\n"
        "gitbench.claim.BEAT = 0.05\n"
        "assert claim.take(); print(1, flush=True); sys.stdin.readline()\n"
        "try:\n    with guarded(folder, claim.check): write_text(folder / 'result', 'old')\n"
        "except gitbench.claim.ClaimLost: print('refused', flush=True)"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes)
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    (file,) = tmp_path.glob("claim.*")
    os.utime(file, (1, 1))
    claim = Claim(tmp_path / "claim")
    assert claim.take()
    write_text(tmp_path / "result", "new")
    if followed:
        claim.release()
        claim = Claim(tmp_path / "claim")
        assert claim.take() and file.exists()  # the name of the sleeping one's
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate("\n", timeout=30)
    assert said.split() in (["lost", "refused"], ["refused", "lost"], ["refused"])
    assert (tmp_path / "result").read_text() == "new"
    claim.check()


def test_a_claim_lost_between_the_last_check_and_the_write_prevents_it_too(tmp_path):
    """Whoever takes over clears what was half-written, so that there is nothing to put in place any more."""
    slow = Claim(tmp_path / "claim")
    assert slow.take()
    (file,) = tmp_path.glob("claim.*")

    def check_and_sleep() -> None:
        slow.check()
        os.utime(file, (1, 1))  # and now it sleeps for long
        assert Claim(tmp_path / "claim").take()
        for leftover in tmp_path.glob(".*.tmp*"):
            leftover.unlink()
        (tmp_path / "result").write_text("new")

    with pytest.raises(Exception, match="No such file"), guarded(tmp_path, check_and_sleep):
        write_text(tmp_path / "result", "old")
    assert (tmp_path / "result").read_text() == "new"


def test_what_lies_elsewhere_is_not_guarded(tmp_path):
    with guarded(tmp_path / "a", lambda: pytest.fail("asked")), atomic_path(tmp_path / "b" / "x") as temporary:
        temporary.write_text("1")
    assert (tmp_path / "b" / "x").read_text() == "1"


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    one = Claim(tmp_path / "x")
    assert one.take() and not Claim(tmp_path / "x").take()
    assert holder(tmp_path / "x").pid == os.getpid()
    (tmp_path / "x.1").write_text("")  # being written
    assert not Claim(tmp_path / "x").take() and holder(tmp_path / "x").pid == 0


def test_a_link_whose_answer_was_lost_counts(tmp_path, monkeypatch):
    """NFS: the client asks again, and is told that the name is there."""
    link = os.link

    def twice(source, target):
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert Claim(tmp_path / "x").take()


def test_a_file_server_that_is_away_for_a_while_takes_no_claim_and_for_long_does(tmp_path, monkeypatch):
    lost, calls = threading.Event(), []

    def away(*_):
        calls.append(1)
        raise OSError(errno.EIO, "away")

    monkeypatch.setattr(claims, "BEAT", 0.01)
    monkeypatch.setattr(claims, "STALE", 0.5)
    one = Claim(tmp_path / "x", lost=lost.set)
    began = time.monotonic()  # before the last touch that succeeds
    assert one.take()
    monkeypatch.setattr(claims, "_touch", away)
    assert lost.wait(30) and time.monotonic() - began >= 0.5 and len(calls) > 3
    with pytest.raises(ClaimLost):
        one.check()


def test_who_takes_a_free_claim_while_a_late_one_takes_over_its_last_holder_gives_way(tmp_path, monkeypatch):
    """The late one had judged the last holder dead, which woke and ended meanwhile: it has the higher number."""
    listed, late = claims._numbers, []

    def numbers(path: Path) -> list[int]:
        if late:
            late.pop().link_to_next()
        return listed(path)

    class Late:
        def link_to_next(self) -> None:
            elsewhere(tmp_path / "x", 0).rename(tmp_path / "x.4")

    def link(probe: Path, file: Path) -> bool:
        late.append(Late())  # just after this one has its link
        os.link(probe, file)
        return True

    monkeypatch.setattr(claims, "_numbers", numbers)
    monkeypatch.setattr(claims, "_link", link)
    assert not Claim(tmp_path / "x").take()
    assert beside(tmp_path / "x") == ["x.4"]


def test_who_slept_between_its_link_and_its_look_does_not_take_a_later_ones_claim_for_its_own(tmp_path, monkeypatch):
    link, made = os.link, []

    def asleep(probe: Path, file: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        link(probe, file)
        os.utime(file, (1, 1))  # it sleeps for long; two others follow
        for _ in range(2):
            made.append(Claim(tmp_path / "x"))
            assert made[-1].take()
            if len(made) == 1:
                made[0].release()

    monkeypatch.setattr(os, "link", asleep)
    assert not Claim(tmp_path / "x").take()
    made[1].check()
    assert beside(tmp_path / "x") == ["x.1"]


def test_a_live_claim_below_a_dead_one_counts(tmp_path):
    """Its holder was taken for dead and woke; who had taken it over was killed just then."""
    elsewhere(tmp_path / "x", claims.STALE + 1).rename(tmp_path / "x.2")
    elsewhere(tmp_path / "x", 0)
    found = holder(tmp_path / "x")
    assert found is not None and found.host == "b"


def test_a_late_one_gives_way_to_who_took_the_claim_when_it_was_free(tmp_path, monkeypatch):
    """It had seen a dead holder, whom another one followed; that one gave up, and numbers began anew."""
    link, made = os.link, []

    def late(probe: Path, file: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        (tmp_path / "x.1").unlink()
        made.append(Claim(tmp_path / "x"))
        assert made[0].take() and (tmp_path / "x.1").exists()
        link(probe, file)

    elsewhere(tmp_path / "x", claims.STALE + 1)
    monkeypatch.setattr(os, "link", late)
    assert not Claim(tmp_path / "x").take()
    made[0].check()
    assert beside(tmp_path / "x") == ["x.1"]


def test_a_process_that_the_system_hides_is_not_taken_for_dead(tmp_path, monkeypatch):
    """As /proc does with those of other users where it is mounted so (hidepid)."""
    real = open

    def hiding(file, *args, **options):  # type: ignore[no-untyped-def]
        if str(file).startswith("/proc/") and str(file).endswith("/stat"):
            raise FileNotFoundError(errno.ENOENT, "hidden")
        return real(file, *args, **options)

    one = Claim(tmp_path / "x")
    assert one.take()
    monkeypatch.setattr(claims, "open", hiding, raising=False)
    assert holder(tmp_path / "x") is not None and not Claim(tmp_path / "x").take()
    monkeypatch.setattr(os, "kill", lambda pid, number: (_ for _ in ()).throw(PermissionError()))
    assert holder(tmp_path / "x") is not None and not Claim(tmp_path / "x").take()
    monkeypatch.setattr(os, "kill", lambda pid, number: (_ for _ in ()).throw(ProcessLookupError()))
    assert holder(tmp_path / "x") is None
    one.release()


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EIO, None), (errno.ESTALE, None), (errno.ENOSPC, "the disk is full"), (errno.EACCES, "cannot be")],
)
def test_who_asks_for_a_holder_gets_no_bare_error(tmp_path, monkeypatch, number, said):
    elsewhere(tmp_path / "x", 0)

    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    for name in ("utime", "listdir"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            if said is None:
                assert holder(tmp_path / "x") is not None  # until the file server answers again
            else:
                with refused(said):
                    holder(tmp_path / "x")


def test_a_folder_in_the_place_of_a_claim_is_told(tmp_path):
    (tmp_path / "x.1").mkdir()
    with refused("x cannot be written"):
        holder(tmp_path / "x")
