"""`compile_layers=True`: the same losses, eager captions, and a decision that is kept. No C++ compiler is run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, tiny_profile
from torch._dynamo.utils import counters

from gitbench.models.git import GIT
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec
from gitbench.study.config import make_config
from gitbench.study.plan import Plan, PlannedRun, make_plan, write_plan
from gitbench.training import compile as compile_module
from gitbench.training.compile import HOT, compile_hot
from gitbench.training.run import execute

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
    decoder = DecoderSpec(
        attention=attention,  # type: ignore[arg-type]
        layers=3,
        width=32,
        heads=2,
        ffn=64,
        dropout=0.1,
        max_positions=32,
    )
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
    undo = compile_hot(compiled)
    names = list(plain.state_dict())
    assert list(compiled.state_dict()) == names
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-5)
    made = counters["stats"]["unique_graphs"]
    assert len(HOT) <= made <= 2 * len(HOT) + 2  # layers share them, and so do texts of any length
    assert not counters["graph_break"]
    undo()
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-5)
    assert counters["stats"]["unique_graphs"] == made


def test_captions_never_depend_on_the_compiler() -> None:
    plain, compiled = small("self").eval(), small("self").eval()
    compile_hot(compiled)
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    for a, b in zip(plain.generate(images, max_length=9), compiled.generate(images, max_length=9), strict=True):
        assert torch.equal(a, b)
    assert counters["stats"]["unique_graphs"] == 0


# ---- in a run ----------------------------------------------------------------------------------------------------


def planned(work_dir: Path, **options: Any) -> tuple[Plan, PlannedRun]:
    plan = make_plan(TINY, tiny_profile(iterations=12, checkpoint_every=4), "scenes", work_dir, cfg_options=options)
    write_plan(plan, "test")
    return plan, plan.runs[0]


def cost(run: PlannedRun) -> dict[str, Any]:
    return json.loads((run.folder / "trained.json").read_text())["cost"]


def test_a_run_is_not_compiled_unless_asked(tmp_path: Path) -> None:
    plan, run = planned(tmp_path)
    _, asked = planned(tmp_path, compile_layers=True)
    hooks = [hook["type"] for hook in make_config(run.spec, plan.vocabulary, run.key).custom_hooks]
    assert "CompileHook" not in hooks
    assert [hook["type"] for hook in make_config(asked.spec, plan.vocabulary, asked.key).custom_hooks] == [
        *hooks,
        "CompileHook",
    ]
    assert run.key != asked.key  # it rounds otherwise: another run


def test_a_short_run_goes_on_without(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, run = planned(tmp_path, compile_layers=True)
    execute(run.folder)
    assert cost(run)["compiled"] is False and cost(run)["compile_seconds"] == 0
    assert "compile: off, 12 steps of" in "".join(capfd.readouterr())
    assert counters["stats"]["unique_graphs"] == 0


@pytest.mark.parametrize(("with_it", "used"), [(0.1, True), (0.9, False)])
def test_a_run_that_pays_is_compiled_and_its_next_session_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_it: float, used: bool
) -> None:
    """Timings are given; the second session must follow the first, whatever it would find itself."""
    _, run = planned(tmp_path / "compiled", compile_layers=True)
    timings = iter([0.5, with_it, with_it])
    real = compile_module._median

    def median(step: Any) -> float:
        real(step)
        return next(timings)

    monkeypatch.setattr(compile_module, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(compile_module, "_median", median)

    class Stopped(Exception):
        pass

    def stop(done: int, total: int, loss: float) -> None:
        if done == 6:
            raise Stopped

    with pytest.raises(Stopped):
        execute(run.folder, stop)
    monkeypatch.setattr(compile_module, "LEAST_SECONDS", 1e9)  # would say no
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    counters.clear()
    torch._dynamo.reset()
    execute(run.folder)
    assert cost(run)["compiled"] is used and cost(run)["compile_seconds"] > 0
    assert (counters["stats"]["unique_graphs"] > 0) is used
    assert cost(run)["startup_seconds"] is None
    if used:
        _, plain = planned(tmp_path / "plain")
        execute(plain.folder)
        assert _curve(run) == pytest.approx(_curve(plain), rel=1e-4)


def _curve(run: PlannedRun) -> list[float]:
    return [float(line.split(",")[2]) for line in (run.folder / "curve.csv").read_text().splitlines()[1:]]
