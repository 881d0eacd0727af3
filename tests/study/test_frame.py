"""The tidy frame and a study's readers: one row a value, and one clear line for whatever is missing or damaged."""

import json

import pytest
from helpers_errors import refused
from helpers_runs import IMAGES, NAME, make_work_dir, run_key

import gitbench
from gitbench.study.frame import COLUMNS
from gitbench.study.store import Study

RECORD = f"runs/{run_key('base', 0)}/record.json"
READERS = {"per_image.parquet": Study.per_image, "curve.csv": Study.curve, "predictions.jsonl": Study.predictions}


@pytest.fixture
def work_dir(tmp_path):
    return make_work_dir(tmp_path / "work", replicates=3, missing=(("small", 2),), overridden=(("base", 1),))


def test_the_frame_has_one_row_a_value(work_dir):
    frame = gitbench.load_frame(work_dir)
    assert tuple(frame.columns) == COLUMNS
    assert not frame.duplicated(["ablation", "profile", "data", "arm", "replicate", "metric"]).any()
    assert frame["value"].dtype == "float64" and frame["value"].notna().all()
    assert set(frame["role"]) == {"arm", "floor", "ceiling"}
    assert (frame["metric"] == "decoder_parameters").sum() == 4 * 3 - 1
    by_arm = frame[frame["metric"] == "CIDEr"].groupby("arm")["replicate"].count()
    assert by_arm.to_dict() == {"blind": 3, "small": 2, "base": 3, "large": 3, "ceiling": 0}
    rows = frame.set_index("metric")
    for name, unit in (("CIDEr", "points"), ("test_nll", "nat/token"), ("peak_memory_bytes", "byte")):
        assert set(rows.loc[name, "unit"]) == {unit}
    assert rows.loc["CIDEr", "signature"].str.startswith("CIDEr-D|").all()
    assert rows.loc["seconds", "signature"].isna().all() and set(rows.loc["seconds", "machine"]) == {"cpu2"}
    marked = frame[frame["overridden"]]
    assert set(zip(marked["arm"], marked["replicate"], strict=True)) == {("base", 1)}
    key = run_key("large", 1)
    record = json.loads((work_dir / "runs" / key / "record.json").read_text())
    own = frame[frame["run_key"] == key].set_index("metric")["value"]
    assert (own["CIDEr"], own["seconds"]) == (record["metrics"]["CIDEr"]["value"], record["cost"]["seconds"])


def test_an_unfinished_run_has_no_rows_and_no_yardstick_gives_no_ceiling(work_dir, tmp_path):
    study = Study.open(work_dir, NAME)
    assert study.record(run_key("small", 2)) is None and run_key("small", 2) not in set(study.frame["run_key"])
    assert [(run.arm, run.replicate) for run in study.missing] == [("small", 2)]
    bare = gitbench.load_frame(make_work_dir(tmp_path / "bare", replicates=2, ceiling=None))
    assert "ceiling" not in set(bare["role"])


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"run_key": "x", "metrics": {}}', "\x00\x01", "another run's"])
def test_a_damaged_record_is_one_line_that_names_file_and_fix(work_dir, text):
    path = work_dir / RECORD
    other = work_dir / "runs" / run_key("base", 1) / "record.json"
    path.write_text(other.read_text() if text == "another run's" else text)
    with refused(f"{path} .*damaged: delete the folder .* run again"):
        gitbench.load_frame(work_dir)


def test_what_is_not_there_names_the_fix(work_dir, tmp_path):
    with refused("does not exist: pass --work-dir"):
        gitbench.load_frame(tmp_path / "nowhere")
    with refused("holds no study: run"):
        gitbench.load_frame(tmp_path)
    with refused(f"found: {NAME}"):
        Study.open(work_dir, "decoder_size.gpu.scenes")
    with refused("did you mean 'large'"):
        Study.open(work_dir, NAME).plan.arm("larg")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: '{"schema": 2}', "damaged"),
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: text.replace(run_key("base", 0), "../" + run_key("base", 0)), "damaged"),
        (lambda text: text.replace('"schema": 2', '"schema": 1'), "earlier version"),
        (lambda text: text.replace('"schema": 2', '"schema": 3'), "later version"),
        (
            lambda text: text.replace('"margin": ', '"margin": -'),
            "is no finite number of 0 or more",
        ),  # a stranger's claim
    ],
)
def test_a_plan_that_cannot_be_read_is_an_error(work_dir, change, said):
    path = work_dir / "studies" / f"{NAME}.json"
    path.write_text(change(path.read_text()))
    with refused(said):
        Study.open(work_dir, NAME)


def test_a_damaged_ceiling_is_an_error(work_dir):
    (work_dir / "yardsticks" / "abc123.json").write_text('{"ceiling": [1]}')
    with refused("abc123.json is damaged"):
        gitbench.load_frame(work_dir)


def test_run_files_are_read(work_dir):
    study, key = Study.open(work_dir, NAME), run_key("base", 0)
    assert list(study.per_image(key).columns) == ["image_id", "CIDEr", "tokens", "nll"]
    assert set(study.curve(key)["split"]) == {"train", "val"} and len(study.curve(key)) == 606
    said = study.predictions(key)
    assert len(said) == IMAGES and said[1]["caption"] == "a blue circle on a white ground"
    entry = {"image_id": 1, "caption": "a\u2028b\u0085c\nd", "references": [], "score": 0}  # one line of JSON
    study.folder(key).predictions.write_text(json.dumps(entry, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [each["caption"] for each in Study.open(work_dir, NAME).predictions(key)] == [entry["caption"]]


@pytest.mark.parametrize("name", list(READERS))
def test_a_missing_or_truncated_run_file_names_the_fix(work_dir, name):
    key = run_key("base", 0)
    path = work_dir / "runs" / key / name
    path.write_bytes(path.read_bytes()[:7] if name != "curve.csv" else b"")
    with refused("damaged: delete the folder"):
        READERS[name](Study.open(work_dir, NAME), key)
    path.unlink()
    with refused("missing: delete the folder"):
        READERS[name](Study.open(work_dir, NAME), key)


def test_a_run_of_two_studies_has_rows_in_both(work_dir):
    text = (work_dir / "studies" / f"{NAME}.json").read_text()
    other = text.replace('"ablation": "decoder_size"', '"ablation": "decoder_attention"')
    (work_dir / "studies" / "decoder_attention.cpu.scenes.json").write_text(other)
    assert set(gitbench.load_frame(work_dir)["ablation"]) == {"decoder_size", "decoder_attention"}
