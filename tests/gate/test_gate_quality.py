"""The quality tier: when it is content with two seeds, what it says of worse ones, and what it refuses."""

from __future__ import annotations

import copy
import dataclasses
import shutil

import pytest
from helpers_study import tiny_profile

from gitbench.errors import GitbenchError
from gitbench.gate import quality
from gitbench.gate.noninferiority import FOUND, Rule
from gitbench.gate.outcome import BEYOND, PARTS, Stale
from gitbench.gate.quality_study import BASE, BLIND, SIZE, Design, QualityStudy, Seeds
from gitbench.gate.setting import Setting, Subject
from gitbench.run_folder import RunFolder

DESIGN = Design(reference_seeds=20, floor_seeds=2)
NOISE = [0.3, -0.9, 0.5, 1.2, -0.4, -1.3, 0.8, -0.2, 0.1, 0.9, -0.7, 0.4, -0.1, 0.2, -1.1, 1.4, -0.6, 0.0, 0.7, -0.8]
METRICS = {"test_nll": (1.5, 2.0, 0.005), "CIDEr": (180.0, 30.0, 6.0), "SceneF1": (41.0, 9.0, 1.3)}  # sees, blind, sd


class Made:
    """Stands for the study: seeds are made up, `changed` moves the scores of the base, `digest` marks its predictions.

    `off`: by how much of themselves the likelihoods of the reference's very seeds differ.
    """

    changed: dict[str, float] = {}
    digest = "same"
    off = 0.0
    error: str | None = None
    asked: list[int] = []

    def __init__(self, setting, design):
        self.design = design
        self.plan = type("Plan", (), {"setting": "s", "data_fingerprint": "d"})

    def seeds(self, arm, count):
        """Return seeds of an arm; the change's noise is its own."""
        if self.error:
            raise GitbenchError(self.error)
        self.asked.append(count)
        noise = NOISE if self.digest == "same" or self.off else NOISE[::-1]
        scores = {}
        for name, (sees, blind, sd) in METRICS.items():
            mean = blind if arm == BLIND else sees + self.changed.get(name, 0.0)
            off = self.off if name == "test_nll" else 0.0
            scores[name] = tuple((mean + sd * each) * (1 + off) for each in noise[:count])
        return Seeds(digests=tuple(f"{self.digest}{seed}" for seed in range(count)), scores=scores)


@pytest.fixture
def made(monkeypatch):
    """Return a function that checks a change against the reference, and the class that makes it up."""
    for name, value in {"changed": {}, "digest": "same", "off": 0.0, "error": None, "asked": []}.items():
        monkeypatch.setattr(Made, name, value)
    monkeypatch.setattr(quality, "QualityStudy", Made)
    values = quality.measure(Setting(folder=""), DESIGN)
    Made.asked.clear()

    def change(digest="other", off=0.0, **changed):
        Made.digest, Made.changed, Made.off = digest, changed, off
        return quality.check(Setting(folder=""), values, DESIGN)

    change.values = values
    return change


def test_a_reference_holds_seeds_digests_and_margins_of_a_tenth_of_what_was_learned(made):
    metrics = made.values["metrics"]
    assert list(metrics) == list(METRICS) and len(made.values["digests"]) == 20
    assert metrics["CIDEr"]["margin"] == pytest.approx(15.0, rel=0.02) and metrics["CIDEr"]["floor"] < 40
    assert metrics["test_nll"]["margin"] == pytest.approx(0.05, rel=0.02)  # a likelihood is better when it is lower
    assert made.values["left_out"] == {} and "tenth" in made.values["margin_reason"]


def test_equal_predictions_are_fine_after_two_seeds(made):
    found = made(digest="same")
    assert found.findings == () and found.compared == 6 and Made.asked == [2]
    assert found.details["seeds"]["CIDEr"]["bound"] == 0.0


def test_the_same_scores_to_rounding_are_fine_after_two_seeds_and_others_take_more(made):
    found = made(off=5e-7)
    assert found.findings == () and Made.asked == [2] and found.details["seeds"]["test_nll"]["bound"] == 0.0
    assert "2 of them with the reference's scores to rounding, 0 with the bytes of its predictions" in found.did
    Made.asked.clear()
    assert made(off=5e-5).findings == () and Made.asked == [2, 4]


def test_other_predictions_of_the_same_quality_are_fine_before_the_last_seed(made):
    found = made()
    assert found.findings == () and 2 < Made.asked[-1] < 16
    details = found.details["seeds"]["CIDEr"]
    assert len(details["value"]) == details["look"] == Made.asked[-1] and len(details["reference"]) == 20
    assert 0 < details["bound"] < details["margin"]
    sets = (details["value"], details["reference"])  # of as many seeds as there are
    assert details["difference"] == pytest.approx(sum(sets[0]) / len(sets[0]) - sum(sets[1]) / len(sets[1]))
    assert -details["bound"] < details["difference"]
    assert f"CIDEr worse by {FOUND * details['margin']:.4g}" in found.finds


def test_worse_texts_of_the_same_likelihood_are_the_searchs_fault(made):
    found = made(CIDEr=-60.0)
    (finding,) = found.findings
    assert (finding.part, Made.asked) == ("search", [2]) and finding.excess > 3
    assert finding.quantity == "CIDEr of 2 seeds" and "CIDEr of 2 seeds is worse" in finding.said
    assert "margin 15" in finding.said


def test_worse_texts_of_a_worse_likelihood_are_the_decoders(made):
    found = made(test_nll=0.3, CIDEr=-60.0)
    assert [finding.part for finding in found.findings] == ["decoder", "decoder"]
    assert found.findings[0].quantity.startswith("test NLL")  # what lies upstream comes first


def test_what_is_worse_by_about_the_margin_is_not_shown_to_be_as_good(made):
    found = made(SceneF1=-3.2)
    (finding,) = found.findings
    assert Made.asked[-1] == 16 and "not shown to be as good" in finding.said and finding.excess > 1
    assert finding.part in PARTS


def test_a_better_change_is_fine(made):
    assert made(CIDEr=40.0, SceneF1=5.0, test_nll=-0.1).findings == ()


def test_equal_predictions_with_other_scores_are_the_metrics_fault_even_when_they_are_better(made):
    found = made(digest="same", CIDEr=3.0)
    (finding,) = found.findings
    assert finding.part == "metric" and finding.excess > 1 and Made.asked == [2]


def test_a_training_that_diverges_is_found_and_one_that_fails_otherwise_is_no_measurement(made):
    Made.error = "base seed 0 failed: the train loss is nan in iteration 12: lower the learning rates"
    (finding,) = made().findings
    assert finding.part == "optimizer" and finding.excess == BEYOND
    assert finding.said == "base seed 0 failed: the train loss is nan in iteration 12"
    Made.error = "base seed 0 failed: the disk is full"
    with pytest.raises(GitbenchError, match="disk"):
        made()


def test_a_reference_of_another_study_is_stale(made):
    with pytest.raises(Stale, match="another study"):
        quality.check(Setting(folder=""), made.values | {"study": "other"}, DESIGN)


def test_a_reference_of_a_folder_with_other_content_is_stale(made):
    setting = Setting(folder="", subject=Subject(data="my_photos"))
    with pytest.raises(Stale, match="other data than my_photos"):
        quality.check(setting, made.values | {"data": "another"}, DESIGN)


def test_a_damaged_reference_and_one_of_too_few_seeds_are_errors_and_not_stale(made):
    few = copy.deepcopy(made.values)
    few["metrics"]["CIDEr"]["values"] = few["metrics"]["CIDEr"]["values"][:-1]
    broken = {"digests": made.values["digests"][:-1]}, {"metrics": few["metrics"]}, {"metrics": {"CIDEr": 1}}
    for part, said in zip(broken, ("has 19 seeds, 20 are", "has 19 seeds, 20 are", "damaged"), strict=True):
        with pytest.raises(GitbenchError, match=said) as error:
            quality.check(Setting(folder=""), made.values | part, DESIGN)
        assert not isinstance(error.value, Stale)


def test_no_reference_of_too_few_seeds_is_made():
    with pytest.raises(GitbenchError, match="takes 20 seeds, not 19"):
        Design(reference_seeds=19)
    with pytest.raises(GitbenchError, match="takes 32 seeds, not 20"):
        Design(reference_seeds=20, rule=Rule(looks=(32,), shares=(1.0,)))


def test_metrics_whose_seeds_vary_too_much_are_left_out_and_a_model_that_learned_nothing_is_refused(made, monkeypatch):
    monkeypatch.setitem(METRICS, "SceneF1", (41.0, 38.0, 1.3))
    values = quality.measure(Setting(folder=""), DESIGN)
    assert list(values["metrics"]) == ["test_nll", "CIDEr"] and list(values["left_out"]) == ["SceneF1"]
    assert "SceneF1" not in quality.check(Setting(folder=""), values, DESIGN).details["seeds"]
    for name in METRICS:
        monkeypatch.setitem(METRICS, name, (41.0, 41.0, 1.3))
    with pytest.raises(GitbenchError, match="learns too little"):
        quality.measure(Setting(folder=""), DESIGN)


def test_the_study_trains_only_what_is_missing_and_gives_the_same_bytes_again(tmp_path):
    profile = dataclasses.replace(tiny_profile(iterations=2, warmup=1), name="gate")
    design = Design(profile=profile, rule=Rule(looks=(2,), shares=(1.0,)), reference_seeds=20, floor_seeds=1)
    setting = Setting(folder=str(tmp_path), jobs=2)
    study = QualityStudy(setting, design)
    seeds = study.seeds(BASE, 2)
    assert len(set(seeds.digests)) == 2 and list(seeds.scores) == ["test_nll", "CIDEr", "SceneF1"]
    values = {
        "study": study.plan.setting,
        "data": study.plan.data_fingerprint,
        "margin_reason": "",
        "digests": seeds.digests * 10,
        "metrics": {name: {"values": each * 10, "floor": 0.0, "margin": 1.0} for name, each in seeds.scores.items()},
        "left_out": {},
    }
    run = next(run for run in study.plan.runs if (run.arm, run.replicate) == (BASE, 1))
    folders = tmp_path / "study" / "runs"
    kept = {
        path.name: path.stat().st_mtime_ns for path in folders.glob("*/record.json") if path.parent.name != run.run_key
    }
    shutil.rmtree(folders / run.run_key)  # as if the check had been stopped
    found = quality.check(setting, values, design)
    assert found.findings == () and "2 with the bytes of its predictions" in found.did
    assert RunFolder(folders / run.run_key).completed_record() is not None
    assert kept == {
        path.name: path.stat().st_mtime_ns for path in folders.glob("*/record.json") if path.parent.name != run.run_key
    }


def test_the_committed_reference_is_of_todays_study():
    from gitbench.files import read_json, resource
    from gitbench.gate.quality_study import DESIGN, plan_of

    values = read_json(resource("gate") / "cpu-x86_64" / "git" / "quality.json")["values"]
    assert values["study"] == plan_of(Subject(), DESIGN).setting
    assert SIZE.name == "gate" and len(values["digests"]) >= 20
    cider = values["metrics"]["CIDEr"]
    assert sum(cider["values"]) / len(cider["values"]) > (cider["floor"] + 294) / 2  # its models see
