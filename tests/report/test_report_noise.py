"""The report of a noise floor: what was measured, in a table, a text and a figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from helpers_judge import plan_of, yardsticks

from gitbench.judge.aa import noise_floor
from gitbench.judge.noise import NoiseFloor, PairSpread
from gitbench.report.noise import noise_figure, write_noise_report

PAIR = PairSpread(study="decoder_size", treatment="large", reference="base", sd=1.25, n=5, mde=3.5)


def of_sd(sd: float, metric: str) -> dict[str, NoiseFloor]:
    values = np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    data, rows = (50 + sd * values / values.std(ddof=1)).tolist(), yardsticks(metric, None, 120.0)
    return {metric: noise_floor(plan_of(), metric, data, 3, rows, judged=3, pairs=[PAIR])}


def test_the_report_says_what_was_measured(tmp_path):
    floors = of_sd(2.0, "CIDEr") | of_sd(0.1, "test_nll") | of_sd(1.0, "SceneF1-objects")
    for name in ("a", "b"):
        write_noise_report(tmp_path / name, floors, profile="cpu", data="scenes")
    text = (tmp_path / "a" / "noise_floor.md").read_text()
    assert "6 replicates of one arm" in text and "120 splits" in text and "no blind floor was run" in text
    assert "| CIDEr | 50.0 | 2.00 (1.25 to 4.91) | 9.23 |" in text
    assert "test NLL (nat/token)" in text and "SceneF1-objects" not in text
    assert "decoder_size: large \N{MINUS SIGN} base | 5 | 1.25 | 2.83 |" in text
    assert list(pd.read_csv(tmp_path / "a" / "noise_floor.csv")["metric"]) == list(floors)
    assert list(pd.read_csv(tmp_path / "a" / "pairs.csv")["pairs"]) == [5, 5, 5]
    titles = [axes.get_title() for axes in noise_figure(floors).axes if axes.get_title()]
    assert titles == ["CIDEr, MDE 9.23", "test NLL, MDE 0.462"]
    files = sorted((tmp_path / "a").iterdir())
    assert len(files) == 6  # the same numbers give the same files
    assert all(path.read_bytes() == (tmp_path / "b" / path.name).read_bytes() for path in files)
