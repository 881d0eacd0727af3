"""The paper's numbers: each with source and confidence, none from memory; spot checks of the transcription."""

import re

import pandas as pd
import pytest

from gitbench.ablations import ablation_files, load_ablation
from gitbench.errors import GitbenchError
from gitbench.report.paper import CONFIDENCE, VALUE_COLUMNS, paper_claims, paper_rows, paper_value, read_rows
from gitbench.spec import OURS


def test_every_value_has_source_and_an_allowed_confidence():
    rows = paper_rows()
    assert len(rows) > 200 and not rows["id"].duplicated().any()
    assert set(rows["confidence"]) <= {"S", "SQ", "D", "H"} == set(CONFIDENCE)
    assert (rows["source"] != "").all() and (rows["value"] != "").all() and (rows["metric"] != "").all()
    figure = rows[rows["table"] == "Figure 4"]
    assert len(figure) == 27 and (figure["confidence"] == "D").all()
    assert pd.to_numeric(figure["error"]).between(0.1, 0.2).all()  # a digitised value states its error


@pytest.mark.parametrize(
    "table, model, benchmark, metric, value, confidence",
    [
        ("Figure 4", "Base (4M images)", "COCO", "CIDEr", "131.4", "D"),
        ("Figure 4", "Huge (0.8B images)", "TextCaps", "CIDEr", "143.7", "D"),
        ("Table 1", "GIT2", "COCO", "CIDEr", "149.8", "S"),
        ("Table 1", "GIT", "TVC", "CIDEr", "61.2", "S"),
        (".*", "GIT_B", "COCO", ".*", "131.4", "S"),  # its BLEU-4, METEOR and SPICE were never seen
        (".*", "GIT_L", "COCO", "BLEU-4", "42.0", "H"),
    ],
)
def test_transcribed_values(table, model, benchmark, metric, value, confidence):
    wanted = {"table": table, "metric": metric, "model": re.escape(model), "benchmark": benchmark}
    rows = paper_rows()
    for column, pattern in wanted.items():
        rows = rows[rows[column].str.fullmatch(pattern)]
    assert list(zip(rows["value"], rows["confidence"], strict=True)) == [(value, confidence)]


def test_tables_that_were_not_obtained_have_claims_and_no_numbers():
    assert not paper_rows()["table"].str.contains("Table 10").any()
    claims = paper_claims("decoder_size")
    assert "not obtained" in set(claims["numbers"]) and "a larger decoder shows no improvement" in set(claims["quote"])
    assert set(paper_claims()["confidence"]) <= set(CONFIDENCE)


def test_every_claim_of_an_ablation_file_is_quoted_in_the_claims_table():
    claims = paper_claims().set_index("quote")
    for name in ablation_files():
        for claim in load_ablation(name).claims:
            if claim.confidence == OURS:
                assert claim.where == "ours" and claim.quote not in claims.index
                continue
            assert claims.loc[claim.quote, "ablation"] == name
            assert claims.loc[claim.quote, "confidence"] == claim.confidence
            assert claims.loc[claim.quote, "page"] in claim.where
            assert claim.choice == claims.loc[claim.quote, "note"].startswith("a choice")


def test_unknown_id_is_an_error():
    assert paper_value("recipe-label_smoothing")["value"] == "0.1"
    with pytest.raises(GitbenchError, match="no single value 'recipe-nothing'"):
        paper_value("recipe-nothing")


@pytest.mark.parametrize("column, bad", [("confidence", "U"), ("confidence", ""), ("source", "")])
def test_loader_refuses_a_row_without_source_or_confidence(tmp_path, column, bad):
    row = dict.fromkeys(VALUE_COLUMNS, "x") | {"confidence": "S", column: bad}
    pd.DataFrame([row]).to_csv(tmp_path / "values.csv", index=False)
    with pytest.raises(GitbenchError, match="values.csv line 2"):
        read_rows(tmp_path / "values.csv", VALUE_COLUMNS)
    (tmp_path / "values.csv").write_text("id,value\na,1\n")
    with pytest.raises(GitbenchError, match="must have the columns"):
        read_rows(tmp_path / "values.csv", VALUE_COLUMNS)
