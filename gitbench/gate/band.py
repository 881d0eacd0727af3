"""How far rounding may move what a short training leaves, and which quantities left that band. No torch.

A reference holds a training's numbers and the spread of each: the largest deviation among repeats that differ from it in
rounding alone (initial weights moved to the next float; kernels of older processors). What is measured by step
has a spread by step, the largest so far: what once deviates may go on to. A number may deviate by

    FLOOR x |reference| + WIDTH x spread,

where of values that are no steps the largest stands for all.

Both constants are from data (torch 2.15, AVX512; 3 kinds of kernels and 8 nudges of all five trainings). Losses moved by less
than 1e-6, and no further in later steps; no caption changed; two threads moved nothing more. FLOOR alone, 84 units in the last
place of a float32, holds every deviation of every repeat; the largest was 0.37 of it (a gradient's norm). Left out of its own
band, no repeat used more than 0.17 of it (`left_out` in the reference). The logarithms of the eleven shares have mean -2.63
and standard deviation 0.41: to leave a band is 6 deviations away, with a probability of 6e-5 by Student's t and 2e-4 by a
Gumbel distribution of largest values. On a GPU the same holds of nudges alone, measured when its reference is made; none has
been.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from gitbench.gate.outcome import BEYOND, Finding
from gitbench.gate.trainings import Training

FLOOR, WIDTH = 1e-5, 8.0
EQUAL = 1e-6  # share by which rates, and scores of given captions, may deviate: they are computed in float64
BY_STEP = ("lr_encoder", "lr_decoder", "loss", "grad_norm")
LEAK = 200_000  # bytes a step that a training may come to hold beside what the reference's did
Observed = Mapping[str, Any]  # what `lane.seen` returns


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """What is compared. `by`: what there is one value of. `may_differ`: of how many, since rounding decides near ties."""

    name: str
    doc: str
    part: str
    by: str = "step"
    exact: bool = False
    may_differ: int = 0


# In the order in which one thing depends on another.
QUANTITIES = (
    Quantity(name="image_id", doc="the id", part="data", by="test image", exact=True),
    Quantity(name="references", doc="the references", part="data", by="test image", exact=True),
    Quantity(name="images", doc="the choice of images", part="data", exact=True),
    Quantity(name="texts", doc="the texts of the batch", part="data", exact=True),
    Quantity(name="pixels", doc="the pixels of the batch", part="data", exact=True),
    Quantity(name="val_batches", doc="what is validated on", part="data", by="batch", exact=True),
    Quantity(name="test_batches", doc="what is tested on", part="data", by="batch", exact=True),
    Quantity(name="tokens", doc="the number of predicted tokens", part="data", by="test image", exact=True),
    Quantity(name="input", doc="the channels' mean and deviation after normalisation", part="data", by="number"),
    Quantity(name="parameters", doc="the number of parameters", part="decoder", by="model", exact=True),
    Quantity(name="features", doc="what the encoder makes of the first batch", part="encoder", by="number"),
    Quantity(name="lr_encoder", doc="the encoder's learning rate", part="optimizer"),
    Quantity(name="lr_decoder", doc="the decoder's learning rate", part="optimizer"),
    Quantity(name="loss", doc="the training loss", part="optimizer"),
    Quantity(name="grad_norm", doc="the norm of the gradients", part="optimizer"),
    Quantity(name="val_nll", doc="the validation likelihood", part="decoder", by="validation"),
    Quantity(name="train_nll", doc="the likelihood of training images", part="decoder", by="training"),
    Quantity(name="test_nll", doc="the test likelihood", part="decoder", by="training"),
    Quantity(name="nll", doc="the likelihood of the references", part="decoder", by="test image"),
    Quantity(name="score", doc="the score of the search", part="search", by="test image", may_differ=1),
    Quantity(name="caption", doc="the caption", part="search", by="test image", exact=True, may_differ=1),
    Quantity(
        name="closed", doc="the choice from the vocabulary", part="search", by="test image", exact=True, may_differ=1
    ),
)
METRIC, MEMORY, RESUMED, SAVED = range(len(QUANTITIES), len(QUANTITIES) + 4)  # what is compared after them
Ranked = tuple[int, int, Finding]  # its place in that order, the place within its values, and the finding


def spread_of(reference: Observed, repeats: Sequence[Observed]) -> dict[str, list[float]]:
    """Return quantity -> the largest deviations of repeats: one for each step, so far, or one for all values."""
    found = {}
    for name, values in reference["numbers"].items():
        columns = zip(values, *(repeat["numbers"][name] for repeat in repeats), strict=True)
        gaps = [max((abs(each - value) for each in others), default=0.0) for value, *others in columns]
        largest = list(accumulate(gaps, max)) if name in BY_STEP else [max(gaps, default=0.0)]
        found[name] = [float(f"{gap:.3g}") for gap in largest]
    return found


def limits(name: str, reference: Sequence[float], spread: Sequence[float]) -> list[float]:
    """Return by how much each value of a quantity may deviate."""
    if name.startswith("lr_"):
        return [EQUAL * abs(value) for value in reference]
    sizes = [abs(value) for value in reference]
    if name not in BY_STEP:
        sizes, spread = [max(sizes, default=0.0)] * len(sizes), list(spread) * len(sizes)
    return [FLOOR * size + WIDTH * own for size, own in zip(sizes, spread, strict=True)]


def unsteady(reference: Observed, repeats: Sequence[Observed]) -> dict[str, list[int]]:
    """Return exact quantity -> the places of the values that rounding changes: captions, where two are nearly tied."""
    found = {
        name: [
            place for place, value in enumerate(values) if any(each["exact"][name][place] != value for each in repeats)
        ]
        for name, values in reference["exact"].items()
    }
    return {name: places for name, places in found.items() if places}


def ratios(reference: Observed, spread: Mapping[str, Sequence[float]], observed: Observed) -> dict[str, float]:
    """Return quantity -> its largest deviation, in units of what is allowed."""
    found = {}
    for name, values in reference["numbers"].items():
        allowed = limits(name, values, spread[name])
        pairs = zip(values, observed["numbers"][name], allowed, strict=True)
        found[name] = max(_excess(abs(b - a), limit) for a, b, limit in pairs)
    return found


def compared(training: str, reference: Observed, observed: Observed) -> Iterator[Ranked]:
    """Yield what of a training left its band, quantity by quantity; `reference` also has `spread` and `unsteady`."""
    for rank, quantity in enumerate(QUANTITIES):
        kind, name = "exact" if quantity.exact else "numbers", quantity.name
        before, now = (each[kind].get(name) for each in (reference, observed))
        if before is None and now is None:
            continue
        if before is None or now is None or len(before) != len(now):
            yield rank, 0, _other_count(training, quantity, before, now)
            continue
        if quantity.exact:
            allowed = [math.inf if at in reference["unsteady"].get(name, ()) else 0.0 for at in range(len(before))]
        else:
            allowed = limits(name, before, reference["spread"][name])
        if (found := _first(training, quantity, before, now, allowed)) is not None:
            yield rank, *found
    yield from _metrics(training, reference["metrics"], observed["metrics"])
    yield from _memory(training, reference["bytes_a_step"], observed["bytes_a_step"])


def _first(
    training: str, quantity: Quantity, before: Sequence[Any], now: Sequence[Any], allowed: Sequence[float]
) -> tuple[int, Finding] | None:
    """Return the first place at which a quantity left its band; None where it did not."""
    if quantity.exact:
        gaps = [2.0 if a != b and not limit else 0.0 for a, b, limit in zip(before, now, allowed, strict=True)]
    else:
        gaps = [_excess(abs(b - a), limit) for a, b, limit in zip(before, now, allowed, strict=True)]
    beyond = {place: excess for place, excess in enumerate(gaps) if excess > 1}
    if len(beyond) <= quantity.may_differ:
        return None
    place = next(iter(beyond))
    at_first = quantity.name == "loss" and place == 0  # before any step was taken
    value, reference = (_written(each[place]) for each in (now, before))
    band = "" if quantity.exact else f" +- {allowed[place]:.2g}"
    where = f"{quantity.by} {place + 1}" if len(before) > 1 else f"the {quantity.by}"
    return place, Finding(
        quantity=f"{training}: {quantity.doc}, {where}",
        part="decoder" if at_first else quantity.part,
        value=value,
        reference=reference + band,
        excess=round(max(beyond.values()), 2),
        said=f"{quantity.doc} of {training} left its band first at {where}: {value}, the reference has {reference}{band}; "
        f"{len(beyond)} of {len(before)} are outside",
    )


def _metrics(training: str, before: Mapping[str, float], now: Mapping[str, float]) -> Iterator[Ranked]:
    """Yield the metrics that give the reference's captions another score."""
    for place, (name, value) in enumerate(before.items()):
        found = now.get(name)
        limit = EQUAL * max(1.0, abs(value))
        excess = 2.0 if found is None else _excess(abs(found - value), limit)
        if excess > 1:
            said = f"{name} of the reference's captions of {training} is {_written(found)}, it was {_written(value)}"
            yield (
                METRIC,
                place,
                Finding(
                    quantity=f"{training}: {name} of the reference's captions",
                    part="metric",
                    value=_written(found),
                    reference=_written(value),
                    excess=round(excess, 2),
                    said=said,
                ),
            )


def _memory(training: str, used: float, grown: float) -> Iterator[Ranked]:
    """Yield a leak: more bytes that stay after each step."""
    if grown > (limit := max(0.0, used) + LEAK):
        yield (
            MEMORY,
            0,
            Finding(
                quantity=f"{training}: bytes that a step leaves behind",
                part="optimizer",
                value=f"{grown:.0f}",
                reference=f"{used:.0f} + {LEAK}",
                excess=round(grown / limit, 2),
                said=f"a step of {training} leaves {grown / 1e3:.0f} kB behind, it left {used / 1e3:.0f}: something is kept",
            ),
        )


def resumed(training: Training, whole: Observed, again: Observed) -> Ranked | None:
    """Return where a training that was stopped goes another way than the undisturbed one, to the last bit; None: nowhere.

    Of the steps it has exactly those after the stop.
    """
    name = f"{training.name}, stopped and begun again"
    for quantity in QUANTITIES:
        kind = "exact" if quantity.exact else "numbers"
        undisturbed, values = (each[kind].get(quantity.name, []) for each in (whole, again))
        skipped = _before_the_stop(training, quantity, whole) if undisturbed else 0
        should = undisturbed[skipped:]
        if len(values) != len(should):  # whatever it is of: the loop took other steps
            return RESUMED, 0, replace(_other_count(name, quantity, should, values), part="optimizer")
        if values == should or quantity.name in ("input", "features"):  # of the first batch that a session sees
            continue
        place = next(at for at, pair in enumerate(zip(should, values, strict=True)) if pair[0] != pair[1])
        where = f"{quantity.by} {skipped + place + 1}"
        finding = Finding(
            quantity=f"{name}: {quantity.doc}, {where}",
            part="data" if quantity.part == "data" else "optimizer",
            value=_written(values[place]),
            reference=_written(should[place]),
            excess=2.0,
            said=f"{name}, does not go on as it would have: {quantity.doc} differs first at {where}",
        )
        return RESUMED, 0, finding
    return None


def _before_the_stop(training: Training, quantity: Quantity, whole: Observed) -> int:
    """Return how many values of a quantity came before the stop, which a session that goes on from there does not see.

    The first validation is one of them; but the curve, which `val_nll` is from, has all.
    """
    if quantity.by == "step":
        return training.middle
    if quantity.name == "val_batches":
        return len(whole["exact"][quantity.name]) // max(1, len(whole["numbers"]["val_nll"]))
    return 0


def _other_count(training: str, quantity: Quantity, before: Sequence[Any] | None, now: Sequence[Any] | None) -> Finding:
    """Return the finding of a quantity that has more or fewer values than it should."""
    counts = [len(each or ()) for each in (now, before)]
    return Finding(
        quantity=f"{training}: {quantity.doc}, values",
        part=quantity.part,
        value=str(counts[0]),
        reference=str(counts[1]),
        excess=2.0,
        said=f"{quantity.doc} of {training} has {counts[0]} values, not {counts[1]}",
    )


def _excess(gap: float, limit: float) -> float:
    """Return a deviation in units of the largest that is allowed; what is no number is far outside."""
    if not math.isfinite(gap):
        return BEYOND
    return min(BEYOND, gap / limit) if limit else (BEYOND if gap else 0.0)


def _written(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else "nothing" if value is None else str(value)
