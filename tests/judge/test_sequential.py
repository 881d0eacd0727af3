"""Judging after every added seed: the test stays valid, its study stops early, and no look is lost."""

import dataclasses
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, tiny_profile
from scipy import integrate, stats

from gitbench.cli import main
from gitbench.commands import until_decided as decide
from gitbench.commands.allocation import chance_per_second, next_seeds, power_at, seconds_by_arm
from gitbench.commands.interim_report import note_report
from gitbench.errors import GitbenchError
from gitbench.files import write_json
from gitbench.judge import calibrate, claims
from gitbench.judge.claims import INCONCLUSIVE, NOT_TESTABLE, REFUTED, SUPPORTED, Verdict, judge_study
from gitbench.judge.compare import paired_difference
from gitbench.judge.sequential import (
    EARLY,
    FIRST,
    LATE,
    LEVELS,
    SCALE,
    level_of,
    log_evidence,
    multiplier,
    nominal_level,
    score,
    sequential_bounds,
    sequential_p,
    sequential_tost,
    threshold,
)
from gitbench.launch.prove import is_proven
from gitbench.launch.scheduling import Outcome, launch
from gitbench.spec import Arm, Claim
from gitbench.study.interim import ClaimLook, Look, Looks, looks_file, looks_of, read_looks, write_looks
from gitbench.study.plan import Plan, make_plan, with_seeds, write_plan
from gitbench.study.proof import read_proof
from gitbench.study.records import build_frame, load_studies, load_study
from gitbench.study.store import study_file, yardstick_file

CLAIM = Claim(
    name="base-better",
    kind="better",
    metric="CIDEr",
    treatment="base",
    reference="small",
    margin=0.0,
    margin_unit="metric",
    margin_reason="any improvement counts",
    says="The base is better.",
    quote="better",
    where="nowhere",
    confidence="S",
)
NOT_BETTER = dataclasses.replace(CLAIM, name="no-better", kind="not_better", margin=2.0)
EQUIVALENT = dataclasses.replace(CLAIM, name="equal", kind="equivalent", margin=2.0)
INTERACTION = dataclasses.replace(
    CLAIM, name="step", kind="interaction", treatment_from="small", reference="other", reference_from="small"
)
TREND = dataclasses.replace(
    CLAIM, name="falls", kind="trend", along=(("small", 0.0), ("base", 1.0)), direction="down", margin=1.0
)
THRESHOLD = dataclasses.replace(CLAIM, name="high", kind="threshold", reference="", level=0.4, level_unit="range")

# ---- the test ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t, n", [(-2.0, 3), (0.0, 5), (2.5, 4), (6.0, 9), (3.0, 40)])
def test_the_evidence_is_the_mixture_of_noncentral_densities(t, n):
    def weighted(effect: float) -> float:
        return 2 * stats.norm.pdf(effect, scale=SCALE) * stats.nct.pdf(t, n - 1, effect * math.sqrt(n))

    mixture = integrate.quad(weighted, 0, 12 * SCALE, limit=200)[0]
    assert float(log_evidence(t, n)) == pytest.approx(math.log(mixture / stats.t.pdf(t, n - 1)), abs=1e-5)


def test_the_evidence_grows_with_t_and_has_a_limit():
    t = np.linspace(-50, 50, 2001)
    for n in (3, 5, 30, 300):
        assert (np.diff(log_evidence(t, n)) > 0).all()
    assert float(log_evidence(1e12, 3)) == pytest.approx(math.log(2 * (1 + 3 * SCALE**2) * stats.t.cdf(3 * SCALE, 3)))


def test_the_levels_are_those_that_the_command_makes():
    """A smaller simulation of another seed finds the committed table again; none exceeds Ville's bound, 1 / threshold."""
    thresholds, committed = zip(*LEVELS, strict=True)
    found = dict(calibrate.levels(paths=8000, seed=11, thresholds=(2, 10, 20, 100, 1000)))
    for value, probability in found.items():
        assert probability == pytest.approx(dict(LEVELS)[value], rel=0.06)
    assert all(p <= min(1.0, 1 / c) for c, p in LEVELS)
    assert list(thresholds) == sorted(thresholds) and list(committed) == sorted(committed, reverse=True)


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.025, 0.01, 0.001, 1e-7])
def test_threshold_and_level_are_each_others_inverse(alpha):
    assert level_of(threshold(alpha)) == pytest.approx(alpha, rel=1e-9)


def test_bounds_p_values_and_multipliers_say_the_same():
    rng = np.random.default_rng(3)
    for n in (4, 5, 8, 20, 30, 31, 70):
        values = rng.normal(0.4, 1.3, n)
        for alpha in (0.05, 0.025):
            low, high = sequential_bounds(values, alpha)
            if math.isinf(low):
                assert multiplier(n, alpha) == math.inf and sequential_p(values, -1e9) > alpha
                continue
            assert sequential_p(values, low, "greater") == pytest.approx(alpha, rel=1e-6)
            assert sequential_p(values, high, "less") == pytest.approx(alpha, rel=1e-6)
            assert sequential_p(values, low - 0.1, "greater") < alpha < sequential_p(values, low + 0.1, "greater")
    assert sequential_tost(values, 3.0) == max(sequential_p(values, 3, "less"), sequential_p(values, -3, "greater"))


def test_what_few_seeds_can_show():
    assert multiplier(2) == multiplier(FIRST, 0.025) == math.inf and nominal_level(3, 0.025) == 0.0
    assert 25 < multiplier(FIRST) < 30 and 4 < multiplier(4) < 5  # Student's are 2.9 and 2.4
    assert sequential_bounds([1.0, 1.1, 0.9], 0.025) == (-math.inf, math.inf)
    assert sequential_p([5.0, 5.1], 0) == 1.0 and 0.03 < sequential_p([5.0, 5.0, 5.0]) < 0.05
    assert multiplier(EARLY) > stats.t.ppf(0.95, EARLY - 1) and multiplier(EARLY + 1) > multiplier(EARLY)
    assert float(score(3.0, EARLY + 1)) == pytest.approx(float(log_evidence(3.0, EARLY + 1)) - math.log(LATE))
    with pytest.raises(ValueError, match="alternative 'two-sided'"):
        sequential_p([1.0, 2.0, 3.0], 0.0, "two-sided")


def test_looking_after_every_seed_errs_at_most_five_percent_and_needs_fewer_seeds_than_the_alternatives():
    """40,000 studies at the boundary, looked at after seeds 3 to 30; and what deciding costs at 1 sd from it."""
    chosen, name = calibrate.methods(paths=10_000), "evidence, calibrated (chosen)"
    naive = "t-test, looking ignored"
    wrong = calibrate.errors({each: chosen[each] for each in (name, naive)}, paths=40_000, seed=5)
    slack = 3 * math.sqrt(0.05 * 0.95 / 40_000)
    for noise in ("normal", "Laplace", "t, 3 df", "normal, 10 % with 5 sd", "skewed to the right"):
        assert wrong[name][noise] <= 0.05 + slack, noise
    assert wrong[name]["normal"] > 0.04  # it spends what it has
    assert wrong[naive]["normal"] > 0.2
    cost = calibrate.seeds(chosen, effects=(1.0,), paths=4000)
    mean = {method: found[1.0][1] for method, found in cost.items()}
    for other in ("Bonferroni over the looks", "group sequential, O'Brien-Fleming", "evidence, Ville's threshold 20"):
        assert mean[name] < mean[other] - 1, other
    assert cost[name][1.0][0] > 0.98


@pytest.mark.parametrize(
    "claim, centre, wrong",
    [
        (CLAIM, 0.0, SUPPORTED),
        (CLAIM, 0.0, REFUTED),
        (NOT_BETTER, 2.0, SUPPORTED),
        (NOT_BETTER, 2.0, REFUTED),
        (EQUIVALENT, 2.0, SUPPORTED),
        (EQUIVALENT, -2.0, REFUTED),
        (INTERACTION, 0.0, SUPPORTED),
        (TREND, -1.0, SUPPORTED),
        (THRESHOLD, 0.0, REFUTED),
    ],
    ids=lambda each: each.name if isinstance(each, Claim) else str(each),
)
def test_the_judge_itself_is_seldom_wrong_under_looking(claim, centre, wrong, monkeypatch):
    """The judge's own words at the boundary of every kind, after each of seeds 3 to 30 of 200 studies."""
    monkeypatch.setattr(claims, "_further_seeds", lambda *_: None)  # slow, and no part of the word
    rng, studies = np.random.default_rng(len(claim.name) + len(wrong)), 200
    ever = sum(_ever(rng.normal(centre, 1.0, EARLY), claim, wrong) for _ in range(studies))
    assert ever / studies <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)


def _ever(differences: np.ndarray, claim: Claim, word: str) -> bool:
    return any(_judged(differences[:n], claim).word == word for n in range(FIRST, len(differences) + 1))


def _judged(differences: np.ndarray, claim: Claim) -> Verdict:
    reference = pd.Series(np.zeros(len(differences)))
    pair = paired_difference(pd.Series(differences), reference)
    assert pair is not None
    basis = {"claim": claim, "treatment": "a", "reference": "b", "sequential": True, "looks": 1}
    return claims.decide(basis, claim, pair, claim.margin, [])


# ---- a study that is looked at ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Trainer:
    """Stands for `launch`: writes the study file and records with planted scores, and may be stopped on the way."""

    means: dict[str, float]
    sd: float = 1.0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    stop_after: int = 10**9  # runs
    trained: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    fail: tuple[str, int] | None = None

    def __call__(self, plan: Plan, command: str, jobs=None, plain=False, until=None) -> Outcome:
        write_plan(plan, command)
        ceiling = {"CIDEr": {"value": 180.0, "signature": "s"}}
        write_json(yardstick_file(plan.work_dir, plan.yardstick_key), {"ceiling": ceiling, "kind": "grammar"})
        todo = [run for run in plan.runs if not run.done]
        failed = []
        for at, run in enumerate(todo):
            if len(self.trained) >= self.stop_after:
                raise KeyboardInterrupt
            if until is not None and time.monotonic() >= until:
                return Outcome(completed=at, found=len(plan.runs) - len(todo), failed=(), left=len(todo) - at)
            if (run.arm.name, run.replicate) == self.fail:
                failed.append((run.arm.name, run.replicate, "broken"))
                continue
            self._finish(run)
        found = len(plan.runs) - len(todo)
        return Outcome(completed=len(todo) - len(failed), found=found, failed=tuple(failed))

    def _finish(self, run) -> None:
        arm = run.arm.name
        noise = np.random.default_rng([run.replicate, *arm.encode()]).normal(0, self.sd)
        run.folder.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"image_id": ["a"]}).to_parquet(run.folder / "per_image.parquet")
        cost = {"seconds": self.seconds.get(arm, 10.0), "machine": "m", "device": "cpu"}
        metrics = {"CIDEr": {"value": self.means[arm] + noise, "signature": "s"}}
        record = {"run_key": run.key, "spec": {}, "metrics": metrics, "cost": cost, "train": {}, "overridden": []}
        write_json(run.folder / "record.json", record)
        self.trained.append((arm, run.replicate))


def planned(folder: Path, *wanted: Claim, most: int = 12, arms: tuple[Arm, ...] = ()) -> Plan:
    ablation = dataclasses.replace(TINY, claims=wanted, arms={"smoke": (*TINY.arms["smoke"], *arms)})
    return make_plan(ablation, tiny_profile(), "scenes", folder, replicates=most)


MEANS = {"base": 95.0, "small": 90.0, "blind": 20.0}


def test_a_large_effect_stops_early(tmp_path, monkeypatch, capsys):
    trainer = Trainer(MEANS)
    monkeypatch.setattr(decide, "launch", trainer)
    full = planned(tmp_path, CLAIM)
    decision = decide.run_until_decided(full, 3, "test", jobs=1)
    assert decision.stopped == decide.DECIDED and decision.outcome.failed == ()
    looks = read_looks(tmp_path, full.study)
    assert looks is not None and looks.stopped == decide.DECIDED and decision.looks == len(looks.looks) >= 2
    assert [look.claims[0].word for look in looks.looks][-2:] == [INCONCLUSIVE, SUPPORTED]
    assert [look.seeds["base"] for look in looks.looks] == list(range(3, 3 + len(looks.looks)))
    seeds = looks.looks[-1].seeds
    assert seeds["base"] == seeds["small"] < 8 and seeds["blind"] == 3  # the floor needs no more
    assert len(trainer.trained) == sum(seeds.values()) and decision.outcome.completed == len(trainer.trained)
    shown = capsys.readouterr().out
    assert f"look 2, seeds base {4}, small {4}, blind 3" in shown and "adding seeds of base, small: about 20 s" in shown


def test_equal_arms_stay_open_until_the_seeds_are_used_up(tmp_path, monkeypatch):
    trainer = Trainer({"base": 90.0, "small": 90.0, "blind": 20.0}, sd=5.0)
    monkeypatch.setattr(decide, "launch", trainer)
    full = planned(tmp_path, CLAIM, most=7)
    decision = decide.run_until_decided(full, 3, "test", jobs=1)
    assert decision.stopped == decide.SEEDS and "1 claim still open at 7 seeds: raise --max-seeds" in decision.said
    assert decision.looks == 5 and len(trainer.trained) == 7 + 7 + 3
    # with more seeds allowed it goes on, with the looks it had
    more = decide.run_until_decided(planned(tmp_path, CLAIM, most=8), 3, "test", jobs=1)
    assert more.looks == 6 and more.outcome.completed == 2


def test_the_report_knows_how_often_was_looked(tmp_path, monkeypatch):
    monkeypatch.setattr(decide, "launch", Trainer(MEANS))
    full = planned(tmp_path, CLAIM)
    decision = decide.run_until_decided(full, 3, "test", jobs=1)
    study = load_study(tmp_path, "tiny", "smoke", "scenes")
    assert looks_of(tmp_path, study) == looks_of(tmp_path, full.study) == decision.looks
    assert [each.ablation for each in load_studies(tmp_path)] == ["tiny"]  # the looks are taken for no study
    frame = build_frame(tmp_path, [study])
    looked = judge_study(study, frame, "grammar", looks=looks_of(tmp_path, study))[0]
    plain = judge_study(study, frame, "grammar")[0]
    assert looked.sequential and looked.looks == decision.looks and not plain.sequential and plain.looks == 0
    assert looked.bounds == sequential_bounds(looked.differences) and looked.p > plain.p
    assert looked.interval == sequential_bounds(looked.differences, 0.025)
    assert looked.bounds[0] < plain.bounds[0] and looked.bounds[1] > plain.bounds[1]
    assert looked.p_sign_flip is None and plain.p_sign_flip is not None
    # an ordinary run of the study afterwards unsees nothing
    write_plan(with_seeds(full, dict.fromkeys(MEANS, 4)), "test")
    assert looks_of(tmp_path, study) == decision.looks


def test_a_killed_run_goes_on_with_its_looks_and_its_batch(tmp_path, monkeypatch):
    means, undisturbed = (
        {"base": 91.0, "small": 90.0, "blind": 20.0},
        Trainer({"base": 91.0, "small": 90.0, "blind": 20.0}),
    )
    monkeypatch.setattr(decide, "launch", undisturbed)
    decide.run_until_decided(planned(tmp_path / "whole", CLAIM, most=9), 3, "test", jobs=1)
    whole = looks_file(tmp_path / "whole", "tiny.smoke.scenes").read_bytes()
    for stop in (2, 10, 14):
        folder = tmp_path / str(stop)
        monkeypatch.setattr(decide, "launch", Trainer(means, stop_after=stop))
        with pytest.raises(KeyboardInterrupt):
            decide.run_until_decided(planned(folder, CLAIM, most=9), 3, "test", jobs=1)
        there = read_looks(folder, "tiny.smoke.scenes")
        assert (there.stopped, len(there.looks)) == ("", {10: 1, 14: 3}[stop]) if stop > 2 else there is None
        rest = Trainer(means)
        monkeypatch.setattr(decide, "launch", rest)
        decide.run_until_decided(planned(folder, CLAIM, most=9), 3, "test", jobs=1)
        assert looks_file(folder, "tiny.smoke.scenes").read_bytes() == whole
        assert len(rest.trained) == len(undisturbed.trained) - stop
    # and where all is done, another call looks no further
    decide.run_until_decided(planned(tmp_path / "whole", CLAIM, most=9), 3, "test", jobs=1)
    assert looks_file(tmp_path / "whole", "tiny.smoke.scenes").read_bytes() == whole


def test_no_budget_stops_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(decide, "launch", lambda *_: pytest.fail("launched"))
    decision = decide.run_until_decided(planned(tmp_path, CLAIM), 3, "test", budget=0.0, jobs=1)
    assert decision.stopped == decide.BUDGET and decision.looks == 0
    assert decision.said.startswith(
        "the budget of 0 s is used up (9 runs more need about 36 s, 0 s is left); no verdict yet"
    )
    assert not (tmp_path / "studies").exists() and looks_of(tmp_path, "tiny.smoke.scenes") == 0


def test_a_budget_ends_between_batches(tmp_path, monkeypatch):
    """Runs of 10 s by their records: the ones of a batch fit no more, so it is not begun, and what is there is judged."""
    means = {"base": 90.5, "small": 90.0, "blind": 20.0}
    trainer = Trainer(means)
    monkeypatch.setattr(decide, "launch", trainer)
    clock = iter([0.0] * 3 + [100.0] * 50)  # the first batch takes 100 s
    monkeypatch.setattr(decide.time, "monotonic", lambda: next(clock))
    decision = decide.run_until_decided(planned(tmp_path, CLAIM), 3, "test", budget=110.0, jobs=1)
    assert decision.stopped == decide.BUDGET and decision.looks == 1
    assert (
        "the budget of 2 min is used up (2 runs more need about 20 s, 10 s is left); 1 claim still open"
        in decision.said
    )
    described = json.loads(study_file(tmp_path, "tiny.smoke.scenes").read_text())
    assert len(described["runs"]) == len(trainer.trained) == 9  # nothing is listed that was not run
    assert read_looks(tmp_path, "tiny.smoke.scenes").stopped == decide.BUDGET


def test_a_budget_that_ends_within_the_first_batch_leaves_whole_seeds(tmp_path, monkeypatch):
    """Of 5 seeds asked for, 3 of each arm are there when the time is up: these are judged, and nothing else is listed."""
    trainer = Trainer({"base": 91.0, "small": 90.0, "blind": 20.0})
    monkeypatch.setattr(decide, "launch", trainer)
    clock = iter([0.0] * (2 + 11) + [1000.0] * 50)  # after the runs of 3 seeds, and two of the fourth
    monkeypatch.setattr(decide.time, "monotonic", lambda: next(clock))
    decision = decide.run_until_decided(planned(tmp_path, CLAIM), 5, "test", budget=500.0, jobs=1)
    assert decision.stopped == decide.BUDGET and "used up with 4 runs to go; 1 claim still open" in decision.said
    assert len(trainer.trained) == 11 and decision.looks == 1
    assert read_looks(tmp_path, "tiny.smoke.scenes").looks[0].seeds == {"base": 4, "small": 4, "blind": 3}
    assert read_looks(tmp_path, "tiny.smoke.scenes").looks[0].claims[0].n == 4


def test_seeds_that_are_there_are_used(tmp_path, monkeypatch):
    monkeypatch.setattr(decide, "launch", trainer := Trainer(MEANS))
    full = planned(tmp_path, CLAIM)
    trainer(with_seeds(full, dict.fromkeys(MEANS, 4)), "an ordinary run")
    write_plan(with_seeds(full, dict.fromkeys(MEANS, 9)), "another, stopped at once")
    assert decide.seeds_now(full, 3) == dict.fromkeys(MEANS, 4) and decide.seeds_now(full, 5) == dict.fromkeys(MEANS, 5)
    decide.run_until_decided(full, 3, "test", jobs=1)
    assert read_looks(tmp_path, full.study).looks[0].seeds == dict.fromkeys(MEANS, 4)


def test_a_failed_run_ends_it(tmp_path, monkeypatch):
    monkeypatch.setattr(decide, "launch", Trainer({"base": 90.0, "small": 90.0, "blind": 20.0}, fail=("small", 4)))
    decision = decide.run_until_decided(planned(tmp_path, CLAIM), 3, "test", jobs=1)
    assert decision.stopped == decide.FAILED and decision.outcome.failed == (("small", 4, "broken"),)
    assert decision.looks == 2


def test_what_no_seed_can_help_is_left_alone(tmp_path, monkeypatch):
    trainer = Trainer({"base": 20.5, "small": 20.0, "blind": 20.0})
    monkeypatch.setattr(decide, "launch", trainer)
    decision = decide.run_until_decided(planned(tmp_path, CLAIM), 3, "test", jobs=1)
    assert decision.stopped == decide.DECIDED and len(trainer.trained) == 9
    assert read_looks(tmp_path, "tiny.smoke.scenes").looks[0].claims[0].word == NOT_TESTABLE


def test_seeds_go_to_the_open_claim_alone(tmp_path, monkeypatch):
    """One claim is decided at the second look; the other is open, and its arms alone get seeds from then on."""
    other = Arm(name="other", variants={"decoder": "cross_1x64"})
    far = dataclasses.replace(CLAIM, name="far", treatment="other")
    means = {"base": 90.5, "small": 90.0, "other": 150.0, "blind": 20.0}
    trainer = Trainer(means)
    monkeypatch.setattr(decide, "launch", trainer)
    full = planned(tmp_path, CLAIM, far, most=10, arms=(other,))
    decide.run_until_decided(full, 3, "test", jobs=1)
    looks = read_looks(tmp_path, full.study)
    words = [{line.claim: line.word for line in look.claims} for look in looks.looks]
    decided = next(at for at, word in enumerate(words) if word["far"] == SUPPORTED)
    seeds = [look.seeds for look in looks.looks]
    assert decided < len(looks.looks) - 1 and words[-1]["far"] == SUPPORTED
    assert all(each["other"] == seeds[decided]["other"] for each in seeds[decided:])
    assert seeds[-1]["base"] == 10 > seeds[-1]["other"] and looks.looks[-1].claims[0].n == 10


# ---- which arms -------------------------------------------------------------------------------------------------


def open_verdict(claim: Claim, differences: list[float]) -> Verdict:
    return dataclasses.replace(
        _judged(np.array(differences), claim),
        difference=float(np.mean(differences)),
        differences=tuple(differences),
        margin=claim.margin,
        word=INCONCLUSIVE,
    )


def test_the_better_chance_per_second_comes_first():
    near = open_verdict(CLAIM, [3.0, 0.5, 1.2])
    hopeless = open_verdict(dataclasses.replace(CLAIM, name="far", treatment="other"), [0.1, -2.0, 2.0])
    seeds = {"base": 3, "small": 3, "other": 3, "blind": 3}
    seconds = {"base": 10.0, "small": 10.0, "other": 10.0, "blind": 10.0}
    grown = next_seeds([hopeless, near], seeds, seconds, 30, 1)
    assert grown == {"base": 4, "small": 4, "other": 3, "blind": 3}
    dear = {**seconds, "base": 100_000.0}
    assert next_seeds([hopeless, near], seeds, dear, 30, 1) == {"base": 3, "small": 4, "other": 4, "blind": 3}
    # an arm that is ahead already costs nothing
    assert next_seeds([near], {**seeds, "base": 9}, seconds, 30, 1) == {**seeds, "base": 9, "small": 4}
    ahead = chance_per_second(near, {**seeds, "base": 30}, seconds, 30)
    assert ahead == pytest.approx(2 * chance_per_second(near, seeds, seconds, 30))
    # as many runs as there are slots, and no seed beyond the most
    assert sum(next_seeds([near], seeds, seconds, 30, 5).values()) == sum(seeds.values()) + 6
    assert next_seeds([near], seeds, seconds, 3, 5) == seeds and chance_per_second(near, seeds, seconds, 3) is None


def test_the_floor_gets_seeds_where_a_level_is_measured_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(decide, "launch", Trainer({"base": 85.5, "small": 60.0, "blind": 20.0}, sd=3.0))
    full = planned(tmp_path, THRESHOLD, most=6)  # the level is at 84: 0.4 of the way from 20 to 180
    decide.run_until_decided(full, 3, "test", jobs=1)
    looks = read_looks(tmp_path, full.study).looks
    assert len(looks) >= 2 and looks[-1].claims[0].n == looks[-1].seeds["base"] == looks[-1].seeds["blind"] > 3
    assert looks[-1].seeds["small"] == 3


def test_the_power_of_a_look_is_that_of_its_level():
    near = open_verdict(CLAIM, [3.0, 0.5, 1.2])
    powers = [power_at(near, n) for n in range(3, 20)]
    assert powers[0] < 0.02 and powers == sorted(powers) and powers[-1] > 0.95
    equal = open_verdict(EQUIVALENT, [0.3, -0.2, 0.1])
    assert power_at(equal, 6) > 0.9 > power_at(equal, 3)
    lower = dataclasses.replace(near, claim=dataclasses.replace(CLAIM, metric="test_nll", margin=1.0), margin=1.0)
    higher = dataclasses.replace(near, claim=dataclasses.replace(CLAIM, margin=-1.0), margin=-1.0)
    assert power_at(lower, 8) == pytest.approx(power_at(higher, 8))


def test_seconds_come_from_finished_runs_or_the_profile(tmp_path, monkeypatch):
    full = planned(tmp_path, CLAIM, most=3)
    assert seconds_by_arm(full) == dict.fromkeys(("base", "small", "blind"), 4)
    trainer = Trainer(MEANS, seconds={"base": 30.0, "small": 10.0})
    base, small = (next(run for run in full.runs if run.arm.name == arm) for arm in ("base", "small"))
    trainer._finish(base)
    trainer._finish(small)
    assert seconds_by_arm(full) == {"base": 30.0, "small": 10.0, "blind": 20.0}


# ---- the record of looks, and the command -----------------------------------------------------------------------


def test_looks_are_read_as_they_were_written(tmp_path):
    look = Look(seeds={"base": 3}, claims=(ClaimLook(claim="c", word=SUPPORTED, n=3, p=0.01),))
    write_looks(tmp_path, Looks(study="a.b.c", looks=(look,), stopped="decided"))
    assert read_looks(tmp_path, "a.b.c") == Looks(study="a.b.c", looks=(look,), stopped="decided")
    assert looks_of(tmp_path, "a.b.c") == 1 and looks_of(tmp_path, "a.b.d") == 0
    looks_file(tmp_path, "a.b.c").write_text('{"looks": [{}]}')
    with pytest.raises(GitbenchError, match="is damaged"):
        looks_of(tmp_path, "a.b.c")


@pytest.mark.parametrize(
    "text, seconds", [("45s", 45), ("90m", 5400), ("2h", 7200), ("1.5h", 5400), (" 1 D ", 86400), ("0", 0), (".5m", 30)]
)
def test_a_budget_is_read(text, seconds):
    assert decide.parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "2 hours", "1h30m", "nan", "1e3s"])
def test_a_budget_that_cannot_be_read_names_the_fix(text):
    with pytest.raises(GitbenchError, match="for example 45s, 90m or 1.5h"):
        decide.parse_budget(text)


def test_what_cannot_be_decided_is_refused(tmp_path):
    plan = planned(tmp_path, CLAIM, most=3)
    for arguments, said in (
        ((planned(tmp_path, most=3), 3, 30), "states no claim"),
        ((dataclasses.replace(plan, cfg_options={"a": 1}), 3, 30), "--cfg-options"),
        ((plan, 2, 30), "at least 3"),
        ((plan, 5, 4), "--max-seeds 4"),
    ):
        with pytest.raises(GitbenchError, match=said):
            decide.check(*arguments)
    decide.check(plan, 3, 3)
    assert decide.start_seeds(plan, None) == 3 and decide.start_seeds(plan, 7) == 7


ABLATION = '''"""Does a wide decoder learn faster?"""
from gitbench.spec import Ablation, Arm, Claim

ABLATION = Ablation(
    name="wide", title="Wide", question="Does a wide decoder learn faster?", axis="decoder",
    arms={"smoke": (Arm(name="base", variants={"decoder": "self_2x64"}), Arm(name="wide", variants={"decoder": "self_1x192"}))},
    claims=(Claim(name="wide-better", kind="better", metric="test_nll", treatment="wide", reference="base", margin=0.75,
                  margin_unit="metric", margin_reason="any", says="It does.", quote="faster", where="p. 1", confidence="S"),),
)
'''


def test_the_command_adds_seeds_and_stops(tmp_path, capsys):
    """Real runs: a wide decoder learns faster by 0.9 nats, more than the margin of 0.75; four seeds are enough."""
    (tmp_path / "wide.py").write_text(ABLATION)
    words = [sys.executable, "-m", "gitbench", "run", str(tmp_path / "wide.py"), "--profile", "smoke", "--work-dir"]
    words += [str(tmp_path / "work"), "--until-decided", "--max-seeds", "9", "--out", str(tmp_path / "out"), "--plain"]

    def call(*more: str) -> subprocess.CompletedProcess:
        return subprocess.run([*words, *more], capture_output=True, text=True, timeout=280)

    assert main([*words[3:], "--dry-run", "--budget", "10m"]) == 0
    shown = capsys.readouterr().out
    assert "9 runs, 0 done, 9 to do" in shown and "within 10 min, up to 9 an arm" in shown
    assert main([*words[3:], "--budget", "0s"]) == 1
    assert "the budget of 0 s is used up (9 runs more need about" in capsys.readouterr().out
    assert not (tmp_path / "work").exists()
    result = call("--budget", "10m")
    assert result.returncode == 0, result.stdout + result.stderr
    looks = read_looks(tmp_path / "work", "wide.smoke.scenes")
    assert looks.stopped == decide.DECIDED and looks.looks[-1].claims[0].word == SUPPORTED
    assert looks.looks[0].claims[0].word == INCONCLUSIVE and 2 <= len(looks.looks) <= 5
    verdict = json.loads((tmp_path / "out" / "verdicts.json").read_text())["verdicts"][0]
    assert verdict["sequential"] and verdict["looks"] == len(looks.looks) and verdict["word"] == SUPPORTED
    proof = read_proof(tmp_path / "work", "wide.smoke.scenes")
    assert len(proof.runs) == sum(looks.looks[-1].seeds.values()) and proof.replicates == (0, 1)
    again = call()
    assert again.returncode == 0 and "0 runs trained" in again.stdout
    assert read_looks(tmp_path / "work", "wide.smoke.scenes") == looks


def test_options_that_belong_together(tmp_path, capsys):
    words = ["run", "decoder_size", "--profile", "smoke", "--work-dir", str(tmp_path)]
    for more, said in (
        (["--budget", "2h"], "--budget belongs to --until-decided"),
        (["--max-seeds", "4"], "--max-seeds belongs to --until-decided"),
        (["--until-decided", "--budget", "soon"], "--budget soon: write a number"),
        (["--until-decided", "--seeds", "2"], "at least 3 are needed"),
        (["--until-decided", "--cfg-options", "train_cfg.max_iters=3"], "changed runs enter no claim"),
    ):
        assert main([*words, *more]) == 2
        errors = capsys.readouterr().err
        assert said in errors and errors.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_no_run_is_begun_after_the_time(tiny_plan):
    outcome = launch(tiny_plan, "test", jobs=1, plain=True, until=time.monotonic())
    assert (outcome.completed, outcome.found, outcome.failed, outcome.left) == (0, 0, (), 3)
    assert not any(run.done for run in tiny_plan.runs)


def test_a_proof_grows_with_the_seeds_without_building_an_arm(tmp_path, monkeypatch):
    from gitbench.launch import prove as module
    from gitbench.launch.scheduling import prepare_images, start_context

    full = planned(tmp_path, CLAIM, most=5)
    start = with_seeds(full, {"base": 3, "small": 3, "blind": 3})
    prepare_images(start)
    module.prove(start, start_context())
    monkeypatch.setattr(module, "_fingerprints", lambda *_: pytest.fail("built again"))
    grown = with_seeds(full, {"base": 3, "small": 5, "blind": 3})  # the base itself has no replicate 4
    assert not is_proven(grown)
    module.prove(grown, None)
    assert is_proven(grown) and not is_proven(start)
    wrong = dataclasses.replace(
        grown.runs[-1],
        spec=dataclasses.replace(grown.runs[-1].spec, train=dataclasses.replace(grown.runs[-1].spec.train, warmup=5)),
    )
    with pytest.raises(GitbenchError, match="differs from 'base' in more than"):
        module.prove(dataclasses.replace(grown, runs=(*grown.runs[:-1], wrong)), None)


def test_claims_that_no_seeds_decide_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(decide, "launch", Trainer(MEANS))
    unscored = dataclasses.replace(CLAIM, name="unscored", metric="SPICE")  # no run has one
    decision = decide.run_until_decided(planned(tmp_path, CLAIM, unscored), 3, "test", jobs=1)
    assert decision.stopped == decide.DECIDED
    assert ", but not judged: unscored: " in decision.said and "have no SPICE yet" in decision.said
    looks = read_looks(tmp_path, "tiny.smoke.scenes").looks
    lines = [{each.claim: each for each in look.claims} for look in looks]
    assert all(line["unscored"].p_holm is None for line in lines)
    for (
        line
    ) in lines:  # the claim that cannot be judged counts in the family: the p-value that decides is twice its own
        own = line[CLAIM.name]
        assert own.p_holm == pytest.approx(min(1.0, 2 * own.p)) and (own.p_holm < 0.05) == (own.word == SUPPORTED)


def test_a_study_with_a_report_starts_from_what_it_has_finished_not_from_what_it_planned(tmp_path, monkeypatch):
    monkeypatch.setattr(decide, "launch", Trainer(MEANS))
    full = planned(tmp_path, CLAIM)
    decide.launch(with_seeds(full, dict.fromkeys(MEANS, 4)), "test")
    note_report(tmp_path, load_study(tmp_path, "tiny", "smoke", "scenes"))
    write_plan(full, "test")  # twelve seeds are planned, and none of the new ones is there
    assert set(decide.seeds_now(full, 3).values()) == {4}
    decision = decide.run_until_decided(full, 3, "test", jobs=1)
    looks = read_looks(tmp_path, full.study)
    assert looks.until_decided and decision.looks == len(looks.looks) == looks_of(tmp_path, full.study)
    assert set(looks.looks[0].seeds.values()) == {4}  # the report's look is the first one
