"""The base revision: which one it is, its files in a folder, and a Python with its dependencies. No torch.

Without one that is named it is what this code is a change of: HEAD where the code differs from it; else, on a branch, where
that left the default branch; else HEAD's parent. Its files are taken by `git archive`, which leaves nothing behind in the
repository, also where the gate is killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gitbench.errors import GitbenchError
from gitbench.study.provenance import installed_version

CODE = ("gitbench", "ablations", "pyproject.toml")  # changes of other files leave the speed alone
DEFAULT_BRANCHES = ("origin/HEAD", "origin/main", "origin/master", "main", "master")


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base revision: its hash, and how it came to be chosen."""

    revision: str
    said: str

    @property
    def short(self) -> str:
        """The hash as people write it."""
        return self.revision[:10]


def base_of(root: Path, asked: str | None = None) -> Base:
    """Return the base revision of the code in a folder. Errors: GitbenchError where there is none, or no git checkout."""
    if _git(root, "ls-files", "--error-unmatch", "gitbench/__init__.py") is None:
        raise GitbenchError(
            "speed is compared with an earlier revision, and this gitbench is no git checkout: run the gate in a clone, or "
            "leave out --base and speed (--tiers exact,trajectory,quality)"
        )
    if asked is not None:
        found = _commit(root, asked)
        if found is None:
            raise GitbenchError(f"--base {asked}: there is no such revision here: fetch it, or name another one")
        return Base(revision=found, said=asked)
    head = _commit(root, "HEAD")
    if head is not None and _git(root, "diff", "--quiet", "HEAD", "--", *CODE) is None:
        return Base(revision=head, said="HEAD, which the working tree differs from")
    for branch in DEFAULT_BRANCHES:
        if _commit(root, branch) is not None:
            left = (_git(root, "merge-base", "HEAD", branch) or "").strip()
            if left and left != head:
                return Base(revision=left, said=f"where this branch left {branch}")
            break
    parent = _commit(root, "HEAD^")
    if parent is None:
        raise GitbenchError(
            "there is no revision to compare with, this clone holds one alone: fetch more of them (git fetch --deepen 1; of "
            "GitHub's checkout fetch-depth: 2), or name one with --base"
        )
    return Base(revision=parent, said="the parent of HEAD")


def has_code_of(root: Path, base: Base) -> bool:
    """Tell whether the code in a folder is that of a base revision, whatever other files are."""
    new = _git(root, "ls-files", "--others", "--exclude-standard", "--", *CODE)
    return new == "" and _git(root, "diff", "--quiet", base.revision, "--", *CODE) is not None


def unpack(root: Path, base: Base, folder: Path) -> None:
    """Write the files of a revision into a folder. Errors: GitbenchError where git cannot tell them."""
    folder.mkdir(parents=True)
    with subprocess.Popen(
        ["git", "-C", str(root), "archive", "--format=tar", base.revision],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
    ) as process:
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                archive.extractall(folder, filter="data")
        except tarfile.TarError:
            pass
    if process.returncode or not (folder / "gitbench" / "__init__.py").is_file():
        raise GitbenchError(f"the base revision {base.short} holds no gitbench: name another one with --base")


def text_of(root: Path, base: Base, path: Path) -> str | None:
    """Return the text of a file, whose path is relative to `root`, in a revision; None where it was not there."""
    return _git(root, "show", f"{base.revision}:{path.as_posix()}")


def python_for(change: Path, base: Path, place: Path) -> tuple[str, str | None]:
    """Return the Python of the base, whose code lies in a folder, and what to say of it: this one, if it satisfies the base.

    Else one in `place`, which sees this environment's packages and has others where these do not satisfy the base. Where both
    sides use this one though the change asks for other packages, what these change by themselves is not seen, and a note says so.
    Errors: GitbenchError where they cannot be installed.
    """
    here, there = dependencies(change), dependencies(base)
    lacking = [each for each in there if each not in here and not _satisfied(each)]
    if not lacking:
        return sys.executable, _moved(here, there)
    python = place / "bin" / "python"
    seen = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    try:
        _call(sys.executable, "-m", "venv", str(place))
        (own,) = place.glob("lib/python*/site-packages")
        (own / "packages_of_the_change.pth").write_text("".join(f"{path}\n" for path in seen), encoding="utf-8")
        _call(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *there)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        last = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        raise GitbenchError(
            f"the base revision needs {', '.join(lacking)}, which cannot be installed ({' '.join(last)[:200]}): "
            "name another --base"
        ) from None
    return str(python), f"the base has an environment of its own, since it needs {', '.join(lacking)}"


def _moved(here: Sequence[str], there: Sequence[str]) -> str | None:
    """Say which packages the change asks otherwise for, though both sides use those of here; None where there are none."""
    after, before = _by_name(here), _by_name(there)
    used = {name: version for name in sorted({*after, *before}) if (version := installed_version(name))}
    moved = [name for name in used if after.get(name) != before.get(name)]
    if not moved:
        return None
    changes = [
        f"{before[name]} became {after[name]}"
        if name in before and name in after
        else f"{after.get(name) or before.get(name)} is {'new' if name in after else 'gone'}"
        for name in moved
    ]
    both = ", ".join(f"{name} {used[name]}" for name in moved)
    return f"{', '.join(changes)}: both sides run with {both}, so what a package itself changes is not seen"


def _by_name(requirements: Sequence[str]) -> dict[str, str]:
    """Return package -> what is asked of it, written in one way."""
    found = defaultdict[str, list[str]](list)
    for each in map(Requirement, requirements):
        found[canonicalize_name(each.name)].append(str(each))
    return {name: " and ".join(sorted(each)) for name, each in found.items()}


def _satisfied(requirement: str) -> bool:
    """Tell whether this environment satisfies a requirement."""
    needed = Requirement(requirement)
    if needed.marker is not None and not needed.marker.evaluate():
        return True
    version = installed_version(needed.name)
    return version is not None and needed.url is None and needed.specifier.contains(version, prereleases=True)


def dependencies(folder: Path) -> list[str]:
    """Return what a project of this folder depends on, as its pyproject.toml says it, sorted."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    return sorted(project.get("dependencies", []))


def _commit(root: Path, name: str) -> str | None:
    found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return found.strip() if found else None


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git says; None where it fails."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, env=_environment())
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def _environment() -> dict[str, str]:
    """Return an environment in which git looks at the folder alone: hooks are started with one that names a repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def _call(*command: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment)
