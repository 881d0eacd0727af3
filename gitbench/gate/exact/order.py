"""What is drawn, and when: seeds of replicates, the order of images, captions by epoch, crops, batches, a resumed loop."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from itertools import islice
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from gitbench.data.dataset import CaptionDataset
from gitbench.gate.exact.pixels import told
from gitbench.gate.exact.subject import Place, Small
from gitbench.gate.exact.values import Values
from gitbench.registry import MODELS
from gitbench.seeding import derive_seed
from gitbench.tasks import TASKS
from gitbench.training.data import caption_collate
from gitbench.training.evaluation import BatchesInOrder
from gitbench.training.loop import CountedTrainLoop

SEEDED = ("model.init_seed", "train_dataloader.dataset.seed", "train_cfg.dropout_seed", "randomness.seed")
TAKEN = (
    "prefix_lengths",
    "image_ids",
    "indices",
    "request_ids",
    "request_prefixes",
    "image_set",
)  # of a batch, as they are
PACKED = ("tokens", "positions", "visible", "places", "targets", "owners")


def add(values: Values, place: Place) -> None:
    """Add what a run of captions draws."""
    small = place.small()
    parts = (("init", 0), ("init", 1), ("order", "root", 0, 2), ("dropout", 7, 31, 0))
    values.equal("seeds of their parts", [str(derive_seed(*each)) for each in parts])
    add_seeds(values, small)
    add_orders(values, small)
    add_captions_and_crops(values, small)
    add_steps(values, small)


def add_seeds(values: Values, small: Small) -> None:
    """Add the seeds of two replicates, as text: they have 64 bits."""
    seeds = [_seeds(config) for config in small.configs]
    values.equal("seeds of two replicates: initial values, data, dropout, global", seeds)
    values.equal("seeds that two replicates share", sorted(set(seeds[0]) & set(seeds[1])))
    models = [MODELS.build(config.model) for config in small.configs]
    with values.of("decoder"):
        for number, model in enumerate(models):
            values.tensor(
                f"initial values of replicate {number}: words", model.git.embedding.words.weight, 0.0, "float32"
            )
            values.tensor(
                f"initial values of replicate {number}: patches",
                model.git.encoder.patch_embed.proj.weight,
                0.0,
                "float32",
            )


def add_orders(values: Values, small: Small) -> None:
    """Add the order of images in training and in evaluation."""
    orders, data = [], small.data("train")
    for config in small.configs:
        own = copy.copy(data)
        own.seed = config.train_dataloader.dataset.seed
        orders.append([own.index_of(number) for number in range(2 * len(own))])
    values.equal("order of images, two epochs of two replicates", list(map(str, orders)))
    values.equal("sample numbers of training", list(islice(small.loaders["train"].sampler, 6)))
    values.equal("items of evaluation", [list(small.loaders[split].sampler) for split in ("val", "test")])
    values.equal("batches of evaluation", BatchesInOrder(range(7), 2).items)


def _seeds(config: Any) -> list[str]:
    found = []
    for name in SEEDED:
        node = config
        for part in name.split("."):
            node = node[part]
        found.append(str(node))
    return found


def add_captions_and_crops(values: Values, small: Small) -> None:
    """Add the captions that an image has in three epochs, and its crops."""
    data = small.data("train")
    numbers = [[n for n in range(e * len(data), (e + 1) * len(data)) if data.index_of(n) == 2][0] for e in range(3)]
    chosen = [[" ".join(map(str, ids)) for ids in data[number]["tokens"]] for number in numbers]
    values.equal("captions of an image in three epochs", chosen)
    sets = {
        train: CaptionDataset(
            data="scenes",
            split="train",
            data_spec=dataclasses.replace(data.data_spec, crop_scale=(0.5, 1.0)),
            text_spec=data.text_spec,
            tokenizer=data.tokenizer,
            seed=data.seed,
            captions_per_image=2,
            train=train,
        )
        for train in (True, False)
    }
    pixels = [told(sets[True][number]["image"].movedim(-3, -1).numpy()) for number in numbers]
    values.equal("crops of an image in three epochs", pixels)
    values.equal("the same image in evaluation, without a crop", told(sets[False][2]["image"].movedim(-3, -1).numpy()))


class _Model(torch.nn.Module):
    """Stands for a model: it keeps which images a step brings, and what state of randomness."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[list[int], str, bool]] = []

    def train_step(self, batch: dict[str, Any], optim_wrapper: Any) -> dict[str, Tensor]:
        self.taken.append((batch["indices"], str(torch.initial_seed()), self.training))
        return {"loss": torch.zeros(())}


def add_steps(values: Values, small: Small) -> None:
    """Add the batches and dropout seeds of the training loop, from its beginning and from where it is resumed."""
    for start in (0, 2):
        model = _Model().eval()
        runner: Any = SimpleNamespace(
            model=model,
            cfg=small.config,
            optim_wrapper=None,
            val_loop=SimpleNamespace(run=model.eval),  # as mmengine's leaves it
            call_hook=lambda *_, **__: None,
        )
        options = {name: value for name, value in small.config.train_cfg.items() if name not in ("type", "max_iters")}
        loader = small.loaders["train"]
        loop = CountedTrainLoop(runner, loader, max_iters=6, **options)
        loop._iter = start
        loop.run()
        loader.sampler.start = 0
        images, seeds, modes = zip(*model.taken, strict=True)
        values.equal(f"images of the steps from {start} on", list(map(str, images)))
        with values.of("optimizer"):
            values.equal(f"dropout seeds of the steps from {start} on", list(seeds))
            values.equal(f"steps from {start} on in training mode", list(modes))


def add_batches(values: Values, small: Small, name: str, count: int = 1) -> None:
    """Add the first batches of training, and the first of the test, as the collate function makes them."""
    for number, batch in enumerate(small.batches("train", count)):
        add_batch(values, batch, f"{name}: batch {number} of training")
    add_batch(values, small.batches("test", 1)[0], f"{name}: first batch of the test")
    source = small.data("test").source
    first = [each for index in range(min(2, len(source))) for each in source.requests(index)]
    asked = [" / ".join([each.request_id, each.prefix, *each.references]) for each in first]
    values.equal(f"{name}: requests of test images with their references", asked)


def add_batch(values: Values, batch: dict[str, Any], name: str) -> None:
    """Add a batch: images by their sums, a text's ids in a line; and its packed texts, which are the decoder's, by hashes."""
    said: dict[str, Any] = {key: _line(batch[key]) for key in TAKEN}
    pairs = zip(batch["tokens"].flatten(0, -2).tolist(), batch["need_predict"].flatten(0, -2).tolist(), strict=True)
    said["tokens, those predicted marked"] = [
        " ".join(f"{token}{'*' * marked}" for token, marked in zip(*each, strict=True)) for each in pairs
    ]
    if "images" in batch:
        said["images"] = told(batch["images"].movedim(-3, -1).numpy())
    values.equal(name, said)
    with values.of("decoder"):
        packed = {key: getattr(batch["texts"], key) for key in PACKED}
        values.equal(f"{name}, packed", {key: None if each is None else _hash(each) for key, each in packed.items()})


def runs_of(place: Place) -> dict[str, Small]:
    """Return the small runs that stand for all: of every task, of the other decoder, with a frozen encoder."""
    tasks = {task: place.small(task) for task in TASKS}
    others = {
        "a run of cross-attention": {"decoder": "cross_2x64"},
        "a run with a frozen encoder": {"encoder_training": "frozen"},
    }
    return {**tasks, **{name: place.small(variants=variants) for name, variants in others.items()}}


def add_runs(values: Values, place: Place) -> None:
    """Add the batches of all tasks, and one as it is packed for GPUs, on whatever device this is."""
    for task in TASKS:
        add_batches(values, place.small(task), task, 2 if task == "caption" else 1)
    items = [place.small().data("train")[number] for number in range(2)]
    add_batch(values, caption_collate(items, multiple=16, everywhere=True), "a batch for GPUs")


def _line(value: Any) -> str:
    return str(value.tolist() if isinstance(value, Tensor) else value)


def _hash(tensor: Tensor) -> str:
    """Return shape and hash of ids."""
    size = "x".join(map(str, tensor.shape))
    return f"{size} {hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:12]}"
