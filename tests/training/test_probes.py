"""Probes find what is in the features and nothing that is not."""

from __future__ import annotations

import pytest
import torch

import gitbench.training.probes as probes
from gitbench.data.tasks import open_task
from gitbench.spec import TaskSpec
from gitbench.training.probes import Quality, probed


def accuracy(features: torch.Tensor, classes: torch.Tensor, trained: int) -> float:
    return probed(features, classes, trained).double().mean().item()


def planted(share: float, count: int = 900, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (count,), generator=generator)
    features = torch.randn(count, 12, generator=generator)
    features[:, :classes] += share * torch.nn.functional.one_hot(labels, classes)
    return features * torch.logspace(-3, 3, 12), labels


def test_a_planted_feature_is_found_whatever_its_scale():
    assert accuracy(*planted(share=20.0), trained=600) == 1.0


def test_noise_gives_chance():
    assert accuracy(*planted(share=0.0), trained=600) == pytest.approx(0.25, abs=0.07)


def test_what_is_tested_is_not_what_was_trained_on():
    features, labels = planted(share=20.0)
    wrong = labels.clone()
    wrong[600:] = (labels[600:] + 1) % 4
    assert accuracy(features, wrong, trained=600) == 0.0


class Seer:
    """An encoder that reads the answers: a scene's number stands in its first pixel."""

    def __init__(self, answers: torch.Tensor) -> None:
        self.answers = answers

    def encoder(self, numbers: torch.Tensor) -> torch.Tensor:
        return self.answers[numbers][:, None].expand(-1, 2, -1)


def test_each_probe_is_right_with_the_answers_and_retrieval_with_the_pairs(monkeypatch):
    monkeypatch.setattr(probes, "SCENES", 400)
    monkeypatch.setattr(probes, "SIGNS", 40)
    monkeypatch.setattr(probes, "PAIRS", 30)
    source = open_task("scenes", "pretrain", 50, TaskSpec())
    from gitbench.data.tokenizer import train_wordpiece

    words = train_wordpiece([text for index in range(50) for text in source.example(index).captions], 300)
    assert "retrieval" not in Quality(32).tested
    quality = Quality(32, words, 24)
    tested = quality.tested
    assert tested["objects"] == 100 and tested["word"] == 10 and tested["retrieval"] == 30
    assert tested["shape"] == tested["place"] < 100
    width = sum(int(probe.classes.max()) + 1 for probe in quality.probes)
    answers, start = torch.zeros(440, width), 0
    for probe in quality.probes:
        answers[torch.from_numpy(probe.images), start + torch.from_numpy(probe.classes)] = 1
        start += int(probe.classes.max()) + 1
    chunks = [*torch.arange(400).split(probes.BATCH), *torch.arange(400, 440).split(probes.BATCH)]
    feed = iter(chunks)
    found = quality.of(Seer(answers), lambda _: next(feed))
    assert set(found) == {*probes.OBJECT_FACTS, "objects", "word"}
    seen = {
        probe.name
        for probe in quality.probes
        if set(probe.classes[probe.trained :]) <= set(probe.classes[: probe.trained])
    }
    assert {"colour", "place", "objects"} <= seen
    assert all(found[name] == 1.0 for name in seen)

    class Pairs(Seer):
        def images(self, numbers: torch.Tensor) -> torch.Tensor:
            return torch.eye(30)[numbers]

        def captions(self, tokens: torch.Tensor) -> torch.Tensor:
            return torch.eye(30)[:, torch.tensor([1, 0, *range(2, 30)])]  # two are mixed up

    feed = iter([*chunks, torch.arange(30)])
    right = quality.right(Pairs(answers), lambda _: next(feed))
    assert {name: len(each) for name, each in right.items()} == tested
    assert right["retrieval"].tolist() == [False, False, *[True] * 28]
