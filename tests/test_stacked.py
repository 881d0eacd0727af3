"""A stack of replicates computes what each computes alone: losses, gradients, parameters, dropout masks included."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from gitbench.errors import GitbenchError
from gitbench.models.packed import pack
from gitbench.seeding import derive_seed
from gitbench.spec import DecoderSpec, EncoderSpec, VisionSpec
from gitbench.training.model import CaptionModel
from gitbench.training.optimizer import DeviceOptimWrapper, EncoderDecoderOptim
from gitbench.training.stacked import Stack, stacked_texts
from gitbench.training.stacked_ops import Replicates

STEPS = 20
ENCODER = EncoderSpec(width=32, layers=2, heads=4, patch=8, image_size=32)
DECODER = DecoderSpec(layers=2, width=48, heads=4, ffn=96, max_positions=64, dropout=0.1)


def make(
    seed: int, dtype: torch.dtype = torch.float64, frames: int = 0, frozen: bool = False, **decoder
) -> CaptionModel:
    blind = decoder.pop("blind", False)
    values = dataclasses.asdict(dataclasses.replace(DECODER, **decoder))
    model = CaptionModel(
        encoder={"type": "encoder/vit_2x64_p8_64", **dataclasses.asdict(ENCODER)},
        decoder={"type": "decoder/self_2x64", **values},
        vision={"type": "vision/sighted", **dataclasses.asdict(VisionSpec(blind=blind))},
        encoder_training={"type": "encoder_training/trained", "frozen": frozen},
        vocab_size=128,
        pad_id=0,
        bos_id=101,
        eos_id=102,
        label_smoothing=0.1,
        init_seed=seed,
        generation={},
        data_preprocessor={"type": "ImagePreprocessor"},
        num_frames=frames,
    )
    return model.to(dtype).train()


def wrap(model: CaptionModel, weight_decay: float = 0.1, max_norm: float = 0.3) -> DeviceOptimWrapper:
    optimizer = {"type": "AdamW", "betas": (0.9, 0.98), "weight_decay": weight_decay}
    config = {"type": "DeviceOptimWrapper", "optimizer": optimizer, "clip_grad": {"max_norm": max_norm}}
    return EncoderDecoderOptim(config, {"lr_encoder": 4e-4, "lr_decoder": 2e-3})(model)


def batch(replicate: int, step: int, texts: int = 2, frames: int = 0) -> dict[str, Any]:
    """Two or three texts an image, of lengths that differ between images, steps and replicates."""
    generator = torch.Generator().manual_seed(1000 * replicate + step)
    images, count, length = 4, texts + (replicate + step) % 2, 9 + (replicate + 2 * step) % 4
    tokens = torch.randint(1, 100, (images, count, length), generator=generator)
    tokens[..., 0] = 101
    need = torch.zeros(tokens.shape, dtype=torch.bool)
    for row, column in itertools.product(range(images), range(count)):
        end = int(torch.randint(2, length, (), generator=generator))
        tokens[row, column, end], tokens[row, column, end + 1 :] = 102, 0
        need[row, column, 1 : end + 1] = True
    shape = (images, frames, 3, 32, 32) if frames else (images, 3, 32, 32)
    return {
        "images": torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
        "tokens": tokens,
        "need_predict": need,
        "image_ids": [str(row) for row in range(images)],
    }


def rate(step: int) -> float:
    return 1.0 if step < STEPS // 2 else 0.5


def set_rates(wrapper: DeviceOptimWrapper, step: int) -> None:
    """A schedule, as hooks would apply it to a run's own optimizer."""
    for group in wrapper.optimizer.param_groups:
        group["lr"] = group.setdefault("peak", group["lr"]) * rate(step)


def train_alone(model: CaptionModel, replicate: int, steps: range = range(STEPS), wrapper=None, **sizes) -> list[float]:
    wrapper, losses = wrapper or wrap(model), []
    for step in steps:
        set_rates(wrapper, step)
        torch.manual_seed(derive_seed(replicate, step, 0))
        losses.append(model.train_step(batch(replicate, step, **sizes), wrapper)["loss"].item())
    return losses


def train_stack(stack: Stack, steps: range = range(STEPS), **sizes) -> list[list[float]]:
    """Return the losses, step by step within each replicate."""
    rows = []
    for step in steps:
        for wrapper in stack.optimizers:
            set_rates(wrapper, step)
        numbers = range(len(stack))
        seeds = [derive_seed(r, step, 0) for r in numbers]
        rows.append(stack.step([batch(r, step, **sizes) for r in numbers], seeds).tolist())
    return [list(column) for column in zip(*rows, strict=True)]


def assert_same_parameters(one: CaptionModel, other: CaptionModel, weights: float, biases: float) -> None:
    others = dict(other.git.named_parameters())
    for name, value in one.git.named_parameters():
        tolerance = biases if name.endswith("bias") else weights
        torch.testing.assert_close(
            value, others[name], rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"attention": "self"},
        {"attention": "cross"},
        {"attention": "self", "dropout": 0.0},
        {"attention": "cross", "dropout": 0.0},
        {"attention": "self", "blind": True},
        {"attention": "cross", "blind": True},
    ],
    ids=str,
)
def test_float64_training_is_that_of_each_alone(count, options):
    alone = [make(r, **options) for r in range(count)]
    losses = [train_alone(model, r) for r, model in enumerate(alone)]
    together = [make(r, **options) for r in range(count)]
    stack = Stack(together, [wrap(model) for model in together])
    for mine, theirs in zip(train_stack(stack), losses, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-12)
        assert mine[-1] < mine[0]
    for one, other in zip(together, alone, strict=True):
        # a key's bias has no gradient but rounding noise, which AdamW divides by its own size (or by 1e-8 at least)
        assert_same_parameters(one, other, weights=1e-11, biases=1e-8)


@pytest.mark.parametrize("attention", ["self", "cross"])
def test_float32_training_is_that_of_each_alone_within_rounding(attention):
    alone = [make(r, torch.float32, attention=attention) for r in range(3)]
    losses = [train_alone(model, r) for r, model in enumerate(alone)]
    together = [make(r, torch.float32, attention=attention) for r in range(3)]
    for mine, theirs in zip(train_stack(Stack(together, [wrap(m) for m in together])), losses, strict=True):
        assert mine == pytest.approx(theirs, rel=2e-6)
    for one, other in zip(together, alone, strict=True):
        assert_same_parameters(one, other, weights=2e-4, biases=STEPS * 2e-3)


def test_a_stack_trains_under_autocast_as_a_gpu_run_does():
    """On the CPU, in bf16: losses and gradients agree with each model's own to bf16's rounding (1 in 256)."""
    models = [make(r, torch.float32) for r in range(2)]
    stack = Stack(models, [wrap(model) for model in models])
    with torch.autocast("cpu", torch.bfloat16):
        together = stack.losses([batch(r, 0) for r in range(2)], [5, 6])
    together.sum().backward()
    for r, model in enumerate(models):
        torch.manual_seed(5 + r)
        prepared = model.data_preprocessor(batch(r, 0), True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**prepared, mode="loss")["loss"]
        loss.backward()
        assert together[r].item() == pytest.approx(loss.item(), rel=1e-3)
        for name, parameter in model.git.named_parameters():
            gradient = stack.parameters[name].grad
            assert gradient is not None and gradient.dtype == torch.float32 and parameter.grad is not None
            off = torch.linalg.vector_norm(gradient[r] - parameter.grad)
            assert off <= 0.03 * torch.linalg.vector_norm(parameter.grad) + 1e-4, name


def test_replicates_differ_from_each_other():
    together = [make(r) for r in range(2)]
    losses = train_stack(Stack(together, [wrap(m) for m in together]), range(3))
    assert all(abs(one - other) > 1e-3 for one, other in zip(*losses, strict=True))


def test_films_are_stacked_too():
    alone, together = make(0, frames=2), [make(0, frames=2), make(1, frames=2)]
    losses = train_alone(alone, 0, range(4), frames=2)
    assert train_stack(Stack(together, [wrap(m) for m in together]), range(4), frames=2)[0] == pytest.approx(
        losses, abs=1e-12
    )
    assert_same_parameters(together[0], alone, weights=1e-12, biases=1e-9)


def test_weight_decay_follows_the_unstacked_shapes():
    """With heavy decay a bias or norm that was decayed by mistake, being two-dimensional in the stack, would show."""
    alone, together = [make(r) for r in range(2)], [make(r) for r in range(2)]
    wrappers = [wrap(model, weight_decay=20.0) for model in alone]
    for r, model in enumerate(alone):
        train_alone(model, r, range(5), wrappers[r])
    stack = Stack(together, [wrap(model, weight_decay=20.0) for model in together])
    train_stack(stack, range(5))
    decays = {group["weight_decay"]: [p.dim() - 1 for p in group["params"]] for group in stack.optimizer.param_groups}
    assert set(decays) == {0.0, 20.0} and max(decays[0.0]) == 1 and min(decays[20.0]) > 1
    for one, other in zip(together, alone, strict=True):
        assert_same_parameters(one, other, weights=1e-11, biases=1e-8)


def test_each_replicate_is_clipped_by_its_own_norm():
    together = [make(r) for r in range(2)]
    with torch.no_grad():  # one with gradients far larger than the other's
        together[1].git.embedding.words.weight.mul_(30)
    stack = Stack(together, [wrap(model, max_norm=0.5) for model in together])
    kept: list[Tensor] = []
    stack.optimizer.step = lambda: kept.extend(p.grad.clone() for p in stack.parameters.values())  # type: ignore[method-assign]
    stack.step([batch(r, 0) for r in range(2)], [1, 2])
    norms = [torch.linalg.vector_norm(torch.cat([g[r].flatten() for g in kept])).item() for r in range(2)]
    reported = [wrapper.norms[0].item() for wrapper in stack.optimizers]
    assert reported[1] > 3 * reported[0] > 1.5  # both beyond 0.5
    assert norms == pytest.approx([0.5, 0.5], rel=1e-5)


def test_models_and_optimizers_stay_usable_one_by_one():
    """State dicts are a run's own at any moment: one taken half-way continues alone as the stack does."""
    together = [make(r) for r in range(2)]
    stack = Stack(together, [wrap(model) for model in together])
    train_stack(stack, range(10))
    weights = {name: value.clone() for name, value in together[1].state_dict().items()}
    optimizer = copy.deepcopy(stack.optimizers[1].state_dict())
    fresh = make(7)
    wrapper = wrap(fresh)
    fresh.load_state_dict(weights)
    wrapper.load_state_dict(optimizer)
    rest = train_alone(fresh, 1, range(10, STEPS), wrapper)
    assert train_stack(stack, range(10, STEPS))[1] == pytest.approx(rest, abs=1e-12)
    assert_same_parameters(together[1], fresh, weights=1e-11, biases=1e-8)


def test_a_stack_takes_up_runs_that_were_trained_alone_and_gives_them_back():
    reference, together = make(0), [make(0), make(1)]
    losses = train_alone(reference, 0)
    wrappers = [wrap(model) for model in together]
    first = train_alone(together[0], 0, range(8), wrappers[0])
    train_alone(together[1], 1, range(8), wrappers[1])
    stack = Stack(together, wrappers)
    middle = train_stack(stack, range(8, 14))[0]
    stack.close()
    before = stack.parameters["head_bias"].clone()
    last = train_alone(together[0], 0, range(14, STEPS), wrappers[0])
    assert [*first, *middle, *last] == pytest.approx(losses, abs=1e-12)
    assert torch.equal(stack.parameters["head_bias"], before)  # nothing is shared any more
    assert_same_parameters(together[0], reference, weights=1e-11, biases=1e-8)


def test_the_generator_is_left_as_it_was():
    together = [make(r) for r in range(2)]
    stack = Stack(together, [wrap(model) for model in together])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    stack.step([batch(r, 0) for r in range(2)], [1, 2])
    assert torch.equal(torch.rand(3), expected)


def test_filled_up_texts_predict_what_they_did():
    one = batch(0, 0, texts=1)
    other = batch(1, 1, texts=2)
    packed = [pack(b["tokens"].flatten(0, 1), b["need_predict"].flatten(0, 1), 4, 0) for b in (one, other)]
    assert packed[0].tokens.shape[1] < packed[1].tokens.shape[1]
    stacked = stacked_texts(packed, pad_id=0)
    short = packed[0].tokens.shape[1]
    longest = packed[1].tokens.shape[1]
    assert stacked.visible.shape == (2, 4, longest, longest)
    assert not stacked.visible[0, :, :short, short:].any()  # nobody sees what was filled in
    assert stacked.visible[0, :, range(short, longest), range(short, longest)].all()  # no row of a softmax is empty
    count = len(packed[0].targets)
    chosen = stacked.tokens[0].flatten()[stacked.places[0, :count]]
    assert torch.equal(chosen, packed[0].tokens.flatten()[packed[0].places])
    assert torch.equal(stacked.targets[0, :count], packed[0].targets)


def test_other_convolutions_than_the_patches_are_left_to_torch():
    images, weight = torch.randn(2, 3, 9, 9), torch.randn(4, 3, 3, 3)
    mode = Replicates(torch.device("cpu"), [1], [1], [0])
    for stride, padding in ((1, 0), (3, 0), (3, 1)):
        expected = torch.nn.functional.conv2d(images, weight, stride=stride, padding=padding)
        layer = torch.nn.Conv2d(3, 4, 3, stride=stride, padding=padding, bias=False)
        layer.weight.data = weight
        with mode:
            torch.testing.assert_close(layer(images), expected, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_stacked_is_refused():
    models = [make(0), make(1, width=64)]
    with pytest.raises(GitbenchError, match="shapes"):
        Stack(models, [wrap(model) for model in models])
    frozen = [make(r, frozen=True) for r in range(2)]
    with pytest.raises(GitbenchError, match="frozen"):
        Stack(frozen, [wrap(model) for model in frozen])
    same = [make(r) for r in range(2)]
    with pytest.raises(GitbenchError, match="one of each"):
        Stack(same, [wrap(same[0])])
    with pytest.raises(GitbenchError, match="no token"):
        nothing = {**batch(0, 0), "need_predict": torch.zeros_like(batch(0, 0)["need_predict"])}
        Stack(same, [wrap(model) for model in same]).step([nothing, batch(1, 0)], [0, 1])
