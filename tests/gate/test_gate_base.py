"""The base revision of the gate's speed: which one it is, its files, its environment."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy
import pytest
import scipy
from helpers_gate import Gate, here

from gitbench.errors import GitbenchError
from gitbench.files import read_json
from gitbench.gate import run, speed
from gitbench.gate.base import base_of, python_for, unpack

PROJECT = '[project]\nname = "x"\ndependencies = [{}]\n'


def git(folder: Path, *arguments: str) -> str:
    name = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(folder), *name, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, says: str) -> str:
    (folder / "gitbench" / "__init__.py").write_text(f"says = {says!r}\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", says)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with two revisions on its default branch."""
    (tmp_path / "gitbench").mkdir()
    (tmp_path / "pyproject.toml").write_text(PROJECT.format('"numpy"'))
    git(tmp_path, "init", "-q")
    commit(tmp_path, "first")
    commit(tmp_path, "second")
    return tmp_path


def test_the_base_of_a_clean_default_branch_is_the_parent(clone: Path) -> None:
    assert base_of(clone).revision == git(clone, "rev-parse", "HEAD^")


def test_the_base_of_changes_that_are_not_committed_is_head(clone: Path) -> None:
    (clone / "gitbench" / "__init__.py").write_text("says = 'third'\n")
    assert base_of(clone).revision == git(clone, "rev-parse", "HEAD")


def test_changes_of_other_files_are_none(clone: Path) -> None:
    (clone / "README.md").write_text("x\n")
    git(clone, "add", "-A")
    assert base_of(clone).revision == git(clone, "rev-parse", "HEAD^")


def test_the_base_of_a_branch_is_where_it_left(clone: Path) -> None:
    left = git(clone, "rev-parse", "HEAD")
    git(clone, "checkout", "-qb", "feature")
    commit(clone, "third")
    commit(clone, "fourth")
    found = base_of(clone)
    assert found.revision == left and "main" in found.said


def test_a_base_that_is_named_is_taken(clone: Path) -> None:
    assert base_of(clone, "HEAD").revision == git(clone, "rev-parse", "HEAD")


def test_a_base_with_the_very_code_of_this_tree_is_said_to_be_so(
    clone: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "ROOT", clone)
    (clone / "README.md").write_text("x\n")

    def notes(revision: str) -> list[str]:
        place = tmp_path_factory.mktemp("side")
        return speed.side_of(base_of(clone, revision), place / "base", place)[1]

    assert notes("HEAD") == ["the base has the very code of this tree: what differs is noise"]
    assert notes("HEAD^") == []
    (clone / "gitbench" / "new.py").write_text("")
    assert notes("HEAD") == []


def test_a_hook_of_another_repository_does_not_lead_astray(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert base_of(clone).said == "the parent of HEAD"


def test_without_a_base_it_says_what_to_do(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(GitbenchError, match="--base nope: there is no such revision"):
        base_of(clone, "nope")
    with pytest.raises(GitbenchError, match="no git checkout"):
        base_of(tmp_path_factory.mktemp("wheel"))
    site = clone / "venv"  # within somebody's repository, but not of it
    (site / "gitbench").mkdir(parents=True)
    (site / "gitbench" / "__init__.py").touch()
    with pytest.raises(GitbenchError, match="no git checkout"):
        base_of(site)
    shallow = tmp_path_factory.mktemp("shallow")
    git(shallow, "clone", "-q", "--depth", "1", f"file://{clone}", ".")
    with pytest.raises(GitbenchError, match="fetch more"):
        base_of(shallow)


def test_a_revision_is_unpacked_without_a_trace_in_the_repository(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place, before = tmp_path_factory.mktemp("base") / "tree", git(clone, "status", "--porcelain")
    unpack(clone, base_of(clone), place)
    assert (place / "gitbench" / "__init__.py").read_text() == "says = 'first'\n"
    assert git(clone, "worktree", "list").count("\n") == 0 and git(clone, "status", "--porcelain") == before


@pytest.mark.parametrize("beside", [True, False])
def test_a_change_of_a_reference_is_said_and_of_exact_also_what_the_bases_holds(
    beside: bool, clone: Path, quick: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "ROOT", clone)
    assert run.TIER == "exact"
    monkeypatch.setattr(run, "TIER", "passes" if beside else "exact")
    quick.references = clone / "gate"
    quick.record("passes")
    commit(clone, "with a reference")
    (clone / "gitbench" / "__init__.py").write_text("says = 'third'\n")
    assert not quick.check("passes").notes
    quick.record("passes", reason="another one")
    given = []
    monkeypatch.setattr(run, "_child", lambda *more: given.append(read_json(Path(more[3]))) or here(*more))
    (note,) = quick.check("passes").notes
    both = {"before": {"value": 1.0}}  # of the same numerics version: exact is compared with both
    assert given == [{"value": 1.0} | (both if beside else {})]
    assert note.startswith("passes: the reference is this change's own") and base_of(clone).short in note


def test_a_revision_without_gitbench_is_refused(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    git(clone, "checkout", "-q", "--orphan", "other")
    git(clone, "rm", "-rqf", "gitbench")
    git(clone, "commit", "-qm", "other", "--allow-empty")
    other = git(clone, "rev-parse", "HEAD")
    git(clone, "checkout", "-q", "main")
    with pytest.raises(GitbenchError, match="holds no gitbench"):
        unpack(clone, base_of(clone, other), tmp_path_factory.mktemp("base") / "tree")


@pytest.mark.parametrize(
    ("base", "change", "said"),
    [
        ('"numpy"', '"numpy"', None),
        ('"numpy<9,>=1", "scipy"', '"scipy", "numpy >= 1, < 9"', None),
        ("\"nowhere; python_version < '3'\"", "", None),
        ('"numpy>=1"', '"numpy>=2"', f"numpy>=1 became numpy>=2: both sides run with numpy {numpy.__version__}, so "),
        ('"numpy"', '"numpy", "scipy>=1"', f"scipy>=1 is new: both sides run with scipy {scipy.__version__}, so "),
        ('"numpy", "scipy"', '"numpy"', f"scipy is gone: both sides run with scipy {scipy.__version__}, so "),
    ],
)
def test_dependencies_that_are_satisfied_here_need_no_environment_and_where_they_differ_it_is_said(
    clone: Path, tmp_path: Path, base: str, change: str, said: str | None
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "pyproject.toml").write_text(PROJECT.format(base))
    (clone / "pyproject.toml").write_text(PROJECT.format(change))
    python, note = python_for(clone, tmp_path / "base", tmp_path / "venv")
    assert python == sys.executable and (note is None if said is None else str(note).startswith(said))


@pytest.mark.slow
def test_other_dependencies_have_an_environment_of_their_own(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("base")
    wheel = base / "older-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("older.py", "")
        file.writestr("older-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: older\nVersion: 1.0\n")
        file.writestr("older-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("older-1.0.dist-info/RECORD", "")
    (base / "pyproject.toml").write_text(PROJECT.format(f'"numpy>=1", "older @ {wheel.as_uri()}"'))
    python, note = python_for(clone, base, base / "venv")
    assert python != sys.executable and "needs older" in str(note)
    code = "import sys, numpy, older; print(numpy.__file__, older.__file__)"
    places = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert [Path(place).is_relative_to(base) for place in places] == [False, True]


def test_dependencies_that_cannot_be_had_are_an_error(
    clone: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*command: str) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="first\nNo matching distribution found for numpy<1\n")

    monkeypatch.setattr("gitbench.gate.base._call", fails)
    base = tmp_path_factory.mktemp("base")
    (base / "pyproject.toml").write_text(PROJECT.format('"numpy<1"'))
    said = r"needs numpy<1, which cannot be installed \(No matching distribution found for numpy<1\)"
    with pytest.raises(GitbenchError, match=said):
        python_for(clone, base, base / "venv")
