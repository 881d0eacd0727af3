"""Tier 1: values of tiny models of constant weights, and of all around them, against stored ones.

Every number comes out of the code that a run executes; weights, pixels and ids are made of integers (`constant`), so nothing
depends on a random generator. Models compute in float64, in which rounding is a millionth of a millionth and a mistake is not.
The topics stand in the order in which a run depends on them (`TOPICS`): the first value that leaves its band is the likeliest
cause of the others.

How far a value may be from its reference: texts, ids and counts, not at all; costs (host synchronisations, flops) may only be
lower, flops with 1 % of room. Numbers may be as far as rounding takes them, a share of the value's scale, which is the sum or
the largest of the absolute values that it is made of (`compare.TOLERANCES`). On CPUs these shares are measured: torch's kernels
without vector units, for AVX2 and for AVX-512, MKL's compatible ones, oneDNN's for SSE4.1 and AVX2, one thread and two; the
references were made with AVX-512 and one thread.

| numbers | largest share seen | allowed |
|---|---|---|
| float64: features, logits, losses, gradients, scores | 2.5e-14 | 1e-11 |
| float64, divided: what AdamW moves; it divides a gradient by its size, also one that is zero but for rounding | 1.3e-11 | 1e-9 |
| float32: pixels, initial values, weights that are resized, losses | 2.4e-7 | 1e-5 |
| bfloat16: losses under autocast; a product alone rounds to 4e-3 | 4.5e-4 | 2e-2 |

Where all values are equal to the last bit, runs of the one code stand for those of the other (`gitbench.study.makers`). So the
digest of the values is also of the code in which this tier misses mistakes (`NOT_RUN`): all that trains, and some that it reads.

GPUs have references of their own. There float64 is allowed ten times as much, since matrix products may be split in more ways;
no GPU has run this.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gitbench.code import PACKAGE, fingerprint_of
from gitbench.errors import GitbenchError
from gitbench.files import cache_variables
from gitbench.gate.exact import (
    costs,
    decoder,
    encoder,
    folders,
    order,
    own,
    pixels,
    scores,
    searches,
    steps,
    tokens,
    weights,
)
from gitbench.gate.exact.compare import TOLERANCES, compared, read, stored
from gitbench.gate.exact.subject import Place
from gitbench.gate.exact.values import Failure, Value, Values, digest_of
from gitbench.gate.outcome import Finding, Measured
from gitbench.gate.setting import Setting
from gitbench.metrics.java import java_home
from gitbench.metrics.meteor import Meteor
from gitbench.processes import variables
from gitbench.spec import Compute
from gitbench.training.device import settle

Topic = Callable[[Values, Place], None]
# Of GIT's base, in the order in which they depend on each other: name, part, what adds the values.
TOPICS: tuple[tuple[str, str, Topic], ...] = (
    ("text and ids", "data", tokens.add),
    ("pixels", "data", pixels.add),
    ("order and seeds", "data", order.add),
    ("folders of data", "data", folders.add),
    ("batches", "data", order.add_runs),
    ("image encoder", "encoder", encoder.add),
    ("text decoder", "decoder", decoder.add),
    ("weights of others", "decoder", weights.add),
    ("runs in small", "decoder", decoder.add_runs),
    ("optimizer", "optimizer", steps.add),
    ("search", "search", searches.add),
    ("predictions", "search", searches.add_runs),
    ("metrics", "metric", scores.add),
    ("SPICE's answer", "metric", scores.add_spice_answer),
    ("costs", "search", costs.add),
    ("METEOR", "metric", scores.add_meteor),  # last: its process needs 10 s before it can answer
)
# Of a subject of somebody's own.
OWN: tuple[tuple[str, str, Topic], ...] = (
    ("batches", "data", own.add_data),
    ("model", "decoder", own.add_model),
    ("optimizer", "optimizer", own.add_steps),
    ("search", "search", own.add_search),
    ("metrics", "metric", own.add_scores),
    ("costs", "search", own.add_costs),
)
MOST_FINDINGS = 40
# Modules and packages that make numbers and in which a mistake may leave every value here as it is: of them nothing is run, or
# not at the length, the size or the moment at which it would show. Values that are equal do not vouch for them.
NOT_RUN = (
    "training",
    *("data/cache.py", "data/dataset.py", "metrics/spice.py", "study/config.py"),
    *(f"models/{name}.py" for name in ("fact_classifier", "masked_autoencoder", "pair_encoder")),
)
BASE = "beside the base's reference: "
RAISE = "numbers are not those of the base, and NUMERICS_VERSION is: raise it if that is meant"


def measure(setting: Setting) -> dict[str, Any]:
    """Return what a reference holds: the values, their digest, and a fingerprint of the code that takes them.

    Errors: GitbenchError for code that fails.
    """
    found = taken(setting)
    failed = [each for each in found if isinstance(each, Failure)]
    if failed:
        raise GitbenchError(f"{failed[0].name} fails with {failed[0].error}: mend it, then record")
    whole = [each for each in found if isinstance(each, Value)]
    return {"digest": vouched(whole), "tier": own_code(), "values": stored(whole)}


def check(setting: Setting, values: Mapping[str, Any]) -> Measured:
    """Set today's values beside a reference's.

    `before` in `values`: the values of the base's reference, where a change brings its own for the same NUMERICS_VERSION.
    Errors: Stale where nothing left its band, and the code gives other values than the reference has.
    """
    found, before = taken(setting), read(values["values"])
    whole = [each for each in found if isinstance(each, Value)]
    findings, count = compared(found, before, setting.device, same=values.get("tier") == own_code())
    beside = beside_base(whole, values["before"]["values"], setting.device) if "before" in values else []
    equal = digest_of(whole) == digest_of(before.values())
    notes = ["equal to the last bit"] if equal else []
    numbers = {each.name for each in whole if each.kind != "most"}
    moved = any(each.quantity in numbers for each in findings)
    if beside:
        findings, notes = [*findings, *beside], [*notes, RAISE]
    if len(findings) > MOST_FINDINGS:
        notes.append(f"{len(findings)} values left their bands, of which the first {MOST_FINDINGS} are named")
    return Measured(
        compared=count,
        did=f"{count} values of data, models, optimizer, search and metrics compared",
        findings=tuple(findings[:MOST_FINDINGS]),
        notes=(*notes, scores.NOTE if setting.subject.usual else own.NOTE),
        finds=finds(setting.device),
        details={"digest": vouched(whole), "moved": moved},
    )


def beside_base(found: Sequence[Value], values: Mapping[str, Mapping[str, Any]], device: str) -> list[Finding]:
    """Return the numbers and texts that are not those of a base's reference, as far as both have them; costs may differ."""
    before = read(values)
    kinds = {name: each.kind for name, each in before.items()}
    both = [each for each in found if each.kind == kinds.get(each.name) and each.kind != "most"]
    known = {each.name: before[each.name] for each in both}
    return [
        dataclasses.replace(each, quantity=BASE + each.quantity, said=BASE + each.said)
        for each in compared(both, known, device)[0]
    ]


def finds(device: str) -> str:
    """Say which change this tier finds: always, since it computes the same each time."""
    shares = ", ".join(f"{share:g} of it in {kind}" for kind, share in TOLERANCES[device].items())
    return f"always: another text, id or count, a number that moved by more than rounding may move its scale ({shares})"


def vouched(values: Iterable[Value]) -> str:
    """Return the digest of values and of the code in `NOT_RUN`: code that gives the same one gives the same numbers."""
    said = f"{digest_of(values)} {fingerprint_of(not_run())}"
    return hashlib.sha256(said.encode()).hexdigest()


def not_run() -> list[Path]:
    """Return the files of `NOT_RUN`."""
    places = [PACKAGE / name for name in NOT_RUN]
    return [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*.py")))]


def own_code() -> str:
    """Return a fingerprint of this package: which values it takes, and how."""
    return fingerprint_of(sorted(Path(__file__).parent.glob("*.py")))


def taken(setting: Setting) -> list[Value | Failure]:
    """Return the values of a subject, in order, with what fails. Errors: those of the machine; no Java is one of them."""
    java_home()
    settle(Compute(device=setting.device))
    folder = Path(setting.folder)
    values = Values()
    with fresh_cache(folder / "cache"), contextlib.closing(Meteor()) as meteor:
        if setting.subject.usual:  # first, since it takes the longest; an error comes up again where it is asked
            with contextlib.suppress(GitbenchError, OSError):
                meteor.start()
        place = Place(setting=setting, folder=folder, meteor=meteor)
        for name, part, add in TOPICS if setting.subject.usual else OWN:
            values.attempt(name, part, lambda add=add: add(values, place))  # type: ignore[misc]
    return values.found


@contextlib.contextmanager
def fresh_cache(folder: Path) -> Iterator[None]:
    """Keep caches in an empty folder while the block runs: what other code left in the usual ones would hide a change."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with variables(cache_variables(folder)):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
