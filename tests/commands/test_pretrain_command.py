"""`gitbench pretrain` makes what a profile's ablations start from, measures it, and ships it from a clone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import gitbench.commands.pretrain as command
import gitbench.encoders.manifest as manifest
import gitbench.training.probes as probes
from gitbench.cli import main
from gitbench.encoders.manifest import find_shipped
from gitbench.encoders.quality import MEASURED, final, floor, is_measured
from gitbench.encoders.store import read_encoder
from gitbench.files import cache_dir
from gitbench.profiles import SMOKE
from gitbench.training.pretrain import Pretraining, pretrained_encoder
from gitbench.variants import resolve

NAME = "vit_2x64_p8_64-contrastive"


@pytest.fixture(autouse=True)
def few(monkeypatch, tmp_path):
    """Few scenes to be probed on, a cache and a package of one's own."""
    for name, count in (("SCENES", 80), ("SIGNS", 8), ("PAIRS", 30)):
        monkeypatch.setattr(probes, name, count)
    monkeypatch.setattr("gitbench.training.pretrain.POINTS", 2)
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(manifest, "FOLDER", tmp_path / "package")
    monkeypatch.setattr("gitbench.files.results_folder", lambda: tmp_path / "results")


@pytest.fixture
def one_probe(monkeypatch) -> None:
    monkeypatch.setattr(probes, "OBJECT_FACTS", ("colour",))


def test_an_encoder_is_made_measured_shipped_and_then_found(tmp_path, capsys):
    order = ["pretrain", "--profile", "smoke", "--only", NAME, "--jobs", "1"]
    assert main([*order, "--ship"]) == 0
    said = capsys.readouterr().out
    assert f"{NAME}: 6 of 6 iterations, loss " in said and "shipped; their page: " in said
    entry = find_shipped(resolve("encoder", "vit_2x64_p8_64"), SMOKE.pretraining)
    assert entry is not None and list(final(entry.notes)) == list(MEASURED)
    assert [point["iteration"] for point in entry.notes["points"]] == [0, 3, 6]
    assert (tmp_path / "results" / "encoders" / "README.md").is_file()
    assert main(order) == 0  # found
    assert "of 6 iterations" not in capsys.readouterr().out
    assert main(["encoders", "--check"]) == 0 and "bit for bit" in capsys.readouterr().out


def test_an_encoder_that_a_run_made_is_made_again_with_its_quality(one_probe):
    order = ["pretrain", "--profile", "smoke", "--only", NAME, "--jobs", "1"]
    plain = pretrained_encoder(Pretraining(encoder=resolve("encoder", "vit_2x64_p8_64"), recipe=SMOKE.pretraining))
    assert not plain.notes["points"]
    assert main(order) == 0
    (file,) = (cache_dir() / "encoders").glob("*.safetensors")
    again = read_encoder(file)
    assert again.content == plain.content and len(again.notes["points"]) == 3  # measuring changes no bit


def stopped(monkeypatch, measured: bool) -> None:
    """Pre-train up to the checkpoint of iteration 3."""

    def stop(done: int, total: int, loss: float) -> None:
        if done == 4:
            raise KeyboardInterrupt

    size = resolve("encoder", "vit_2x64_p8_64")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("gitbench.training.pretrain.CHECKPOINT_SECONDS", -1.0)
        pretrained_encoder(Pretraining(encoder=size, recipe=SMOKE.pretraining, progress=stop, measured=measured))


def test_what_a_run_began_to_make_gets_the_floor_of_the_random_values(monkeypatch, one_probe):
    order = ["pretrain", "--profile", "smoke", "--only", NAME, "--jobs", "1"]
    found = []
    for begun in (True, False):
        if begun:
            stopped(monkeypatch, measured=False)
        assert main(order) == 0
        (file,) = (cache_dir() / "encoders").glob("*.safetensors")
        found.append(read_encoder(file))
        file.unlink()
    resumed, whole = found
    assert [point["iteration"] for point in resumed.notes["points"]] == [0, 6]
    assert resumed.content == whole.content and floor(resumed.notes) == floor(whole.notes)
    assert final(resumed.notes) == final(whole.notes)


def test_what_a_run_finished_has_no_points_of_a_part(monkeypatch, one_probe):
    stopped(monkeypatch, measured=True)
    job = Pretraining(encoder=resolve("encoder", "vit_2x64_p8_64"), recipe=SMOKE.pretraining)
    assert pretrained_encoder(job).notes["points"] == []
    assert main(["pretrain", "--profile", "smoke", "--only", NAME, "--jobs", "1"]) == 0  # made again
    (file,) = (cache_dir() / "encoders").glob("*.safetensors")
    assert is_measured(read_encoder(file).notes)


def test_encoders_are_made_on_what_the_runs_of_the_profile_compute_on(monkeypatch, capsys):
    """Runs look for encoders made on their own device: a GPU beside a profile for CPUs is left alone."""
    made = []
    monkeypatch.setattr(command, "_make_all", lambda chosen, jobs, workers, device: made.append((device, jobs)) or {})
    order = ["pretrain", "--profile", "smoke"]
    assert main([*order, "--device", "cuda"]) == 2 and made == []
    assert "none is in sight: pass --device cpu" in capsys.readouterr().err
    for module in ("machine", "compute"):
        monkeypatch.setattr(f"gitbench.{module}.gpus", lambda: [SimpleNamespace(name="A10G", capability=(8, 6))])
    monkeypatch.setattr("gitbench.machine.cpu_count", lambda: 2)
    assert main(order) == main([*order, "--device", "cuda"]) == main(["pretrain", "--profile", "gpu"]) == 0
    assert made == [("cpu", 2), ("cuda", 1), ("cuda", 1)]


def test_what_cannot_be_made_is_refused(capsys, monkeypatch):
    assert main(["pretrain", "--profile", "smoke", "--only", "vit_9x9"]) == 2
    assert (
        f"unknown encoder of this profile 'vit_9x9': known: vit_1x64_p8_64-contrastive, {NAME}"
        in capsys.readouterr().err
    )
    assert main(["pretrain", "--profile", "smoke", "--jobs", "0"]) == 2
    assert "--jobs 0: use 1 or more" in capsys.readouterr().err
    monkeypatch.setattr("gitbench.encoders.ship.ROOT", cache_dir())
    monkeypatch.setattr(command, "_make_all", lambda *_: pytest.fail("made"))
    assert main(["pretrain", "--profile", "smoke", "--ship"]) == 2
    assert "run it from a clone" in capsys.readouterr().err
