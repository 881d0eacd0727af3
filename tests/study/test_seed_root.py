"""The seeds of a study follow from what it claims and plans: who looks and then changes either gets other runs."""

import dataclasses

from helpers_errors import refused
from helpers_judge import claim_of
from helpers_rates import gridded
from helpers_study import TINY, make_study, tiny_profile

from gitbench.ablations import check_ablation
from gitbench.spec import Arm
from gitbench.study.config import make_config
from gitbench.study.rates import tuning_of

CLAIM = claim_of("better", name="base-better", treatment="base", reference="small")
CLAIMING = dataclasses.replace(TINY, claims=(CLAIM,))


def seeds_of(study, arm="base", replicate=0):
    """Return the run key and every seed that the config of a run holds."""
    run = next(run for run in study.plan.runs if (run.arm, run.replicate) == (arm, replicate))
    config = make_config(run.resolved, study.plan.vocabulary, run.run_key)
    seeds = (
        config.train_cfg.dropout_seed,
        config.model.init_seed,
        config.randomness.seed,
        config.train_dataloader.dataset.seed,
    )
    return run.run_key, seeds


def assert_apart(first, second) -> None:
    """Not a run and not a seed of one study is one of the other."""
    key, seeds = seeds_of(first)
    other, others = seeds_of(second)
    assert key != other and set(seeds).isdisjoint(others)
    assert {run.run_key for run in first.plan.runs}.isdisjoint(run.run_key for run in second.plan.runs)


def test_arms_of_one_replicate_share_their_seeds_and_replicates_do_not(tmp_path):
    study = make_study(tmp_path, CLAIMING, replicates=2)
    assert seeds_of(study)[1] == seeds_of(study, "small")[1] == seeds_of(study, "blind")[1]
    assert set(seeds_of(study)[1]).isdisjoint(seeds_of(study, replicate=1)[1])
    assert all(0 <= seeds_of(study, replicate=at)[1][2] < 2**32 for at in (0, 1))  # numpy takes no more


def test_a_changed_claim_gets_new_runs(tmp_path):
    """Look, rewrite claims and lock, train again: the numbers that were seen do not come back."""
    before = make_study(tmp_path, CLAIMING)
    for changed in ({"margin": 9.0}, {"kind": "not_better"}, {"treatment": "small", "reference": "base"}):
        claims = (dataclasses.replace(CLAIM, **changed),)
        assert_apart(before, make_study(tmp_path, dataclasses.replace(TINY, claims=claims)))
    assert_apart(before, make_study(tmp_path))  # the claim dropped
    assert_apart(before, make_study(tmp_path, dataclasses.replace(CLAIMING, name="copy")))
    titled = dataclasses.replace(CLAIMING, title="Another title")
    assert seeds_of(make_study(tmp_path, titled)) == seeds_of(before)


def test_other_arms_sizes_steps_or_rates_get_new_runs(tmp_path):
    """Look, then try another amount, more steps or another grid under the same claims: no run comes back."""
    before, usual = make_study(tmp_path, CLAIMING), tiny_profile()
    fewer, tested = (dataclasses.replace(usual.data, **{name: 5}) for name in ("train_images", "test_images"))
    recipe = dataclasses.replace(usual.pretraining, iterations=7)
    for profile in (
        tiny_profile(iterations=7),
        tiny_profile(lr_decoder=1e-3),
        gridded(),
        *(dataclasses.replace(usual, data=data) for data in (fewer, tested)),
        dataclasses.replace(usual, pretraining=recipe),
        dataclasses.replace(usual, on_scenes={}),
    ):
        assert_apart(before, make_study(tmp_path, CLAIMING, profile))
    assert_apart(make_study(tmp_path, CLAIMING, gridded()), make_study(tmp_path, CLAIMING, gridded((0.3, 1.0))))
    more = (*CLAIMING.arms["smoke"], Arm(name="large", variants={"decoder": "self_2x96"}))
    assert_apart(before, make_study(tmp_path, dataclasses.replace(CLAIMING, arms={"smoke": more})))
    frozen = dataclasses.replace(CLAIMING, common={"encoder_training": "frozen"})
    assert_apart(before, make_study(tmp_path, frozen))


def test_what_concerns_cost_alone_gets_the_same_runs(tmp_path):
    usual = tiny_profile(checkpoint_every=3)
    data = dataclasses.replace(usual.data, workers=2)
    dearer = dataclasses.replace(usual, data=data, doc="Dear.", run_seconds=9.0)
    assert seeds_of(make_study(tmp_path, CLAIMING, dearer)) == seeds_of(make_study(tmp_path, CLAIMING))
    apart = dataclasses.replace(CLAIMING, arms={**CLAIMING.arms, "cpu": CLAIMING.arms["smoke"]})
    assert seeds_of(make_study(tmp_path, apart)) == seeds_of(make_study(tmp_path, CLAIMING))


def test_tuning_runs_keep_their_seeds(tmp_path):
    """They are no study's: what another grid has in common with this one is not tuned again."""
    few, many = (tuning_of(CLAIMING, gridded(grid), "scenes") for grid in ((1.0, 2.0), (0.5, 1.0, 2.0)))
    assert {each.run.run_key for each in few.runs} < {each.run.run_key for each in many.runs}
    assert {each.run.resolved.seed_root for each in many.runs} == {"tuning"}


def test_another_number_of_seeds_is_another_study(tmp_path):
    """Look at 2, then run 3 in a fresh work directory: the third study knows nothing of the first."""
    one, two, three = (make_study(tmp_path / str(count), CLAIMING, replicates=count) for count in (1, 2, 3))
    assert_apart(two, three)
    assert [study.name for study in (one, two)] == ["tiny.smoke.scenes", "tiny.smoke.scenes+seeds-2"]
    assert seeds_of(make_study(tmp_path / "fresh", CLAIMING, replicates=2)) == seeds_of(two)


def test_a_sequential_study_grows_on_seeds_of_its_own(tmp_path):
    three, five = (make_study(tmp_path, CLAIMING, replicates=count, sequential=True) for count in (3, 5))
    assert seeds_of(three, replicate=2) == seeds_of(five, replicate=2) and three.name == five.name
    assert three.name == "tiny.smoke.scenes+sequential" and five.plan.seeds is None
    assert_apart(three, make_study(tmp_path, CLAIMING, replicates=3))


def test_an_ablation_may_state_its_own_number_of_seeds(tmp_path):
    """Then that is the usual number: the profile's own is what has a mark."""
    more = dataclasses.replace(CLAIMING, replicates={"smoke": 3})
    usual, fewer = make_study(tmp_path, more, replicates=None), make_study(tmp_path, more, replicates=2)
    assert (usual.name, len({run.replicate for run in usual.plan.runs})) == ("tiny.smoke.scenes", 3)
    assert fewer.name == "tiny.smoke.scenes+seeds-2"
    with refused("0 replicates in profile smoke: use 1 or more"):
        check_ablation(dataclasses.replace(CLAIMING, replicates={"smoke": 0}))
    with refused("unknown profile in replicates of tiny 'smok'"):
        check_ablation(dataclasses.replace(CLAIMING, replicates={"smok": 3}))
