"""The paper's numbers: each with source and confidence, none from memory; spot checks of the transcription."""

import pandas as pd
import pytest

from gitbench.ablations import ablation_files, load_ablation
from gitbench.errors import GitbenchError
from gitbench.report.paper import CONFIDENCE, VALUE_COLUMNS, paper_claims, paper_rows, paper_value, read_rows


def test_every_value_has_source_and_an_allowed_confidence():
    rows = paper_rows()
    assert len(rows) > 200 and not rows["id"].duplicated().any()
    assert set(rows["confidence"]) <= {"S", "SQ", "D", "H"} == set(CONFIDENCE)
    assert (rows["source"] != "").all() and (rows["value"] != "").all() and (rows["metric"] != "").all()


def test_digitised_values_state_their_error():
    rows = paper_rows(table="Figure 4")
    assert len(rows) == 27 and (rows["confidence"] == "D").all()
    assert pd.to_numeric(rows["error"]).between(0.1, 0.2).all()


@pytest.mark.parametrize(
    "where, value, confidence",
    [
        ({"model": "Base (4M images)", "benchmark": "COCO"}, "131.4", "D"),
        ({"model": "Huge (0.8B images)", "benchmark": "TextCaps"}, "143.7", "D"),
        ({"model": "GIT2", "benchmark": "COCO", "table": "Table 1"}, "149.8", "S"),
        ({"model": "GIT", "benchmark": "TVC", "table": "Table 1"}, "61.2", "S"),
        ({"model": "GIT_B", "benchmark": "COCO", "metric": "CIDEr"}, "131.4", "S"),
        ({"model": "GIT_L", "benchmark": "COCO", "metric": "BLEU-4"}, "42.0", "H"),
    ],
)
def test_transcribed_values(where, value, confidence):
    rows = paper_rows(**where)
    assert list(zip(rows["value"], rows["confidence"], strict=True)) == [(value, confidence)]


def test_values_known_from_memory_only_are_absent():
    rows = paper_rows(model="GIT_B", benchmark="COCO")
    assert set(rows["metric"]) == {"CIDEr"}  # BLEU-4 40.4, METEOR 30.0 and SPICE 23.0 were never seen
    assert paper_rows(model="GIT_B", benchmark="MSVD").empty


def test_tables_that_were_not_obtained_have_claims_and_no_numbers():
    rows = paper_rows()
    assert not rows["table"].str.contains("Table 10").any()
    claims = paper_claims("decoder_size")
    assert "not obtained" in set(claims["numbers"]) and "a larger decoder shows no improvement" in set(claims["quote"])
    assert set(paper_claims()["confidence"]) <= set(CONFIDENCE)


def test_every_claim_of_an_ablation_file_is_quoted_in_the_claims_table():
    claims = paper_claims().set_index("quote")
    for name in ablation_files():
        for claim in load_ablation(name).claims:
            assert claims.loc[claim.quote, "ablation"] == name
            assert claims.loc[claim.quote, "confidence"] == claim.confidence
            assert claims.loc[claim.quote, "page"] in claim.where


def test_unknown_id_is_an_error():
    assert paper_value("recipe-label_smoothing")["value"] == "0.1"
    with pytest.raises(GitbenchError, match="no single value 'recipe-nothing'"):
        paper_value("recipe-nothing")


@pytest.mark.parametrize("column, bad", [("confidence", "U"), ("confidence", ""), ("source", "")])
def test_loader_refuses_a_row_without_source_or_confidence(tmp_path, column, bad):
    row = dict.fromkeys(VALUE_COLUMNS, "x") | {"confidence": "S", column: bad}
    pd.DataFrame([row]).to_csv(tmp_path / "values.csv", index=False)
    with pytest.raises(GitbenchError, match="values.csv line 2 needs a source and a confidence code"):
        read_rows(tmp_path / "values.csv", VALUE_COLUMNS)


def test_loader_refuses_another_header(tmp_path):
    (tmp_path / "values.csv").write_text("id,value\na,1\n")
    with pytest.raises(GitbenchError, match="must have the columns"):
        read_rows(tmp_path / "values.csv", VALUE_COLUMNS)
