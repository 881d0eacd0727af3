"""An honest study that tests of this folder tamper with, each with a copy of its own."""

import pytest
from helpers_bundle import copied
from helpers_honest import honest_study

from gitbench.metrics import CaptionScorer
from gitbench.study.store import Study


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Study:
    """Three seeds of base, small and blind. Nobody may change it."""
    return honest_study(tmp_path_factory.mktemp("honest") / "work")


@pytest.fixture
def study(honest, tmp_path) -> Study:
    return copied(honest, tmp_path / "work")


@pytest.fixture(scope="module")
def scorer():
    with CaptionScorer(meteor=False, spice=False) as scorer:
        yield scorer
