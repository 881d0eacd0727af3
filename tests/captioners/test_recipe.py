"""The recipe of the captioner that ships: `gitbench pretrain --captioner` trains it as any run, which can be exported."""

from __future__ import annotations

import dataclasses

import pytest

from gitbench.captioners import recipe
from gitbench.cli import main
from gitbench.profiles import CPU, SMOKE
from gitbench.run_folder import RunFolder


def test_the_captioner_is_trained_found_and_exported(monkeypatch, tmp_path, capsys):
    small = {name: getattr(SMOKE, name) for name in ("data", "train", "variants", "pretraining")}
    arms = {CPU.name: (dataclasses.replace(recipe.ABLATION.arms[CPU.name][0], variants={"decoder": "self_2x64"}),)}
    monkeypatch.setattr(recipe, "PROFILE", dataclasses.replace(recipe.PROFILE, **small))
    monkeypatch.setattr(recipe, "ABLATION", dataclasses.replace(recipe.ABLATION, arms=arms))
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "--captioner"]) == 0
    assert "1 run trained, 0 found done" in capsys.readouterr().out
    assert main(["pretrain", "--captioner"]) == 0
    said = capsys.readouterr().out
    assert "0 runs trained, 1 found done" in said
    (folder,) = (tmp_path / "work_dirs" / "runs").iterdir()  # the base alone, without its blind floor
    assert (
        RunFolder(folder).completed_record() is not None and f"gitbench export {folder.relative_to(tmp_path)}" in said
    )
    assert main(["export", str(folder), "--to", "huggingface", "captioner"]) == 0
    assert "CIDEr" in (tmp_path / "captioner" / "README.md").read_text()


@pytest.mark.parametrize("option", [["--ship"], ["--jobs", "2"], ["--profile", "smoke"], ["--only", "x"]])
def test_what_is_about_encoders_is_refused_beside_it(option, capsys):
    assert main(["pretrain", "--captioner", *option]) == 2
    assert f"{option[0]} is about encoders: leave it out, or --captioner" in capsys.readouterr().err
