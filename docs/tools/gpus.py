"""The tables of docs/gpus.md: what runs need of a GPU, how well the formula for it fits, and what common cards make of it.

    python docs/tools/gpus.py [--write docs/gpus.md]        (3 minutes)

Everything is computed; no GPU has run any of it. Memory is the formula's (`gitbench.study.memory`), beside a step of the
real model with a counting allocator (`cuda_memory.py`); operations are those of `gitbench.models.flops`; calls are those of a
step on the CPU under autocast.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from cuda_memory import captioning_peak, pretraining_peak, training_peak
from simulate import table, write_into
from torch.utils._python_dispatch import TorchDispatchMode

from gitbench.ablations import load_ablation
from gitbench.data.base import texts_of
from gitbench.data.tasks import open_task
from gitbench.data.tokenizer import tokenizer_for
from gitbench.gpu_check.sizes import base_spec
from gitbench.launch import places
from gitbench.launch.places import Places
from gitbench.machine import Gpu
from gitbench.models import git
from gitbench.models.flops import flops_by_part
from gitbench.models.packed import pack
from gitbench.plan import Plan, Vocabulary
from gitbench.profiles import GPU, PAPER, SMALL_GPU
from gitbench.spec import Profile
from gitbench.study.config import make_config
from gitbench.study.memory import (
    GIB,
    captioning_bytes,
    parameters,
    planned_gib,
    pretraining_bytes,
    training_bytes,
)
from gitbench.study.plan import make_plan
from gitbench.study.planner import SAMPLE
from gitbench.variants import AXES
from gitbench.variants.encoder_init import recipe_of

BEGIN = "<!-- made by docs/tools/gpus.py -->"
SHARE = 0.4  # of a card's peak that training reaches: assumed
STUDY = "decoder_size"
BERT = Vocabulary(size=30522, pad_id=0, bos_id=101, eos_id=102)
COCO_TOKENS = 5 * 13  # of five captions of 12 word pieces, about those of COCO
CORES = (4, 16)
A_CALL = 7e-6  # seconds of a host for each call of a step: assumed
TUNING_RUNS = 6  # of an arm


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card: the GiB that torch says it has, and dense tensor TFLOP/s with float32 sums, from NVIDIA's and AWS's sheets."""

    name: str
    gib: float
    tflops: float
    precision: str


CARDS = (
    Card(name="T4 16 GB", gib=14.6, tflops=65, precision="float16"),
    Card(name="RTX 3060 12 GB", gib=11.7, tflops=25.5, precision="bfloat16"),
    Card(name="A10G 24 GB", gib=22.1, tflops=70, precision="bfloat16"),
    Card(name="H100 80 GB (SXM)", gib=79.1, tflops=989, precision="bfloat16"),
    Card(name="H200 141 GB", gib=139.8, tflops=989, precision="bfloat16"),
)


def config_of(profile: Profile, vocabulary: Vocabulary, **names: str) -> Any:
    """Return the config of a run of a profile with these variants: axis -> name."""
    spec = base_spec(profile, names)
    init = spec.variants["encoder_init"]
    made = dataclasses.replace(init, recipe=recipe_of(profile, init))  # none of these ships
    return make_config(dataclasses.replace(spec, variants={**spec.variants, "encoder_init": made}), vocabulary, "none")


def fits(plan: Plan) -> Iterator[list[str]]:
    """Yield the rows of the table of fits: training of all arms in two precisions, captioning, pre-training."""
    small, paper = (GPU, plan.vocabulary, plan.text_tokens), (PAPER, BERT, COCO_TOKENS)
    decoders = ("self_1x192", "self_2x384", "self_6x384", "self_12x384", "self_12x512", "cross_6x384")
    cases = [(*small, {"decoder": decoder}) for decoder in decoders]
    cases += [(*small, {"encoder": encoder}) for encoder in ("vit_4x192_p16_128", "vit_12x512_p16_128")]
    cases += [(*small, {"vision": "blind"}), (*small, {"encoder_training": "frozen"})]
    cases += [(*paper, {"encoder": "vit_b16", "decoder": decoder}) for decoder in ("self_6x768", "self_24x1024")]
    cases += [(*paper, {"encoder": encoder}) for encoder in ("vit_l14", "vit_h14")]
    for profile, vocabulary, tokens, names in cases:
        config = config_of(profile, vocabulary, **names)
        for dtype, b in ((torch.bfloat16, 2), (torch.float32, 4)):
            name = f"{profile.name}: {', '.join(names.values())}, {dtype}".replace("torch.", "")
            yield _fit(name, training_peak(config, tokens, dtype), training_bytes(config, tokens, b))
    for encoder in ("vit_4x192_p16_128", "vit_8x384_p16_128", "vit_12x512_p16_128"):
        for start in ("contrastive", "supervised", "masked"):
            config = config_of(GPU, plan.vocabulary, encoder=encoder, encoder_init=start)
            without = pretraining_bytes(config, 2) - 4 * sum(parameters(config)[:2])
            yield _fit(f"pre-training {encoder}, {start}", pretraining_peak(config, torch.bfloat16), without)
    for decoder in ("self_2x384", "self_12x512", "cross_6x384"):
        config, images = config_of(GPU, plan.vocabulary, decoder=decoder), 8
        config["test_dataloader"]["batch_size"] = images
        moments = 8 * sum(parameters(config)[:2])
        found = captioning_bytes(config, plan.text_tokens) - moments
        yield _fit(f"captioning 8 images, {decoder}, CPU", captioning_peak(config, plan.text_tokens, images), found)


def _fit(name: str, counted: float, formula: float) -> list[str]:
    return [name, f"{counted / GIB:.2f}", f"{formula / GIB:.2f}", f"{100 * (formula / counted - 1):+.1f} %"]


def _model(config: Any, device: str) -> git.GIT:
    model = config["model"]
    with mock.patch.object(git, "initialise", lambda *_: None), torch.device(device):
        specs = {
            axis: AXES[axis].spec(**{name: value for name, value in model[axis].items() if name != "type"})
            for axis in ("encoder", "decoder", "vision")
        }
        return git.GIT(**specs, vocab_size=model["vocab_size"], pad_id=0, bos_id=1, eos_id=2)


class _Calls(TorchDispatchMode):
    """Counts what a step calls, without views of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not (function.is_view or function.overloadpacket.__name__ in ("detach", "_unsafe_view"))
        return function(*args, **(kwargs or {}))


def calls(config: Any) -> int:
    """Return how many operations a training step of a run calls, on the CPU in bfloat16."""
    torch.manual_seed(0)
    model, size = _model(config, "cpu"), config["model"]["encoder"]["image_size"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens = torch.randint(3, 99, (10, 15))
    texts = pack(tokens, torch.ones_like(tokens), 2, 0, 16, everywhere=True)
    for _ in range(2):  # in the first one the optimizer makes its moments
        with _Calls() as found:
            with torch.autocast("cpu", torch.bfloat16):
                loss = model.packed_loss(model.image_memory(torch.rand(2, 3, size, size)), texts)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return found.count


def training_flops(config: Any, text_tokens: float) -> float:
    """Return the operations of a run's training: forward, and twice that backward."""
    model, train = config["model"], config["train_dataloader"]
    captions = train["dataset"]["captions_per_image"]
    built = _model(config, "meta")
    parts = flops_by_part(built, captions=captions, tokens=round(text_tokens / captions))
    if model["vision"]["blind"]:  # one image for all
        parts |= {name: parts[name] / train["batch_size"] for name in ("encoder", "projection", "image_stream")}
    return 3 * sum(parts.values()) * train["batch_size"] * config["train_cfg"]["max_iters"]


def mean_tokens(plan: Plan) -> float:
    """Return how many tokens the texts of an image have, end to end: the mean of a sample of the training images."""
    spec = plan.runs[0].resolved
    source = open_task(spec.data_name, "train", spec.data.train_images, spec.task)
    words = tokenizer_for(spec.text, source)
    texts = [text.target for index in range(SAMPLE) for text in texts_of(source, index)]
    return sum(1 + len(ids) for ids in words.encode_all(texts, spec.text.max_tokens)) / SAMPLE


def together(card: Card, needs: dict[Path, float], cores: int) -> int:
    """Return how many runs a card takes at a time, of those of a study that begin first."""
    made = Gpu(uuid="GPU", name=card.name, free_gib=card.gib, total_gib=card.gib, capability=(9, 0))
    with mock.patch.object(places, "cpu_count", lambda: cores):
        here, queue = Places([made], needs=needs), list(needs)
        count = 0
        while (begins := here.next(queue)) is not None:
            queue.remove(begins[0])
            count += 1
    return count


def of_cards(plan: Plan) -> str:
    """Return the tables of arms and of cards, each below the line that says what it is."""
    configs = {run.run_key: make_config(run.resolved, plan.vocabulary, run.run_key) for run in plan.runs}
    tokens = mean_tokens(plan)
    flops = {key: training_flops(config, tokens) for key, config in configs.items()}
    gib = {run.run_key: planned_gib(plan, run) for run in plan.runs}
    arms = []
    for arm in plan.arms:
        key = next(run.run_key for run in plan.runs if run.arm == arm.name)
        of_part = (
            training_bytes(configs[key], plan.text_tokens, 2),
            captioning_bytes(configs[key], plan.text_tokens),
            pretraining_bytes(configs[key], 2),
        )
        numbers = [f"{part / GIB:.1f}" for part in of_part]
        arms.append([arm.name, *numbers, f"{gib[key]:.1f}", f"{flops[key] / 1e15:.2f}"])
    ordered = sorted(plan.runs, key=lambda run: (run.replicate, -gib[run.run_key]))
    needs = {Path(run.run_key): gib[run.run_key] for run in ordered}
    needs[next(iter(needs))] = max(planned_gib(plan, run, pretrains=True) for run in plan.runs)
    cards = [
        [
            card.name,
            card.precision,
            f"{card.tflops:g}",
            *(str(together(card, needs, cores)) for cores in CORES),
            f"{sum(flops.values()) / (SHARE * card.tflops * 1e12) / 60:.0f} min",
        ]
        for card in CARDS
    ]
    of_arms = ["arm", "training", "captioning", "pre-training", "a run takes", "training, PFLOP"]
    of_cards = [
        "card",
        "precision",
        "peak, TFLOP/s",
        *(f"runs at a time, {cores} cores" for cores in CORES),
        "training",
    ]
    return "\n\n".join(
        (
            f"GiB of tensors at the fullest moment of a run of `{STUDY}`, what it takes of a card, and operations:",
            table(of_arms, arms),
            f"All {len(plan.runs)} runs, {sum(flops.values()) / 1e15:.1f} PFLOP of training, on one card:",
            table(of_cards, cards),
        )
    )


def of_small(plan: Plan) -> str:
    """Return the table of the small profile's arms, and what they come to on a T4."""
    tokens, card, rows = mean_tokens(plan), CARDS[0], []
    train, host, computed = plan.runs[0].resolved.train, 0.0, 0.0
    for arm in plan.arms:
        run = next(run for run in plan.runs if run.arm == arm.name)
        config = make_config(run.resolved, plan.vocabulary, run.run_key)
        made, flops = calls(config), training_flops(config, tokens)
        count = sum(run.arm == arm.name for run in plan.runs) + TUNING_RUNS
        host += count * made * A_CALL * train.iterations
        computed += count * flops
        rows.append(
            [arm.name, f"{planned_gib(plan, run):.1f}", str(made), f"{made * A_CALL * 1e3:.1f}", f"{flops / 1e12:.0f}"]
        )
    share = SHARE * card.tflops * 1e12
    return "\n\n".join(
        (
            f"`small-gpu`, the arms of `{STUDY}`:",
            table(["arm", "a run takes, GiB", "calls a step", "ms of the host a step", "training, TFLOP"], rows),
            f"All {len(plan.runs)} runs and the {TUNING_RUNS * len(plan.arms)} that choose their learning rates: "
            f"{host / 60:.1f} minutes of host, so {host / 60 / CORES[0]:.1f} minutes on {CORES[0]} cores, and "
            f"{computed / share / 60:.1f} minutes of computing on a T4.",
        )
    )


def main() -> None:
    """Print the tables, or write them into a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this Markdown file")
    given = parser.parse_args()
    plan = make_plan(load_ablation(STUDY), GPU, "scenes")
    fit = table(["case", "counted, GiB", "formula, GiB", "difference"], list(fits(plan)))
    small = make_plan(load_ablation(STUDY), SMALL_GPU, "scenes")
    text = f"{of_cards(plan)}\n\n{of_small(small)}\n\n## How well the formula fits\n\n{fit}"
    if given.write is None:
        print(text)
    else:
        write_into(given.write, text, BEGIN)


if __name__ == "__main__":
    main()
