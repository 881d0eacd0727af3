"""The mistakes of `tests/planted` can be planted in this tree, and the campaign reports what became of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers_tools import load_tool

from gitbench.errors import GitbenchError
from gitbench.gate.listing import BY_NAME
from gitbench.gate.outcome import FINE, PARTS, REGRESSED, STALE, UNMEASURED

planted = load_tool("planted")
PLANTS = planted.read_plants()
MISTAKES = [plant for plant in PLANTS if not plant.control]


def hunks(patch: str) -> list[tuple[str, str]]:
    """Return (file, text before) of each hunk of a unified diff."""
    found: list[tuple[str, str]] = []
    file = ""
    for line in patch.splitlines(keepends=True):
        if line.startswith("--- a/"):
            file = line.removeprefix("--- a/").strip()
        elif line.startswith("@@"):
            found.append((file, ""))
        elif found and line[0] in " -":
            found[-1] = (file, found[-1][1] + line[1:])
    return found


def test_there_are_enough_and_each_says_what_is_expected() -> None:
    assert len(MISTAKES) >= 40
    assert len({plant.name for plant in PLANTS}) == len(PLANTS) == len({plant.digest for plant in PLANTS})
    assert len({plant.says for plant in PLANTS}) == len(PLANTS)
    assert {plant.part for plant in MISTAKES} == set(PARTS)
    assert {plant.tier for plant in MISTAKES} <= set(BY_NAME)
    assert len([plant for plant in PLANTS if plant.control]) >= 4


def test_every_patch_applies_to_this_tree_at_one_place(tmp_path: Path) -> None:
    tree = tmp_path / "tree"  # no repository
    for file in {file for plant in PLANTS for file, _ in hunks(plant.patch)}:
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(planted.ROOT / file, tree / file)
    for plant in PLANTS[1:]:
        assert hunks(plant.patch), plant.name
        for file, before in hunks(plant.patch):
            text = (tree / file).read_text(encoding="utf-8")
            assert text.count(before) == 1, f"{plant.name}: not at one place of {file}: make its context longer"
        planted.apply(plant.patch, tree, check=True)
    planted.apply(MISTAKES[0].patch, tree)
    with pytest.raises(GitbenchError, match="does not fit"):
        planted.apply(MISTAKES[0].patch, tree, check=True)


@pytest.mark.parametrize(
    "text", ["", "--- a/x\n", "In words.\n\n--- a/x\n", "In words.\npart: legs\ntier: exact\n\n--- a/x\n"]
)
def test_a_patch_that_does_not_say_what_it_is_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.patch").write_text(text)
    with pytest.raises(GitbenchError, match="one.patch"):
        planted.read_plant(tmp_path / "one.patch")


Ends = Callable[[str, str], str]  # plant, tier -> status


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function: run a campaign of a tree of one file, whose gate ends as it is told; what was asked of it."""
    root, asked = tmp_path / "root", []
    (root / "gitbench").mkdir(parents=True)
    (root / "gitbench" / "one.py").write_text("a = 1\n")
    (root / "tests/planted/controls").mkdir(parents=True)
    diff = "--- a/gitbench/one.py\n+++ b/gitbench/one.py\n@@ -1,1 +1,1 @@\n-a = 1\n+a = {}\n"
    for number, name in enumerate(("early", "late"), start=2):
        head = f"It is {name}.\npart: data\ntier: exact\n\n"
        (root / f"tests/planted/{name}.patch").write_text(head + diff.format(number))
    (root / "tests/planted/controls/calm.patch").write_text("Nothing happens.\n\n" + diff.format("1  # one"))
    for name, value in (("ROOT", root), ("PLANTED", root / "tests/planted"), ("COPIED", ("gitbench",))):
        monkeypatch.setattr(planted, name, value)

    def launch(ends: Ends, *arguments: str) -> tuple[int, list[tuple[str, str]], str]:
        def gate(self: Any, plant: Any, copy: Path, tier: str, processes: int) -> dict[str, Any]:
            text = (copy / "gitbench/one.py").read_text()
            assert (text == "a = 1\n") == (plant.name == "unpatched")
            asked.append((plant.name, tier))
            status = ends(plant.name, tier)
            what = {"part": "data", "quantity": "ids", "findings": 1} if status == REGRESSED else {"part": ""}
            return {**self._own(plant), "tier": tier, "status": status, "seconds": 1.0, "said": "", **what}

        monkeypatch.setattr(planted.Campaign, "_gate", gate)
        asked.clear()
        out = tmp_path / "out"
        status = planted.main(["--out", str(out), "--tiers", "exact,trajectory,speed", *arguments])
        page = out / "planted.md"
        return status, list(asked), page.read_text() if page.is_file() else ""

    launch.root, launch.results = root, tmp_path / "out/results.jsonl"  # type: ignore[attr-defined]
    return launch


def sees(**at: str) -> Ends:
    """A gate that turns red on these plants in these tiers."""
    return lambda plant, tier: REGRESSED if at.get(plant) == tier else FINE


def tried(asked: Sequence[tuple[str, str]], plant: str) -> list[str]:
    return [tier for name, tier in asked if name == plant]


def test_each_mistake_is_tried_up_to_the_first_red_tier_and_controls_in_all(campaign: Any) -> None:
    status, asked, page = campaign(sees(early="exact", late="speed"))
    assert status == 0
    assert tried(asked, "early") == ["exact"]
    assert tried(asked, "late") == tried(asked, "calm") == tried(asked, "unpatched") == ["exact", "trajectory", "speed"]
    assert "2 of 2 mistakes caught, 1 of them (50 %)" in page and "2 of 2 controls green" in page
    assert not list(campaign.results.parent.glob("copies/*"))


def test_a_missed_mistake_and_a_red_control_are_said(campaign: Any) -> None:
    status, _, page = campaign(sees(early="exact"))
    assert status == 1 and "**exact: fine, trajectory: fine, speed: fine**" in page
    status, _, page = campaign(sees(early="exact", late="exact", calm="trajectory"), "--only", "early,calm")
    assert status == 0  # calm was measured before, and nothing has changed
    campaign.results.unlink()
    status, _, page = campaign(sees(early="exact", late="exact", calm="trajectory"))
    assert status == 1 and "1 of 2 controls green" in page


def test_what_stops_or_cannot_measure_is_tried_again_and_the_rest_is_not(campaign: Any) -> None:
    status, _, _ = campaign(lambda plant, tier: UNMEASURED if plant == "late" else sees(early="exact")(plant, tier))
    assert status == 1
    with open(campaign.results, "a") as file:
        file.write('{"tree": "half a li')  # killed
    status, asked, _ = campaign(sees(early="exact", late="trajectory"))
    assert status == 0 and asked == [("late", "exact"), ("late", "trajectory")]
    assert campaign(sees())[:2] == (0, [])


def test_results_of_another_tree_or_patch_are_left_aside_and_kept(campaign: Any) -> None:
    campaign(sees(early="exact", late="exact"))
    before = campaign.results.read_text()
    patch = campaign.root / "tests/planted/late.patch"
    patch.write_text(patch.read_text().replace("+a = 3", "+a = 7"))
    assert campaign(sees(early="exact", late="exact"))[1] == [("late", "exact")]
    (campaign.root / "gitbench/two.py").write_text("b = 2\n")
    assert ("early", "exact") in campaign(sees(early="exact", late="exact"))[1]
    assert campaign.results.read_text().startswith(before)
    assert all(json.loads(line) for line in campaign.results.read_text().splitlines())


def test_nothing_follows_where_the_unpatched_tree_is_not_fine(campaign: Any, capsys: pytest.CaptureFixture) -> None:
    status, asked, _ = campaign(lambda plant, tier: STALE)
    assert status == 2 and {plant for plant, _ in asked} == {"unpatched"}
    assert "exact of the unpatched tree is not fine (reference stale" in capsys.readouterr().err
    assert campaign(sees(), "--only", "nobody")[0] == 2
