"""The archive for a machine without network, and the scores of what it brings home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers_errors import refused

from gitbench.data.tasks import open_task
from gitbench.gpu_check import pack as packing
from gitbench.gpu_check import scores
from gitbench.gpu_check.pack import pack, site_files
from gitbench.gpu_check.packed import start
from gitbench.gpu_check.results import Report, append, read
from gitbench.metrics import CaptionScorer
from gitbench.spec import TaskSpec

PACKED = Path(packing.__file__).parent / "packed"
HERE = ".".join(map(str, sys.version_info[:2]))


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """An archive whose packages are a file each, as if fetched."""

    def fetch(folder: Path, python: str) -> None:
        for name in ("mmengine_of_the_archive.py", "numpy/tests/test_a.py", "numpy/testing/__init__.py", "bin/f2py"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("")

    file = tmp_path_factory.mktemp("archive") / "there" / "gpu_check.pyz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "fetch", fetch)
        assert pack(file, HERE) == file.stat().st_size
    return file


def test_an_archive_starts_with_one_line_and_runs_its_own_gitbench(archive):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, archive.name, "--list"]
    for _ in range(2):  # the second time it is unpacked already
        done = subprocess.run(command, cwd=archive.parent, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "repeat     20 steps twice" in done.stdout, done.stderr
    (folder,) = [path for path in archive.parent.iterdir() if path.is_dir()]
    assert (folder / "gitbench" / "encoders" / "manifest.json").is_file() and (
        folder / "ablations" / "decoder_size.py"
    ).is_file()
    assert (folder / "claims.lock").is_file() and (folder / "site" / "mmengine_of_the_archive.py").is_file()
    assert json.loads((folder / "packed.json").read_text())["target_python"] == HERE


def test_what_no_run_reads_is_left_out(archive, tmp_path):
    names = zipfile.ZipFile(archive).namelist()
    assert "numpy/numpy/testing/__init__.py" in names and not [
        name for name in names if "test_a" in name or "f2py" in name
    ]
    for name in ("git/modeling_git.py", "llama/modeling_llama.py", "__init__.py"):
        path = tmp_path / "site" / "transformers" / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    kept = {name.removeprefix("site/transformers/models/") for name, _ in site_files(tmp_path / "site")}
    assert kept == {"git/modeling_git.py", "__init__.py"}


def test_an_archive_is_refused_by_another_python_and_without_torch(archive, tmp_path):
    other = tmp_path / "other.pyz"
    with zipfile.ZipFile(other, "w") as made:
        made.write(PACKED / "start.py", "__main__.py")
        made.writestr("packed.json", json.dumps({"target_python": "3.99", "content": "a"}))
    done = subprocess.run([sys.executable, str(other)], capture_output=True, text=True)
    assert done.returncode == 1 and "is for Python 3.99 and this is " in done.stderr and "Traceback" not in done.stderr
    done = subprocess.run([sys.executable, "-I", "-S", str(archive)], capture_output=True, text=True)
    assert done.returncode == 1 and "has no torch" in done.stderr


@pytest.mark.parametrize(
    ("version", "old"), [("2.5.1+cu124", True), ("1.13.0", True), ("2.6.0+cu126", False), ("2.15.0a0+git1", False)]
)
def test_a_torch_that_is_too_old_is_known(monkeypatch, version, old):
    monkeypatch.setattr(start.importlib.metadata, "version", lambda name: version)
    assert start.too_old() == (version if old else None)


def test_an_archive_is_refused_with_a_torch_that_is_too_old(archive, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("")
    (tmp_path / "torch-0.dist-info").mkdir()
    (tmp_path / "torch-0.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2.5.1\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-S", str(archive)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "gpu_check: torch 2.5.1 is installed and 2.6 is needed: install a newer one\n"


def test_an_archive_that_is_too_large_is_not_written(archive, monkeypatch):
    monkeypatch.setattr(packing, "LARGEST", 1000)
    monkeypatch.setattr(packing, "fetch", lambda folder, python: None)
    with refused("and is to have 0 at most"):
        pack(archive.with_name("large.pyz"), HERE)
    assert not archive.with_name("large.pyz").exists()
    with refused("name a version as 3.12"):
        pack(archive, "latest")


def test_what_is_missing_is_stood_in_for_until_it_is_used():
    code = (
        f"import sys; sys.path.insert(0, {str(PACKED)!r}); import sitecustomize\n"
        "import torchvision.transforms as transforms\nfrom matplotlib.figure import Figure\nimport cv2\n"
        "class Own(transforms.Normalize): pass\n"
        "modes = {transforms.InterpolationMode.NEAREST, transforms.InterpolationMode.BILINEAR}\n"
        "cv2.setNumThreads(0)\n"
        "print(cv2.__version__, len(modes | {transforms.InterpolationMode.NEAREST}))\n"
        "try: Figure()\nexcept RuntimeError as error: print(error)\n"
        "try: import nothing_of_that_name\nexcept ImportError: print('none')"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "0 2", "one of cv2, matplotlib, torchvision is not in this archive and not installed", "none"
    ], done.stderr  # fmt: skip


# ---- scores ------------------------------------------------------------------------------------------------------


@pytest.fixture
def proof(tmp_path) -> Path:
    """The folder of a proof: its captions are the first references."""
    source = open_task("scenes", "test", 3, TaskSpec())
    run = tmp_path / "runs" / "quiet"
    run.mkdir(parents=True)
    requests = [request for index in range(3) for request in source.requests(index)]
    rows = [{"image_id": r.request_id, "caption": r.references[0], "references": list(r.references)} for r in requests]
    (run / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "results.jsonl"
    made = {
        "device": "cuda",
        "card": "H100",
        "cpu": "c",
        "cpu_count": 2,
        "driver": "1",
        "started": "",
        "python": "3.12",
    }
    append(
        file,
        {"kind": "made", **made, "git_revision": None, "git_dirty": None, "versions": {}, "budget": 1.0, "asked": []},
    )
    Report("resume", file).judge("weights", True, "equal")
    append(file, {"kind": "end", "check": "resume", "ended": "done", "seconds": 1.0, "said": ""})
    return tmp_path


def test_captions_from_elsewhere_are_scored_once_and_are_on_the_page(proof, monkeypatch):
    monkeypatch.setattr(scores, "CaptionScorer", lambda: CaptionScorer(meteor=False, spice=False))
    for _ in range(2):
        resume, scored = scores.score(proof)
    assert resume.check == "resume" and scored.check == "scores" and scored.outcome == "measured"
    found = {finding.what: finding for finding in scored.findings}
    assert float(found["CIDEr"].value or 0) > 100 and len(found) == len(scored.findings)
    assert "| CIDEr | " in (proof / "gpu_check.md").read_text()


def test_captions_of_other_images_are_not_scored(proof):
    path = proof / "runs" / "quiet" / "predictions.jsonl"
    path.write_text(path.read_text().replace("test", "other", 1))
    with refused("captions of other images"):
        scores.score(proof)
    path.unlink()
    with refused("holds no captions"):
        scores.score(proof)
    assert len(read(proof / "results.jsonl")[1]) == 1
