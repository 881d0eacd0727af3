"""Find and load the ablation files: each `ablations/<name>.py` holds one frozen `ABLATION`; underscores are skipped."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
import traceback
from pathlib import Path
from typing import get_args, get_type_hints

from gitbench import plugins
from gitbench.errors import GitbenchError, unknown_name
from gitbench.files import resource
from gitbench.metric_info import SCORES
from gitbench.spec import LARGEST_MARGIN, MARGIN, OURS, Ablation, Arm, Claim
from gitbench.tasks import get_task
from gitbench.variants import get_axis, resolve

# how a claim is known: seen, as a quotation, digitised, second-hand; or ours, of no paper
CONFIDENCE_CODES = ("S", "SQ", "D", "H", OURS)


YARDSTICKS = ("blind", "ceiling")  # what a study has beside the arms of its ablation

REGISTERED: dict[str, Ablation] = {}  # by plugins


def register(ablation: Ablation) -> None:
    """Register an ablation of a plugin. Errors: GitbenchError for a name that is taken, or what cannot be judged."""
    if ablation.name in ablation_files() or REGISTERED.get(ablation.name, ablation) != ablation:
        raise GitbenchError(f"there are two ablations {ablation.name}: give one of them another name")
    check_ablation(ablation)
    REGISTERED[ablation.name] = ablation


def ablation_files() -> dict[str, Path]:
    """Return ablation name -> file, sorted by name."""
    return {path.stem: path for path in sorted(resource("ablations").glob("[!_]*.py"))}


def ablation_names() -> list[str]:
    """Return the names of all ablations: those with a file, then those of plugins."""
    return [*ablation_files(), *REGISTERED]


def summary(name: str) -> str:
    """Return an ablation in one line: the first of its file's docstring, read without running it, or its question."""
    if name in REGISTERED:
        return REGISTERED[name].question
    doc = ast.get_docstring(ast.parse(ablation_files()[name].read_text(encoding="utf-8"))) or "(no docstring)"
    return doc.splitlines()[0]


def load_ablation(name: str) -> Ablation:
    """Load an ablation by its name or by the path of its file, which may register variants or axes of its own."""
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise GitbenchError(f"ablation file {path} does not exist: pass the path of an existing file or a name")
        ours = ablation_files().get(path.stem)
        if ours is not None and not path.samefile(ours):
            raise GitbenchError(
                f"{path}: there is an ablation {path.stem} already: give the file and the ablation another name"
            )
    elif name in REGISTERED:
        return REGISTERED[name]
    elif name not in (files := ablation_files()):
        raise unknown_name("ablation", name, [*files, *REGISTERED])
    else:
        path = files[name]
    try:
        module = plugins.load_file(path)
    except GitbenchError:
        raise
    except (Exception, SystemExit) as error:
        line = getattr(error, "lineno", None) or _line_in(error, path)
        raise GitbenchError(f"{path}, line {line}: {type(error).__name__}: {error}: correct the file") from error
    ablation = getattr(module, "ABLATION", None)
    if not isinstance(ablation, Ablation):
        raise GitbenchError(f"{path} defines no ABLATION: see ablations/_template.py")
    if ablation.name != path.stem:
        raise GitbenchError(f"{path} names its ablation '{ablation.name}': the name must be the file's, '{path.stem}'")
    check_ablation(ablation)
    if Path(name).suffix == ".py":
        plugins.hand_on(str(path.resolve()))  # the processes of its runs need what it registers
    return ablation


def check_ablation(ablation: Ablation) -> None:
    """Raise GitbenchError for an ablation that could not be judged: every arm must differ in the axis alone."""
    if not re.fullmatch(r"[\w-]+", ablation.name):
        raise GitbenchError(
            f"ablation '{ablation.name}': files are named after it, so use letters, digits, _ and - alone"
        )
    if ablation.task is not None:
        get_task(ablation.task)
    varied = [axis for axis in (ablation.axis, ablation.crossed_with) if axis is not None]
    for axis in varied:
        if get_axis(axis).for_study is not None:
            raise GitbenchError(
                f"ablation {ablation.name}: '{axis}' cannot be varied, it concerns a whole study: make it common"
            )
    for axis, name in ablation.common.items():
        if axis in varied:
            raise GitbenchError(
                f"ablation {ablation.name}: '{axis}' is varied and common at once: take it out of common"
            )
        by_profile = dict.fromkeys(ablation.arms, name) if isinstance(name, str) else name
        for profile, variant in by_profile.items():
            if profile not in ablation.arms:
                raise unknown_name(f"profile in common of {ablation.name}", profile, ablation.arms)
            resolve(axis, variant)
    for profile, count in ablation.replicates.items():
        if profile not in ablation.arms:
            raise unknown_name(f"profile in replicates of {ablation.name}", profile, ablation.arms)
        if count < 1:
            raise GitbenchError(f"ablation {ablation.name}: {count} replicates in profile {profile}: use 1 or more")
    for profile, arms in ablation.arms.items():
        names = [arm.name for arm in arms]
        where = f"ablation {ablation.name}, profile {profile}"
        if len(set(names)) < len(names):
            raise GitbenchError(f"{where}: two arms have one name: {', '.join(names)}")
        _check_letters(names, f"{where}: arms")
        if taken := [name for name in names if name in YARDSTICKS]:
            raise GitbenchError(f"{where}: '{taken[0]}' is a yardstick that every study has: give the arm another name")
        if ablation.base not in names:
            raise unknown_name(f"base arm of {where}", ablation.base, names)
        for arm in arms:
            if not set(varied) >= set(arm.variants) >= {ablation.axis}:
                named = ", ".join(sorted(arm.variants)) or "nothing"
                crossed = f"may vary '{ablation.crossed_with}'" if ablation.crossed_with else "nothing else"
                raise GitbenchError(
                    f"{where}: arm '{arm.name}' varies {named}; it must vary '{ablation.axis}' and {crossed}"
                )
            for axis, name in arm.variants.items():
                resolve(axis, name)
        _check_fields(ablation, arms, where)
        for claim in ablation.claims:
            for side in claim.arms:
                if side not in names:
                    raise unknown_name(f"arm in claim '{claim.name}' of {where}", side, names)
    check_claims(ablation)


def check_claims(ablation: Ablation) -> None:
    """Raise GitbenchError for claims that could not be judged: a part that their kind needs, or does not have."""
    names = [claim.name for claim in ablation.claims]
    if len(set(names)) < len(names):
        raise GitbenchError(f"ablation {ablation.name}: two claims have one name: {', '.join(names)}")
    _check_letters(names, f"ablation {ablation.name}: claims")
    for claim in ablation.claims:
        if claim.metric not in SCORES:
            raise unknown_name(f"metric of claim '{claim.name}'", claim.metric, SCORES)
        check_claim(claim, ablation.name)


def check_claim(claim: Claim, ablation: str) -> None:
    """Raise GitbenchError for a claim that no rule of the judge covers; in a bundle's plan it is a stranger's."""
    where, hints = f"claim {claim.name!r} of {ablation}", get_type_hints(Claim)
    for field in ("kind", "direction", "margin_unit"):
        if (value := getattr(claim, field)) not in (known := get_args(hints[field])):
            raise unknown_name(f"{field} of {where}", value, known)
    if problem := _claim_problem(claim):
        raise GitbenchError(f"{where}: {problem}")


def _claim_problem(claim: Claim) -> str | None:
    """Return what is wrong with a claim and how to mend it, or None."""
    if claim.treatment == claim.reference:
        return f"its treatment and its reference are one arm, '{claim.treatment}': name the two that are compared"
    starts = (claim.treatment_from, claim.reference_from)
    if (None in starts) == (claim.kind == "interaction") or starts.count(None) == 1:
        return "an interaction, and nothing else, names treatment_from and reference_from: give both or neither"
    if (claim.kind == "trend") != bool(claim.along):
        return (
            "a trend, and nothing else, names the arms that it runs along: give along=('a', 'b', 'c') or another kind"
        )
    if claim.along:
        arms = claim.along
        if len(set(arms)) < 3 or len(set(arms)) < len(arms):
            return "a trend needs at least 3 different arms: name them, or compare two arms as 'better'"
        if (arms[0], arms[-1]) != (claim.reference, claim.treatment):
            return f"a trend runs from reference to treatment: use reference='{arms[0]}', treatment='{arms[-1]}'"
    if claim.direction != "up" and claim.kind != "trend":
        return "only a trend has a direction: swap treatment and reference instead"
    return _number_problem(claim)


def _number_problem(claim: Claim) -> str | None:
    """Return what is wrong with a claim's numbers, or with what must be said of them beforehand."""
    if not math.isfinite(claim.margin) or claim.margin < 0:
        return f"its margin of {claim.margin:g} is no finite number of 0 or more: correct it"
    if claim.margin_unit == "learned" and claim.margin > LARGEST_MARGIN:
        return (
            f"its margin is {100 * claim.margin:g} % of what the base arm learned, which is no small difference: state at most "
            f"{100 * LARGEST_MARGIN:g} %"
        )
    if claim.kind == "equivalent" and claim.margin == 0:
        return "nothing can be shown to be equivalent within a margin of 0: state one above 0"
    if (claim.margin, claim.margin_unit) != (MARGIN, "learned") and not claim.margin_reason.strip():
        return "it states a margin of its own and gives no margin_reason: say why, or leave the margin out"
    if claim.confidence not in CONFIDENCE_CODES:
        codes = ", ".join(CONFIDENCE_CODES)
        return f"its confidence '{claim.confidence}' is none of {codes}: what is known from memory alone is no claim"
    return None


def _check_letters(names: list[str], where: str) -> None:
    """Refuse names that LaTeX, whose commands are letters, could not tell apart, before anything is run."""
    seen: dict[str, str] = {}
    for name in names:
        letters = re.sub(r"[^A-Za-z0-9]", "", name).lower()
        if not letters:
            raise GitbenchError(
                f"{where}: '{name}' has no letter of a to z: name it so that a command can hold its numbers"
            )
        if letters in seen:
            raise GitbenchError(f"{where}: '{seen[letters]}' and '{name}' differ in no letter: rename one of them")
        seen[letters] = name


def _check_fields(ablation: Ablation, arms: tuple[Arm, ...], where: str) -> None:
    """Refuse an arm that differs from the base in more of the axis than `varies` names: size and dropout at once, say."""
    base = next(arm for arm in arms if arm.name == ablation.base)
    ours = dataclasses.asdict(resolve(ablation.axis, base.variants[ablation.axis]))
    for arm in arms:
        theirs = dataclasses.asdict(resolve(ablation.axis, arm.variants[ablation.axis]))
        for field in ours if ablation.varies else ():
            if theirs[field] != ours[field] and field not in ablation.varies:
                raise GitbenchError(
                    f"{where}: arm '{arm.name}' has {ablation.axis}.{field} {theirs[field]!r} and the base "
                    f"{ours[field]!r}; it may differ in {', '.join(ablation.varies)}: choose another variant"
                )


def _line_in(error: BaseException, path: Path) -> int | str:
    file = str(path.resolve())
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return lines[-1] if lines and lines[-1] is not None else "?"
