"""A record must say what its run stored per image: a forged score stops the report."""

import json

import pandas as pd
import pytest
from helpers_runs import make_work_dir, run_key

from gitbench.errors import GitbenchError
from gitbench.study.store import Study
from gitbench.study.verify import check_records

NAME = "decoder_size.cpu.scenes"


def test_scores_that_follow_from_their_images_are_counted(tmp_path):
    study = Study.open(make_work_dir(tmp_path, replicates=3, missing=(("large", 2),)), NAME)
    # CIDEr of 11 finished runs; BLEU and the loss store nothing per image here
    assert check_records(study) == 11


@pytest.mark.parametrize("forged", [1e-3, 20.0, float("nan")])
def test_a_forged_score_is_noticed(tmp_path, forged):
    study = Study.open(make_work_dir(tmp_path, replicates=3), NAME)
    path = study.folder(run_key("large", 1)).record
    record = json.loads(path.read_text())
    record["metrics"]["CIDEr"]["value"] += forged
    path.write_text(json.dumps(record))
    with pytest.raises(GitbenchError, match=r"record.json says CIDEr .* but its per_image.parquet gives") as caught:
        check_records(study)
    assert "\n" not in str(caught.value)


def test_images_that_were_taken_away_are_noticed(tmp_path):
    study = Study.open(make_work_dir(tmp_path, replicates=3), NAME)
    path = study.folder(run_key("base", 0)).per_image
    table = pd.read_parquet(path)
    table[table["CIDEr"] > table["CIDEr"].min()].to_parquet(path)  # without its worst image
    with pytest.raises(GitbenchError, match="delete the folder .* and run again"):
        check_records(study)
    path.unlink()
    with pytest.raises(GitbenchError, match="per_image.parquet is missing"):
        check_records(Study.open(study.work_dir, NAME))
