"""Shared by all tests: a cache folder of their own, one thread, and a trained study."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CACHE = tempfile.TemporaryDirectory(prefix="gitbench-test-cache-")
os.environ["GITBENCH_CACHE"] = _CACHE.name  # before gitbench is imported, and for every child process
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the suite is the same with and without a GPU
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # several workers share the cores

import pytest
from filelock import FileLock
from helpers_study import make_study

from gitbench.profiles import SMOKE
from gitbench.study.store import Study

# Files that take longest are begun first: else one worker is left with them when the others are done.
LONGEST = (
    "test_report_build", "test_truth", "test_report_board", "test_study", "test_tasks", "test_pretrain_command",
    "test_plugins", "test_graph", "test_bundle", "test_judge_simulation", "test_tampering", "test_ablations",
    "test_proof", "test_distributed", "test_gate_exact_own", "test_resume", "test_committed_evidence",
    "test_pretrain", "test_judge_claims", "test_bad_input", "test_startup", "test_judge", "test_until_decided",
    "test_rates", "test_encoder_training", "test_report_notes", "test_replicate", "test_tampered_scores",
    "test_hosts", "test_interim", "test_manifest", "test_decoder_init", "test_likelihood", "test_bench_run",
    "test_objectives", "test_gate_exact", "test_gate_trajectory", "test_generate", "test_gate_quality",
    "test_effects", "test_work", "test_gate_speed", "test_docs_commands", "test_docs_site", "test_evaluate",
    "test_evaluate_forms",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of `LONGEST` first."""
    place = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins that a test loads are not handed on to the processes of the next one."""
    monkeypatch.setenv("GITBENCH_PLUGINS", "")


@pytest.fixture
def as_before() -> Iterator[None]:
    """Give the process back the settings of torch and mmengine that a run changes."""
    import mmengine.device
    import torch

    threads, place = torch.get_num_threads(), mmengine.device.utils.DEVICE
    yield
    mmengine.device.utils.DEVICE = place
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.backends.cuda.enable_cudnn_sdp(True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = False, True


@pytest.fixture(scope="module")
def svg_alone() -> Iterator[None]:
    """Draw the figures of this module's reports as SVG alone, in half the time; as PDF and PNG, too: tests/report."""
    from gitbench.report import build

    def save(figure: Any, folder: Path, name: str) -> None:
        figure.savefig(folder / f"{name}.svg", format="svg")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "save", save)
        yield


@pytest.fixture
def tiny_study(tmp_path: Path) -> Study:
    """A study of three runs (base, small, blind) of a second each, planned."""
    return make_study(tmp_path / "work")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all workers of a test run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def trained(shared_folder: Path) -> Iterator[Study]:
    """A finished study of decoder_size in the smoke profile, two seeds, trained once for the whole test run.

    Nobody may change it: copy its work directory first.
    """
    from gitbench.ablations import load_ablation
    from gitbench.launch.scheduling import launch

    study = make_study(
        shared_folder / "work", load_ablation("decoder_size"), SMOKE, command="gitbench run decoder_size"
    )
    with FileLock(shared_folder / "trained.lock"):
        assert launch(study, plain=True).failed == ()
    yield Study.open(study.work_dir, study.name)


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """Return the name of this worker; "master" where tests run in one process."""
    return getattr(request.config, "workerinput", {}).get("workerid", "master")
