"""A whole study through the command line: train, score, report, once; then nothing is left to do."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import gitbench

GITBENCH = [sys.executable, "-m", "gitbench"]
METRICS = {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SceneF1", "test_nll"}


def call(*arguments: str, timeout: float = 200) -> subprocess.CompletedProcess:
    return subprocess.run([*GITBENCH, *arguments], capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("study")
    result = call(
        "run", "decoder_size", "--profile", "smoke", "--work-dir", str(folder / "work"), "--out", str(folder / "out")
    )
    return folder / "work", folder / "out", result


def test_the_smoke_profile_runs_whole(study):
    work, _, result = study
    assert result.returncode == 0, result.stdout + result.stderr
    assert "8 runs trained, 0 found done, 0 failed" in result.stdout
    assert len(list((work / "runs").glob("*/record.json"))) == 8


def test_run_folders_hold_what_outsiders_rely_on(study):
    work = study[0]
    for folder in (work / "runs").iterdir():
        names = {path.name for path in folder.iterdir()}
        assert {
            "config.py",
            "record.json",
            "per_image.parquet",
            "predictions.jsonl",
            "curve.csv",
            "provenance.json",
            "model.pth",
        } <= names
        assert not any(name.endswith(".tmp") or name.startswith("iter_") for name in names)
        record = json.loads((folder / "record.json").read_text())
        assert set(record["metrics"]) >= METRICS and all(score["signature"] for score in record["metrics"].values())
        assert record["cost"]["parameters"] > record["cost"]["decoder_parameters"] > 0
        assert record["cost"]["flops_per_image"] > 0 and record["cost"]["peak_memory_bytes"] > 1e7
        per_image = pd.read_parquet(folder / "per_image.parquet")
        rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
        assert list(per_image["image_id"]) == [row["image_id"] for row in rows] and len(rows) == 32
        assert per_image["CIDEr"].mean() == pytest.approx(record["metrics"]["CIDEr"]["value"], abs=1e-6)
        curve = pd.read_csv(folder / "curve.csv")
        assert curve.iteration.max() == 24 and set(curve.split) == {"train", "val"}


def test_the_frame_is_tidy(study):
    frame = gitbench.load_frame(study[0])
    assert set(frame["arm"]) >= {"small", "base", "large", "blind"}
    seen = frame[(frame.metric == "CIDEr") & frame.role.isin(["arm", "floor"])]
    assert len(seen) == 8 and not seen.duplicated(["arm", "replicate"]).any()
    assert (frame.role == "ceiling").any()


def test_blind_captions_do_not_depend_on_the_image(study):
    work = study[0]
    for folder in (work / "runs").iterdir():
        captions = {json.loads(line)["caption"] for line in (folder / "predictions.jsonl").read_text().splitlines()}
        if json.loads((folder / "record.json").read_text())["spec"]["variants"]["vision"]["blind"]:
            assert len(captions) == 1


def test_replicates_differ_and_arms_share_their_data(study):
    frame = gitbench.load_frame(study[0])
    nll = frame[(frame.metric == "test_nll") & (frame.role == "arm")]
    assert nll["value"].nunique() == len(nll)


def test_the_report_is_there_and_self_contained(study):
    out = study[1]
    assert {"report.html", "table.csv", "table.md", "table.tex", "verdicts.json"} <= {
        path.name for path in out.iterdir()
    }
    html = (out / "report.html").read_text()
    assert not re.search(r'(?:src|href)="(?:https?:)?//', html.replace('href="https://arxiv.org', ""))
    table = pd.read_csv(out / "table.csv")
    assert {"small", "base", "large"} <= set(table.iloc[:, 0]) | set(table.get("arm", []))


def test_a_second_run_trains_nothing(study):
    work, out = study[:2]
    before = {path: path.stat().st_mtime_ns for path in (work / "runs").glob("*/record.json")}
    result = call("run", "decoder_size", "--profile", "smoke", "--work-dir", str(work), "--out", str(out))
    assert result.returncode == 0 and "0 runs trained, 8 found done" in result.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (work / "runs").glob("*/record.json")}


def test_a_dry_run_prints_the_plan_and_the_time(study, tmp_path):
    done = call("run", "decoder_size", "--profile", "smoke", "--work-dir", str(study[0]), "--dry-run").stdout
    assert "8 runs, 8 done, 0 to do" in done
    fresh = call(
        "run", "decoder_size", "--profile", "cpu", "--seeds", "2", "--work-dir", str(tmp_path), "--dry-run"
    ).stdout
    assert "8 runs, 0 done, 8 to do" in fresh and re.search(r"about \d", fresh)
    assert not list(tmp_path.iterdir())


def test_the_report_is_rebuilt_without_torch(study, tmp_path):
    from test_layers import BLOCK

    arguments = [
        "report",
        "decoder_size",
        "--profile",
        "smoke",
        "--work-dir",
        str(study[0]),
        "--out",
        str(tmp_path / "again"),
    ]
    code = BLOCK + f"from gitbench.cli import main\nraise SystemExit(main({arguments!r}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "again" / "table.csv").read_bytes() == (study[1] / "table.csv").read_bytes()


def test_a_damaged_record_is_scored_again_without_training(study):
    work = study[0]
    record = next((work / "runs").glob("*/record.json"))
    whole = json.loads(record.read_text())
    weights = (record.parent / "model.pth").stat().st_mtime_ns
    record.write_text(record.read_text()[:200])
    result = call("run", "decoder_size", "--profile", "smoke", "--work-dir", str(work), "--no-report")
    assert result.returncode == 0, result.stderr
    again = json.loads(record.read_text())
    assert again["metrics"] == whole["metrics"] and (record.parent / "model.pth").stat().st_mtime_ns == weights


def test_a_finished_run_captions_an_image_file(study, tmp_path):
    from PIL import Image

    Image.new("RGB", (90, 70), "red").save(tmp_path / "red.png")
    folder = next((study[0] / "runs").iterdir())
    result = call("caption", str(tmp_path / "red.png"), "--weights", str(folder), "--beam", "2")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(tmp_path / "red.png") + "\t")
    missing = call("caption", str(tmp_path / "none.png"), "--weights", str(folder))
    assert missing.returncode == 2 and "none.png" in missing.stderr and len(missing.stderr.splitlines()) == 1


def test_a_plain_mmengine_runner_trains_the_same_run_again(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from mmengine.config import Config\nfrom mmengine.runner import Runner\n"
        "runner = Runner.from_cfg(Config.fromfile(sys.argv[1] + '/config.py', lazy_import=False))\nrunner.train()\n"
        "state = torch.load(sys.argv[1] + '/model.pth', weights_only=True)['state_dict']\n"
        "assert all(torch.equal(t, state[n]) for n, t in runner.model.git.state_dict().items()); print('same weights')"
    )
    folder = next((study[0] / "runs").iterdir())
    result = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120)
    assert "same weights" in result.stdout, result.stderr[-2000:]


def test_ctrl_c_keeps_what_is_done_and_the_next_run_goes_on(tmp_path):
    arguments = [
        "run",
        "decoder_size",
        "--profile",
        "smoke",
        "--seeds",
        "1",
        "--work-dir",
        str(tmp_path / "w"),
        "--no-report",
    ]
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
    assert not list(tmp_path.rglob("*.tmp"))
    result = call(*arguments)
    assert result.returncode == 0 and "0 failed" in result.stdout
