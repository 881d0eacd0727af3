"""What a user can get wrong ends in one line that names the fix, a non-zero status and no half-written result.

Bad images, captions and folders are in test_data_*; missing Java in test_metrics_*; kills in test_resume and test_study.
"""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, tiny_profile

from gitbench import files
from gitbench.cli import main
from gitbench.errors import GitbenchError
from gitbench.files import atomic_path, write_json
from gitbench.runs.launch import launch
from gitbench.runs.plan import make_plan


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "decoder_siz"], "unknown ablation 'decoder_siz': did you mean 'decoder_size'?"),
        (["run", "decoder_size", "--profile", "gpuu"], "unknown profile 'gpuu': did you mean 'gpu'?"),
        (["run", "decoder_size", "--profile", "smoke", "--data", "scene"], "did you mean 'scenes'?"),
        (["run", "decoder_size", "--profile", "smoke", "--seeds", "0"], "--seeds 0: at least 1 replicate"),
        (["run", "decoder_size", "--profile", "smoke", "--cfg-options", "lr"], "write KEY=VALUE"),
        (["run", "nowhere.py"], "does not exist"),
        (["report", "decoder_size", "--profile", "smoke", "--work-dir", "{tmp}/none"], "run"),
        (["caption", "{tmp}/a.png", "--weights", "{tmp}"], "finished run"),
    ],
)
def test_one_line_that_names_the_fix(arguments, expected, tmp_path, capsys):
    status = main([argument.replace("{tmp}", str(tmp_path)) for argument in arguments])
    streams = capsys.readouterr()
    assert status == 2 and expected in streams.err
    assert len(streams.err.strip().splitlines()) == 1 and streams.err.startswith("gitbench: ")


@pytest.mark.parametrize("arguments", [["run"], ["rnu", "decoder_size"], ["caption", "x.png"], []])
def test_wrong_usage_is_one_line_too(arguments):
    result = subprocess.run([sys.executable, "-m", "gitbench", *arguments], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1 and "--help" in result.stderr


def test_an_unknown_arm_variant_is_named(tmp_path):
    import dataclasses

    from gitbench.spec import Arm

    wrong = dataclasses.replace(TINY, arms={"smoke": (Arm(name="base", variants={"decoder": "self_2x46"}),)})
    with pytest.raises(GitbenchError, match="unknown decoder variant 'self_2x46': did you mean 'self_2x[0-9]+'"):
        make_plan(wrong, tiny_profile(), "scenes", tmp_path)


def test_an_option_that_is_not_there_is_refused_before_any_run(tmp_path):
    plan = make_plan(TINY, tiny_profile(), "scenes", tmp_path / "w", cfg_options={"train_cfg.max_itres": 3})
    with pytest.raises(GitbenchError, match="max_itres"):
        launch(plan, "test")
    assert not list(tmp_path.rglob("record.json"))


class FullDisk:
    """Stands in for os.fsync on a disk without room."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __call__(self, descriptor: int) -> None:
        raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only")])
def test_a_full_or_read_only_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, code, words):
    target = tmp_path / "record.json"
    write_json(target, {"old": True})
    monkeypatch.setattr(files.os, "fsync", FullDisk(code))
    with pytest.raises(GitbenchError, match=words) as raised:
        write_json(target, {"new": True})
    assert "\n" not in str(raised.value) and "work-dir" in str(raised.value)
    assert target.read_text() == '{\n  "old": true\n}\n' and list(tmp_path.iterdir()) == [target]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_really_full_disk_fails_the_run_with_one_line_and_no_record(tmp_path):
    """A file-size limit makes the kernel refuse the checkpoint, as a full disk does."""
    code = (
        "import resource, signal, sys; sys.path.insert(0, 'tests')\n"
        "from pathlib import Path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from conftest import TINY, tiny_profile\n"
        "from gitbench.runs.plan import make_plan, write_plan\n"
        "plan = make_plan(TINY, tiny_profile(), 'scenes', Path(sys.argv[1])); write_plan(plan, 'x')\n"
        "from gitbench.training.run import execute\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from gitbench.errors import GitbenchError\n"
        "try: execute(plan.runs[0].folder)\n"
        "except GitbenchError as error: print('LINE', error)\n"
    )
    root = Path(__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120, cwd=root
    )
    lines = [line for line in result.stdout.splitlines() if line.startswith("LINE")]
    assert len(lines) == 1 and "disk is full" in lines[0], result.stdout[-500:] + result.stderr[-2000:]
    assert not list(tmp_path.rglob("record.json")) and not list(tmp_path.rglob("*.pth"))


def test_a_file_in_the_place_of_the_work_dir(tmp_path, capsys):
    (tmp_path / "work").write_text("")
    assert main(["run", "decoder_size", "--profile", "smoke", "--work-dir", str(tmp_path / "work")]) == 2
    assert "a file is in the way" in capsys.readouterr().err


def test_a_run_that_fails_twice_is_reported_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    plan = make_plan(TINY, tiny_profile(), "scenes", tmp_path / "w")
    victim = plan.runs[0]
    from gitbench.runs import launch as module

    real = module.write_plan

    def sabotage(*arguments) -> None:
        real(*arguments)
        (victim.folder / "config.py").write_text("model = dict(")

    monkeypatch.setattr(module, "write_plan", sabotage)
    outcome = launch(plan, "test", plain=True)
    assert [(arm, replicate) for arm, replicate, _ in outcome.failed] == [(victim.arm.name, 0)]
    assert "not a readable config" in outcome.failed[0][2]
    assert outcome.completed == len(plan.runs) - 1 and all(run.done for run in plan.runs[1:]) and not victim.done
    printed = capsys.readouterr().out
    assert printed.count("failed, trying again") == 1 and printed.count("failed:") == 1
