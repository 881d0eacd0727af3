"""Fine-tuning as a study: one arm that is trained from a checkpoint, one that is the checkpoint as it is. No torch.

What the paper's recipe leaves open is decided here, by the data and the checkpoint:

* the image size is the checkpoint's own; questions are answered at 480 pixels, of patches of 14 at 420, where a checkpoint was
  made for 224, as the released VQA models are (their parameter files);
* a batch has 64 images, or a sixteenth of the training images where that is less, so that an epoch is 16 steps, and at
  least 8; an image comes with up to 5 of its texts in each step;
* epochs: 20 of questions (the author's number for video questions, issue 46 of the official repository), 10 of all else;
* the warm-up is 500 iterations, of short trainings a tenth of all;
* rates are the paper's 1e-5 and 5e-5. A decoder narrower than the official 768 takes (768 / width)^2 times as much of both,
  at most 4e-3, which are about the tuned rates of the small profiles: at width 96 the paper's own leave most unlearned
  (LOG.md, 2026-11-30).

There is no blind floor: what training gains is measured from the checkpoint, on the same test images.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from gitbench.data import on_scenes, resolved
from gitbench.data.tasks import open_task
from gitbench.errors import GitbenchError
from gitbench.profiles import FINETUNE
from gitbench.spec import Ablation, Arm, Profile
from gitbench.study.start import started
from gitbench.tasks import task_spec
from gitbench.variants.start import Checkpoint

TUNED, START = "finetuned", "start"  # the arms
EPOCHS = {"vqa": 20}  # of tasks, where it is not
USUAL_EPOCHS = 10
FEWEST_IMAGES, STEPS_AN_EPOCH = 8, 16
MOST_TEXTS = 5  # of an image in a step
VALIDATIONS = 10
WARMUP_SHARE = 10  # of the iterations at most one in so many
BASE_WIDTH, MOST_RATE = 768, 4e-3
VQA_SIZES = {16: 480, 14: 420}  # patch -> pixels, of models that were made for OWN_SIZE
OWN_SIZE = 224
SCENES = (300, 100, 500)  # images of a split of the embedded world, which has as many as are asked for
SAMPLE = 64  # images whose texts are counted
RATES = {
    "cpu": 1.5e10,
    "cuda": 5e13,
}  # operations a second, for a first guess: of one core; of a card at 40 % of its peak

ABLATION = Ablation(
    name="finetune",
    title="Fine-tuning",
    question="What does fine-tuning gain on these data?",
    axis="steps",
    arms={
        FINETUNE.name: (
            Arm(name=TUNED, variants={"steps": "all"}),
            Arm(name=START, variants={"steps": "none"}, seeds=1),
        )
    },
    base=TUNED,
    floor=False,
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user asks for in the recipe's place; None: nothing."""

    epochs: float | None = None
    batch: int | None = None
    lr: float | None = None  # the decoder's; the encoder's is a fifth of it
    image_size: int | None = None
    train_images: int | None = None
    val_images: int | None = None
    test_images: int | None = None

    @property
    def mark(self) -> str:
        """What tells a study so asked for from that of the recipe itself; "" for that one."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return f"+recipe-{hashlib.sha256(json.dumps(given).encode()).hexdigest()[:6]}" if given else ""


def recipe(found: Checkpoint, data: str, task_name: str, asked: Asked, device: str) -> Profile:
    """Return the profile by which a checkpoint is fine-tuned on a data set, on a "cpu" or on "cuda".

    Errors: GitbenchError for data that have no such task, for numbers that cannot be, and for a size that patches do not fill.
    """
    _check(asked)
    profile = started(FINETUNE, found, _image_size(found, task_name) if asked.image_size is None else asked.image_size)
    usual = SCENES if on_scenes(data) else (None,) * 3
    wanted = (asked.train_images, asked.val_images, asked.test_images)
    train_images, val_images, test_images = (each or own for each, own in zip(wanted, usual, strict=True))
    source = open_task(resolved(data), "train", train_images, task_spec(task_name, profile))
    source.check()
    images = len(source)
    batch = min(images, max(FEWEST_IMAGES, min(profile.train.batch_images, images // STEPS_AN_EPOCH)))
    if asked.batch is not None:
        batch = asked.batch
    if batch > images:
        raise GitbenchError(f"--batch {batch}: there are {images} training images: use that or less")
    epochs = EPOCHS.get(task_name, USUAL_EPOCHS) if asked.epochs is None else asked.epochs
    iterations = max(1, math.ceil(images * epochs / batch))
    texts = max(len(source.texts(index)) for index in range(min(SAMPLE, images)))
    factor = max(1.0, BASE_WIDTH / found.decoder.width) ** 2
    lr = min(MOST_RATE, profile.train.lr_decoder * factor) if asked.lr is None else asked.lr
    train = dataclasses.replace(
        profile.train,
        iterations=iterations,
        batch_images=batch,
        captions_per_image=min(MOST_TEXTS, texts),
        lr_encoder=lr / 5,
        lr_decoder=lr,
        warmup=min(profile.train.warmup, iterations // WARMUP_SHARE),
        val_every=math.ceil(iterations / VALIDATIONS),
    )
    seconds = 3 * found.flops * (profile.data.image_size / found.image_size) ** 2 * iterations * batch / RATES[device]
    sizes = dataclasses.replace(
        profile.data,
        train_images=train_images,
        val_images=val_images,
        test_images=test_images,
        workers=0 if device == "cpu" else 4,
    )
    return dataclasses.replace(
        profile,
        data=sizes,
        train=train,
        run_seconds=seconds,
        mark=asked.mark,
    )


def _image_size(found: Checkpoint, task_name: str) -> int:
    """Return the image size of the recipe."""
    if task_name == "vqa" and found.image_size == OWN_SIZE:
        return VQA_SIZES.get(found.encoder.patch, OWN_SIZE)
    return found.image_size


def _check(asked: Asked) -> None:
    """Refuse numbers that cannot be. Errors: GitbenchError."""
    counts: Sequence[str] = ("batch", "image_size", "train_images", "val_images", "test_images")
    for name, least in {**dict.fromkeys(counts, 1), "epochs": 0.0, "lr": 0.0}.items():
        value = getattr(asked, name)
        if value is not None and not (least <= value < math.inf and value > 0):
            option = f"--{name.replace('_', '-')}"
            raise GitbenchError(f"{option} {value:g}: use {'1 or more' if least else 'a number above 0'}")
