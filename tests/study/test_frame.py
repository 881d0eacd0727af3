"""A study on disk and its tidy frame: one row a value, and one clear line for whatever is missing or damaged."""

import json

import pytest
from helpers_runs import IMAGES, make_work_dir, run_key

import gitbench
from gitbench.errors import GitbenchError
from gitbench.study.frame import COLUMNS, load_frame
from gitbench.study.store import Study

NAME = "decoder_size.cpu.scenes"
KEY = run_key("base", 0)


@pytest.fixture
def work_dir(tmp_path):
    return make_work_dir(tmp_path / "work", replicates=3, missing=(("small", 2),), overridden=(("base", 1),))


def test_frame_is_tidy_one_row_a_value_as_the_records_have_them(work_dir):
    frame = gitbench.load_frame(work_dir)
    assert tuple(frame.columns) == COLUMNS
    assert not frame.duplicated(["ablation", "profile", "data", "arm", "replicate", "metric"]).any()
    assert frame["value"].dtype == "float64" and frame["value"].notna().all()
    assert set(frame["role"]) == {"arm", "floor", "ceiling"}
    by_arm = frame[frame["metric"] == "CIDEr"].groupby("arm")["replicate"].count()
    assert by_arm.to_dict() == {"blind": 3, "small": 2, "base": 3, "large": 3, "ceiling": 0}
    marked = frame[frame["overridden"]]
    assert set(zip(marked["arm"], marked["replicate"], strict=True)) == {("base", 1)}
    key = run_key("large", 1)
    record = json.loads((work_dir / "runs" / key / "record.json").read_text())
    own = frame[frame["run_key"] == key].set_index("metric")["value"]
    assert own["CIDEr"] == record["metrics"]["CIDEr"]["value"] and own["seconds"] == record["cost"]["seconds"]
    study = Study.open(work_dir, NAME)
    assert study.frame.equals(frame) and study.record(run_key("small", 2)) is None


def test_frame_carries_units_signatures_and_machines(work_dir):
    rows = load_frame(work_dir).set_index("metric")
    for metric, unit in (("CIDEr", "points"), ("test_nll", "nat/token"), ("peak_memory_bytes", "byte")):
        assert set(rows.loc[metric, "unit"]) == {unit}
    assert rows.loc["CIDEr", "signature"].str.startswith("CIDEr-D|").all()
    assert rows.loc["seconds", "signature"].isna().all() and set(rows.loc["seconds", "machine"]) == {"cpu2"}


def test_no_yardstick_gives_no_ceiling_rows(tmp_path):
    frame = load_frame(make_work_dir(tmp_path, replicates=2, ceiling=None))
    assert "ceiling" not in set(frame["role"])


@pytest.mark.parametrize(
    "text", ["", '{"schema": 2, "run_key"', "[]", "{}", '{"run_key": "x", "metrics": {}}', "\x00", None]
)
def test_damaged_record_is_one_line_that_names_file_and_fix(work_dir, text):
    path = work_dir / "runs" / KEY / "record.json"
    other = work_dir / "runs" / run_key("large", 1) / "record.json"  # a whole record, but of another run
    path.write_text(other.read_text() if text is None else text)
    with pytest.raises(GitbenchError) as caught:
        load_frame(work_dir)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message and "delete the folder" in message and "run again" in message


def test_what_is_not_there_names_the_fix(work_dir, tmp_path):
    with pytest.raises(GitbenchError, match="does not exist: pass --work-dir"):
        load_frame(tmp_path / "nowhere")
    with pytest.raises(GitbenchError, match="holds no study: run"):
        load_frame(tmp_path)
    with pytest.raises(GitbenchError, match=f"found: {NAME}"):
        Study.open(work_dir, "decoder_size.gpu.scenes")


def _of_runs(values, **update):
    return {**values, "runs": [*values["runs"][:-1], values["runs"][-1] | update]}


def _of_claim(values, **update):
    return {**values, "claims": [values["claims"][0] | update]}


DAMAGE = {
    "cut": lambda values: '{"schema": 2, "abla',
    "empty": lambda values: {"schema": 2},
    "a run twice": lambda values: _of_runs(values, replicate=0),
    "a run of no arm": lambda values: _of_runs(values, arm="z"),
    "a way out of the folder": lambda values: _of_runs(values, run_key="../../b"),
    "no such field": lambda values: _of_claim(values, family="own"),
    "another name": lambda values: {**values, "ablation": "other"},
}


@pytest.mark.parametrize("change", DAMAGE)
def test_a_plan_that_does_not_fit_together_is_damaged(work_dir, change):
    path = work_dir / "studies" / f"{NAME}.json"
    changed = DAMAGE[change](json.loads(path.read_text()))
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(GitbenchError, match="damaged"):
        Study.open(work_dir, NAME)


def test_plan_and_run_files_are_read(work_dir):
    study = Study.open(work_dir, NAME)
    assert study.plan.claims[0].quote == "a larger decoder shows no improvement"
    assert study.plan.arm("large").label == "4 x 256"
    with pytest.raises(GitbenchError, match="did you mean 'large'"):
        study.plan.arm("larg")
    assert list(study.per_image(KEY).columns) == ["image_id", "CIDEr"]
    curves = study.curve(KEY)
    assert set(curves["split"]) == {"train", "val"} and len(curves) == 606
    predictions = study.predictions(KEY)
    assert len(predictions) == IMAGES and predictions[1]["caption"] == "a blue circle on a white ground"


def test_caption_with_line_separators_is_one_prediction(work_dir):
    entry = {"image_id": 1, "caption": "a\u2028b\u0085c\nd", "references": [], "score": 0}
    path = work_dir / "runs" / KEY / "predictions.jsonl"
    path.write_text(json.dumps(entry, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [each["caption"] for each in Study.open(work_dir, NAME).predictions(KEY)] == ["a\u2028b\u0085c\nd"]


@pytest.mark.parametrize(
    "name, load",
    [("per_image.parquet", Study.per_image), ("curve.csv", Study.curve), ("predictions.jsonl", Study.predictions)],
)
def test_missing_or_truncated_run_file_names_the_fix(work_dir, name, load):
    path, study = work_dir / "runs" / KEY / name, Study.open(work_dir, NAME)
    path.write_bytes(path.read_bytes()[:7] if name != "curve.csv" else b"")
    with pytest.raises(GitbenchError, match="damaged: delete the folder"):
        load(study, KEY)
    path.unlink()
    with pytest.raises(GitbenchError, match="missing: delete the folder"):
        load(study, KEY)


def test_same_run_in_two_studies_has_rows_in_both(work_dir):
    values = json.loads((work_dir / "studies" / f"{NAME}.json").read_text())
    values["ablation"] = "decoder_attention"
    (work_dir / "studies" / "decoder_attention.cpu.scenes.json").write_text(json.dumps(values))
    assert set(load_frame(work_dir)["ablation"]) == {"decoder_size", "decoder_attention"}
