"""The seeds of a study follow from what it claims and plans: who looks and then changes either gets other runs."""

import dataclasses

from helpers_errors import refused
from helpers_judge import claim_of
from helpers_study import TINY, make_study

from gitbench.ablations import check_ablation
from gitbench.study.config import make_config

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
