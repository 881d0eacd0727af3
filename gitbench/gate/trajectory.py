"""Tier 2: short trainings, step by step, beside a reference and the band in which rounding moves it. No torch.

The trainings (`trainings.py`) run in processes of their own (`lane.py`), watched by hooks (`watch.py`); what they leave is
compared in the order in which one thing depends on another (`band.py`). One training is also stopped in its middle and begun
again: what it does then has to be the same to the last bit. And a saved model has to say what its run did (`saved.py`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.files import cache_variables, make_dir, read_json, write_json
from gitbench.formats import plural
from gitbench.gate.band import (
    FLOOR,
    LEAK,
    QUANTITIES,
    WIDTH,
    Ranked,
    compared,
    limits,
    ratios,
    resumed,
    spread_of,
    unsteady,
)
from gitbench.gate.diverged import diverged
from gitbench.gate.outcome import Measured, Stale
from gitbench.gate.saved import otherwise
from gitbench.gate.setting import Setting
from gitbench.gate.trainings import ASKED, NONE, OBSERVED, Asked, Disturbance, Training, disturbances, trainings_of
from gitbench.machine import gpus
from gitbench.processes import why_failed

CACHE = "cache"
WORDS = ("image_id", "caption", "closed")
LANE = (sys.executable, "-m", "gitbench.gate.lane")
FINDS = (
    f"always: other images or texts, another rate; a loss, norm or likelihood that moved by {FLOOR:g} of itself and {WIDTH:g} "
    f"times what rounding was seen to move it by; {LEAK / 1e6:g} MB that a step leaves behind"
)
ON_A_CARD = 4  # trainings at once


def measure(setting: Setting) -> dict[str, Any]:
    """Train undisturbed and disturbed; returns what a reference holds. Errors: GitbenchError for a training that fails."""
    trainings = trainings_of(setting.subject)
    found = train(setting, trainings, NONE)
    if broken := _broken(trainings, found):
        raise GitbenchError(f"{broken[0][2].said}: no reference was made, mend that first")
    seen = {name: each["run"] for name, each in found.items()}
    repeats = [
        {name: each["run"] for name, each in train(setting, trainings, disturbance, seen).items()}
        for disturbance in disturbances(setting.device)
    ]
    observed = {
        name: {
            **each,
            "spread": spread_of(each, [repeat[name] for repeat in repeats]),
            "unsteady": unsteady(each, [repeat[name] for repeat in repeats]),
            "computed": found[name]["computed"],
        }
        for name, each in seen.items()
    }
    names = [disturbance.name for disturbance in disturbances(setting.device)]
    left_out = dict(zip(names, left_one_out(seen, repeats), strict=True))
    return {**_asked(trainings), "left_out": left_out, "observed": observed}


def check(setting: Setting, values: Mapping[str, Any]) -> Measured:
    """Train, and compare with a reference's values; a loss that is no number is a finding.

    Errors: GitbenchError for a training that fails otherwise; Stale for a reference of other trainings.
    """
    began, trainings = time.monotonic(), trainings_of(setting.subject)
    for name, here in _asked(trainings).items():
        if values.get(name) != here:
            raise Stale(f"the reference is of other {name} than this tier's: record it again, and say why")
    before = values["observed"]
    try:
        now = train(setting, trainings, NONE, before)
    except GitbenchError as error:
        if (found := diverged(error)) is None:
            raise
        return found
    ranked = [each for name, seen in before.items() for each in compared(name, seen, now[name]["run"])]
    ranked += _broken(trainings, now)
    ranked.sort(key=lambda each: each[:2])
    steps = sum(each.steps for each in trainings)
    kinds = [seen[kind] for seen in before.values() for kind in ("exact", "numbers")]
    return Measured(
        compared=sum(len(each) for kind in kinds for each in kind.values()),
        did=f"{steps} steps of {plural(len(trainings), 'training')}, in {time.monotonic() - began:.0f} s",
        findings=tuple(finding for _, _, finding in ranked),
        notes=(_bits(before, now), *([] if ranked else [_nearest(before, now)])),
        finds=FINDS,
        details={"curves": {name: _curve(seen, now[name]["run"]) for name, seen in before.items()}},
    )


def _asked(trainings: Sequence[Training]) -> dict[str, Any]:
    """Return what a reference has to be of: trainings, and the quantities that are compared of them."""
    return {
        "trainings": [asdict(each) for each in trainings],
        "quantities": [each.name for each in QUANTITIES],
    }


def left_one_out(reference: Mapping[str, Any], repeats: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return of each repeat its largest deviation, in units of what the band of all the others allows.

    No check reads it: it is the evidence, in the reference, that the band is wide enough on this machine class (`band.py`).
    """
    found = []
    for own in repeats:
        others = [each for each in repeats if each is not own]
        worst = (
            max(ratios(seen, spread_of(seen, [each[name] for each in others]), own[name]).values())
            for name, seen in reference.items()
        )
        found.append(round(max(worst), 4))
    return found


def train(
    setting: Setting, trainings: Sequence[Training], disturbance: Disturbance, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Train in processes; returns training -> what was seen. Those that are done in the setting's folder are not redone.

    before: what was seen of a reference, whose captions are scored. Errors: GitbenchError for one that fails.
    """
    folder = make_dir(Path(setting.folder) / disturbance.name)
    left = [own for each in trainings if not ((own := folder / each.name) / OBSERVED).is_file()]
    for own in left:  # begun by a check that was stopped
        shutil.rmtree(own, ignore_errors=True)
    said = {name: {word: seen["exact"][word] for word in WORDS} for name, seen in (before or {}).items()}
    asked = Asked(trainings=tuple(trainings), disturbance=disturbance, device=setting.device, said=said)
    write_json(folder / ASKED, asdict(asked))
    _run(folder, min(setting.jobs, len(left), _places(setting)), disturbance)
    shutil.rmtree(folder / CACHE, ignore_errors=True)
    return {training.name: read_json(folder / training.name / OBSERVED) for training in trainings}


def _places(setting: Setting) -> int:
    """Return how many trainings there may be at once."""
    if setting.device == "cpu":
        return setting.jobs
    return 1 if any(card.exclusive for card in gpus()) else ON_A_CARD


def _run(folder: Path, count: int, disturbance: Disturbance) -> None:
    """Run processes to their end, in a cache that holds nothing of other code. Errors: GitbenchError with what one said last."""
    own = {**cache_variables(folder / CACHE), "OMP_NUM_THREADS": "1"}
    command = [*LANE, str(folder)]
    logs = [folder / f"log-{number}.txt" for number in range(count)]
    started: list[subprocess.Popen] = []
    try:
        for log in logs:
            with open(log, "wb") as output:
                options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
                environment = {**os.environ, **own, **disturbance.environment}
                started.append(subprocess.Popen(command, env=environment, **options))  # type: ignore[call-overload]
        while not (failed := [log for each, log in zip(started, logs, strict=True) if each.poll()]):
            if all(each.poll() == 0 for each in started):
                return
            time.sleep(0.1)
        status = started[logs.index(failed[0])].returncode
    finally:
        for each in started:
            each.kill()
            each.wait()
    how = why_failed(status, failed[0])
    if status < 0 or not how:
        how = f"a training was {how}" if how else "a training failed"
    raise GitbenchError(f"{how} (see {failed[0]})")


def _broken(trainings: Sequence[Training], found: Mapping[str, Any]) -> list[Ranked]:
    """Return how trainings that were stopped go on otherwise than they would have, and saved models say another thing."""
    ranked: list[Ranked | None] = []
    for each in trainings:
        seen = found[each.name]
        if each.resumed:
            ranked.append(resumed(each, seen["run"], seen["resumed"]))
        if "saved" in seen:
            ranked.append(otherwise(each.name, seen["run"], seen["saved"]))
    return [one for one in ranked if one is not None]


def _bits(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say how many trainings have the reference's bits, and whether they should."""
    equal = [name for name, seen in before.items() if seen["weights"] == now[name]["run"]["weights"]]
    same = all(seen["computed"] == now[name]["computed"] for name, seen in before.items())
    where = "the same kind of CPU and torch" if same else "another kind of CPU or torch"
    return f"{len(equal)} of {len(before)} trainings have the reference's bits, on {where}"


def _nearest(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say how much of its band the quantity has used that came nearest to its end."""
    used = {
        (name, quantity): share
        for name, seen in before.items()
        for quantity, share in ratios(seen, seen["spread"], now[name]["run"]).items()
    }
    name, quantity = max(used, key=lambda each: used[each])
    return f"nearest to the end of its band: {quantity} of {name}, at {100 * used[name, quantity]:.0f} % of it"


def _curve(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return a training's loss and its band, for a picture."""
    reference, value = before["numbers"]["loss"], now["numbers"]["loss"]
    allowed = limits("loss", reference, before["spread"]["loss"])
    return {
        "steps": list(range(1, len(value) + 1)),
        "value": value,
        "reference": reference,
        "low": [each - limit for each, limit in zip(reference, allowed, strict=True)],
        "high": [each + limit for each, limit in zip(reference, allowed, strict=True)],
    }
