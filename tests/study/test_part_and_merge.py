"""A part of a study is trained under the seeds and keys of the whole, and parts are put together where they agree."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_errors import refused
from helpers_runs import NAME, make_work_dir
from helpers_study import make_study

from gitbench.claim import claimed
from gitbench.files import write_json
from gitbench.study.interim import judge
from gitbench.study.manifest import file_digests
from gitbench.study.merge import merge
from gitbench.study.part import Part, parse_replicates, parse_shard
from gitbench.study.store import Study
from gitbench.study.verify import findings


def test_shards_are_disjoint_whole_and_have_about_as_many_of_every_arm(tmp_path):
    runs = make_study(tmp_path, replicates=4).plan.runs
    for count in (1, 2, 3, 5, 12, 13):
        shards = [Part(shard=(place, count)).of(runs) for place in range(1, count + 1)]
        assert Counter(run for shard in shards for run in map(id, shard)) == Counter(map(id, runs))
        for arm in ("base", "small", "blind"):
            sizes = [sum(run.arm == arm for run in shard) for shard in shards]
            assert max(sizes) - min(sizes) <= 1


def test_a_part_is_made_of_arms_and_replicates_that_are_there(tmp_path):
    plan = make_study(tmp_path, replicates=4).plan
    part = Part(arms=("small", "blind"), replicates=parse_replicates("0,2-3"))
    part.check(plan)
    found = {(run.arm, run.replicate) for run in part.of(plan.runs)}
    assert found == {(arm, seed) for arm in ("small", "blind") for seed in (0, 2, 3)}
    with refused("did you mean 'small'"):
        Part(arms=("smal",)).check(plan)
    with refused("there is no replicate 4, the study has 0 to 3"):
        Part(replicates=parse_replicates("3-4")).check(plan)


@pytest.mark.parametrize("text", ["", "5-", "9-5", "a", "1,,2", "-1"])
def test_replicates_that_are_none_are_refused(text):
    with refused("write numbers and ranges"):
        parse_replicates(text)


@pytest.mark.parametrize("text", ["1", "0/4", "5/4", "a/b", "1/0"])
def test_shards_that_are_none_are_refused(text):
    with refused("write i/n"):
        parse_shard(text)
    assert parse_shard("2/4") == (2, 4)


# ---- merging ------------------------------------------------------------------------------------------------------------


def edit(path: Path, change: Callable[[dict], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    write_json(path, values)


def entered(work: Path) -> Path:
    """Let the records of a work directory name their files, and its study's manifest list them, as a launch does."""
    study = Study.open(work, NAME)
    for run in study.finished:
        folder = study.folder(run.run_key)
        edit(folder.record, lambda record, folder=folder: record.update(files=file_digests(folder)))
    study.manifest_path.unlink(missing_ok=True)
    Study.open(work, NAME).adopt()
    return work


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Study:
    """A finished study of 12 runs. Nobody may change it."""
    return Study.open(entered(make_work_dir(tmp_path_factory.mktemp("whole"), replicates=3)), NAME)


def test_what_a_killed_launch_was_writing_to_the_manifest_is_removed_by_the_next(whole, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(whole.work_dir, work)
    study = Study.open(work, NAME)
    study.manifest_path.unlink()
    half, probe = (
        study.manifest_path.with_name(f".{study.manifest_path.name}.{end}") for end in ("00ff.tmp.json", "00ff.tmp")
    )
    for path in (half, probe):  # the second is of another launch, which waits for its turn
        path.touch()
    study.adopt()
    assert not half.exists() and probe.exists() and study.manifest_path.is_file()


def parts(whole: Study, folder: Path, count: int = 2) -> list[Path]:
    """Return work directories, each of which made every n-th run of a study."""
    made = []
    for place in range(1, count + 1):
        work = Path(shutil.copytree(whole.work_dir, folder / f"part{place}"))
        mine = {run.run_key for run in Part(shard=(place, count)).of(whole.plan.runs)}
        for run in whole.plan.runs:
            if run.run_key not in mine:
                (work / "runs" / run.run_key / "record.json").unlink()
        made.append(entered(work))
    return made


def test_parts_become_the_study_that_they_are_parts_of(whole, tmp_path):
    sources, out = parts(whole, tmp_path), tmp_path / "out"
    half_trained = out / "runs" / whole.plan.runs[1].run_key  # by a launch there that was stopped
    half_trained.mkdir(parents=True)
    for checkpoint in (sources[0] / "runs" / whole.plan.runs[0].run_key / "iter_6.pth", half_trained / "iter_3.pth"):
        checkpoint.write_text("")
        (checkpoint.parent / "last_checkpoint").write_text("")
    (merged,) = merge(sources, out)
    assert (merged.copied, merged.found, merged.missing) == (12, 0, 0)
    joined = Study.open(out, NAME)
    assert joined.frame.equals(whole.frame) and joined.yardstick == whole.yardstick
    assert list(findings(joined)) == list(findings(whole)) and not [*out.rglob("iter_*"), *out.rglob("last_*")]
    assert len(joined.manifest.runs) == 13 and joined.manifest.unchained is None
    (again,) = merge(sources, out)
    assert (again.copied, again.found) == (0, 12)


def test_what_is_missing_still_is_counted_and_a_killed_launch_needs_no_entry(whole, tmp_path):
    first, _ = parts(whole, tmp_path)
    Study.open(first, NAME).manifest_path.unlink()  # killed between record and manifest
    (merged,) = merge([first], tmp_path / "out")
    assert (merged.copied, merged.missing) == (6, 6)


def test_a_run_that_was_made_twice_must_have_come_out_alike(whole, tmp_path):
    """Other costs are allowed, other captions or scores are not; nothing is written then."""
    one, two = (Path(shutil.copytree(whole.work_dir, tmp_path / name)) for name in ("one", "two"))
    run = whole.plan.runs[0]
    folder = Study.open(two, NAME).folder(run.run_key)
    edit(folder.record, lambda record: record["cost"].update(seconds=9.0))
    assert merge([one, entered(two)], tmp_path / "costs")[0].copied == 12
    edit(folder.record, lambda record: record["metrics"]["CIDEr"].update(value=9.0))
    with refused(f"{run.arm} seed 0 has other metrics in .*one than in .*two .*another kind of machine"):
        merge([one, entered(two)], tmp_path / "scores")
    edit(folder.record, lambda record: record.update(metrics=whole.record(run.run_key)["metrics"]))
    folder.predictions.write_text(folder.predictions.read_text().replace("circle", "ring", 1))
    with refused("has other predictions"):
        merge([one, entered(two)], tmp_path / "texts")
    assert [path.name for path in tmp_path.iterdir() if path.name in ("scores", "texts")] == []


def test_a_run_that_a_launch_finishes_meanwhile_is_left_and_compared(whole, tmp_path, monkeypatch):
    (source,), out = parts(whole, tmp_path, 1), tmp_path / "out"
    merge([source], out)
    first, second = (Study(out, whole.plan).folder(run.run_key) for run in whole.plan.runs[:2])
    records = {folder.path.name: folder.record.read_text() for folder in (first, second)}
    log = first.log.write_text("made here") and first.log

    def meanwhile(path: Path):  # type: ignore[no-untyped-def]
        if path.parent.name in records:
            (path.parent / "record.json").write_text(records[path.parent.name])
        return claimed(path)

    monkeypatch.setattr("gitbench.study.merge.claimed", meanwhile)
    for folder in (first, second):
        folder.record.unlink()
    assert merge([source], out)[0].copied == 0 and log.read_text() == "made here"
    first.record.unlink()
    first.predictions.write_text(first.predictions.read_text().replace("circle", "ring", 1))
    with refused(f"{whole.plan.runs[0].arm} seed 0 has other predictions in"):
        merge([source], out)


def test_other_plans_and_ceilings_are_refused_and_other_commands_are_not(whole, tmp_path):
    first, second = parts(whole, tmp_path)
    path = second / "studies" / f"{NAME}.json"
    edit(path, lambda plan: plan.update(command="gitbench run decoder_size --jobs 4"))
    assert merge([first, second], tmp_path / "out")[0].missing == 0
    edit(path, lambda plan: plan.update(setting="another"))
    with refused(r"hold other plans \(setting differ\)"):
        merge([first, second], tmp_path / "plan")
    edit(path, lambda plan: plan.update(setting=""))
    edit(Study.open(second, NAME).yardstick_path, lambda found: found["ceiling"]["CIDEr"].update(value=1.0))
    with refused("abc123.json disagree"):
        merge([first, entered(second)], tmp_path / "ceiling")


def test_runs_that_were_changed_since_they_were_entered_are_refused(whole, tmp_path):
    first, second = parts(whole, tmp_path)
    run = next(iter(Study.open(second, NAME).finished))
    folder = Study.open(second, NAME).folder(run.run_key)
    edit(folder.record, lambda record: record["cost"].update(seconds=9.0))
    with refused("does not list the runs as they are: `gitbench verify decoder_size"):
        merge([first, second], tmp_path / "out")
    entered(second)
    folder.curve.write_text(folder.curve.read_text() + "\n")
    with refused("holds other files than its record names"):
        merge([first, second], tmp_path / "out")


def test_looks_of_parts_are_put_in_order_unless_runs_went_on_after_them(whole, tmp_path):
    sources = parts(whole, tmp_path)
    for source in sources:
        judge(Study.open(source, NAME))
    merge(sources, tmp_path / "out")
    joined = Study.open(tmp_path / "out", NAME)
    assert len(joined.looks.looks) == 2 and joined.looks.unchained is None
    merge(sources, tmp_path / "out")
    assert Study.open(tmp_path / "out", NAME).looks == joined.looks
    study = Study.open(sources[0], NAME)
    provenance = study.folder(study.finished[0].run_key).provenance
    edit(provenance, lambda found: found.update(looks={"count": 1, "last": "x"}))
    entered(sources[0])
    with refused("they are no parts of one study any more"):
        merge(sources, tmp_path / "other")


def test_what_cannot_be_merged_is_refused(whole, tmp_path):
    (tmp_path / "empty").mkdir()
    with refused("holds no study"):
        merge([tmp_path / "empty"], tmp_path / "out")
    with refused("does not exist"):
        merge([tmp_path / "none"], tmp_path / "out")
    with refused("is the work directory to merge into"):
        merge([whole.work_dir], whole.work_dir)
