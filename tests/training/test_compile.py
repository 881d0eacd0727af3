"""`compile_layers=True`: the same losses, eager captions, and a resumed run that compiles again. No C++ compiler is run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_study import Run, make_study, tiny_profile, write_configs
from torch._dynamo.utils import counters

from gitbench.models.git import GIT
from gitbench.study.config import make_config
from gitbench.study.store import Study
from gitbench.training.compile import HOT, compile_hot
from gitbench.training.hooks import read_curve
from gitbench.training.run import execute
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec

ENCODER = EncoderSpec(image_size=16, patch=8, width=32, layers=3, heads=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let dynamo capture as ever, and run what it captured operation by operation."""
    real = torch.compile

    def compiled(function: Any, *, dynamic: bool, options: dict[str, Any]) -> Any:
        assert options == {"fallback_random": True}
        return real(function, dynamic=dynamic, backend="eager")

    monkeypatch.setattr(torch, "compile", compiled)
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def small(attention: str) -> GIT:
    decoder = DecoderSpec(attention=attention, layers=3, width=32, heads=2, ffn=64, max_positions=32)  # type: ignore[arg-type]
    return GIT(encoder=ENCODER, decoder=decoder, vocab_size=40, bos_id=2, eos_id=3)


def losses(git: GIT) -> list[float]:
    """Train three steps, with texts of other lengths each time."""
    git.train()
    optimizer = torch.optim.SGD(git.parameters(), lr=0.1)
    found = []
    for step, length in enumerate((7, 11, 5)):
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(2, 3, 16, 16, generator=generator)
        tokens = torch.randint(4, 40, (4, length), generator=generator)
        torch.manual_seed(step)  # of the dropout
        loss = git.loss(images, tokens, torch.ones_like(tokens, dtype=torch.bool))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("attention", ["self", "cross"])
def test_compiled_training_has_the_same_losses_with_few_graphs(attention: str) -> None:
    plain, compiled = small(attention), small(attention)
    compile_hot(compiled)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-5)
    made = counters["stats"]["unique_graphs"]
    assert len(HOT) <= made <= 2 * len(HOT) + 2  # layers share them, and so do texts of any length
    assert not counters["graph_break"]


def test_captions_never_depend_on_the_compiler() -> None:
    plain, compiled = small("self").eval(), small("self").eval()
    compile_hot(compiled)
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    for a, b in zip(plain.generate(images, max_length=9), compiled.generate(images, max_length=9), strict=True):
        assert torch.equal(a, b)
    assert counters["stats"]["unique_graphs"] == 0


def planned(work_dir: Path, **options: Any) -> tuple[Study, Run]:
    study = make_study(work_dir, profile=tiny_profile(iterations=12, checkpoint_every=4), cfg_options=options)
    return study, write_configs(study)[0]


def test_a_run_is_compiled_where_it_is_asked_to_in_every_session(tmp_path: Path) -> None:
    plain_plan, plain = planned(tmp_path)
    plan, asked = planned(tmp_path, compile_layers=True)
    assert plain.key != asked.key  # it rounds otherwise: another run
    hooks = [hook["type"] for hook in make_config(plain.spec, plain_plan.plan.vocabulary, plain.key).custom_hooks]
    with_it = [hook["type"] for hook in make_config(asked.spec, plan.plan.vocabulary, asked.key).custom_hooks]
    assert with_it == [*hooks, "CompileHook"] and "CompileHook" not in hooks
    execute(plain.folder)
    assert counters["stats"]["unique_graphs"] == 0

    def stop(done: int, total: int, loss: float) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(asked.folder, stop)
    assert counters["stats"]["unique_graphs"] > 0
    counters.clear()
    torch._dynamo.reset()
    execute(asked.folder)
    assert counters["stats"]["unique_graphs"] > 0
    cost = json.loads((asked.folder / "trained.json").read_text())["cost"]
    assert cost["compiled"] is True and cost["compile_seconds"] > 0 and cost["startup_seconds"] is None
    curves = [[row[2] for row in read_curve(run.folder / "curve.csv")] for run in (asked, plain)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
