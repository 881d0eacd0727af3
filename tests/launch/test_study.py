"""A whole study through the command line: its files, its report; and nothing is trained twice."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from helpers_bundle import FILES
from helpers_cli import GITBENCH, call
from PIL import Image

import gitbench
from gitbench.launch.records import StudyScorer

METRICS = {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SceneF1", "test_nll"}
METRICS |= {"train_nll", "val_nll"}
RUN = ("run", "decoder_size", "--profile", "smoke", "--work-dir")
pytestmark = pytest.mark.usefixtures("svg_alone")


@pytest.fixture(scope="module")
def work(trained, tmp_path_factory) -> Path:
    """A copy of the work directory of the trained study, weights included."""
    return Path(shutil.copytree(trained.work_dir, tmp_path_factory.mktemp("study") / "work"))


@pytest.fixture(scope="module")
def again(work) -> tuple[Path, dict[Path, int]]:
    """Run the finished study once more; returns the report's folder, and when records were written before."""
    out, before = work.parent / "out", {path: path.stat().st_mtime_ns for path in work.glob("runs/*/record.json")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gitbench.launch.scheduling.prove", lambda *_: pytest.fail("proven twice"))
        result = call(*RUN, str(work), "--out", str(out))
    assert result.returncode == 0 and "0 runs trained, 8 found done, 0 failed" in result.stdout, result.stderr
    return out, before


def captions(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_run_folders_hold_what_outsiders_rely_on(work):
    folders = list((work / "runs").iterdir())
    assert len(folders) == 8
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert names >= {*FILES, "config.py", "model.pth"}
        assert not any(name.endswith(".tmp") or name.startswith("iter_") for name in names)
        record, rows = json.loads((folder / "record.json").read_text()), captions(folder)
        assert set(record["metrics"]) >= METRICS and all(score["signature"] for score in record["metrics"].values())
        assert record["cost"]["parameters"] > record["cost"]["decoder_parameters"] > 0
        assert record["cost"]["flops_per_image"] > 0 and record["cost"]["peak_memory_bytes"] > 1e7
        per_image = pd.read_parquet(folder / "per_image.parquet")
        assert list(per_image["image_id"]) == [row["image_id"] for row in rows] and len(rows) == 32
        assert per_image["CIDEr"].mean() == pytest.approx(record["metrics"]["CIDEr"]["value"], abs=1e-6)
        curve = pd.read_csv(folder / "curve.csv")
        assert curve.iteration.max() == 24 and set(curve.split) == {"train", "val"}
        last = curve.loc[curve.split == "val", "loss"].iloc[-1]
        assert record["metrics"]["val_nll"]["value"] == pytest.approx(last, rel=1e-12)
        if record["spec"]["variants"]["vision"]["blind"]:  # says the same of every image
            assert len({row["caption"] for row in rows}) == 1 and record["warnings"] == []
        else:
            assert any(said.startswith("CIDEr of 32 images is not comparable") for said in record["warnings"])


def test_the_frame_has_every_run_and_replicates_differ(work):
    frame = gitbench.load_frame(work)
    seen = frame[(frame.metric == "CIDEr") & frame.role.isin(["arm", "floor"])]
    assert set(seen["arm"]) == {"small", "base", "large", "blind"}
    assert len(seen) == 8 and not seen.duplicated(["arm", "replicate"]).any() and (frame.role == "ceiling").any()
    nll = frame[(frame.metric == "test_nll") & (frame.role == "arm")]
    assert nll["value"].nunique() == len(nll)


def test_a_second_run_trains_nothing_and_reports(work, again):
    out, before = again
    assert before == {path: path.stat().st_mtime_ns for path in work.glob("runs/*/record.json")}
    assert (out / "report.html").is_file()
    assert {"small", "base", "large"} <= set(pd.read_csv(out / "table.csv")["arm"])


def test_a_dry_run_prints_the_plan_and_the_time(work, tmp_path):
    assert "8 runs, 8 done, 0 to do" in call(*RUN, str(work), "--dry-run").stdout
    fresh = call(*RUN, str(tmp_path), "--profile", "cpu", "--seeds", "2", "--dry-run").stdout
    assert "8 runs, 0 done, 8 to do" in fresh and re.search(r"about \d", fresh)
    assert not list(tmp_path.iterdir())


def test_damaged_files_of_a_run_are_made_again(trained, tmp_path, monkeypatch):
    """A record cut short is scored again; predictions that end after whole lines are not scored, but made again.

    A failure of scoring, before, loses nothing that was trained.
    """
    work = Path(shutil.copytree(trained.work_dir, tmp_path / "work"))
    first, second = list(work.glob("runs/*/"))[:2]
    record, predictions, others = first / "record.json", second / "predictions.jsonl", second / "record.json"
    whole = {path: path.read_text() for path in (predictions, first / "predictions.jsonl")}
    metrics = {path: json.loads(path.read_text())["metrics"] for path in (record, others)}
    trained_at = (first / "model.pth").stat().st_mtime_ns
    record.write_text(record.read_text()[:200])
    predictions.write_text("".join(line + "\n" for line in whole[predictions].split("\n")[:3]))
    others.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(StudyScorer, "score_run", lambda self, run: 1 / 0)
        failed = call(*RUN, str(work), "--no-report")
    assert failed.returncode == 1 and "2 failed" in failed.stdout
    assert "ZeroDivisionError" in failed.stdout + failed.stderr
    result = call(*RUN, str(work), "--no-report")
    assert result.returncode == 0, result.stderr
    assert {path: path.read_text() for path in whole} == whole
    assert {path: json.loads(path.read_text())["metrics"] for path in metrics} == metrics
    assert (first / "model.pth").stat().st_mtime_ns == trained_at


def test_a_finished_run_captions_an_image_file(work, tmp_path):
    Image.new("RGB", (90, 70), "red").save(tmp_path / "red.png")
    folder = next((work / "runs").iterdir())
    result = call("caption", str(tmp_path / "red.png"), "--weights", str(folder), "--beam", "2")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(tmp_path / "red.png") + "\t")


def test_a_plain_mmengine_runner_trains_the_same_run_again(work, tmp_path):
    """And tells cuBLAS its workspace and NCCL its way: a config imports what all modules of `gitbench.training` do."""
    others = {"CUBLAS_WORKSPACE_CONFIG": ":0:0", "NCCL_ALGO": "NVLS"}  # of somebody else; bits depend on them
    code = (
        "import os, sys, torch\n"
        "from mmengine.config import Config\nfrom mmengine.runner import Runner\n"
        "config = Config.fromfile(sys.argv[1] + '/config.py', lazy_import=False)\n"
        "assert (os.environ['CUBLAS_WORKSPACE_CONFIG'], os.environ['NCCL_ALGO']) == (':4096:8', 'Ring')\n"
        "runner = Runner.from_cfg(config)\nrunner.train()\n"
        "state = torch.load(sys.argv[1] + '/model.pth', weights_only=True)['state_dict']\n"
        "assert all(torch.equal(t, state[n]) for n, t in runner.model.git.state_dict().items()); print('same weights')"
    )
    command = [sys.executable, "-c", code, str(next((work / "runs").iterdir()))]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=os.environ | others)
    assert "same weights" in result.stdout, result.stderr[-2000:]


def test_ctrl_c_keeps_what_is_done_and_the_next_run_goes_on(tmp_path):
    arguments = [*RUN, str(tmp_path / "w"), "--task", "vqa", "--seeds", "1", "--no-report"]
    process = subprocess.Popen(
        [*GITBENCH, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a suite that a shell started in the background hands down an ignored Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("w/runs/*/iter_*.pth")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal sends: to everybody
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1].startswith("gitbench: stopped") and "Traceback" not in errors
    assert all(path.name.startswith(".") for path in tmp_path.rglob("*.tmp*"))
    result = call(*arguments)
    assert result.returncode == 0 and "0 failed" in result.stdout
    assert not list(tmp_path.rglob("*.tmp*"))  # what the killed process was writing is gone
