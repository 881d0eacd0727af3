"""What a user can get wrong ends in one line that names the fix, a non-zero status and no half-written result.

Bad images, captions and folders are in test_data_*; missing Java in test_metrics_*; kills in test_resume and test_study.
"""

import dataclasses
import errno
import multiprocessing
import resource
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from helpers_cli import error_of
from helpers_data import photo, row, write_parquet
from helpers_errors import failing_disk, refused
from helpers_judge import claim_of
from helpers_study import TINY, make_study, tiny_profile, write_configs

from gitbench import files
from gitbench.ablations import check_ablation
from gitbench.commands.report import make_report
from gitbench.errors import GitbenchError
from gitbench.files import atomic_path, write_json
from gitbench.launch.scheduling import launch, prepare_images
from gitbench.spec import Ablation, Arm
from gitbench.study.find import find_study
from gitbench.study.planner import BLIND
from gitbench.study.store import Study
from gitbench.training.run import execute

RUN = ("run", "decoder_size", "--profile", "smoke", "--work-dir", "{tmp}")
pytestmark = pytest.mark.usefixtures("svg_alone")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "decoder_siz"], "unknown ablation 'decoder_siz': did you mean 'decoder_size'?"),
        (["run", "decoder_size", "--profile", "gpuu"], "unknown profile 'gpuu': did you mean 'gpu'?"),
        (["run", "nowhere.py"], "does not exist"),
        ([*RUN, "--data", "scene"], "did you mean 'scenes'?"),
        ([*RUN, "--task", "video", "--data", "scenes"], "--task video needs films"),
        ([*RUN, "--task", "vqq"], "did you mean 'vqa'?"),
        ([*RUN, "--seeds", "0"], "--seeds 0: use 1 to 1000 replicates"),
        ([*RUN, "--seeds", "99999999"], "use 1 to 1000 replicates"),
        ([*RUN, "--tokenizer", "{tmp}/none"], "none does not exist"),
        ([*RUN, "--cfg-options", "a=1", "--cfg-options", "a=2"], "a is given twice, with 1 and 2"),
        ([*RUN, "--track", "mflow"], "unknown tracker 'mflow': did you mean 'mlflow'?"),
        ([*RUN, "--cfg-options", "train_cfg.max_iterz=5", "--cfg-options", "train_cfg.max_iters=5"], "'max_iterz'"),
        ([*RUN, "--cfg-options", "work_dir=w"], "planning decides it"),
        ([*RUN, "--cfg-options", "lr"], "write KEY=VALUE"),
        ([*RUN, "--cfg-options", "x=[1,2"], "brackets"),
        ([*RUN, "--jobs", "-1"], "--jobs -1: at least 1"),
        ([*RUN, "--budget", "2h"], "--budget belongs to --until-decided"),
        ([*RUN, "--max-seeds", "4"], "--max-seeds belongs to --until-decided"),
        ([*RUN, "--until-decided", "--budget", "soon"], "--budget soon: write a number"),
        ([*RUN, "--until-decided", "--seeds", "2"], "at least 3 are needed"),
        ([*RUN, "--until-decided", "--cfg-options", "train_cfg.max_iters=3"], "changed runs enter no claim"),
        (["bench", "--workloads", "trane-5"], "did you mean 'train-5'"),
        (["bench", "--shapes", "smal"], "did you mean 'small'"),
        (["bench", "--peers", "hugging"], "unknown benchmark peer"),
        (["bench", "--peers", "official"], "--official PATH"),
        (["bench", "--repeats", "0"], "use 1 or more"),
        (["bench", "--against", "absent.json"], "absent.json does not exist"),
        (["scenes", "--size", "0", "--out", "{tmp}/x.png"], "--size 0"),
        (["scenes", "--out", "/proc/x.png"], "cannot be"),
        (["report", "decoder_size", "--profile", "smoke", "--work-dir", "{tmp}/none"], "run"),
        (["report"], "name an ablation, or a bundle"),
        (["report", "--all", "--bundle", "x.tar.xz"], "leave x.tar.xz out"),
        (["report", "--all", "--task", "vqa"], "pass --data, for example scenes-vqa"),
        (["report", "{tmp}/none.tar.xz"], "does not exist"),
        (["replicate", "{tmp}"], "is a folder"),
        (["bundle", "tiny", "--work-dir", "{tmp}"], "no study tiny"),
        (["caption", "{tmp}/a.png", "--weights", "{tmp}"], "a.png does not exist: pass image files"),
        (["caption", __file__, "--weights", "{tmp}"], "finished run"),
    ],
)
def test_one_line_that_names_the_fix(arguments, expected, tmp_path, monkeypatch):
    monkeypatch.delenv("GITBENCH_OFFICIAL", raising=False)
    monkeypatch.chdir(tmp_path)
    assert expected in error_of(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["run"], ["rnu", "decoder_size"], ["caption", "x.png"], []])
def test_wrong_usage_is_one_line_too(arguments):
    result = subprocess.run([sys.executable, "-m", "gitbench", *arguments], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1 and "--help" in result.stderr


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "disk is full .*: free some space or choose another place"),
        (errno.EROFS, "read-only.*: choose a place that you may write to"),
    ],
)
def test_a_full_or_read_only_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, code, words):
    target = tmp_path / "record.json"
    write_json(target, {"old": True})
    monkeypatch.setattr(files.os, "fsync", failing_disk(code))
    with refused(words):  # whatever is written, and by whichever command
        write_json(target, {"new": True})
    assert target.read_text() == '{\n  "old": true\n}\n' and list(tmp_path.iterdir()) == [target]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def fill_and_execute(folder: Path, said: Connection) -> None:
    """Execute a run where no file may hold more than 100 kB, and send what it says."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        execute(folder)
    except GitbenchError as error:
        said.send(str(error))


def test_a_really_full_disk_fails_the_run_with_one_line_and_no_record(tmp_path):
    """A file-size limit makes the kernel refuse the checkpoint, as a full disk does."""
    study = make_study(tmp_path, profile=dataclasses.replace(tiny_profile(), on_scenes={}))
    prepare_images(study.plan)
    run, (said, end) = write_configs(study)[0], multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=fill_and_execute, args=(run.folder, end))
    process.start()
    process.join(120)
    assert process.exitcode == 0 and said.poll()
    line = said.recv()
    assert "disk is full" in line and "\n" not in line
    assert not list(tmp_path.rglob("record.json")) and not list(tmp_path.rglob("*.pth"))


def test_a_file_in_the_place_of_the_work_dir(tmp_path):
    (tmp_path / "work").write_text("")
    assert "a file is in the way" in error_of(*RUN[:-1], str(tmp_path / "work"))


def changed(**fields) -> Ablation:
    return dataclasses.replace(TINY, **fields)


CLAIM = claim_of("better", treatment="small", reference="base")


@pytest.mark.parametrize(
    ("ablation", "expected"),
    [
        (changed(claims=(dataclasses.replace(CLAIM, treatment="smal"),)), "did you mean 'small'"),
        (changed(claims=(dataclasses.replace(CLAIM, metric="CIDer"),)), "did you mean 'CIDEr'"),
        (changed(name="a b"), "files are named after it"),
        (changed(arms={"smoke": (*TINY.arms["smoke"], BLIND)}), "'blind' is a yardstick"),
        (changed(base="bas"), "unknown base arm .*did you mean 'base'"),
        (
            changed(arms={"smoke": (Arm(name="base", variants={"decoder": "self_2x64", "vision": "blind"}),)}),
            "arm 'base' varies decoder, vision; it must vary 'decoder' and nothing else",
        ),
        (changed(arms={"smoke": (TINY.arms["smoke"][0],) * 2}), "two arms have one name"),
        (changed(arms={"smoke": (Arm(name="base", variants={"decoder": "self_2x46"}),)}), "unknown decoder variant"),
    ],
)
def test_an_ablation_that_could_not_be_judged_is_refused(ablation, expected):
    with refused(expected):
        check_ablation(ablation)


def test_a_broken_ablation_file_is_named_with_its_line(tmp_path):
    (tmp_path / "mine.py").write_text("x = 1\ny = nothing\n")
    assert "mine.py, line 2: NameError" in error_of("run", str(tmp_path / "mine.py"))
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    assert "leaves.py, line 1: SystemExit" in error_of("run", str(tmp_path / "leaves.py"))
    assert "cannot be imported" in error_of("list", "--plugin", str(tmp_path / "leaves.py"))
    (tmp_path / "decoder_size.py").write_text("")
    assert "there is an ablation decoder_size already" in error_of("run", str(tmp_path / "decoder_size.py"))


def splits(folder: Path, rows: list[dict]) -> Path:
    """Write the same rows as training, validation and test data, with images of other bytes in each."""
    for split in ("train", "val", "test"):
        own = [
            {
                **each,
                "image_id": f"{split}{each['image_id']}",
                "image": {**each["image"], "bytes": each["image"]["bytes"] + split.encode()},
            }
            for each in rows
        ]
        write_parquet(folder / f"{split}.parquet", own)
    return folder


def test_one_caption_per_image_gives_a_report_without_a_ceiling(tmp_path):
    folder = splits(tmp_path / "single", [row(number, [f"a thing {number}"]) for number in range(8)])
    study = make_study(tmp_path / "w", data=str(folder))
    assert launch(study, plain=True).failed == ()
    assert (make_report(Study.open(study.work_dir, study.name), tmp_path / "out") / "report.html").is_file()
    assert study.name.startswith("tiny.smoke.single-")
    assert find_study(study.work_dir, "tiny", "smoke", str(folder)).name == study.name


def test_two_images_of_one_id_and_unreadable_ones_stop_the_plan_or_the_launch_before_training(tmp_path):
    same = splits(tmp_path / "same", [{**row(number), "image_id": "same"} for number in range(4)])
    with refused("same"):
        make_study(tmp_path / "w", data=str(same))
    cut = {"bytes": photo(2)[:40], "path": None}
    bad = splits(tmp_path / "bad", [row(number, image=cut if number == 2 else ...) for number in range(4)])
    study = make_study(tmp_path / "w", data=str(bad))
    with refused("replace or remove it"):
        launch(study, plain=True)
    assert not list(tmp_path.rglob("log.txt"))


def test_a_work_directory_of_an_earlier_version_is_left_as_it_is(tmp_path):
    old = tmp_path / "studies" / "decoder_size.smoke.scenes.json"
    write_json(old, {"schema": 1, "ablation": "decoder_size"})
    before = old.read_bytes()
    for command in (("run", "data_scale"), ("run", "decoder_size", "--dry-run"), ("noise-floor",)):
        assert "an earlier version" in error_of(*command, "--profile", "smoke", "--work-dir", str(tmp_path))
    assert [*tmp_path.rglob("*")] == [old.parent, old] and old.read_bytes() == before


def test_what_a_plugin_or_a_path_says_in_several_lines_is_folded_into_one(tmp_path):
    (tmp_path / "two.py").write_text('raise ValueError("one\\ntwo")\n')
    assert "one two" in error_of("run", str(tmp_path / "two.py"))
    assert "no such" in error_of(*RUN[:-1], str(tmp_path), "--data", "no\nsuch")
