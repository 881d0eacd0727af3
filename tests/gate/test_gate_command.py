"""`gitbench gate` as a user meets it: exit codes, and what is refused before anything is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers_cli import call, error_of
from helpers_gate import Gate

from gitbench.commands import gate as command
from gitbench.errors import GitbenchError
from gitbench.gate import run


def arguments(gate: Gate, *more: str) -> tuple[str, ...]:
    return (*more, "--out", str(gate.folder), "--device", "cpu", "--jobs", "1")


def test_record_then_check_then_a_change_each_with_its_status(quick: Gate, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    check = arguments(quick, "gate", "check", "--tiers", "passes")
    (tmp_path / "gate").mkdir()
    assert call(*check).returncode == 3
    recorded = call(*arguments(quick, "gate", "record", "--tiers", "passes", "--reason", "the first"))
    assert recorded.returncode == 0 and recorded.stdout.splitlines()[-1].endswith("git/passes.json")
    same = call(*check)
    assert same.returncode == 0 and "fine: passes, in" in same.stdout and ": the first" in same.stdout
    page = Path(same.stdout.splitlines()[-1].removeprefix("page: "))
    assert page == quick.folder / "gate.html" and page.is_file()
    monkeypatch.setenv("FAKE_VALUE", "3")
    changed = call(*check)
    assert changed.returncode == 1
    assert (
        "first: passes: the value is 3 | not <1>, 3 times what is allowed: the likely part is the decoder"
        in changed.stdout
    )
    assert json.loads((quick.folder / "gate.json").read_text())["exit"] == 1
    assert call(*arguments(quick, "gate", "check", "--tiers", "refuses")).returncode == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--tiers", "exat"], "unknown tier 'exat'"),
        (["--tiers", ","], "--tiers names none"),
        (["--minutes", "0"], "--minutes 0: use a number above 0"),
        (["--minutes", "nan"], "--minutes nan: use a number above 0"),
        (["--minutes", "inf"], "--minutes inf: use a number above 0"),
        (["--jobs", "0"], "--jobs 0: at least 1 process"),
        (["--device", "cuda"], "no GPU is in sight"),
        (["--variant", "decodr=self_2x96"], "unknown axis 'decodr': did you mean 'decoder'?"),
        (["--variant", "decoder=self_2x95"], "unknown decoder variant 'self_2x95': did you mean 'self_2x96'?"),
        (["--variant", "decoder"], "write AXIS=NAME"),
        (["--variant", "decoder=self_2x96", "--variant", "decoder=self_2x64"], "decoder is given twice"),
        (["--task", "vqq"], "did you mean 'vqa'?"),
        (["--data", "scene"], "did you mean 'scenes'?"),
        (["--data", "./nowhere"], "data folder ./nowhere does not exist"),
        (["--task", "video", "--data", "scenes"], "needs films"),
        (["--references", "nowhere"], "there is no such folder: `gitbench gate record` makes it"),
        (["--plugin", "no_such_module"], "plugin no_such_module cannot be imported"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(more, said, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in error_of("gate", "check", *more)
    assert not list(tmp_path.iterdir())


def test_record_refuses_what_check_refuses(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = ("gate", "record", "--reason", "why")
    assert "unknown axis" in error_of(*record, "--variant", "decodr=self_2x96")
    assert "it has no reference" in error_of(*record, "--tiers", "speed")
    assert "a reference needs a reason" in error_of("gate", "record", "--reason", " ", "--tiers", "exact")
    (tmp_path / "file").touch()
    assert "pass another --references" in error_of(*record, "--references", "file/gate")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_read_only_place_for_results_is_refused(quick: Gate, tmp_path) -> None:
    quick.record("passes")
    (tmp_path / "file").touch()
    check = ("gate", "check", "--tiers", "passes", "--device", "cpu", "--references", str(quick.references))
    assert "pass another --out" in error_of(*check, "--out", str(tmp_path / "file" / "out"))


def test_a_fault_of_the_gate_itself_is_no_regression(quick: Gate, monkeypatch) -> None:
    def breaks(*more) -> None:  # type: ignore[no-untyped-def]
        raise KeyError("a fault")

    quick.record("passes")
    monkeypatch.setattr(run, "_checked", breaks)
    check = call(*arguments(quick, "gate", "check", "--tiers", "passes"), "--references", str(quick.references))
    assert check.returncode == 2 and "KeyError: 'a fault'" in check.stderr


def test_a_page_that_cannot_be_made_hides_no_regression(quick: Gate, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    check = arguments(quick, "gate", "check", "--tiers", "passes")
    assert call(*arguments(quick, "gate", "record", "--tiers", "passes", "--reason", "the first")).returncode == 0
    monkeypatch.setattr("gitbench.gate.output.write_outputs", lambda *_: [].pop())
    assert call(*check).returncode == 2  # what is fine is not said to be
    monkeypatch.setenv("FAKE_VALUE", "3")
    changed = call(*check)
    assert changed.returncode == 1 and "first: passes: the value is 3" in changed.stdout


def test_a_fault_of_record_is_no_regression(quick: Gate, monkeypatch) -> None:
    monkeypatch.setattr(run, "record", lambda *_, **__: [].pop())
    assert call(*arguments(quick, "gate", "record", "--tiers", "passes", "--reason", "x")).returncode == 2


@pytest.mark.parametrize(
    ("more", "there", "left_out"), [([], True, False), ([], False, True), (["--tiers", "exact,speed"], False, False)]
)
def test_speed_is_left_out_where_there_is_no_base_and_nobody_asked(
    more, there, left_out, monkeypatch, tmp_path
) -> None:
    def base(root, asked) -> None:  # type: ignore[no-untyped-def]
        if not there:
            raise GitbenchError("this gitbench is no git checkout")

    asked = []
    monkeypatch.setattr("gitbench.gate.base.base_of", base)
    monkeypatch.setattr(run, "run_check", lambda *given, **more: asked.append((given[2], more["notes"])) or 1 / 0)
    monkeypatch.setattr(command.traceback, "print_exc", lambda: None)
    assert call("gate", "check", "--device", "cpu", "--out", str(tmp_path), *more).returncode == 2
    ((tiers, notes),) = asked
    assert ("speed" not in [tier.name for tier in tiers]) == left_out
    assert notes == ("speed is left out: this gitbench is no git checkout",) * left_out


@pytest.mark.parametrize("more", [[], ["--tiers", "exact"]])
def test_a_base_that_is_named_and_not_there_is_refused(more, monkeypatch, tmp_path) -> None:
    def base(root, asked) -> None:  # type: ignore[no-untyped-def]
        raise GitbenchError(f"--base {asked}: there is no such revision here")

    monkeypatch.setattr("gitbench.gate.base.base_of", base)
    monkeypatch.chdir(tmp_path)
    assert "--base v9: there is no such revision" in error_of("gate", "check", "--base", "v9", *more)
    assert not list(tmp_path.iterdir())


def test_a_model_of_ones_own_is_named_by_a_plugin(tmp_path, monkeypatch) -> None:
    (tmp_path / "mine.py").write_text(
        "from gitbench import variants\nfrom gitbench.variants.decoder import decoder\n"
        "variants.add('decoder', 'gate_1x96', decoder('self', 1, 96, dropout=0.0, max_positions=64))\n"
    )
    seen = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "run_check", lambda folder, setting, *more, **other: seen.append(setting) or 1 / 0)
    monkeypatch.setattr(command.traceback, "print_exc", lambda: None)
    check = ("gate", "check", "--device", "cpu", "--variant", "decoder=gate_1x96", "--tiers", "exact")
    assert call(*check, "--plugin", "mine.py").returncode == 2
    assert call("gate", "--plugin", "mine.py", *check[1:]).returncode == 2
    assert [setting.subject.name for setting in seen] == ["decoder=gate_1x96"] * 2
