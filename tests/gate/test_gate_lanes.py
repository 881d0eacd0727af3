"""What `trajectory` trains, and the processes that do."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers_gate import TINY

from gitbench.errors import GitbenchError
from gitbench.files import write_json
from gitbench.gate import lane, trajectory
from gitbench.gate.outcome import BEYOND
from gitbench.gate.setting import Setting, Subject
from gitbench.gate.trainings import PRETRAINING, USUAL, Asked, Training, planned, trainings_of
from gitbench.models.git import GIT
from gitbench.variants import AXES


def test_the_usual_subject_is_several_trainings_and_any_other_is_one():
    assert trainings_of(Subject()) == USUAL and any(each.resumed for each in USUAL)
    (own,) = trainings_of(Subject(variants={"decoder": "cross_2x96"}, task="vqa", data="here"))
    assert (own.variants, own.task, own.data, own.resumed) == ({"decoder": "cross_2x96"}, "vqa", "here", True)


def test_a_variant_of_ones_own_is_planned_and_a_missing_encoder_made_by_a_short_recipe(monkeypatch):
    decoder = dataclasses.replace(AXES["decoder"].resolve("self_1x64"), heads=4)
    monkeypatch.setitem(AXES["decoder"].variants, "mine", decoder)
    variants = {"decoder": "mine", "encoder": "vit_1x64_p8_64"}
    spec = planned(Training(name="mine", variants=variants, task="vqa", images=18), "cpu")[1].resolved
    assert spec.variants["decoder"] == decoder and spec.variant_names["encoder"] == "vit_1x64_p8_64"
    assert spec.task.name == "vqa" and spec.variants["encoder_init"].recipe.iterations == PRETRAINING["iterations"]
    usual = planned(Training(name="base", images=18), "cpu")[1].resolved
    assert usual.variants["encoder_init"].content is not None  # it ships


LANE = """
import json, os, signal, sys
from pathlib import Path
folder = Path(sys.argv[1])
for training in json.loads((folder / "asked.json").read_text())["trainings"]:
    own = folder / training["name"]
    try:
        own.mkdir()
    except FileExistsError:
        continue
    DO
    (own / "observed.json").write_text(json.dumps({"by": os.getpid(), "cache": os.environ["GITBENCH_CACHE"]}))
"""


@pytest.fixture
def lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace what trains by a program that does what it is told."""

    def told(do: str) -> Setting:
        program = tmp_path / "lane.py"
        program.write_text(LANE.replace("DO", do))
        monkeypatch.setattr(trajectory, "LANE", (sys.executable, str(program)))
        return Setting(folder=str(tmp_path / "tier"), jobs=2)

    return told


def test_trainings_that_are_done_are_not_redone_and_what_was_begun_is(lanes, tmp_path):
    setting = lanes("pass")
    first = trajectory.train(setting, USUAL, trajectory.NONE)
    assert first.keys() == {each.name for each in USUAL} and "tier" in first["base"]["cache"]
    folder = tmp_path / "tier" / trajectory.NONE.name / "vqa"
    (folder / "observed.json").unlink()
    again = trajectory.train(setting, USUAL, trajectory.NONE)
    assert [name for name in first if again[name] != first[name]] == ["vqa"]


@pytest.mark.parametrize(
    ("do", "said"),
    [
        ("sys.exit('it cannot be done') if own.name == 'cross' else None", "it cannot be done"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "killed by signal 15"),
    ],
)
def test_a_training_that_fails_is_an_error_that_ends_the_others(do, said, lanes):
    setting, began = lanes(f"{do}; __import__('time').sleep(0 if own.name != 'vqa' else 60)"), time.monotonic()
    with pytest.raises(GitbenchError, match=said):
        trajectory.train(setting, USUAL, trajectory.NONE)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("loss", ["nan", "inf"])
def test_a_loss_that_is_no_number_is_a_finding_and_not_the_advice_to_lower_rates(loss, lanes, tmp_path, monkeypatch):
    usual = GIT.packed_loss
    monkeypatch.setattr(GIT, "packed_loss", lambda self, *given: usual(self, *given) * float(loss))
    (tmp_path / "run").mkdir()
    asked = Asked(trainings=(TINY,))
    write_json(tmp_path / "run" / lane.ASKED, dataclasses.asdict(asked))
    monkeypatch.setattr(lane, "end_with_parent", lambda parent: None)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert lane.main(tmp_path / "run") == 1
    last = said.getvalue().splitlines()[-1]
    assert last.startswith(f"tiny: the train loss is {loss} in iteration 1: lower the learning rates")
    monkeypatch.setattr(trajectory, "trainings_of", lambda _: (TINY,))
    values = {**trajectory._asked((TINY,)), "observed": {}}
    (finding,) = trajectory.check(lanes(f"sys.exit({last!r})"), values).findings
    assert (finding.part, finding.value, finding.excess) == ("optimizer", f"loss {loss}", BEYOND)
    assert finding.said == f"tiny: the train loss is {loss} in iteration 1"
    with pytest.raises(GitbenchError, match="the val set is empty"):
        trajectory.check(lanes("sys.exit('the val set is empty')"), values)


def test_a_card_has_a_few_trainings_at_once_and_an_exclusive_one_a_single(monkeypatch):
    setting = Setting(folder="", device="cuda", jobs=32)
    for exclusive, count in ((False, trajectory.ON_A_CARD), (True, 1)):
        monkeypatch.setattr(trajectory, "gpus", lambda exclusive=exclusive: (SimpleNamespace(exclusive=exclusive),))
        assert trajectory._places(setting) == count
