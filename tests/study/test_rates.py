"""Fair rates: each arm's are chosen on the validation likelihood, by runs that no study has and that open no test image."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from helpers_data import row, write_parquet
from helpers_errors import refused
from helpers_judge import claim_of
from helpers_rates import GRID, LIKED, chosen, gridded, liked, own_cache, plant, tuning
from helpers_study import TINY, make_study, run_of, tiny_ablation, tiny_profile

from gitbench.ablations import load_ablation
from gitbench.errors import GitbenchError
from gitbench.files import write_json
from gitbench.launch.executor import Event
from gitbench.launch.prove import prove
from gitbench.launch.scheduling import launch
from gitbench.launch.tuning import tune
from gitbench.plan import ArmRate, Trial
from gitbench.processes import start_context
from gitbench.profiles import CPU, GPU, PAPER, SMOKE
from gitbench.run_key import canonical
from gitbench.study import rates
from gitbench.study.evidence import Made, plan_findings, runs_findings
from gitbench.study.rates import Tuning, ship, tuning_of
from gitbench.study.store import Study

__all__ = ["own_cache"]  # a fixture of every test here


def keys(found: Tuning) -> set[str]:
    return {run.run_key for run in found.unique_runs}


class Planter:
    """Stands for an executor: a run ends with the next poll and leaves its planted result; stops after `most`."""

    def __init__(self, found: Tuning, most: int = 10**9) -> None:
        self.by_folder = {found.folder(each.run.run_key).path: each for each in found.runs}
        self.found, self.most, self.queue, self.made = found, most, [], []

    def submit(self, folder: Path) -> None:
        self.queue.append(folder)

    def poll(self, timeout: float) -> list[Event]:
        if not self.queue:
            return []
        if len(self.made) == self.most:
            raise KeyboardInterrupt
        folder = self.queue.pop(0)
        self.made.append(folder.name)
        write_json(folder / "trained.json", {"val_nll": liked(self.by_folder[folder]), "cost": {"seconds": 1.0}})
        return [Event(folder=folder, kind="ended", values=("",))]

    def cancel(self, running: bool = True) -> list[Path]:
        return []


# ---- real training ----------------------------------------------------------------------------------------------


def test_arms_are_tuned_without_the_test_split_and_one_that_diverges_loses(tmp_path, monkeypatch):
    monkeypatch.setattr(rates, "SEEDS", 1)
    folder = tmp_path / "photos"
    for split, numbers in (("train", range(8)), ("val", range(10, 13))):
        write_parquet(folder / f"{split}.parquet", [row(number) for number in numbers])
    (folder / "test.parquet").write_text("no test of anything")
    profile = gridded((1.0, 1e30))
    with pytest.raises(GitbenchError, match="test.parquet"):  # nothing that opens it can go on
        make_study(tmp_path / "work", TINY, profile, data=str(folder))
    alone = dataclasses.replace(TINY, arms={"smoke": TINY.arms["smoke"][:1]})
    found = tuning(alone, profile, str(folder))
    outcome = tune(found, jobs=2, plain=True)
    assert (outcome.completed, outcome.failed) == (4, ())
    assert [(each.arm, each.factor) for each in found.rates()] == [("base", 1.0), ("blind", 1.0)]
    base = found.rates()[0]
    assert base.val_nll(1e30) is None and 1 < base.val_nll(1.0) < 9
    left = {path.name for path in found.folder(base.trials[0].run_key).path.iterdir()}
    assert {"config.py", "curve.csv", "trained.json"} <= left
    assert left.isdisjoint({"predictions.jsonl", "record.json", "model.pth"}) and not any(
        "iter_" in each for each in left
    )
    again = tuning(alone, profile, str(folder))
    assert again.to_do == () and again.rates() == found.rates()
    assert tune(again, jobs=1, plain=True).found == 4


# ---- what is run ------------------------------------------------------------------------------------------------


def test_nothing_is_trained_twice_and_a_stopped_tuning_goes_on(own_cache):
    found = tuning()
    with pytest.raises(KeyboardInterrupt):
        tune(found, plain=True, executor=(first := Planter(found, most=5)))
    rest = Planter(later := tuning())
    outcome = tune(later, plain=True, executor=rest)
    assert (outcome.found, outcome.completed) == (5, 13)
    assert len(first.made) == 5 and not set(first.made) & set(rest.made) and {*first.made, *rest.made} == keys(found)
    assert {each.arm: each.factor for each in later.rates()} == LIKED
    assert tune(tuning(), plain=True, executor=Planter(tuning(), most=0)).found == 18


def test_a_run_is_named_for_people_while_it_is_tuned(capsys):
    found = tuning()
    tune(found, plain=True, executor=Planter(found))
    assert "base at rates x 0.5 - seed 0: validation NLL 4.500, 1 s  (" in capsys.readouterr().out


def test_tuning_runs_are_the_arms_own_but_for_seeds_and_test(tmp_path):
    found = tuning()
    study = make_study(tmp_path, TINY, gridded())
    own, run = (
        run_of(study, "small").spec,
        next(each for each in found.runs if (each.arm, each.factor) == ("small", 2.0)),
    )
    spec = run.run.resolved
    assert spec.variants == own.variants and spec.text == own.text and spec.data.train_images == own.data.train_images
    assert (spec.train.lr_encoder, spec.train.lr_decoder) == (2 * own.train.lr_encoder, 2 * own.train.lr_decoder)
    assert spec.seed_root != own.seed_root and keys(found).isdisjoint(each.run_key for each in study.plan.runs)
    assert len(found.runs) == 3 * len(GRID) * rates.SEEDS == len(keys(found))  # the blind floor is tuned, too


def test_what_decides_a_result_enters_its_key_and_what_does_not_stays_out():
    profile = gridded()
    before = keys(tuning())
    assert before.isdisjoint(keys(tuning(profile=gridded(iterations=7))))
    less = dataclasses.replace(profile.data, val_images=3)
    assert before.isdisjoint(keys(tuning(profile=dataclasses.replace(profile, data=less))))
    tested = dataclasses.replace(profile.evaluate, beam_size=3, max_length=20)
    more = dataclasses.replace(profile.data, test_images=9)
    assert before == keys(tuning(profile=dataclasses.replace(profile, evaluate=tested, data=more, replicates=3)))
    claiming = dataclasses.replace(TINY, claims=(claim_of("better", treatment="base", reference="small"),))
    assert before == keys(tuning(claiming)) == keys(tuning(profile=gridded(val_every=2)))
    other = tiny_ablation("decoder", "self_2x64", "self_2x96", name="other")
    assert len(before & keys(tuning(other))) == 2 * len(GRID) * rates.SEEDS  # its base and floor are those of TINY


def test_there_is_nothing_to_choose_without_a_grid_or_for_changed_runs():
    assert tuning_of(TINY, tiny_profile(), "scenes") is None
    assert tuning_of(TINY, gridded(), "scenes", cfg_options={"model.init_seed": 5}) is None
    assert SMOKE.rates == (1.0,) and {profile.rates for profile in (CPU, GPU, PAPER)} == {GRID}


# ---- what is chosen ---------------------------------------------------------------------------------------------


def rate_of(**means: float | None) -> ArmRate:
    """Return an arm of the trials of one seed: x0_5=3.0 is a likelihood of 3 at half the rates."""
    factors = {float(name[1:].replace("_", ".")): value for name, value in means.items()}
    trials = tuple(Trial(factor=each, seed=0, run_key="k", val_nll=value) for each, value in factors.items())
    return ArmRate(arm="a", factor=1.0, trials=trials)


@pytest.mark.parametrize(
    ("means", "best"),
    [
        ({"x0_5": 3.0, "x1": 2.0, "x2": 2.5}, 1.0),
        ({"x0_5": 3.0, "x1": 2.5, "x2": None}, 1.0),
        ({"x0_5": 3.0, "x1": None, "x2": None}, 0.5),
        ({"x0_5": 2.0, "x1": 2.0, "x2": 2.0}, 1.0),
        ({"x0_5": 2.0, "x1": 3.0, "x2": 2.0}, 0.5),  # as near to 1, and the gentler one
        ({"x0_5": None, "x1": None, "x2": None}, None),
    ],
)
def test_the_best_mean_wins_and_a_diverged_run_takes_its_factor_out(means, best):
    assert rate_of(**means).best == best


def test_one_seed_that_diverges_is_enough_and_an_arm_that_always_does_is_an_error():
    def once(each):
        return None if (each.factor, each.run.replicate, each.arm) == (2.0, 1, "base") else liked(each)

    found = plant(tuning(), once)
    base = found.rates()[0]
    assert base.factor == 1.0 and base.val_nll(2.0) is None
    bad = plant(tuning(), lambda each: None if each.arm == "small" else 3.0)
    with refused("arm 'small' diverged at every learning rate of the grid"):
        bad.rates()


def test_the_table_that_ships_counts_before_the_cache(tmp_path):
    found = plant(tuning())
    assert ship("smoke", [found]) == 18
    elsewhere = plant(tuning(), lambda each: 9.0 - each.factor)  # another machine's cache
    assert {each.arm: each.factor for each in elsewhere.rates()} == LIKED
    entry = json.loads(rates.TABLE.read_text())["runs"][found.runs[0].run.run_key]
    assert entry["variants"] == {"encoder": "vit_2x64_p8_64", "encoder_init": "contrastive", "decoder": "self_2x64"}
    assert (entry["profile"], entry["factor"], entry["seed"]) == ("smoke", 0.5, 0)


def test_shipping_drops_what_the_profile_uses_no_more_and_keeps_other_profiles(tmp_path):
    gone = {"val_nll": 3.0, "profile": "smoke", "variants": {}, "factor": 1.0, "seed": 0}
    kept = gone | {"profile": "cpu", "val_nll": None}
    write_json(rates.TABLE, {"schema": 1, "runs": {"0" * 16: gone, "1" * 16: kept}})
    rates.shipped_results.cache_clear()
    found = tuning()
    each = found.runs[0]
    write_json(found.folder(each.run.run_key).trained, {"val_nll": 3.5, "cost": {"seconds": 7.0}})
    assert ship("smoke", [found]) == 1
    assert rates.shipped_results() == {"1" * 16: None, each.run.run_key: 3.5}
    rates.TABLE.write_text('{"runs": {"a": {"val_nll": "low"}}}')
    rates.shipped_results.cache_clear()
    with refused("rates.json is damaged"):
        tuning()


# ---- the plan ---------------------------------------------------------------------------------------------------


def test_a_plan_trains_each_arm_at_its_rates_and_axes_apply_on_top(tmp_path):
    study = make_study(tmp_path, TINY, gridded(), rates=chosen())
    assert {arm: run_of(study, arm).spec.train.lr_decoder for arm in LIKED} == {a: 0.002 * x for a, x in LIKED.items()}
    ratios = tiny_ablation("encoder_training", "trained", "ratio_1_20")
    picked = plant(tuning(ratios), lambda each: abs(each.factor - (2.0 if each.arm == "ratio_1_20" else 0.5))).rates()
    train = run_of(make_study(tmp_path, ratios, gridded(), rates=picked), "ratio_1_20").spec.train
    assert (train.lr_decoder, train.lr_encoder) == (0.004, pytest.approx(0.004 / 20))


def test_the_name_of_a_study_says_that_rates_were_shared_where_there_was_a_choice(tmp_path):
    assert make_study(tmp_path, TINY, gridded(), rates=chosen()).name == "tiny.smoke.scenes"
    shared = make_study(tmp_path, TINY, gridded(), replicates=2)
    assert shared.name == "tiny.smoke.scenes+seeds-2+rates-shared" and shared.plan.rates.arms == ()
    assert make_study(tmp_path).name == "tiny.smoke.scenes"
    changed = make_study(tmp_path, TINY, gridded(), cfg_options={"model.init_seed": 5})
    assert "+cfg-" in changed.name and "rates" not in changed.name


# ---- the proof, and what does not verify ------------------------------------------------------------------------


def at_rates(study: Study, arm: str, **changes: float) -> Study:
    """Return a planned study with other learning rates in the runs of one arm."""
    runs = (
        dataclasses.replace(
            run, spec=dataclasses.replace(run.resolved, train=dataclasses.replace(run.resolved.train, **changes))
        )
        if run.arm == arm
        else run
        for run in study.plan.runs
    )
    return Study(study.work_dir, dataclasses.replace(study.plan, runs=tuple(runs)))


def test_arms_at_their_own_rates_are_proven_and_the_proof_says_so(tmp_path):
    study = make_study(tmp_path, TINY, gridded(), rates=chosen())
    proof = prove(study, start_context())
    assert {arm.arm: arm.factor for arm in proof.arms} == {"small": 0.5, "blind": 1.0}
    assert [arm.varied for arm in proof.arms] == [("decoder",), ("vision",)]
    assert not any(arm.training for arm in proof.arms)
    thirds = make_study(tmp_path, TINY, gridded((0.3, 1.0, 3.0)), rates=chosen(profile=gridded((0.3, 1.0, 3.0))))
    assert prove(thirds, start_context()).arms[0].factor == 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr_decoder": 0.002, "lr_encoder": 0.0004}, "lr_encoder is 0.0008, not 0.0004"),  # the profile's, untuned
        ({"lr_decoder": 0.002}, "lr_decoder is 0.004, not 0.002"),
        ({"lr_encoder": 0.0004}, "lr_encoder is 0.0008, not 0.0004"),
    ],
)
def test_a_rate_that_is_not_the_arms_own_is_refused(tmp_path, changes, message):
    study = at_rates(make_study(tmp_path, TINY, gridded(), rates=chosen()), "small", **changes)
    with refused(rf"arm 'small' differs .*its tuned factor of 0.5 taken out\): .*{message}"):
        launch(study, plain=True)
    assert not (tmp_path / "runs").exists()


def test_an_axis_of_the_encoders_rate_lets_no_other_decoder_rate_through(tmp_path):
    ratios = tiny_ablation("encoder_training", "trained", "ratio_1_20")
    study = make_study(tmp_path, ratios, gridded(), rates=chosen(ablation=ratios))
    with refused("lr_decoder is 0.003, not 0.002"):
        prove(at_rates(study, "ratio_1_20", lr_decoder=0.003), start_context())


def test_rates_that_a_plan_makes_up_are_found(tmp_path):
    plan = make_study(tmp_path, TINY, gridded(), rates=chosen()).plan
    made = {run.run_key: Made(spec=canonical(run.resolved)) for run in plan.runs}
    assert not list(plan_findings(plan)) and not [
        said for said in runs_findings(plan, plan.runs, made) if "rate" in said
    ]
    arms = tuple(dataclasses.replace(arm, factor=2.0) if arm.arm == "small" else arm for arm in plan.tuned)
    forged = dataclasses.replace(plan, rates=dataclasses.replace(plan.rates, arms=arms))
    assert [said.partition(": ")[2] for said in plan_findings(forged)] == [
        "arm small has rates x 2, its tuning runs choose 0.5"
    ]
    said = [each for each in runs_findings(forged, plan.runs, made) if "rate" in each]
    assert said == ["small seed 0: its decoder was trained at a learning rate of 0.001, the plan says 0.004"]


def test_the_ablations_of_the_package_can_be_tuned():
    for name, arms in (("decoder_size", 3), ("encoder_training", 3)):
        ablation = load_ablation(name)
        assert len(tuning_of(ablation, dataclasses.replace(SMOKE, rates=GRID), "scenes").runs) == (arms + 1) * 6
