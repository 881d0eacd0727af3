"""The comparison of two sides in turns, with a workload of milliseconds: what was planted is found, and nothing else."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gitbench.errors import GitbenchError
from gitbench.gate import speed, workload
from gitbench.gate.compared import FIRST, Comparison, Ratios, ratios_in
from gitbench.gate.outcome import BEYOND, PARTS, REGRESSED, UNMEASURED, Measured, Outcome, judged
from gitbench.gate.ratios import ratio_of, ratio_of_memory
from gitbench.gate.sides import Side

# A side that says what its own `gitbench` says: the seconds of a unit, the share of them that waits, bytes; or an error: at
# once, in the first process alone, after some blocks, or by a signal.
FAKE = """
import json, os, pathlib, sys, time
import gitbench as own
print("a library says something", file=sys.stderr)
once = own.once and not pathlib.Path(own.once).exists()
if once:
    pathlib.Path(own.once).touch()
if once or own.fails == sys.argv[1]:
    print(json.dumps({"failed": sys.argv[1], "of_machine": own.of_machine})), sys.exit()
if own.killed == sys.argv[1]:
    os.kill(os.getpid(), 9)
print(json.dumps({"ready": True}), flush=True)
while line := sys.stdin.readline():
    if own.ends == 0:
        sys.exit(1)
    own.ends -= 1
    time.sleep(own.sleeps)
    took = own.seconds * int(line)
    print(json.dumps({"seconds": took, "waited": own.waits * took, "memory": own.memory}), flush=True)
"""

FAST, SLOW, WIDE = ratio_of([0.0] * 12), ratio_of([0.3] * 12), ratio_of([0.5, -0.5] * 8)


def ended(measured: Measured) -> Outcome:
    """Return how the tier ends."""
    return judged("speed", 1.0, measured, (), ())


@pytest.fixture
def comparison(tmp_path: Path) -> Callable[..., Comparison]:
    """Make a comparison of two sides that differ in what is told."""
    (tmp_path / "fake.py").write_text(FAKE)

    def side(name: str, **values: object) -> Side:
        package = tmp_path / name / "tree" / "gitbench"
        package.mkdir(parents=True)
        own = {"seconds": 0.01, "waits": 0.0, "memory": 100, "sleeps": 0, "ends": -1}
        own |= {"fails": None, "once": None, "killed": None, "of_machine": False, **values}
        (package / "__init__.py").write_text("".join(f"{each} = {value!r}\n" for each, value in own.items()))
        return Side(name=name, tree=package.parent, python=sys.executable, folder=package.parent.parent, logs=tmp_path)

    def make(base: dict = {}, change: dict = {}, seconds: float = 60.0, jobs: int = 2) -> Comparison:  # noqa: B006
        sides = (side("base", **base), side("change", **change))
        return Comparison(*sides, {}, time.monotonic() + seconds, jobs, tmp_path / "fake.py")

    return make


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_same_code_is_as_fast(comparison: Callable[..., Comparison], jobs: int) -> None:
    compared = comparison(jobs=jobs)
    compared.prepare()
    found = compared.ratios("train", 20)
    assert set(found) == {"time", "wait", "memory"} and not any(ratio.red for ratio in found.values())
    assert found["time"].told and len(found["memory"].pairs) == 1 and compared.failed == {}


def test_a_planted_slowdown_is_found_twice_and_named(comparison: Callable[..., Comparison]) -> None:
    compared = comparison(change={"seconds": 0.013})
    found = compared.ratios("caption", 20)
    assert found["time"].red and len(found["memory"].pairs) == 2  # by fresh processes, too
    told = speed.measured({"caption": found}, {}, compared.seconds, "abc", [])
    (finding,) = told.findings
    assert (finding.quantity, finding.part) == ("captioning", "search") and finding.excess > 1
    assert finding.said.startswith("captioning takes") and finding.said.endswith("10 % are allowed")
    assert told.details["ratios"]["captioning"]["base"] == pytest.approx(0.01)


def test_a_step_that_waits_is_the_datas_fault(comparison: Callable[..., Comparison]) -> None:
    compared = comparison(change={"seconds": 0.014, "waits": 4 / 14})
    told = speed.measured({"train": compared.ratios("train", 20)}, {}, compared.seconds, "abc", [])
    assert [(each.quantity, each.part) for each in told.findings] == [
        ("waiting for data", "data"),
        ("training step", "data"),
    ]


@pytest.mark.parametrize("spent", [1.0, 1.3])
def test_processor_time_tells_where_a_clock_cannot(spent: float) -> None:
    found = ratios_in({"time": [math.log(3), -math.log(3)] * 10, "processor": [math.log(spent)] * 20})
    told = speed.measured({"score": found}, {}, {"score": 0.1}, "abc", [])
    assert told.compared == 1 and bool(told.findings) == (spent > 1)
    assert "too busy" in told.notes[0] and "sleeping and waiting" in told.notes[0] and "not seen" in told.notes[0]
    still = ratios_in({"time": [0.0] * 20, "processor": [math.log(spent)] * 20})
    assert still["time"].of == "time" and not still["time"].red


def test_memory_is_compared(comparison: Callable[..., Comparison]) -> None:
    compared = comparison(change={"memory": 130})
    told = speed.measured({"train": compared.ratios("train", 20)}, {}, compared.seconds, "abc", [])
    assert [each.quantity for each in told.findings] == ["training memory"] and "30 % more memory" in told.findings[
        0
    ].said


def test_what_the_base_cannot_do_leaves_the_tier_without_an_answer(comparison: Callable[..., Comparison]) -> None:
    compared = comparison(base={"fails": "score"}, change={"seconds": 0.02})
    assert compared.prepare() and compared.ratios("score", 20) is None
    told = speed.measured({}, compared.failed, compared.seconds, "abc", [])
    (said,) = told.untold
    assert (
        said.startswith("score was left out: the base cannot do score (score), see ") and "name another --base" in said
    )
    found = {"listing": {"time": FAST}}
    told = speed.measured(found, compared.failed, {"listing": 1.0}, "abc", [])
    assert ended(told).status == UNMEASURED and ended(told).why == (said,)
    told = speed.measured({"listing": {"time": SLOW}}, compared.failed, {"listing": 1.0}, "abc", [])
    assert ended(told).status == REGRESSED


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(("fails", "part"), [("train", "decoder"), ("caption", "search"), ("score", "metric")])
def test_what_the_change_alone_cannot_do_is_red(
    comparison: Callable[..., Comparison], fails: str, part: str, jobs: int
) -> None:
    compared = comparison(change={"fails": fails}, jobs=jobs)
    assert compared.ratios(fails, 20) is None
    told = speed.measured({}, compared.failed, compared.seconds, "abc", [])
    (finding,) = told.findings
    assert finding.part == part and finding.excess == BEYOND and told.untold == ()
    assert finding.said.startswith(f"the change cannot do {fails} ({fails})") and finding.said.endswith(
        "; the base can"
    )
    assert ended(told).status == REGRESSED


def test_what_neither_side_can_do_is_not_blamed_on_the_change(comparison: Callable[..., Comparison]) -> None:
    compared = comparison(base={"ends": 2}, change={"ends": 2})
    for _ in range(6):  # whichever comes first in a pair
        assert compared.ratios("train", 20) is None
        assert compared.failed["train"].side == "base"


def test_what_the_change_cannot_do_once_is_not_blamed_on_it(
    comparison: Callable[..., Comparison], tmp_path: Path
) -> None:
    compared = comparison(change={"once": str(tmp_path / "failed before")})
    assert compared.ratios("train", 20) is None
    told = speed.measured({}, compared.failed, compared.seconds, "abc", [])
    assert told.findings == () and "once, and another time it could" in told.untold[0] and "machine" in told.untold[0]


@pytest.mark.parametrize("how", [{"killed": "train"}, {"fails": "train", "of_machine": True}])
def test_a_change_that_the_machine_ends_is_no_measurement(comparison: Callable[..., Comparison], how: dict) -> None:
    compared = comparison(change=how)
    assert compared.ratios("train", 20) is None
    told = speed.measured({}, compared.failed, compared.seconds, "abc", [])
    assert told.findings == () and "the change cannot do train" in told.untold[0] and "machine" in told.untold[0]


def test_a_change_that_cannot_plan_a_run_is_red_and_a_base_is_an_error(
    comparison: Callable[..., Comparison], tmp_path: Path
) -> None:
    compared = comparison(change={"fails": "plan"})
    assert not compared.prepare()
    told = speed.measured({}, compared.failed, compared.seconds, "abc", [])
    assert [each.quantity for each in told.findings] == ["plan of a run"] and ended(told).status == REGRESSED
    compared.base, compared.change = compared.change, compared.base
    with pytest.raises(GitbenchError, match=r"the change cannot do plan \(plan\), see .*: name another --base"):
        compared.prepare()


def test_a_machine_that_cannot_plan_a_run_is_an_error(comparison: Callable[..., Comparison]) -> None:
    compared = comparison(change={"killed": "plan"})
    with pytest.raises(
        GitbenchError, match=r"the change cannot do plan \(its process ended with status -9\), see [^:]*$"
    ):
        compared.prepare()


def test_a_side_that_does_not_end_is_given_up(comparison: Callable[..., Comparison]) -> None:
    compared = comparison(change={"sleeps": 100}, seconds=1.0)
    assert compared.ratios("train", 20) is None
    (said,) = speed.measured({}, compared.failed, compared.seconds, "abc", []).untold
    assert said.startswith("train was left out: the change cannot do train (it was not done in time, raise --minutes)")
    told = speed.measured({"score": {"time": SLOW}}, compared.failed, {"score": 0.1}, "abc", [])
    assert ended(told).status == REGRESSED  # what was found before stays found


def test_without_time_an_activity_is_left_out(comparison: Callable[..., Comparison]) -> None:
    compared = comparison()
    assert compared.ratios("train", 1.0) == {}
    told = speed.measured({"train": {}, "score": {"time": FAST}}, {}, {"score": 0.1}, "abc", [])
    assert ended(told).status == UNMEASURED and "train was left out: no time was left" in ended(told).why[0]


def test_one_quantity_that_cannot_be_told_leaves_the_tier_without_an_answer_unless_another_is_red() -> None:
    seconds = {"score": 0.1, "listing": 1.0}
    told = speed.measured({"score": {"time": WIDE}, "listing": {"time": FAST}}, {}, seconds, "abc", [])
    assert told.compared == 1 and ended(told).status == UNMEASURED
    assert "scoring could not be told: 0.61 to 1.65 times the base after 16 pairs" in ended(told).why[0]
    told = speed.measured({"score": {"time": WIDE}, "listing": {"time": SLOW}}, {}, seconds, "abc", [])
    assert ended(told).status == REGRESSED and len(told.untold) == 1


class Scripted:
    """Stands for a comparison: each call takes its time on a clock of its own, and finds what is next in a list."""

    def __init__(self, finds: dict[str, list[Ratios | None]], takes: dict[str, float]) -> None:
        self.now, self.finds, self.takes = 0.0, finds, takes
        self.asked: list[tuple[str, int]] = []

    def monotonic(self) -> float:
        return self.now

    def ratios(self, activity: str, seconds: float) -> Ratios | None:
        self.asked.append((activity, round(seconds)))
        self.now += min(seconds, self.takes.get(activity, seconds))
        return self.finds.get(activity, [{"time": FAST}]).pop(0)


def test_what_activities_leave_over_goes_to_those_that_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    wide, fast, slow = {"time": WIDE}, {"time": FAST}, {"time": SLOW}
    script = Scripted(
        {"train": [wide, fast], "caption": [slow], "score": [None], "start": [wide, wide, wide], "listing": [fast]},
        {"train": 40, "caption": 10, "score": 1, "listing": 9},
    )
    monkeypatch.setattr(speed, "time", script)
    found = speed.in_time(script, 160.0)
    first = [("train", 40), ("caption", 40), ("score", 28), ("start", 73), ("listing", 36)]
    assert script.asked == [*first, ("train", 14), ("start", 14)] and script.now == 160
    assert found == {"train": fast, "caption": slow, "start": wide, "listing": fast}


def test_what_is_not_told_has_all_the_time_of_its_activity(
    comparison: Callable[..., Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, ends = comparison(), list[float]()

    def turns(base: None, change: None, series: dict[str, list[float]], until: float) -> None:
        ends.append(until)
        series["time"] += [0.5, -0.5] * 8

    monkeypatch.setattr(compared, "_workers", lambda *_: (None, None))
    monkeypatch.setattr(compared, "_in_turns", turns)
    compared.ratios("score", 20)
    assert ends[1] - ends[0] == pytest.approx(8)


def test_an_activity_that_goes_on_adds_to_what_was_measured(comparison: Callable[..., Comparison]) -> None:
    compared = comparison()
    before = compared.ratios("train", 20)
    after = compared.ratios("train", 20)
    assert len(before["time"].pairs) == FIRST and len(after["time"].pairs) == 2 * FIRST
    assert compared.ratios("train", 1.0) == after


def test_every_quantity_has_its_activity_its_part_and_its_words() -> None:
    assert {each.activity for each in speed.QUANTITIES.values()} == set(speed.SHARES)
    assert {"plan", *speed.SHARES} == set(workload.ACTIVITIES)
    for name, quantity in speed.QUANTITIES.items():
        assert quantity.part in PARTS
        ratio = ratio_of_memory([0.3, 0.3]) if quantity.ratio == "memory" else ratio_of([0.3] * 12)
        assert "35 %" in speed.finding(name, {name: ratio}).said
