"""The templates for CI and the hook do as they stand what the page says of them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from gitbench import cli, plugins, variants

DOCS = Path(__file__).parents[2] / "docs"
WORKFLOWS = ("github-cpu.yml", "github-gpu.yml", "gitlab-ci.yml")
COMMAND = re.compile(r"(?:nox -s gate --|gitbench gate) ((?:check|record)\b[^\n`#]*)")


@pytest.mark.parametrize("name", ["gate.md", *(f"ci/{name}" for name in (*WORKFLOWS, "pre-push"))])
def test_every_command_that_is_named_is_one(name: str) -> None:
    commands = COMMAND.findall((DOCS / name).read_text(encoding="utf-8").replace("\\\n", " "))
    complete = [each for each in commands if each.startswith("check") or "--reason" in each]
    assert complete
    for command in complete:
        words = shlex.split(re.split(r"\s(?:</dev/null|\|\|)", command.rstrip(")"))[0])
        assert callable(cli.parser().parse_args(["gate", *words]).run)


def test_a_command_that_is_none_is_found(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["gate", "check", "--bas", "x", "--minuts", "3"])


def steps(name: str) -> list[str]:
    """Return the shell parts of a template, in order."""
    whole = yaml.safe_load((DOCS / "ci" / name).read_text(encoding="utf-8"))
    if name.startswith("gitlab"):
        return whole["gate"]["script"]
    assert set(whole[True]) == {"pull_request"} and whole["permissions"] == {
        "contents": "read"
    }  # YAML reads `on` as true
    job = whole["jobs"]["gate"]
    assert job["steps"][0]["with"]["fetch-depth"] == 0
    return [step["run"] for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_template_installs_what_its_references_were_made_with(name: str) -> None:
    (place,) = re.findall(r"UV_CONSTRAINT: .*?/(gate/\S+)", (DOCS / "ci" / name).read_text(encoding="utf-8"))
    machine = "tesla-t4" if name == "github-gpu.yml" else "cpu-x86_64"
    assert place == f"gate/{machine}/git/constraints.txt"
    if machine == "cpu-x86_64":
        packages = json.loads((DOCS.parent / place).with_name("exact.json").read_text())["origin"]["packages"]
        versions = dict(line.split("==") for line in (DOCS.parent / place).read_text().split())
        assert packages == versions


def test_gitlab_shows_what_failed() -> None:
    job = yaml.safe_load((DOCS / "ci" / "gitlab-ci.yml").read_text(encoding="utf-8"))["gate"]
    assert job["artifacts"]["when"] == "always" and job["artifacts"]["reports"] == {"junit": "work_dirs/gate/gate.xml"}
    assert job["variables"]["GIT_DEPTH"] == "0"


def test_the_plugin_of_the_page_brings_its_variant(tmp_path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "gate.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    plugins.load([str(tmp_path / "mine.py")])
    assert variants.resolve("decoder", "mine_3x128").layers == 3


# ---- the hook ----------------------------------------------------------------------------------------------------

STUB = """#!/bin/sh
echo "$PWD|$PYTHONPATH|$*" >> "{log}"
exit "$(cat verdict)"
"""


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A clone with the hook and a bare remote; instead of the gate, the file `verdict` says how it ends."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "x")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "x@x")
    place = tmp_path / "clone"
    git(tmp_path, "init", "-q", "--bare", "remote.git")
    git(tmp_path, "init", "-q", "-b", "main", "clone")
    git(place, "remote", "add", "origin", str(tmp_path / "remote.git"))
    hook = place / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_bytes((DOCS / "ci" / "pre-push").read_bytes())
    hook.chmod(0o755)
    stub = tmp_path / "python"
    stub.write_text(STUB.format(log=tmp_path / "log"))
    stub.chmod(0o755)
    monkeypatch.setenv("GITBENCH_PYTHON", str(stub))
    return place


def git(place: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", "-C", str(place), *arguments], capture_output=True, text=True)


def commit(place: Path, verdict: int) -> str:
    (place / "verdict").write_text(f"{verdict}\n")
    git(place, "add", "verdict")
    assert git(place, "commit", "-q", "-m", f"ends with {verdict}").returncode == 0
    return git(place, "rev-parse", "HEAD").stdout.strip()


def test_a_push_is_refused_unless_the_gate_is_fine(clone: Path, tmp_path) -> None:
    good = commit(clone, 0)
    (clone / "verdict").write_text("1\n")  # not committed: not pushed, and not checked
    assert git(clone, "push", "-q", "origin", "main").returncode == 0
    bad = commit(clone, 3)
    refused = git(clone, "push", "-q", "origin", "main")
    assert refused.returncode == 1 and f"the gate of {bad} is not fine (status 3), nothing is pushed" in refused.stderr
    assert git(clone, "ls-remote", "origin", "main").stdout.split()[0] == good
    place, path, arguments = (tmp_path / "log").read_text().splitlines()[0].split("|")
    assert path.split(os.pathsep)[0] == place != str(clone)
    assert arguments.startswith("-m gitbench gate check --tiers exact,trajectory --out")
    assert arguments.endswith(f"{clone}/work_dirs/gate-push")
    assert not Path(place).exists() and len(git(clone, "worktree", "list").stdout.splitlines()) == 1
    assert git(clone, "push", "-q", "--no-verify", "origin", "main").returncode == 0


def test_the_hook_checks_each_pushed_commit_once_and_nothing_for_what_is_deleted(clone: Path, tmp_path) -> None:
    commit(clone, 0)
    git(clone, "branch", "other")
    git(clone, "tag", "-a", "v1", "-m", "v1")
    assert git(clone, "push", "-q", "origin", "main", "other", "v1").returncode == 0
    assert len((tmp_path / "log").read_text().splitlines()) == 1
    assert git(clone, "push", "-q", "origin", ":other").returncode == 0
    assert len((tmp_path / "log").read_text().splitlines()) == 1
