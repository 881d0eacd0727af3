"""Rates that come from files, which may be a stranger's or damaged: what no tuning can have given is refused or left out."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from helpers_errors import refused
from helpers_rates import GRID, chosen, gridded, own_cache, plant, tuning  # noqa: F401 - a fixture
from helpers_study import TINY, make_study

from gitbench.files import read_json, write_json
from gitbench.plan import Plan
from gitbench.study import rates
from gitbench.study.plan_file import plan_to_json, read_plan


@pytest.mark.parametrize("value", [math.nan, math.inf, "2.5", [2.5], {"value": 2.5}])
def test_a_table_with_a_likelihood_that_is_none_is_damaged(value):
    rates.TABLE.write_text(json.dumps({"schema": 1, "runs": {"0" * 16: {"val_nll": value, "profile": "cpu"}}}))
    rates.shipped_results.cache_clear()
    with refused("rates.json is damaged"):
        tuning()


@pytest.mark.parametrize("change", [{"val_nll": math.nan}, {"val_nll": "2.5"}, {"cost": None}, {"cost": "much"}])
def test_a_run_in_the_cache_that_left_no_result_is_to_be_made(change):
    found = plant(tuning())
    path = found.folder(found.runs[0].run.run_key).trained
    path.write_text(json.dumps(read_json(path) | change))
    assert [each.run_key for each in tuning().to_do] == [found.runs[0].run.run_key]


def test_a_study_goes_on_at_the_rates_that_its_plan_has_whatever_a_later_table_says(tmp_path):
    begun = chosen()
    study = make_study(tmp_path / "w", TINY, gridded(), rates=begun)
    write_json(study.plan_path, plan_to_json(study.plan))
    entry = {"profile": "smoke", "val_nll": 9.0}
    worst = [trial.run_key for arm in begun for trial in arm.trials if trial.factor == arm.factor]
    write_json(rates.TABLE, {"schema": 1, "runs": dict.fromkeys(worst, entry)})
    rates.shipped_results.cache_clear()
    found = tuning()
    assert found.rates() != begun
    found.learn(study.plan_path)
    assert found.rates() == begun


def test_the_file_of_a_plan_holds_its_rates_and_another_machine_goes_on_at_them(tmp_path, monkeypatch):
    study = make_study(tmp_path / "work", TINY, gridded(), rates=chosen())
    study.write_plan()
    assert read_plan(study.plan_path).rates == study.plan.rates
    monkeypatch.setattr(rates, "cache_dir", lambda: tmp_path / "other")
    elsewhere = plant(tuning(), lambda each: 9.0 - each.factor)
    assert {each.factor for each in elsewhere.rates()} == {2.0}
    elsewhere.learn(study.plan_path)
    assert elsewhere.rates() == study.plan.rates.arms
    bare = tuning(profile=gridded(iterations=7))
    bare.learn(study.plan_path)  # of another recipe
    bare.learn(tmp_path / "missing.json")
    assert len(bare.to_do) == 18


def read_again(plan: Plan, tmp_path) -> Plan:
    path = tmp_path / f"{plan.name}.json"
    path.write_text(json.dumps(plan_to_json(plan)))
    return read_plan(path)


def test_a_plan_with_rates_that_no_tuning_gives_is_damaged(tmp_path):
    plan = make_study(tmp_path / "w", TINY, gridded(), rates=chosen()).plan
    assert read_again(plan, tmp_path).rates == plan.rates
    first, *rest = plan.rates.arms
    broken = {
        "no grid": {"grid": ()},
        "a factor of 0": {"grid": (0.0, *GRID)},
        "no floor": {"arms": plan.rates.arms[:-1]},
        "an arm twice": {"arms": (*plan.rates.arms, first)},
        "beyond the grid": {"arms": (dataclasses.replace(first, factor=3.0), *rest)},
        "not finite": {
            "arms": (
                dataclasses.replace(first, trials=(dataclasses.replace(first.trials[0], val_nll=math.nan),)),
                *rest,
            )
        },
    }
    for change in broken.values():
        with refused("is damaged"):
            read_again(dataclasses.replace(plan, rates=dataclasses.replace(plan.rates, **change)), tmp_path)
