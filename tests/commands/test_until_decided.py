"""`gitbench run --until-decided`: a study stops early, its budget holds, and no look is lost."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers_cli import call
from helpers_judge import claim_of
from helpers_study import TINY, make_study

from gitbench.cli import main
from gitbench.commands import until_decided as decide
from gitbench.errors import GitbenchError
from gitbench.files import write_json
from gitbench.judge.claims import judge_study
from gitbench.judge.verdict import INCONCLUSIVE, NOT_TESTABLE, SUPPORTED
from gitbench.launch.session import Outcome
from gitbench.plan import PlannedRun
from gitbench.run_folder import RECORD_SCHEMA
from gitbench.spec import Arm, Claim
from gitbench.study import interim
from gitbench.study.interim import Looks
from gitbench.study.plan import with_seeds
from gitbench.study.store import Study, Yardstick, study_names

CLAIM = claim_of("better", name="base-better", treatment="base", reference="small")
FAR = {"base": 95.0, "small": 90.0, "blind": 20.0}
NEAR = {"base": 91.0, "small": 90.0, "blind": 20.0}


@dataclasses.dataclass
class Trainer:
    """Stands for `launch`: writes the plan and records with planted scores, by its own clock, and may stop on the way."""

    means: dict[str, float]
    sd: float = 1.0
    losses: dict[str, float] | None = None
    stop_after: int = 10**9  # runs
    fail: tuple[str, int] | None = None
    now: float = 0.0  # seconds; a run takes 10
    trained: list[tuple[str, int]] = dataclasses.field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def __call__(self, study: Study, jobs: int | None, plain: bool, until: float | None = None) -> Outcome:
        study.write_plan()
        study.write_yardstick(Yardstick(kind="grammar", ceiling={"CIDEr": {"value": 150.0, "signature": "s"}}))
        todo = [run for run in study.plan.runs if not study.done(run)]
        found, failed = len(study.plan.runs) - len(todo), []
        for at, run in enumerate(todo):
            if len(self.trained) >= self.stop_after:
                raise KeyboardInterrupt
            if until is not None and self.now >= until:
                return Outcome(completed=at, found=found, failed=(), left=len(todo) - at)
            if (run.arm, run.replicate) == self.fail:
                failed.append((run.arm, run.replicate, "broken"))
                continue
            self.finish(study, run)
        return Outcome(completed=len(todo) - len(failed), found=found, failed=tuple(failed))

    def finish(self, study: Study, run: PlannedRun) -> None:
        noise = np.random.default_rng([run.replicate, *run.arm.encode()]).normal(0, self.sd)
        folder = study.folder(run.run_key)
        folder.path.mkdir(parents=True, exist_ok=True)
        score = self.means[run.arm] + noise
        table = pd.DataFrame({"image_id": ["a", "b"], "CIDEr": [score - 1, score + 1]})
        metrics = {"CIDEr": {"value": score, "signature": "s"}}
        if self.losses is not None:
            loss = self.losses[run.arm] - noise / 10
            table = table.assign(nll=[9 * loss, 11 * loss], tokens=[9, 11])
            metrics["test_nll"] = {"value": loss, "signature": "n"}
        table.to_parquet(folder.per_image)
        cost = {"seconds": 10.0, "machine": "m", "device": "cpu"}
        record = {"schema": RECORD_SCHEMA, "run_key": run.run_key, "spec": {}, "train": {}, "overridden": []}
        write_json(folder.record, {**record, "metrics": metrics, "cost": cost})
        self.trained.append((run.arm, run.replicate))
        self.now += 10.0


def planned(folder: Path, *claims: Claim, most: int = 12, arms: tuple[Arm, ...] = ()) -> Study:
    ablation = dataclasses.replace(TINY, claims=claims, arms={"smoke": (*TINY.arms["smoke"], *arms)})
    return make_study(folder, ablation, replicates=most, sequential=True)


def run(study: Study, trainer: Trainer, start: int = 3, budget: float | None = None) -> decide.Decision:
    return decide.UntilDecided(study, start, budget, 1, launch=trainer, clock=trainer.clock).run()


def looks_in(study: Study) -> Looks:
    found = Study(study.work_dir, study.plan).looks
    assert found is not None
    return found


def test_the_words_of_the_claims_own_metrics_end_a_study_and_the_likelihoods_are_printed(tmp_path, capsys):
    alone = run(planned(tmp_path / "alone", CLAIM), Trainer(FAR))
    assert "likelihood" not in capsys.readouterr().out
    both = run(planned(tmp_path / "both", CLAIM), Trainer(FAR, losses={"base": 1.5, "small": 1.65, "blind": 3.0}))
    assert both.stopped == decide.DECIDED and both.looks == alone.looks
    last = capsys.readouterr().out.split(f"look {both.looks},")[1]
    assert "base-better: SUPPORTED" in last and "; by likelihood INCONCLUSIVE" in last


def test_a_large_effect_stops_early_and_every_later_judge_allows_for_the_looks(tmp_path, capsys):
    study, trainer = planned(tmp_path, CLAIM), Trainer(FAR)
    decision = run(study, trainer)
    assert decision.stopped == decide.DECIDED and decision.outcome.failed == ()
    looks = looks_in(study)
    assert (
        looks.stopped == decide.DECIDED
        and decision.looks == len(looks.looks) >= 2
        and looks.looks[0].command == "until-decided"
    )
    assert [look.claims[0].word for look in looks.looks][-2:] == [INCONCLUSIVE, SUPPORTED]
    assert [look.seeds["base"] for look in looks.looks] == list(range(3, 3 + len(looks.looks)))
    seeds = looks.looks[-1].seeds
    assert seeds["base"] == seeds["small"] == seeds["blind"] < 8  # the margin rests on the floor too
    assert len(trainer.trained) == sum(seeds.values()) == decision.outcome.completed
    shown = capsys.readouterr().out
    assert (
        "look 2, seeds base 4, small 4, blind 4" in shown and "adding seeds of base, small, blind: about 30 s" in shown
    )
    assert study_names(tmp_path) == [study.name]  # the looks are taken for no study
    there = Study.open(tmp_path, study.name)
    (looked,) = judge_study(there.plan, there.frame, "grammar", looks=len(looks.looks))
    (plain,) = judge_study(there.plan, there.frame, "grammar")
    assert looked.sequential and looked.looks == decision.looks and not plain.sequential and plain.looks == 0
    assert looked.p > plain.p and looked.interval[0] < plain.interval[0] and looked.differences == plain.differences


def test_equal_arms_stay_open_until_the_seeds_are_used_up(tmp_path):
    trainer = Trainer({"base": 90.0, "small": 90.0, "blind": 20.0}, sd=5.0)
    decision = run(planned(tmp_path, CLAIM, most=7), trainer)
    assert decision.stopped == decide.SEEDS and "1 claim still open at 7 seeds: raise --max-seeds" in decision.said
    assert decision.looks == 5 and len(trainer.trained) == 7 + 7 + 7
    # with more seeds allowed it goes on, with the looks it had
    more = run(planned(tmp_path, CLAIM, most=8), trainer)
    assert more.looks == 6 and more.outcome.completed == 3


def test_a_killed_run_goes_on_with_its_looks_and_its_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(interim, "now", lambda: "2026-01-01T00:00:00Z")
    whole, undisturbed = planned(tmp_path / "whole", CLAIM, most=6), Trainer(NEAR)
    run(whole, undisturbed)
    written = whole.looks_path.read_bytes()
    for stop, count in ((2, 0), (10, 1), (14, 2)):
        study = planned(tmp_path / str(stop), CLAIM, most=6)
        with pytest.raises(KeyboardInterrupt):
            run(study, Trainer(NEAR, stop_after=stop))
        there = Study(study.work_dir, study.plan).looks
        assert there is None if count == 0 else (there.stopped, len(there.looks)) == ("", count)
        rest = Trainer(NEAR)
        run(study, rest)
        assert study.looks_path.read_bytes() == written and len(rest.trained) == len(undisturbed.trained) - stop
    run(whole, Trainer(NEAR))  # where all is done, another call looks no further
    assert whole.looks_path.read_bytes() == written


def test_no_budget_stops_at_once(tmp_path):
    study, trainer = planned(tmp_path, CLAIM), Trainer(NEAR)
    decision = run(study, trainer, budget=0.0)
    assert decision.stopped == decide.BUDGET and decision.looks == 0
    assert "9 runs more need about 36 s, 0 s is left" in decision.said and "no verdict yet" in decision.said
    assert not (tmp_path / "studies").exists() and not trainer.trained


def test_a_budget_ends_between_batches(tmp_path):
    """The runs of a batch fit no more, so it is not begun, and what is there is judged."""
    study, trainer = planned(tmp_path, CLAIM), Trainer(NEAR)
    decision = run(study, trainer, budget=100.0)
    assert decision.stopped == looks_in(study).stopped == decide.BUDGET and decision.looks == 1
    assert "3 runs more need about 30 s, 10 s is left); 1 claim still open" in decision.said
    assert len(trainer.trained) == 9


def test_a_budget_that_ends_within_the_first_batch_leaves_whole_seeds(tmp_path):
    """Of 5 seeds asked for, 3 of each arm are there when the time is up: these are judged, and nothing else is listed."""
    study, trainer = planned(tmp_path, CLAIM), Trainer(NEAR)
    decision = run(study, trainer, start=5, budget=110.0)
    assert decision.stopped == decide.BUDGET and "used up with 4 runs to go; 1 claim still open" in decision.said
    assert len(trainer.trained) == 11 and decision.looks == 1
    (look,) = looks_in(study).looks
    assert look.seeds == {"base": 4, "small": 4, "blind": 3} and look.claims[0].n == 3


def test_seeds_that_are_there_are_used_and_those_only_planned_are_not(tmp_path):
    study, trainer = planned(tmp_path, CLAIM), Trainer(FAR)
    trainer(Study(tmp_path, with_seeds(study.plan, dict.fromkeys(FAR, 4))), 1, True)  # a first batch, stopped
    Study(tmp_path, with_seeds(study.plan, dict.fromkeys(FAR, 9))).write_plan()  # another, stopped at once
    assert decide.seeds_now(study, 3) == dict.fromkeys(FAR, 4) and decide.seeds_now(study, 5) == dict.fromkeys(FAR, 5)
    decision = run(study, trainer)
    looks = looks_in(study)
    assert looks.looks[0].seeds == dict.fromkeys(FAR, 4)
    assert decision.looks == len(looks.looks)


def test_a_failed_run_ends_it(tmp_path):
    trainer = Trainer({"base": 90.0, "small": 90.0, "blind": 20.0}, fail=("small", 4))
    decision = run(planned(tmp_path, CLAIM), trainer)
    assert decision.stopped == decide.FAILED and decision.outcome.failed == (("small", 4, "broken"),)
    assert decision.looks == 2


def test_what_no_seed_can_help_is_left_alone(tmp_path):
    study, trainer = planned(tmp_path, CLAIM), Trainer({"base": 20.5, "small": 20.0, "blind": 20.0})
    assert run(study, trainer).stopped == decide.DECIDED and len(trainer.trained) == 9
    assert looks_in(study).looks[0].claims[0].word == NOT_TESTABLE


def test_claims_that_no_seeds_decide_are_named_and_count_among_the_others(tmp_path):
    study = planned(tmp_path, CLAIM, dataclasses.replace(CLAIM, name="unscored", metric="SPICE"))  # no run has one
    decision = run(study, Trainer(FAR))
    assert decision.stopped == decide.DECIDED
    assert ", but not judged: unscored: " in decision.said and "have no SPICE yet" in decision.said
    for look in looks_in(study).looks:
        line = {each.claim: each for each in look.claims}
        own = line[CLAIM.name]
        assert line["unscored"].p_holm is None and own.p_holm == pytest.approx(min(1.0, 2 * own.p))
        assert (own.p_holm < 0.025) == (own.word == SUPPORTED)


def test_seeds_go_to_the_open_claim_alone(tmp_path):
    """One claim is decided at the second look; the other is open, and its arms alone get seeds from then on."""
    other = Arm(name="other", variants={"decoder": "cross_1x64"})
    far = dataclasses.replace(CLAIM, name="far", treatment="other")
    study = planned(tmp_path, CLAIM, far, most=10, arms=(other,))
    run(study, Trainer({"base": 90.5, "small": 90.0, "other": 150.0, "blind": 20.0}))
    looks = looks_in(study).looks
    words = [{line.claim: line.word for line in look.claims} for look in looks]
    decided = next(at for at, word in enumerate(words) if word["far"] == SUPPORTED)
    seeds = [look.seeds for look in looks]
    assert decided < len(looks) - 1 and words[-1]["far"] == SUPPORTED
    assert all(each["other"] == seeds[decided]["other"] for each in seeds[decided:])
    assert seeds[-1]["base"] == 10 > seeds[-1]["other"] and looks[-1].claims[0].n == 10


# ---- the command --------------------------------------------------------------------------------------------------


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
    plan = planned(tmp_path, CLAIM, most=3).plan
    for arguments, said in (
        ((planned(tmp_path, most=3).plan, 3, 30), "states no claim"),
        ((dataclasses.replace(plan, cfg_options={"a": "1"}), 3, 30), "--cfg-options"),
        ((plan, 2, 30), "at least 3"),
        ((plan, 5, 4), "--max-seeds 4"),
    ):
        with pytest.raises(GitbenchError, match=said):
            decide.check(*arguments)
    decide.check(plan, 3, 3)


ABLATION = '''"""Does a wide decoder learn faster?"""
from gitbench.spec import Ablation, Arm, Claim

ABLATION = Ablation(
    name="wide", title="Wide", question="Does a wide decoder learn faster?", axis="decoder",
    arms={"smoke": (Arm(name="base", variants={"decoder": "self_2x64"}), Arm(name="wide", variants={"decoder": "self_1x192"}))},
    claims=(Claim(name="wide-better", kind="better", metric="test_nll", treatment="wide", reference="base", margin=0.75,
                  margin_unit="metric", margin_reason="any", says="It does.", quote="faster", where="p. 1", confidence="S"),),
)
'''


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_stops_where_models_do_not_see(tmp_path, capsys):
    """Real runs of the smoke profile: no seed makes a claim testable whose base arm does not see, and it is said so."""
    (tmp_path / "wide.py").write_text(ABLATION)
    words = ["run", str(tmp_path / "wide.py"), "--profile", "smoke", "--work-dir", str(tmp_path / "work")]
    words += ["--until-decided", "--max-seeds", "9", "--out", str(tmp_path / "out"), "--plain"]
    assert main([*words, "--dry-run", "--budget", "10m"]) == 0
    shown = capsys.readouterr().out
    assert "9 runs, 0 done, 9 to do" in shown and "within 10 min, up to 9 an arm" in shown
    assert not (tmp_path / "work").exists()
    for count in range(2):  # the second call finds all that the first one left
        result = call(*words, *["--no-report"] * (not count))
        assert result.returncode == 0, result.stdout + result.stderr
        assert ("0 runs trained" in result.stdout) == bool(count)
        looks = Study.open(tmp_path / "work", "wide.smoke.scenes+sequential").looks
        assert looks.stopped == decide.DECIDED and len(looks.looks) == 1
        assert looks.looks[0].claims[0].word == NOT_TESTABLE and "but not judged: wide-better: " in result.stdout
    verdict = json.loads((tmp_path / "out" / "verdicts.json").read_text())["verdicts"][0]
    assert verdict["sequential"] and verdict["looks"] == 1 and verdict["word"] == NOT_TESTABLE
