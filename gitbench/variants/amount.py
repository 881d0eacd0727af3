"""How much training data: "all" is the profile's own number of images, "n<number>" the first so many of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from gitbench.axis import Axis, Planning, Touches, with_variant
from gitbench.errors import GitbenchError
from gitbench.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class AmountSpec:
    """How many training images: None is the profile's own number. Smaller amounts are the first images of larger ones."""

    images: int | None = None


def _apply(run: RunSpec, amount: AmountSpec, planning: Planning) -> RunSpec:
    """Set the run's number of training images; its tokenizer is still made from all of the profile's captions."""
    whole = run.data.train_images
    run = with_variant(run, "amount", AmountSpec())  # the number of images decides, whichever variant it comes from
    if amount.images is None or amount.images == whole:
        return run
    if whole is not None and amount.images > whole:
        raise GitbenchError(f"an amount of {amount.images} images exceeds the profile's {whole}: choose a smaller one")
    return dataclasses.replace(
        run, data=dataclasses.replace(run.data, train_images=amount.images, vocabulary_images=whole)
    )


def _label(run: RunSpec, name: str) -> str:
    return "all images" if run.data.train_images is None else f"{run.data.train_images:,} images"


AXIS = Axis(
    name="amount",
    spec=AmountSpec,
    doc="how many training images",
    default="all",
    variants={"all": AmountSpec()},
    label=_label,
    apply=_apply,
    in_model=False,
    touches=Touches(
        config=("*_dataloader.dataset.data_spec.train_images", "*_dataloader.dataset.data_spec.vocabulary_images"),
        amount=True,
    ),
)
for _images in (32, 64, 300, 600, 3000, 10_000, 100_000):
    AXIS.add(f"n{_images}", AmountSpec(images=_images))
