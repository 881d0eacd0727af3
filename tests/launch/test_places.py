"""Where runs go on this machine: as many on a card as fit its memory, and each started so that it can use its card."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from helpers_cuda import H100, compiled_driver, shown
from helpers_errors import refused
from helpers_study import make_study

from gitbench.claim import Claim
from gitbench.errors import GitbenchError
from gitbench.launch import places as here
from gitbench.launch.executor import LocalExecutor
from gitbench.launch.places import Places, at_once, check_jobs, needs_of
from gitbench.machine import Gpu
from gitbench.processes import start_context
from gitbench.run_folder import RunFolder
from gitbench.spec import Compute

BF16 = Compute(device="cuda", precision="bfloat16")
SMALL, MEDIUM, LARGE = Path("small"), Path("medium"), Path("large")


def card(uuid: str, free_gib: float, **more) -> Gpu:
    return Gpu(uuid=uuid, name=f"card {uuid}", free_gib=free_gib, total_gib=80.0, capability=(9, 0), **more)


@pytest.fixture
def cores(monkeypatch):
    """16 cores, or as many as a test wants."""

    def set_cores(count: int) -> None:
        monkeypatch.setattr(here, "cpu_count", lambda: count)

    set_cores(16)
    return set_cores


def begun(places: Places, queue: list[Path]) -> list[tuple[str, str]]:
    """Begin what there is room for; return (run, its card)."""
    found = []
    while (begins := places.next(queue)) is not None:
        queue.remove(begins[0])
        found.append((begins[0].name, begins[1].environment["CUDA_VISIBLE_DEVICES"]))
    return found


def test_a_run_goes_where_its_need_is_left_to_the_emptiest_card_first(cores):
    needs = {LARGE: 12.0, MEDIUM: 6.0, SMALL: 3.0}
    places = Places([card("a", 16.0), card("b", 11.0)], needs=needs)
    assert begun(places, [SMALL, MEDIUM, LARGE]) == [("large", "a"), ("medium", "b"), ("small", "b")]


def test_a_small_run_goes_before_a_large_one_that_has_to_wait(cores):
    places = Places([card("a", 10.0)], needs={LARGE: 6.0, Path("large too"): 6.0, SMALL: 3.0})
    queue = [LARGE, Path("large too"), SMALL]
    assert begun(places, queue) == [("large", "a"), ("small", "a")] and queue == [Path("large too")]


def test_a_place_that_is_given_back_is_free_again(cores):
    places = Places([card("a", 10.0)], needs={LARGE: 6.0, MEDIUM: 5.0})
    begins = places.next([LARGE, MEDIUM])
    assert begins is not None and places.next([MEDIUM]) is None
    places.give_back(begins[1])
    assert begun(places, [MEDIUM]) == [("medium", "a")]


def test_one_run_may_always_begin_on_an_empty_card_and_none_beside_it_that_does_not_fit(cores):
    places = Places([card("a", 2.0)], needs={LARGE: 9.0, SMALL: 0.5})
    assert begun(places, [LARGE, SMALL]) == [("large", "a")]


def test_a_card_takes_no_more_runs_than_its_share_of_the_cores_and_jobs_bounds_them_all(cores):
    queue = [Path(str(number)) for number in range(20)]
    two = [card("a", 80.0), card("b", 80.0)]
    assert len(begun(Places(two, needs=dict.fromkeys(queue, 1.0)), [*queue])) == 16
    cores(5)
    assert [uuid for _, uuid in begun(Places(two), [*queue])] == ["a", "b", "a", "b"]
    assert len(begun(Places(two, jobs=3), [*queue])) == 3
    cores(1)  # each card has a run at least
    assert [uuid for _, uuid in begun(Places(two), [*queue])] == ["a", "b"]


def kinds(*names: str) -> list[Gpu]:
    return [dataclasses.replace(card(uuid, 80.0), name=name) for uuid, name in zip("abcdef", names, strict=False)]


def test_a_run_on_several_cards_has_them_for_itself_and_all_of_one_kind(cores):
    queue = [Path(str(number)) for number in range(9)]
    two = Places(kinds("H100", "A10G", "H100", "H100", "H100"), world_size=2)
    assert [uuids for _, uuids in begun(two, [*queue])] == ["a,c", "d,e"]  # and none beside them, however small
    mixed = Places(kinds("A10G", "H100", "H100"), needs={LARGE: 200.0}, world_size=2)
    begins = mixed.next([LARGE])
    assert begins is not None and begins[1].environment["CUDA_VISIBLE_DEVICES"] == "b,c"
    assert mixed.take(1.0) is None
    mixed.give_back(begins[1])
    assert mixed.take(1.0) is not None
    assert len(begun(Places(kinds(*["H100"] * 6), jobs=2, world_size=2), [*queue])) == 2
    cores(2)
    assert len(begun(Places(kinds(*["H100"] * 6), world_size=2), [*queue])) == 3  # though each process wants a core


def test_too_few_cards_for_a_run_are_an_error(cores, tmp_path, monkeypatch):
    with refused("--gpus-per-run 4: this machine has 2 to use: use fewer, or --executor slurm or ray"):
        Places(kinds("H100", "H100"), world_size=4)
    with refused("--gpus-per-run 2: this machine has 1 of one kind to use"):
        Places(kinds("H100", "A10G"), world_size=2)
    study = make_study(tmp_path, compute=dataclasses.replace(BF16, world_size=2))
    monkeypatch.setattr(here, "gpus", lambda: (card("a", 11.0),))
    with refused("--gpus-per-run 2: this machine has 1 to use"):
        at_once(study)
    monkeypatch.setattr(here, "gpus", lambda: tuple(kinds("H100", "H100", "H100", "H100")))
    assert at_once(study) == 2 and at_once(study, 1) == 1
    monkeypatch.setattr(here, "shared", lambda cards: contextlib.nullcontext({each.uuid: {} for each in cards}))
    with here.places_for(study) as places:
        assert places.cards_a_run == 2
    monkeypatch.setattr(here, "gpus", lambda: ())
    assert at_once(study, 7) == 7


def test_processes_that_share_a_run_on_the_cpu_take_a_core_each(cores):
    cores(6)
    assert len(begun(Places([], world_size=2), [Path(str(number)) for number in range(9)])) == 3


def test_an_exclusive_card_takes_one_run_unless_mps_serves_it(cores):
    queue = [Path(str(number)) for number in range(4)]
    alone = card("a", 80.0, exclusive=True)
    assert len(begun(Places([alone]), [*queue])) == 1
    assert len(begun(Places([card("a", 80.0, exclusive=True, mps=True)]), [*queue])) == 4
    served = Places([alone], shared={"a": {"CUDA_MPS_PIPE_DIRECTORY": "/pipes"}})
    place = served.take(1.0)
    assert place is not None and place.environment["CUDA_MPS_PIPE_DIRECTORY"] == "/pipes"
    assert place.environment["GITBENCH_SHARING"] == "MPS"
    assert served.take(1.0) is not None
    assert Places([card("b", 80.0)]).take(1.0).environment["GITBENCH_SHARING"] == "time slices"


def test_mps_gets_no_more_runs_than_it_serves(cores):
    cores(100)
    queue = [Path(str(number)) for number in range(100)]
    assert len(begun(Places([card("a", 80.0, mps=True)]), [*queue])) == 48
    assert len(begun(Places([card("a", 80.0)]), [*queue])) == 100


def test_a_card_that_others_hold_is_left_out_and_without_any_other_it_is_an_error(cores):
    assert begun(Places([card("a", 0.0), card("b", 9.0)]), [SMALL]) == [("small", "b")]
    with pytest.raises(GitbenchError, match="no memory can be had on card a: .* to use the CPU"):
        Places([card("a", 0.0)])


def test_without_a_card_there_is_a_place_a_core_or_as_many_as_asked_for(cores):
    cores(2)
    queue = [LARGE, MEDIUM, SMALL]
    assert begun(Places([]), [*queue]) == [("large", ""), ("medium", "")]
    assert len(begun(Places([], jobs=3), [*queue])) == 3
    place = Places([], environment={"GITBENCH_PLUGINS": "mine"}).take(0.0)
    assert place.environment == {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GITBENCH_PLUGINS": "mine"}
    with pytest.raises(GitbenchError, match="--jobs 0"):
        check_jobs(0)


def test_runs_of_a_study_begin_replicate_by_replicate_the_largest_first_and_measured_needs_count(
    tmp_path, monkeypatch, cores
):
    study = make_study(tmp_path, replicates=2, compute=BF16)
    formula = {"base": 3.0, "small": 5.0, "blind": 2.0}
    monkeypatch.setattr(here, "planned_gib", lambda plan, run, pretrains=False: formula[run.arm] + 0.5 * pretrains)
    monkeypatch.setattr(here, "gpus", lambda: (card("a", 11.0),))
    arms = {study.folder(run.run_key).path: run.arm for run in study.plan.runs}
    needs = needs_of(study)
    assert [arms[folder] for folder in needs] == ["small", "base", "blind"] * 2
    assert [*needs.values()] == [5.5, 3.0, 2.0, 5.0, 3.0, 2.0]  # the first makes the encoder from which all start
    assert at_once(study) == 3 and at_once(study, 2) == 2
    monkeypatch.setattr(here, "measured_gib", lambda study, cards: {"blind": 6.0} if cards == {"card a"} else {})
    assert [*needs_of(study).values()] == [6.0, 5.0, 3.0, 6.0, 5.0, 3.0]
    monkeypatch.setattr(here, "gpus", lambda: ())  # they are elsewhere
    assert at_once(study) == 1 and at_once(study, 7) == 7


def test_runs_for_the_cpu_go_there_where_there_is_a_card_and_keep_the_order_of_the_plan(tmp_path, monkeypatch, cores):
    study = make_study(tmp_path, replicates=2)
    monkeypatch.setattr(here, "gpus", lambda: (card("a", 11.0),))
    assert [*needs_of(study)] == [study.folder(run.run_key).path for run in study.plan.runs]
    cores(4)
    assert at_once(study) == 4
    with here.places_for(study) as places:
        assert [uuid for _, uuid in begun(places, [SMALL, LARGE])] == ["", ""]


def test_mps_is_asked_for_where_runs_share_a_card_and_stopped_with_the_launch(tmp_path, monkeypatch, cores):
    study, asked = make_study(tmp_path, compute=BF16), []  # of three runs

    @contextmanager
    def shared(cards):
        asked.append([each.uuid for each in cards])
        yield {each.uuid: {"CUDA_MPS_PIPE_DIRECTORY": "/pipes"} for each in cards}
        asked.append("stopped")

    monkeypatch.setattr(here, "shared", shared)
    monkeypatch.setattr(here, "planned_gib", lambda plan, run, pretrains=False: 3.0)
    for uuids, jobs, wanted in (
        ("a", None, ["a"]),
        ("ab", None, ["a", "b"]),
        ("ab", 2, []),
        ("abc", None, []),
    ):
        monkeypatch.setattr(here, "gpus", lambda uuids=uuids: tuple(card(uuid, 40.0) for uuid in uuids))
        with here.places_for(study, jobs) as places:
            assert asked.pop() == wanted
            place = places.take(3.0)
            assert place is not None and ("CUDA_MPS_PIPE_DIRECTORY" in place.environment) == bool(wanted)
        assert asked.pop() == "stopped"


class Context:
    """Starts processes that are over when the executor looks."""

    def __init__(self) -> None:
        self.started: list[tuple] = []

    def Process(self, target, args):
        process = subprocess.Popen([sys.executable, "-c", ""])
        self.started.append((args[0].name, args[1]["CUDA_VISIBLE_DEVICES"]))
        return type(
            "Ended",
            (),
            {
                "start": lambda self: None,
                "exitcode": property(lambda self: process.poll()),
                "sentinel": os.pidfd_open(process.pid),
                "join": lambda self: process.wait(),
            },
        )()


def test_the_executor_starts_what_fits_when_a_place_is_free(cores):
    context = Context()
    executor = LocalExecutor(Places([card("a", 10.0)], needs={LARGE: 6.0, MEDIUM: 6.0, SMALL: 3.0}), context)
    for folder in (SMALL, MEDIUM, LARGE):
        executor.submit(folder)
    executor.poll(0.0)
    assert context.started == [("large", "a"), ("small", "a")]
    deadline, ended = time.monotonic() + 20, 0
    while ended < 3 and time.monotonic() < deadline:
        ended += sum(event.kind == "ended" for event in executor.poll(0.5))
    assert ended == 3 and [name for name, *_ in context.started][2] == "medium"


def test_a_run_in_other_hands_is_left_there_and_takes_no_place(cores, tmp_path):
    taken, other = tmp_path / "taken", tmp_path / "other"
    taken.mkdir()
    claim = Claim(RunFolder(taken).claim)
    assert claim.take()
    executor = LocalExecutor(Places([card("a", 10.0)], needs={taken: 6.0, other: 6.0}), Context())
    for folder in (taken, other):
        executor.submit(folder)
    assert [(event.folder, event.kind) for event in executor.poll(0.0)][:2] == [
        (taken, "elsewhere"),
        (other, "started"),
    ]
    claim.release()


def test_no_card_is_shown_to_the_process_that_runs_are_forked_from(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.delenv("PYTORCH_NVML_BASED_CUDA_CHECK", raising=False)
    shown: list[list[str | None]] = []

    def show() -> None:
        shown.append([os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "PYTORCH_NVML_BASED_CUDA_CHECK")])

    monkeypatch.setattr("gitbench.processes.forkserver.ensure_running", show)
    start_context()
    show()  # as it was
    assert shown == [["", "1"], ["0", None]]


STARTS = """
import json, os
from gitbench.launch.places import Places
from gitbench.machine import gpus
from gitbench.processes import start_context

def run(connection, environment):
    os.environ.update(environment)
    import torch
    seen = torch.cuda.is_available(), torch.cuda.device_count(), torch.cuda._is_in_bad_fork()
    connection.send((os.getpid(), os.getppid(), *seen))

if __name__ == "__main__":
    context, place, found = start_context(), Places(gpus()).take(0.0), []
    for _ in range(2):
        ours, theirs = context.Pipe()
        process = context.Process(target=run, args=(theirs, place.environment))
        process.start()
        found.append(ours.recv())
        process.join()
    kept = [os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "PYTORCH_NVML_BASED_CUDA_CHECK")]
    print(json.dumps([os.getpid(), kept, found]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="torch is built without CUDA")
def test_runs_are_forked_by_a_process_that_never_starts_cuda_and_each_starts_it_for_its_card(shared_folder, tmp_path):
    library, log = compiled_driver(shared_folder), tmp_path / "log"
    environment = {**os.environ, **shown(library, H100, FAKE_CUDA_LOG=str(log)), "LD_PRELOAD": str(library)}
    del environment["CUDA_VISIBLE_DEVICES"]
    script = tmp_path / "starts.py"
    script.write_text(STARTS)
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    launcher, kept, ((first, server, *one), (second, same, *other)) = json.loads(done.stdout)
    assert one == other == [True, 1, False] and server == same and len({first, second, server, launcher}) == 4
    asked = {int(pid) for pid in log.read_text().split()}
    assert {first, second} <= asked and server not in asked and launcher not in asked
    assert kept == [None, None]  # the launcher's environment is as it was
