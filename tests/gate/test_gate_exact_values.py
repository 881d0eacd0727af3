"""Tier 1 of the gate: what is compared how, what a reference holds, and the committed one."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_tools import load_tool

from gitbench import code
from gitbench.code import PACKAGE
from gitbench.errors import GitbenchError, MachineError
from gitbench.files import ROOT, explain_os_errors
from gitbench.gate import exact
from gitbench.gate.exact.compare import TOLERANCES, compared, read, stored
from gitbench.gate.exact.constant import STEPS, constant, noise, pictures, texts
from gitbench.gate.exact.costs import spent
from gitbench.gate.exact.faults import of_machine
from gitbench.gate.exact.tiny import tiny
from gitbench.gate.exact.values import Failure, Value, Values, digest_of
from gitbench.gate.outcome import BEYOND, PARTS, Stale
from gitbench.gate.setting import Setting, Subject
from gitbench.models.flops import flops_by_part

REFERENCE = ROOT / "gate" / "cpu-x86_64" / "git" / "exact.json"
LIMIT = 200_000  # bytes of a reference


def values() -> Values:
    found = Values()
    with found.of("data"):
        found.equal("ids", {"first": [1, 2, 3], "second": [4]})
        found.equal("text", "near 1.0 float64: a text")
    with found.of("encoder"):
        found.near("features", [1.0, -2.5, 1e-17])
        found.tensor("weights", torch.arange(6.0))
    with found.of("search"):
        found.most("waits", 10)
        found.most("flops", 1000, 0.01)
    return found


def change(name: str, value: Any) -> list[Any]:
    """Today's values, one of which is another."""
    return [Value(**{**vars(each), "value": value}) if each.name == name else each for each in values().found]  # type: ignore[union-attr]


def reference() -> dict[str, Value]:
    return read(json.loads(json.dumps(stored(values().found))))  # type: ignore[arg-type]


def test_a_reference_gives_back_what_was_stored_to_the_last_bit() -> None:
    assert reference() == {each.name: each for each in values().found}
    assert compared(values().found, reference(), "cpu") == ([], 6)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ids", {"first": [1, 2, 3], "second": [5]}, "5, in the reference 4 (first at second.0)"),
        ("ids", {"first": [1, 2], "second": [4]}, "nothing, in the reference 3 (first at first.2)"),
        ("text", "another", "another, in the reference near 1.0"),
        ("features", [1.0, -2.5 - 1e-10, 1e-17], "(1 of 3 numbers moved by more than 2e-11)"),
        ("features", [1.0, -2.5], "2 numbers, in the reference 3"),
        ("features", [1.0, math.nan, 0.0], "nan, in the reference -2.5"),
        ("waits", 11, "11, more than the 10 of the reference"),
        ("flops", 1011, "1011, more than the 1000 of the reference, of which 1 % more is allowed"),
    ],
)
def test_what_leaves_its_band_is_said(name: str, value: Any, said: str) -> None:
    (finding,), count = compared(change(name, value), reference(), "cpu")
    assert said in finding.said and finding.quantity == name and finding.excess > 1 and count == 6


@pytest.mark.parametrize(("name", "value"), [("features", [1.0, -2.5 + 1e-12, 0.0]), ("waits", 9), ("flops", 1009)])
def test_rounding_and_what_is_cheaper_are_fine(name: str, value: Any) -> None:
    assert compared(change(name, value), reference(), "cpu") == ([], 6)


def test_findings_come_in_the_order_in_which_values_are_taken() -> None:
    found = [Value(**{**vars(each), "value": 99}) for each in values().found if each.kind == "most"]  # type: ignore[union-attr]
    broken = [*change("ids", {})[:1], Failure(name="image encoder", part="encoder", error="KeyError: 'x'"), *found]
    findings, count = compared(broken, reference(), "cpu")
    assert [each.part for each in findings] == ["data", "encoder", "search"] and count == 3
    assert "image encoder: it fails with KeyError: 'x'" in findings[1].said


def test_a_reference_of_another_version_of_the_tier_is_stale() -> None:
    """Values that are new have no reference; such that are gone are the tier's change where its code is another."""
    for found, known, same in ((values().found[:-1], reference(), False), (values().found, {}, True)):
        said = (
            f"gives {len(found) - len(known)} values that the reference does not have, and lacks 0"
            if not known
            else "lacks 1"
        )
        with pytest.raises(Stale, match=f"{said} .*record it again if that is meant"):
            compared(found, known, "cpu", same)
    assert len(compared([*change("waits", 11)[:-1]], reference(), "cpu", same=False)[0]) == 1
    with pytest.raises(GitbenchError, match="damaged"):
        read({"data": {"x": "near nothing"}})


def test_a_value_that_the_code_lost_is_a_finding_and_one_behind_a_failure_is_none() -> None:
    lost = values().found[1:]
    (finding,), count = compared(lost, reference(), "cpu")
    assert (finding.quantity, finding.part, finding.excess, count) == ("ids", "data", BEYOND, 5)
    failure = Failure(name="text and ids", part="data", error="KeyError: 'x'")
    assert [each.quantity for each in compared([failure, *lost], reference(), "cpu")[0]] == ["text and ids"]
    other = [Value(name="ids", part="data", kind="most", value=1), *lost]  # of another kind
    assert [each.quantity for each in compared(other, reference(), "cpu")[0]] == ["ids"]


def test_the_digest_tells_the_last_bit_and_leaves_costs_out() -> None:
    own = digest_of(values().found)  # type: ignore[arg-type]
    assert own == digest_of(list(reference().values()))
    assert own == digest_of(values().found[::-1])  # type: ignore[arg-type]
    assert own == digest_of(change("waits", 3)) != digest_of(change("features", [1.0, np.nextafter(-2.5, 0), 1e-17]))


def test_a_topic_that_fails_keeps_what_it_found() -> None:
    found = Values()

    def fails() -> None:
        found.equal("first", 1)
        raise KeyError("second")

    found.attempt("topic", "decoder", fails)
    assert found.found == [
        Value(name="first", part="decoder", kind="equal", value=1),
        Failure(name="topic", part="decoder", error="KeyError: 'second'"),
    ]


def _raises(error: Exception) -> Callable[[], None]:
    def take() -> None:
        raise error

    return take


def _wrapped(error: OSError) -> Callable[[], None]:
    def take() -> None:
        with explain_os_errors(Path("x")):
            raise error

    return take


MACHINES: dict[str, Callable[[], Any]] = {
    **{
        errno.errorcode[number]: _raises(OSError(number, os.strerror(number)))
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENOMEM)
    },
    "a full disk, in our words": _wrapped(OSError(errno.ENOSPC, "full")),
    "a short write of torch": _raises(RuntimeError("PytorchStreamWriter failed writing file data/0")),
    "numpy's memory": lambda: np.zeros(10**15),
    "torch's memory": lambda: torch.empty(10**15),
    "a card's memory": _raises(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")),
    "a program that was killed": _raises(MachineError("the caption tokenizer failed")),
}
CODES: dict[str, Callable[[], Any]] = {
    "a file that is not there": lambda: Path("/nowhere/x").read_bytes(),
    "in our words": _wrapped(FileExistsError(errno.EEXIST, "in the way")),
    "shapes": lambda: torch.ones(2, 3) @ torch.ones(2, 3),
    "a program that failed": _raises(GitbenchError("the caption tokenizer failed")),
    "anything": lambda: {}["x"],
}


@pytest.mark.parametrize("kind", MACHINES)
def test_an_error_of_the_machine_is_none_of_the_code(kind: str) -> None:
    found = Values()
    with pytest.raises(Exception) as raised:
        found.attempt("topic", "decoder", MACHINES[kind])
    assert of_machine(raised.value) and not found.found


@pytest.mark.parametrize("kind", CODES)
def test_any_other_error_is_a_failure_of_the_code(kind: str) -> None:
    found = Values()
    found.attempt("topic", "decoder", CODES[kind])
    assert [type(each) for each in found.found] == [Failure]


def test_a_group_of_tensors_is_compared_on_the_scale_of_its_largest() -> None:
    found = Values()
    found.tensors("gradient", {"large": torch.full((4,), 2.0), "zero": torch.full((4,), 1e-17)})
    assert [each.scale for each in found.found] == [8.0, pytest.approx(8e-3)]  # type: ignore[union-attr]


def test_constants_are_whole_numbers_of_steps() -> None:
    numbers = noise("x", (40, 40))
    assert np.array_equal(numbers * STEPS, np.round(numbers * STEPS)) and numbers.min() >= -1 and numbers.max() < 1
    assert abs(numbers.mean()) < 0.05 and not np.array_equal(numbers, noise("y", (40, 40)))
    assert noise("x", (5,)).tolist() == numbers.reshape(-1)[:5].tolist()
    assert noise("norm", (3,)).tolist() == [0.994140625, -0.189453125, 0.5859375]  # on every machine
    assert (constant("norm1.weight", (50,)) > 0).all() and (constant("up.weight", (5, 9)) < 0).any()
    tokens, predicted = texts(4, 9, 40, 1, 2)
    assert (tokens == 2).sum(1).eq(1).all() and not predicted[tokens == 0].any()
    assert predicted.sum(1).tolist() == [8, 4, 4, 5]


def test_waits_and_products_are_counted() -> None:
    x = torch.ones(3, 4, dtype=torch.float64)

    def work() -> None:
        if (x @ x.T).sum() > 0:
            x.tolist()
        x.nonzero()
        torch.equal(x, x)

    assert spent(work) == (4, 2 * 3 * 4 * 3, 0)
    model = tiny()
    images, operations = pictures(1, 3, 24, 24), flops_by_part(model)["encoder"]
    assert spent(lambda: model.encode(images))[2] == pytest.approx(operations, rel=0.02)


def test_the_committed_reference_is_whole() -> None:
    assert REFERENCE.stat().st_size < LIMIT
    given = json.loads(REFERENCE.read_text())["values"]
    known = read(given["values"])
    assert {each.part for each in known.values()} == set(PARTS)
    kinds = {each.precision for each in known.values() if each.kind == "near"}
    assert kinds == set(TOLERANCES["cpu"]) == set(TOLERANCES["cuda"])
    assert "METEOR" in known and "SPICE of an answer" in known
    assert len(given["digest"]) == 64 and sum(each.kind == "near" for each in known.values()) > 400


def test_topics_of_the_committed_reference_agree_with_this_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first topics alone, by `check` itself: what it finds, and that it misses the others."""
    given = json.loads(REFERENCE.read_text())["values"]
    monkeypatch.setattr(exact, "TOPICS", exact.TOPICS[:2])
    with pytest.raises(Stale, match="record it again"):
        exact.check(Setting(folder=str(tmp_path)), {**given, "tier": "another"})
    lost = exact.check(Setting(folder=str(tmp_path)), {**given, "tier": exact.own_code()})
    assert len(lost.findings) == exact.MOST_FINDINGS and "it is gone" in lost.findings[0].said
    taken = [each for each in exact.taken(Setting(folder=str(tmp_path))) if isinstance(each, Value)]
    names = {each.name for each in taken}
    known = {part: {name: said for name, said in own.items() if name in names} for part, own in given["values"].items()}
    same = exact.check(Setting(folder=str(tmp_path)), {"digest": digest_of(taken), "values": known})
    assert same.findings == () and same.compared == len(names) > 20
    assert same.details == {"digest": exact.vouched(taken), "moved": False} and "equal to the last bit" in same.notes
    first = next(iter(known["data"]))
    other = exact.check(
        Setting(folder=str(tmp_path)),
        {"digest": "0", "values": {**known, "data": {**known["data"], first: "equal: x"}}},
    )
    assert (
        [each.quantity for each in other.findings] == [first]
        and other.details["moved"]
        and "equal to the last bit" not in other.notes
    )


def test_code_that_is_not_run_is_in_the_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Values that are equal do not vouch for it: scores of another `spice.py` do not stand by them."""
    own, known = exact.vouched(reference().values()), digest_of(reference().values())
    assert "metrics/spice.py" in exact.NOT_RUN
    for file in exact.not_run():
        source, copy = file.read_text(), tmp_path / file.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(f"# a comment\n{source}")
    monkeypatch.setattr(exact, "PACKAGE", tmp_path)
    monkeypatch.setattr(code, "PACKAGE", tmp_path)
    assert exact.vouched(reference().values()) == own
    copy.write_text(f"{source}\nONE = 1\n")
    assert exact.vouched(reference().values()) != own and digest_of(reference().values()) == known


def test_code_in_which_this_tier_misses_a_mistake_is_in_the_digest() -> None:
    """That of every planted mistake that another tier is expected to find."""
    planted = load_tool("planted")
    plants = [each for each in planted.read_plants() if each.tier and each.tier not in ("exact", planted.ALONE)]
    assert len(plants) > 10
    makes = [PACKAGE / name for name in code.MAKES_NUMBERS]
    for plant in plants:
        lines = [line for line in plant.patch.splitlines() if line.startswith("--- a/")]
        files = [ROOT / line.removeprefix("--- a/").strip() for line in lines]
        missing = {file for file in files if any(file.is_relative_to(place) for place in makes)} - {*exact.not_run()}
        assert files and not missing, plant.name


def of_one(value: float, cost: int = 5, more: tuple[str, ...] = ()) -> Callable[[Values, Any], None]:
    def add(values: Values, place: Any) -> None:
        values.near("loss", value, 1.0)
        values.most("waits", cost)
        for name in more:
            values.equal(name, 1)

    return add


def test_numbers_that_are_not_those_of_the_base_are_red_whatever_reference_the_change_brings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    setting = Setting(folder=str(tmp_path), subject=Subject(task="vqa"))

    def of(add: Callable[[Values, Any], None]) -> dict[str, Any]:
        monkeypatch.setattr(exact, "OWN", (("model", "decoder", add),))
        made: dict[str, Any] = json.loads(json.dumps(exact.measure(setting)))
        return made

    base, other = of(of_one(1.0, more=("gone",))), of(of_one(2.0, more=("new",)))
    assert not exact.check(setting, other).findings
    (finding,) = (found := exact.check(setting, {**other, "before": base})).findings
    assert finding.quantity == "beside the base's reference: loss" and finding.said.startswith(finding.quantity)
    assert finding.part == "decoder" and exact.RAISE in found.notes
    dearer = of(of_one(1.0, cost=9, more=("new",)))  # a cost is no number
    found = exact.check(setting, {**dearer, "before": base})
    assert not found.findings and exact.RAISE not in found.notes


def test_what_fails_is_not_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(exact, "TOPICS", (("pixels", "data", lambda values, place: 1 / 0),))
    with pytest.raises(GitbenchError, match="pixels fails with ZeroDivisionError"):
        exact.measure(Setting(folder=str(tmp_path)))
