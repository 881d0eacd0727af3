"""`gitbench probe`: shares of what linear probes of an encoder get right, beside those of random values."""

import csv

import pytest
from helpers_captioner import run_folder
from helpers_cli import call, error_of

from gitbench.training import probes


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(probes, "SCENES", 160)
    monkeypatch.setattr(probes, "SIGNS", 40)


def test_a_captioner_that_was_trained_sees_more_than_random_values(tmp_path, few):
    out = tmp_path / "shares.csv"
    other = run_folder(tmp_path / "tiny")
    result = call("probe", "scenes-captioner", str(other), "--out", str(out))
    assert result.returncode == 0, result.stderr
    names = [line.split("  ")[0] for line in result.stdout.splitlines()]
    assert names == ["share right, %", "scenes-captioner", str(other), "random values", "random values"]  # two sizes
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    right = {(row["weights"], row["probe"]): float(row["right"]) for row in reversed(rows)}
    assert right["scenes-captioner", "objects"] > right["random values", "objects"] + 0.2
    assert all(float(row["low"]) <= float(row["right"]) <= float(row["high"]) for row in rows)
    assert {row["images"] for row in rows if row["probe"] == "word"} == {"10"}


def test_weights_are_named_once_and_must_be_there(tmp_path):
    assert "named twice" in error_of("probe", "scenes-captioner", "scenes-captioner")
    assert "does not exist" in error_of("probe", str(tmp_path / "none"))
