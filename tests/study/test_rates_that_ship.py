"""The rates that ship are those of the profile and the ablations as they are: a fresh clone tunes nothing of these."""

import pytest

from gitbench.ablations import load_ablation
from gitbench.profiles import CPU
from gitbench.study.rates import tuning_of

TUNED = ("decoder_size", "decoder_attention", "decoder_init", "encoder_training", "encoder_init", "data_scale")


@pytest.mark.parametrize("name", TUNED)
def test_a_fresh_clone_has_nothing_to_tune(name):
    tuning = tuning_of(load_ablation(name), CPU, "scenes")
    assert tuning is not None and not tuning.to_do
    assert all(0.0 < value < 10.0 for value in tuning.known.values() if value is not None)
