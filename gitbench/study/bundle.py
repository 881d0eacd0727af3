"""One archive of a study: what its numbers rest on, without images, weights or anything of the machine. No torch.

A bundle is a `.tar.xz` whose files lie as in a work directory: the plan with its proof, looks, manifest, yardstick and
noise floor, and of every finished run its record (with its spec), per-image scores, predictions (with the reference
captions), curve and provenance; also `claims.lock` where there is one. No program is in it, not even a config. First
comes `bundle.json`: schema, study, and size and SHA-256 of every other file. The same work directory gives the same bytes.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.files import atomic_path, explain_os_errors, read_json
from gitbench.run_folder import RunFolder
from gitbench.study.anonymize import check_portable, machine_words, portable_json
from gitbench.study.find import check_version
from gitbench.study.lock import FILE as LOCK
from gitbench.study.lock import lock_path
from gitbench.study.store import Study

SCHEMA = 2
KIND = "gitbench bundle"
MANIFEST = "bundle.json"
SUFFIX = ".tar.xz"
LARGEST = 4 * 2**30  # bytes that a bundle may unpack to
_LARGEST_MANIFEST = 64 * 2**20


def run_files(folder: RunFolder) -> tuple[Path, ...]:
    """Return the files of a run that a bundle holds."""
    return (folder.record, folder.per_image, folder.predictions, folder.curve, folder.provenance)


# What a bundle may hold; a name that is none of these is refused.
_NAME = re.compile(
    r"studies/[\w.+-]+\.json|yardsticks/[0-9a-f]+\.json|noise/[\w.+-]+\.json|claims\.lock|"
    r"runs/[0-9a-f]{16}/(?:" + "|".join(re.escape(path.name) for path in run_files(RunFolder(Path()))) + ")"
)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A checked bundle in memory: the study's name, and the content of every file by its path in a work directory."""

    path: Path
    study: str
    files: dict[str, bytes]

    @property
    def digest(self) -> str:
        """SHA-256 of the archive: what a paper cites."""
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def write_bundle(study: Study, out: Path | None = None) -> Bundle:
    """Write the bundle of a study to `out` (default: `<study>.tar.xz` in the current folder) and return it.

    Runs that are not finished are left out. Errors: GitbenchError where none is finished, a file of a finished run is
    missing, or something of this machine cannot be taken out.
    """
    out = out or Path(f"{study.name}{SUFFIX}")
    if out.is_dir():
        raise GitbenchError(
            f"{out} is a folder: pass the name of a file as --out, such as {out / (study.name + SUFFIX)}"
        )
    if out.is_file() and not tarfile.is_tarfile(out):
        raise GitbenchError(f"{out} is there and is no bundle: pass another name as --out")
    words = machine_words(study.work_dir)
    files = {name: _portable(path, words) for name, path in sorted(_paths(study).items())}
    listed = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }
    manifest = {"schema": SCHEMA, "kind": KIND, "study": study.name, "files": listed}
    text = json.dumps(manifest, indent=2) + "\n"
    with (
        atomic_path(out) as temporary,
        explain_os_errors(out),
        lzma.open(temporary, "wb", preset=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in ((MANIFEST, text.encode()), *files.items()):
            member = tarfile.TarInfo(name)  # owner 0, time 0: nothing of the machine, the same bytes every time
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return Bundle(path=out, study=study.name, files=files)


def open_bundle(path: Path) -> Bundle:
    """Read a bundle whole and check it; nothing is written. Errors: one line where it is damaged, changed or no bundle."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise GitbenchError(f"{path} {what}: pass the file that `gitbench bundle` wrote")
    try:
        with tarfile.open(path, "r:xz") as archive:
            manifest, files = _read(path, archive)
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise GitbenchError(
            f"{path} is no whole gitbench bundle ({error or type(error).__name__}): get it again, or make it again"
        ) from None
    for name, listed in manifest["files"].items():
        if name not in files:
            raise GitbenchError(f"{path} lacks {name}, which its manifest lists: get the bundle again")
        if hashlib.sha256(files[name]).hexdigest() != listed["sha256"]:
            raise GitbenchError(f"{path}: {name} is not what the manifest says (SHA-256): it was damaged or changed")
    if f"studies/{manifest['study']}.json" not in files:
        raise GitbenchError(f"{path} lacks its study {manifest['study']}: make the bundle again")
    return Bundle(path=path, study=manifest["study"], files=files)


def unpack(bundle: Bundle, folder: Path) -> None:
    """Write a bundle's files into a folder, which becomes a work directory; files that are there already are kept.

    Errors: GitbenchError, before anything is written, where a file of another content is in the way.
    """
    check_version(folder)
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


def _paths(study: Study) -> dict[str, Path]:
    """Return the files that a bundle of the study holds, by their names in it."""
    finished = [study.folder(run.run_key) for run in study.unique_runs if study.done(run)]
    if not finished:
        raise GitbenchError(f"no run of {study.name} in {study.work_dir} is finished: run `{study.plan.command}` first")
    beside = (study.proof_path, study.looks_path, study.manifest_path, study.yardstick_path, study.noise_path)
    paths = [study.plan_path, *(path for path in beside if path.is_file())]
    paths += [path for folder in finished for path in run_files(folder)]
    lock = lock_path()
    named = {path.relative_to(study.work_dir).as_posix(): path for path in paths}
    return named | ({LOCK: lock} if lock.is_file() else {})


def _portable(path: Path, words: tuple[str, ...]) -> bytes:
    """Return the content of a file, the machine taken out."""
    if not path.is_file():
        raise GitbenchError(f"{path} is missing: delete the folder {path.parent} and run again")
    content = path.read_bytes()
    if path.suffix == ".json":
        read_json(path)  # a damaged one is an error that names the fix
        content = portable_json(content.decode(), words).encode()
    check_portable(str(path), content, words)
    return content


def _read(path: Path, archive: tarfile.TarFile) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return manifest and files of an archive; names, kinds and sizes are checked before a file is read."""
    manifest: dict[str, Any] | None = None
    files: dict[str, bytes] = {}
    for member in archive:
        name = member.name
        if not member.isreg() or (manifest is None) != (name == MANIFEST) or name in files:
            raise GitbenchError(f"{path} holds {name!r} where no bundle has it: it is none of `gitbench bundle`'s")
        if manifest is None:
            manifest = _manifest(path, _content(archive, member) if member.size <= _LARGEST_MANIFEST else b"")
            continue
        if not _NAME.fullmatch(name) or ".." in name or name not in manifest["files"]:
            raise GitbenchError(f"{path} holds {name!r}, which is no file of a bundle: it was changed")
        if member.size != manifest["files"][name]["bytes"]:
            raise GitbenchError(f"{path}: {name} is not what the manifest says (size): it was damaged or changed")
        files[name] = _content(archive, member)
    if manifest is None:
        raise GitbenchError(f"{path} is empty: get the bundle again")
    return manifest, files


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    extracted = archive.extractfile(member)
    assert extracted is not None  # a regular file
    return extracted.read()


def _manifest(path: Path, content: bytes) -> dict[str, Any]:
    """Return the manifest, in which everything that is read of it later is of its kind."""
    try:
        values = json.loads(content)
        schema, sizes = values["schema"], [each["bytes"] for each in values["files"].values()]
        whole = values["kind"] == KIND and all(type(size) is int and size >= 0 for size in sizes)
        whole = whole and re.fullmatch(r"[\w+-]+(?:\.[\w+-]+)+", values["study"]) is not None
        whole = whole and all(isinstance(each["sha256"], str) for each in values["files"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise GitbenchError(f"{path} has no readable {MANIFEST}: it is no gitbench bundle, or it was changed")
    if schema != SCHEMA:
        raise GitbenchError(
            f"{path} was written by another version of gitbench (schema {schema}, here {SCHEMA}): use that version for it"
        )
    if sum(sizes) > LARGEST:
        raise GitbenchError(f"{path} would unpack to more than {LARGEST // 2**30} GiB: that is no study's bundle")
    return values
