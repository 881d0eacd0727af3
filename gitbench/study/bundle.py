"""One archive of a study: what its numbers rest on, without images, weights or anything of the machine. No torch.

A bundle is a `.tar.xz` whose files lie as in a work directory: the study with its proof, looks and yardstick, and of
every finished run `config.py`, `record.json`, `per_image.parquet`, `predictions.jsonl` (with the reference captions),
`curve.csv` and `provenance.json`; also `claims.lock` and the noise floor where there are such. First comes
`bundle.json`: schema, study, packages, and size and SHA-256 of every other file. The same work directory gives the same bytes.

A bundle is read as data from a stranger: nothing in it is executed, nothing is written outside the folder asked for,
and every file is checked against the manifest before anything is written.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.files import atomic_path, explain_os_errors, read_json, resource
from gitbench.judge.noise import noise_file
from gitbench.study.anonymize import check_portable, machine_words, portable_config, portable_json
from gitbench.study.interim import looks_file
from gitbench.study.proof import proof_file
from gitbench.study.store import completed_record, run_folder, study_file, yardstick_file

SCHEMA = 1
KIND = "gitbench bundle"
MANIFEST = "bundle.json"
SUFFIX = ".tar.xz"
RUN_FILES = ("config.py", "record.json", "per_image.parquet", "predictions.jsonl", "curve.csv", "provenance.json")
LOCK = "claims.lock"
LARGEST = 4 * 2**30  # bytes that a bundle may unpack to
_LARGEST_MANIFEST = 64 * 2**20
# What a bundle may hold; a name that is none of these is refused.
_NAME = re.compile(
    r"studies/[\w.+-]+\.json|yardsticks/[0-9a-f]+\.json|noise/[\w.+-]+\.json|claims\.lock|"
    r"runs/[0-9a-f]{16}/(?:" + "|".join(re.escape(name) for name in RUN_FILES) + ")"
)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A checked bundle in memory: its manifest, and the content of every file by its path in a work directory."""

    path: Path
    manifest: dict[str, Any]
    files: dict[str, bytes]

    @property
    def study(self) -> str:
        """The study's name: "<ablation>.<profile>.<data>"."""
        return str(self.manifest["study"])

    @property
    def digest(self) -> str:
        """SHA-256 of the archive: what a paper cites."""
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def write_bundle(work_dir: Path, study: str, out: Path | None = None) -> Bundle:
    """Write the bundle of a study to `out` (default: `<study>.tar.xz` in the current folder) and return it.

    Runs that are not finished are left out. Errors: GitbenchError where none is finished, a file of a finished run is
    missing, or something of this machine cannot be taken out.
    """
    out = out or Path(f"{study}{SUFFIX}")
    if out.is_dir():
        raise GitbenchError(f"{out} is a folder: pass the name of a file as --out, such as {out / (study + SUFFIX)}")
    described = read_json(study_file(work_dir, study))
    files = dict(sorted(_portable_files(work_dir, study, described)))
    manifest = {
        "schema": SCHEMA,
        "kind": KIND,
        "study": study,
        **{name: described.get(name) for name in ("ablation", "profile", "data", "data_fingerprint", "command")},
        "task": described.get("task", "caption"),
        "runs": len({run["run_key"] for run in described["runs"]}),
        "finished": sum(name.endswith("/record.json") for name in files),
        "environment": _environment(files),
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }
    manifest = json.loads(portable_json(json.dumps(manifest), machine_words(work_dir)))
    text = (json.dumps(manifest, indent=2, allow_nan=False) + "\n").encode()
    with (
        atomic_path(out) as temporary,
        explain_os_errors(out),
        lzma.open(temporary, "wb", preset=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in ((MANIFEST, text), *files.items()):
            member = tarfile.TarInfo(name)  # owner 0, time 0: nothing of the machine, the same bytes every time
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return Bundle(path=out, manifest=manifest, files=files)


def open_bundle(path: Path) -> Bundle:
    """Read a bundle whole and check it; nothing is written. Errors: one line where it is damaged, changed or no bundle."""
    try:
        with tarfile.open(path, "r:xz") as archive:
            manifest, files = _read(path, archive)
    except FileNotFoundError:
        raise GitbenchError(f"{path} does not exist: pass the file that `gitbench bundle` wrote") from None
    except IsADirectoryError:
        raise GitbenchError(f"{path} is a folder: pass the file that `gitbench bundle` wrote") from None
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise GitbenchError(
            f"{path} is no whole gitbench bundle ({error or type(error).__name__}): get it again, or make it again"
        ) from None
    for name, listed in manifest["files"].items():
        content = files.get(name)
        if content is None:
            raise GitbenchError(f"{path} lacks {name}, which its manifest lists: get the bundle again")
        if len(content) != listed["bytes"] or hashlib.sha256(content).hexdigest() != listed["sha256"]:
            raise GitbenchError(f"{path}: {name} is not what the manifest says (SHA-256): it was damaged or changed")
    if f"studies/{manifest['study']}.json" not in files:
        raise GitbenchError(f"{path} lacks its study {manifest['study']}: make the bundle again")
    return Bundle(path=path, manifest=manifest, files=files)


def unpack(bundle: Bundle, folder: Path) -> None:
    """Write a bundle's files into a folder, which becomes a work directory; files that are there already are kept.

    Errors: GitbenchError, before anything is written, where a file of another content is in the way.
    """
    for name, content in bundle.files.items():
        target = folder / name
        if target.exists() and (not target.is_file() or target.read_bytes() != content):
            raise GitbenchError(f"{target} is there with another content: pass an empty folder as --work-dir")
    # records last: a run counts as finished once its record is there
    for name in sorted(bundle.files, key=lambda each: (each.endswith("/record.json"), each)):
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(bundle.files[name])


def is_bundle(name: str) -> bool:
    """Tell whether an argument means a bundle, not the name of an ablation."""
    return name.endswith(SUFFIX) or (Path(name).is_file() and Path(name).suffix not in (".py", ""))


def _portable_files(work_dir: Path, study: str, described: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of what a bundle holds, the machine taken out."""
    words = machine_words(work_dir)
    for name, path in _paths(work_dir, study, described):
        if not path.is_file():
            raise GitbenchError(f"{path} is missing: delete the folder {path.parent} and run again")
        content = path.read_bytes()
        if name.endswith("config.py"):
            content = portable_config(content.decode()).encode()
        elif name.endswith(".json"):
            read_json(path)  # a damaged one is an error that names the fix
            content = portable_json(content.decode(), words).encode()
        check_portable(str(path), content, words)
        yield name, content


def _paths(work_dir: Path, study: str, described: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    finished = [
        key
        for key in dict.fromkeys(run["run_key"] for run in described["runs"])
        if completed_record(run_folder(work_dir, key)) is not None
    ]
    if not finished:
        raise GitbenchError(f"no run of {study} in {work_dir} is finished: run `{described.get('command')}` first")
    sought = [study_file(work_dir, study), proof_file(work_dir, study), looks_file(work_dir, study)]
    if described.get("yardstick_key"):
        sought.append(yardstick_file(work_dir, described["yardstick_key"]))
    for path in sought:
        if path.is_file() or path == sought[0]:
            yield f"{path.parent.name}/{path.name}", path
    lock = _lock()
    if lock is not None:
        yield LOCK, lock
    floor = noise_file(work_dir, described["profile"], described["data"])
    if floor.is_file():
        yield f"noise/{floor.name}", floor
    for key in finished:
        for name in RUN_FILES:
            yield f"runs/{key}/{name}", run_folder(work_dir, key) / name


def _lock() -> Path | None:
    """Return the lock of the claims, where this installation has one."""
    try:
        return resource(LOCK)
    except GitbenchError:
        return None


def _environment(files: dict[str, bytes]) -> dict[str, list[str]]:
    """Return what the runs record of their environment: name -> the distinct values."""
    found: dict[str, dict[str, None]] = {}
    for name, content in files.items():
        if not name.endswith("/provenance.json"):
            continue
        values = json.loads(content)
        for each in ("git_revision", "python", "platform", "cpu", "machine"):
            found.setdefault(each, {})[str(values.get(each))] = None
        for gpu in values.get("gpus") or []:
            found.setdefault("gpu", {})[str(gpu)] = None
        for package, version in sorted((values.get("packages") or {}).items()):
            found.setdefault(f"package {package}", {})[str(version)] = None
    return {name: sorted(values) for name, values in sorted(found.items())}


def _read(path: Path, archive: tarfile.TarFile) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return manifest and files of an archive; names, kinds and sizes are checked before a file is read."""
    manifest: dict[str, Any] | None = None
    files: dict[str, bytes] = {}
    for member in archive:
        name = member.name
        if not member.isreg() or (manifest is None) != (name == MANIFEST) or name in files:
            raise GitbenchError(f"{path} holds {name!r} where no bundle has it: it is none of `gitbench bundle`'s")
        tarfile.data_filter(member, ".")  # raises for what would lie outside the folder
        if manifest is None:
            manifest = _manifest(path, archive, member)
            continue
        if not _NAME.fullmatch(name) or ".." in name or name not in manifest["files"]:
            raise GitbenchError(f"{path} holds {name!r}, which is no file of a bundle: it was changed")
        if member.size != manifest["files"][name]["bytes"]:
            raise GitbenchError(f"{path}: {name} is not what the manifest says (size): it was damaged or changed")
        extracted = archive.extractfile(member)
        assert extracted is not None  # a regular file
        files[name] = extracted.read()
    if manifest is None:
        raise GitbenchError(f"{path} is empty: get the bundle again")
    return manifest, files


def _manifest(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    problem = GitbenchError(f"{path} has no readable {MANIFEST}: it is no gitbench bundle, or it was changed")
    if member.size > _LARGEST_MANIFEST:
        raise problem
    extracted = archive.extractfile(member)
    assert extracted is not None
    values = json.loads(extracted.read())
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise problem
    if values.get("schema") != SCHEMA:
        raise GitbenchError(
            f"{path} has schema {values.get('schema')}, this gitbench reads {SCHEMA}: use the gitbench that wrote it"
        )
    listed = values.get("files")
    whole = isinstance(listed, dict) and all(
        isinstance(each, dict) and isinstance(each.get("bytes"), int) and isinstance(each.get("sha256"), str)
        for each in listed.values()
    )
    if (
        not isinstance(listed, dict)
        or not whole
        or not re.fullmatch(r"[\w+-]+(?:\.[\w+-]+)+", str(values.get("study")))
    ):
        raise problem
    if sum(each["bytes"] for each in listed.values()) > LARGEST:
        raise GitbenchError(f"{path} would unpack to more than {LARGEST // 2**30} GiB: that is no study's bundle")
    return values
