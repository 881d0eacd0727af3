"""The report of a noise floor: what was measured, in a table, a text and a figure."""

from __future__ import annotations

import pandas as pd
from helpers_judge import noise_of_sd

from gitbench.judge.noise import PairSpread
from gitbench.report.noise import noise_figure, write_noise_report

PAIR = PairSpread(study="decoder_size", treatment="large", reference="base", sd=1.25, n=5, mde=3.5)


def test_the_report_says_what_was_measured(tmp_path):
    spreads, floors = {"CIDEr": 2.0, "test_nll": 0.1, "SceneF1-objects": 1.0}, {}
    for metric, sd in spreads.items():
        floors |= noise_of_sd(sd, metric, pairs=[PAIR])
    for name in ("a", "b"):
        write_noise_report(tmp_path / name, floors, profile="cpu", data="scenes")
    text = (tmp_path / "a" / "noise_floor.md").read_text()
    assert "6 replicates of one arm" in text and "120 splits" in text and "no blind floor was run" in text
    assert "| CIDEr | 50.0 | 2.00 (1.25 to 4.91) | 16.00 |" in text
    assert "test NLL (nat/token)" in text and "SceneF1-objects" not in text
    assert "decoder_size: large \N{MINUS SIGN} base | 5 | 1.25 | 2.83 |" in text
    assert list(pd.read_csv(tmp_path / "a" / "noise_floor.csv")["metric"]) == list(floors)
    assert list(pd.read_csv(tmp_path / "a" / "pairs.csv")["pairs"]) == [5, 5, 5]
    titles = [axes.get_title() for axes in noise_figure(floors).axes if axes.get_title()]
    assert titles == ["CIDEr, MDE 16.0", "test NLL, MDE 0.800"]
    files = sorted((tmp_path / "a").iterdir())
    assert len(files) == 6  # the same numbers give the same files
    assert all(path.read_bytes() == (tmp_path / "b" / path.name).read_bytes() for path in files)
