"""The tidy frame and the readers: one row a value, and one clear line for whatever is missing or damaged."""

import json

import pandas as pd
import pytest
from helpers_runs import IMAGES, make_work_dir, run_key

import gitbench
from gitbench.errors import GitbenchError
from gitbench.study.records import (
    COLUMNS,
    load_curves,
    load_frame,
    load_per_image,
    load_predictions,
    load_record,
    load_study,
)


@pytest.fixture
def work_dir(tmp_path):
    return make_work_dir(tmp_path / "work", replicates=3, missing=(("small", 2),), overridden=(("base", 1),))


def test_frame_is_tidy_one_row_a_value(work_dir):
    frame = gitbench.load_frame(work_dir)
    assert tuple(frame.columns) == COLUMNS
    assert not frame.duplicated(["ablation", "profile", "data", "arm", "replicate", "metric"]).any()
    assert frame["value"].dtype == "float64" and frame["value"].notna().all()
    assert set(frame["role"]) == {"arm", "floor", "ceiling"}
    finished = 4 * 3 - 1
    assert (frame["metric"] == "CIDEr").sum() == finished + 1  # and the ceiling
    assert (frame["metric"] == "decoder_parameters").sum() == finished
    by_arm = frame[frame["metric"] == "CIDEr"].groupby("arm")["replicate"].count()
    assert by_arm.to_dict() == {"blind": 3, "small": 2, "base": 3, "large": 3, "ceiling": 0}


def test_frame_carries_units_signatures_and_machines(work_dir):
    rows = load_frame(work_dir).set_index("metric")
    assert set(rows.loc["CIDEr", "unit"]) == {"points"} and set(rows.loc["test_nll", "unit"]) == {"nat/token"}
    assert set(rows.loc["peak_memory_bytes", "unit"]) == {"byte"}
    assert rows.loc["CIDEr", "signature"].str.startswith("CIDEr-D|").all()
    assert rows.loc["seconds", "signature"].isna().all()
    assert set(rows.loc["seconds", "machine"]) == {"cpu2"}


def test_frame_values_equal_the_records(work_dir):
    frame = load_frame(work_dir)
    key = run_key("large", 1)
    record = json.loads((work_dir / "runs" / key / "record.json").read_text())
    own = frame[frame["run_key"] == key].set_index("metric")["value"]
    assert own["CIDEr"] == record["metrics"]["CIDEr"]["value"]
    assert own["seconds"] == record["cost"]["seconds"]


def test_overridden_runs_are_marked(work_dir):
    frame = load_frame(work_dir)
    marked = frame[frame["overridden"]]
    assert set(zip(marked["arm"], marked["replicate"], strict=True)) == {("base", 1)}


def test_unfinished_run_has_no_record_and_no_rows(work_dir):
    assert load_record(work_dir, run_key("small", 2)) is None
    assert run_key("small", 2) not in set(load_frame(work_dir)["run_key"].dropna())


def test_no_yardstick_gives_no_ceiling_rows(tmp_path):
    frame = load_frame(make_work_dir(tmp_path, replicates=2, ceiling=None))
    assert "ceiling" not in set(frame["role"])


@pytest.mark.parametrize(
    "text", ["", "{", '{"schema": 1, "run_key"', "[]", "{}", '{"run_key": "x", "metrics": {}}', "\x00\x01"]
)
def test_damaged_record_is_one_line_that_names_file_and_fix(work_dir, text):
    path = work_dir / "runs" / run_key("base", 0) / "record.json"
    path.write_text(text)
    with pytest.raises(GitbenchError) as caught:
        load_frame(work_dir)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message and "delete the folder" in message and "run again" in message


def test_record_of_another_run_is_damage(work_dir):
    first, second = (work_dir / "runs" / run_key("base", replicate) / "record.json" for replicate in (0, 1))
    first.write_text(second.read_text())
    with pytest.raises(GitbenchError, match="damaged"):
        load_frame(work_dir)


def test_missing_work_dir_and_empty_work_dir_name_the_fix(tmp_path):
    with pytest.raises(GitbenchError, match="does not exist: pass --work-dir"):
        load_frame(tmp_path / "nowhere")
    with pytest.raises(GitbenchError, match="holds no study: run"):
        load_frame(tmp_path)


def test_unknown_study_lists_those_there_are(work_dir):
    with pytest.raises(GitbenchError, match="found: decoder_size.cpu.scenes"):
        load_study(work_dir, "decoder_size", "gpu", "scenes")


@pytest.mark.parametrize("name, text", [("claims", '{"schema": 1}'), ("cut", '{"schema": 1, "abla')])
def test_damaged_study_is_an_error(work_dir, name, text):
    (work_dir / "studies" / "decoder_size.cpu.scenes.json").write_text(text)
    with pytest.raises(GitbenchError, match="damaged"):
        load_study(work_dir, "decoder_size", "cpu", "scenes")


def test_study_fields_of_a_later_version_are_ignored(work_dir):
    path = work_dir / "studies" / "decoder_size.cpu.scenes.json"
    values = json.loads(path.read_text())
    values["claims"][0]["family"] = "sizes"
    path.write_text(json.dumps(values))
    study = load_study(work_dir, "decoder_size", "cpu", "scenes")
    assert study.claims[0].quote == "a larger decoder shows no improvement"
    assert study.arm("large").label == "4 x 256"
    with pytest.raises(GitbenchError, match="did you mean 'large'"):
        study.arm("larg")


def test_run_files_are_read(work_dir):
    key = run_key("base", 0)
    assert list(load_per_image(work_dir, key).columns) == ["image_id", "CIDEr"]
    curves = load_curves(work_dir, key)
    assert set(curves["split"]) == {"train", "val"} and len(curves) == 606
    predictions = load_predictions(work_dir, key)
    assert len(predictions) == IMAGES and predictions[1]["caption"] == "a blue circle on a white ground"


def test_caption_with_line_separators_is_one_prediction(work_dir):
    path = work_dir / "runs" / run_key("base", 0) / "predictions.jsonl"
    entry = {"image_id": 1, "caption": "a\u2028b\u0085c\nd", "references": [], "score": 0}
    path.write_text(json.dumps(entry, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [each["caption"] for each in load_predictions(work_dir, run_key("base", 0))] == ["a\u2028b\u0085c\nd"]


@pytest.mark.parametrize(
    "name, load",
    [("per_image.parquet", load_per_image), ("curve.csv", load_curves), ("predictions.jsonl", load_predictions)],
)
def test_missing_or_truncated_run_file_names_the_fix(work_dir, name, load):
    key = run_key("base", 0)
    path = work_dir / "runs" / key / name
    path.write_bytes(path.read_bytes()[:7] if name != "curve.csv" else b"")
    with pytest.raises(GitbenchError, match="damaged: delete the folder"):
        load(work_dir, key)
    path.unlink()
    with pytest.raises(GitbenchError, match="missing: delete the folder"):
        load(work_dir, key)


def test_same_run_in_two_studies_has_rows_in_both(work_dir):
    values = json.loads((work_dir / "studies" / "decoder_size.cpu.scenes.json").read_text())
    values["ablation"] = "decoder_attention"
    (work_dir / "studies" / "decoder_attention.cpu.scenes.json").write_text(json.dumps(values))
    frame = load_frame(work_dir)
    assert isinstance(frame, pd.DataFrame) and set(frame["ablation"]) == {"decoder_size", "decoder_attention"}
