"""A record must say what its run stored per image: a forged score stops the report."""

import json

import pandas as pd
import pytest
from helpers_runs import make_work_dir, run_key

from gitbench.commands.publish import publish
from gitbench.errors import GitbenchError
from gitbench.study.records import load_study
from gitbench.study.verify import check_records


def test_scores_that_follow_from_their_images_are_counted(tmp_path):
    work = make_work_dir(tmp_path, replicates=3, missing=(("large", 2),))
    # CIDEr of 11 finished runs; BLEU and the loss store nothing per image here
    assert check_records(work, load_study(work, "decoder_size", "cpu", "scenes")) == 11


@pytest.mark.parametrize("forged", [1e-3, 20.0, float("nan")])
def test_a_forged_score_stops_the_report(tmp_path, forged):
    work = make_work_dir(tmp_path, replicates=3)
    path = work / "runs" / run_key("large", 1) / "record.json"
    record = json.loads(path.read_text())
    record["metrics"]["CIDEr"]["value"] += forged
    path.write_text(json.dumps(record))
    with pytest.raises(GitbenchError, match=r"record.json says CIDEr .* but its per_image.parquet gives") as caught:
        publish(work, "decoder_size.cpu.scenes", tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_images_that_were_taken_away_are_noticed(tmp_path):
    work = make_work_dir(tmp_path, replicates=3)
    study = load_study(work, "decoder_size", "cpu", "scenes")
    path = work / "runs" / run_key("base", 0) / "per_image.parquet"
    table = pd.read_parquet(path)
    table[table["CIDEr"] > table["CIDEr"].min()].to_parquet(path)  # without its worst image
    with pytest.raises(GitbenchError, match="delete the folder .* and run again"):
        check_records(work, study)
    path.unlink()
    with pytest.raises(GitbenchError, match="per_image.parquet is missing"):
        check_records(work, study)


def test_a_study_that_lost_a_part_is_named_with_the_fix(tmp_path):
    work = make_work_dir(tmp_path, replicates=3)  # it does not say how many test images there are
    with pytest.raises(GitbenchError, match=r"decoder_size.cpu.scenes.json is damaged: delete it and run"):
        publish(work, "decoder_size.cpu.scenes", tmp_path / "out")
