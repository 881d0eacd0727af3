"""The rates that ship are those of the profile and the ablations as they are: a fresh clone tunes nothing of these."""

from pathlib import Path

import pytest

from gitbench.ablations import load_ablation
from gitbench.profiles import CPU
from gitbench.study.rates import tuning_of
from gitbench.study.start import started
from gitbench.training.start import described

TUNED = ("decoder_size", "decoder_attention", "decoder_init", "encoder_training", "encoder_init", "data_scale")


@pytest.mark.parametrize("name", TUNED)
def test_a_fresh_clone_has_nothing_to_tune(name):
    tuning = tuning_of(load_ablation(name), CPU, "scenes")
    assert tuning is not None and not tuning.to_do
    assert all(0.0 < value < 10.0 for value in tuning.known.values() if value is not None)


def test_adaptation_of_the_captioner_that_ships_has_nothing_to_tune():
    adaptation = load_ablation("adaptation")
    weights, data = adaptation.starts_on["cpu"]
    tuning = tuning_of(adaptation, started(CPU, described(Path(weights))), data)
    assert tuning is not None and not tuning.to_do
