"""`gitbench tune`, and what `gitbench run` does with rates: tuned first, shared where asked for, never trained for a dry run."""

from __future__ import annotations

import json

import pytest
from helpers_cli import call, error_of
from helpers_model import encoder_file
from helpers_rates import GRID, gridded, own_cache, plant

from gitbench.ablations import ablation_files, load_ablation
from gitbench.data.tokenizer import train_wordpiece
from gitbench.launch.session import Outcome
from gitbench.profiles import PROFILES
from gitbench.study import rates
from gitbench.variants import resolve

__all__ = ["own_cache"]  # a fixture of every test here
RUN = ("run", "decoder_size", "--profile", "smoke", "--no-report", "--work-dir")
BEST = {"small": 0.5, "large": 2.0}  # the others like the profile's own rates


def liked(each) -> float:
    return 3.0 + abs(each.factor - BEST.get(each.arm, 1.0))


@pytest.fixture(autouse=True)
def launches(monkeypatch) -> list:
    """A profile with a grid; what was tuned (names) and launched (plans) instead of being trained, in order."""
    found: list = []

    def tune(tuning, jobs, plain, executor=None, trackers=None) -> Outcome:
        found.append(tuning.name)
        plant(tuning, liked)
        return Outcome(completed=len(tuning.unique_runs), found=0, failed=())

    def launch(study, jobs, plain, until=None, **_) -> Outcome:
        study.write_plan()
        found.append(study.plan)
        return Outcome(completed=1, found=0, failed=())

    monkeypatch.setitem(PROFILES, "smoke", gridded())
    monkeypatch.setattr("gitbench.launch.tuning.tune", tune)
    monkeypatch.setattr("gitbench.launch.scheduling.launch", launch)
    return found


def test_a_study_is_tuned_first_and_then_trained_at_its_rates(tmp_path, launches):
    assert call(*RUN, str(tmp_path / "w")).returncode == 0
    name, plan = launches
    assert name == "decoder_size.smoke.scenes+rates" and plan.name == "decoder_size.smoke.scenes"
    assert {arm.arm: arm.factor for arm in plan.tuned} == {"base": 1.0, "blind": 1.0, **BEST}
    assert {run.arm: run.spec.train.lr_decoder for run in plan.runs}["large"] == 0.004
    assert "--rates" not in plan.command
    assert call(*RUN, str(tmp_path / "w"), "--seeds", "3").returncode == 0  # the rates are known now
    assert launches[2].tuned == plan.tuned and len(launches) == 3


def test_shared_rates_are_the_profiles_and_the_command_says_so(tmp_path, launches):
    assert call(*RUN, str(tmp_path / "w"), "--rates", "shared").returncode == 0
    (plan,) = launches
    assert plan.label == "scenes+rates-shared" and plan.command.endswith("--rates shared")
    assert {run.spec.train.lr_decoder for run in plan.runs} == {0.002}


def test_a_dry_run_says_what_is_missing_and_leaves_nothing(tmp_path, launches, own_cache):
    said = call(*RUN, str(tmp_path / "w"), "--dry-run").stdout
    assert "decoder_size.smoke.scenes+rates: 24 tuning runs, 0 done, 24 to do, about " in said
    assert "decoder_size.smoke.scenes: 4 runs, 0 done, 4 to do" in said
    assert "what counts as done below may change\ndecoder_size.smoke.scenes: " in said
    assert not launches and not own_cache.exists() and not (tmp_path / "w").exists()
    call("tune", "decoder_size", "--profile", "smoke")
    known = call(*RUN, str(tmp_path / "w"), "--dry-run").stdout
    assert "24 tuning runs, 24 done, 0 to do\n" in known and "may change" not in known


def test_a_tuning_run_that_fails_is_named_and_no_study_is_begun(tmp_path, launches, monkeypatch):
    failed = Outcome(completed=23, found=0, failed=(("base at rates x 2", 1, "it broke"),))
    monkeypatch.setattr("gitbench.launch.tuning.tune", lambda *_: failed)
    result = call(*RUN, str(tmp_path / "w"))
    assert result.returncode == 1 and not launches
    assert result.stderr == "gitbench: base at rates x 2 seed 1 failed twice: it broke\n"


def test_what_cannot_be_is_refused_before_anything_is_tuned(tmp_path, launches):
    assert "use 1 to 1000 replicates" in error_of(*RUN, str(tmp_path), "--seeds", "0")
    error_of(*RUN, str(tmp_path), "--cfg-options", "no.such=1")
    error_of(*RUN, str(tmp_path), "--until-decided", "--max-seeds", "1")
    assert not launches


def test_until_decided_and_the_noise_floor_are_tuned_too(tmp_path, launches, monkeypatch):
    decided = []
    monkeypatch.setattr(
        "gitbench.commands.until_decided.UntilDecided.run", lambda self: decided.append(self.full.plan) or exit_now()
    )
    with pytest.raises(SystemExit):
        call(*RUN, str(tmp_path / "w"), "--until-decided")
    assert {arm.arm: arm.factor for arm in decided[0].tuned}["large"] == 2.0
    said = call("noise-floor", "--profile", "smoke", "--work-dir", str(tmp_path / "w"), "--dry-run").stdout
    assert "12 tuning runs, 12 done" in said  # its arms are base and floor of the ablation


def exit_now() -> None:
    raise SystemExit


def test_ablations_are_tuned_by_name_or_all_and_the_table_is_written(launches, own_cache, monkeypatch):
    small = {name: path for name, path in ablation_files().items() if name in ("decoder_size", "encoder_training")}
    monkeypatch.setattr("gitbench.ablations.ablation_files", lambda: small)
    said = call("tune", "decoder_size", "--profile", "smoke").stdout
    assert said.endswith("+rates: small x 0.5, base x 1, large x 2, blind x 1\n") and len(launches) == 1
    assert call("tune", "--all", "--profile", "smoke", "--ship").returncode == 0
    assert launches[1:] == ["encoder_training.smoke.scenes+rates"]
    entries = json.loads(rates.TABLE.read_text())["runs"].values()
    arms = sum(len(load_ablation(name).arms["smoke"]) + 1 for name in small)
    assert 0 < len(entries) <= arms * len(GRID) * rates.SEEDS
    assert {entry["profile"] for entry in entries} == {"smoke"}


def test_a_study_with_an_encoder_and_a_tokenizer_can_be_tuned_beforehand(launches, tmp_path):
    weights, words = tmp_path / "clip.pth", tmp_path / "tokenizer.json"
    train_wordpiece(["a large red square"] * 3, 80).save(words)
    encoder_file(weights, resolve("encoder", "vit_2x64_p8_64"))
    given = ("--encoder", str(weights), "--tokenizer", str(words))
    assert call("tune", "decoder_size", "--profile", "smoke", *given).returncode == 0
    (name,) = launches
    assert "+tokens-" in name and "+encoder-" in name
    assert "24 tuning runs, 24 done, 0 to do" in call(*RUN, str(tmp_path / "w"), "--dry-run", *given).stdout


def test_what_is_asked_of_tune_must_make_sense(monkeypatch, tmp_path):
    assert "name the ablations to tune, or pass --all" in error_of("tune", "--profile", "smoke")
    assert "name the ablations to tune" in error_of("tune", "decoder_size", "--all", "--profile", "smoke")
    assert "leave --data, --task, --tokenizer, --encoder, --start out" in error_of(
        "tune", "--all", "--ship", "--data", "scenes", "--profile", "smoke"
    )
    monkeypatch.setattr("gitbench.files.ROOT", tmp_path)
    assert "this is no clone" in error_of("tune", "--all", "--ship", "--profile", "smoke")
    monkeypatch.undo()
    assert "nothing is to be chosen" in call("tune", "decoder_size", "--profile", "smoke").stdout
