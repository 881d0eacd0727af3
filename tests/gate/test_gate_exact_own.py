"""Tier 1 of the gate, of what is somebody's own: a plugin's axis and decoder, another task, a folder of photographs."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_plugin import PLUGIN

from gitbench.errors import GitbenchError
from gitbench.files import ROOT, make_dir
from gitbench.gate import exact
from gitbench.gate.exact import folders
from gitbench.gate.exact.compare import read
from gitbench.gate.outcome import PARTS
from gitbench.gate.setting import Setting, Subject

CODE = """
import json, sys
from gitbench import plugins
from gitbench.gate import exact
from gitbench.gate.outcome import PARTS
from gitbench.gate.setting import Setting, Subject
from gitbench.variants import AXES

plugins.load()
subject = Subject(variants={"smoothing": "none", "decoder": "mine_1x96"}, task="vqa")
setting = Setting(folder=sys.argv[1], subject=subject)
values = json.loads(json.dumps(exact.measure(setting)))
found = [exact.check(setting, values)]
AXES["smoothing"].variants["none"] = type(AXES["smoothing"].variants["none"])(value=0.2)
found.append(exact.check(setting, values))
parts = {part: list(group) for part, group in values["values"].items()}
said = [[each.compared, [[one.part, one.said] for one in each.findings], "equal to the last bit" in each.notes] for each in found]
print(json.dumps([parts, said]))
"""


def test_a_plugins_variant_on_another_task(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GITBENCH_PLUGINS": str(tmp_path / "mine.py")}
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    parts, (same, changed) = json.loads(ran.stdout.splitlines()[-1])
    assert set(parts) == set(PARTS)
    assert "subject: loss of batch 0" in parts["decoder"] and "subject, scored: VQA" in parts["metric"]
    assert same[0] > 90 and same[1:] == [[], True]
    assert changed[1][0][0] == "decoder" and changed[1][0][1].startswith("subject: loss of batch 0") and not changed[2]


def test_a_frozen_encoder(tmp_path: Path) -> None:
    """Its tensors have no group and no state: those of the decoder are taken."""
    subject = Subject(variants={"encoder_training": "frozen"})
    values = exact.measure(Setting(folder=str(tmp_path), subject=subject))["values"]
    counted = [name for name in values["optimizer"] if name.startswith("subject: steps counted for")]
    assert counted == ["subject: steps counted for decoder.layers.0.up.weight"]


def test_data_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions of a folder that change are data's part; so is a folder that cannot be read."""
    data = make_dir(tmp_path / "photographs")
    folders.write_coco(data)
    setting = Setting(folder=str(make_dir(tmp_path / "work")), subject=Subject(data=str(data)))
    monkeypatch.setattr(exact, "OWN", exact.OWN[:1])
    values = exact.measure(setting)
    assert {each.part for each in read(values["values"]).values()} == {"data", "decoder"}  # texts, and texts packed
    content = json.loads((data / "captions.json").read_text())
    for note in content["annotations"]:
        note["image_id"] = 100 + (note["image_id"] - 99) % 14  # captions of a neighbour
    (data / "captions.json").write_text(json.dumps(content))
    found = exact.check(setting, values)
    assert found.findings[0].part == "data" and "batch 0" in found.findings[0].quantity
    with pytest.raises(GitbenchError, match="batches fails with GitbenchError"):
        exact.measure(dataclasses.replace(setting, subject=Subject(data=str(tmp_path / "nowhere"))))
