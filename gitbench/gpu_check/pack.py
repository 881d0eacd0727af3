"""The archive for a machine that has torch with CUDA and nothing else, and no network: one file, one line to start it.

It is a zip that Python runs (`python3 gpu_check.pyz`). It holds gitbench with its encoders, ablations and embedded world,
and the packages that a run imports, as wheels of the target's Python unpacked and stripped of what no run reads. torch is the
target's own. What is imported and never used is replaced by stand-ins (`packed/sitecustomize.py`): torchvision, which fits one
version of torch alone, matplotlib and OpenCV. pycocoevalcap and Java stay at home, and so captions are scored there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from gitbench.errors import GitbenchError
from gitbench.files import ROOT, atomic_path, resource
from gitbench.study.provenance import environment, installed_version

LARGEST = 64 * 2**20  # bytes
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# What a run imports, found by looking at what is imported after all checks; in the versions that are installed here.
PACKAGES = (
    "addict", "mmengine", "numpy", "pillow", "platformdirs", "pyyaml", "rich", "termcolor", "yapf",
    "timm", "safetensors", "tokenizers", "tqdm", "packaging", "filelock", "typing-extensions",
    "huggingface-hub", "fsspec", "httpx2", "httpcore2", "anyio", "h11", "idna", "truststore",
    "transformers", "regex",
)  # fmt: skip
MODELS = ("auto", "clip", "git", "siglip")  # of transformers
# Of packages: what no run reads.
NEVER = re.compile(
    r"(^|/)(tests?|testing|__pycache__|f2py|benchmarks|include)/|\.(pyi|pxd|h|hpp|c|cpp|pyx|a|lib|exe)$|/RECORD$|^bin/"
)
KEPT = re.compile(r"^(numpy|pandas)/(testing|_testing)/")  # which they import themselves


def pack(file: Path, python: str | None = None) -> int:
    """Write the archive for Python 3.N on Linux (None: this one's); returns its size in bytes.

    Errors: GitbenchError where a package cannot be had for that Python, and for an archive above 64 MiB.
    """
    python = python or ".".join(map(str, sys.version_info[:2]))
    if not re.fullmatch(r"3\.\d+", python):
        raise GitbenchError(f"--python {python}: name a version as 3.12")
    with tempfile.TemporaryDirectory(prefix="gitbench-pack-") as place:
        fetch(Path(place), python)
        content = dict(sorted((*own_files(), *site_files(Path(place)))))
        digest = hashlib.sha256()
        for name, path in content.items():
            digest.update(name.encode() + b"\0" + path.read_bytes())
        made = environment()
        about = {name: made[name] for name in ("git_revision", "git_dirty")}
        about |= {"target_python": python, "content": digest.hexdigest()[:8]}
        with atomic_path(file) as temporary:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
                archive.writestr("__main__.py", _packed("start.py").read_bytes())
                for name, path in content.items():
                    archive.write(path, name)
                archive.writestr("packed.json", json.dumps(about))
            size = temporary.stat().st_size
            if size > LARGEST:
                raise GitbenchError(
                    f"{file} would have {size / 2**20:.1f} MiB and is to have {LARGEST / 2**20:.0f} at most: leave packages out"
                )
    return size


def fetch(folder: Path, python: str) -> None:
    """Install the packages for a Python on Linux into a folder, by pip or uv, whichever is here."""
    wanted = [f"{name}=={version}" for name in PACKAGES if (version := installed_version(name))]
    options = ["--target", str(folder), "--python-version", python, "--only-binary", ":all:", "--no-deps", "--quiet"]
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "install", "--no-compile", "--implementation", "cp", *options]
        command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    elif (uv := shutil.which("uv")) is not None:
        command = [uv, "pip", "install", "--python-platform", "x86_64-manylinux_2_28", *options]
    else:
        raise GitbenchError("neither pip nor uv is here to fetch packages with: install one of them")
    result = subprocess.run([*command, *wanted], capture_output=True, text=True)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no word"])[-1]
        raise GitbenchError(f"packages for Python {python} cannot be fetched ({last}): pass another --python")


def own_files() -> Iterator[tuple[str, Path]]:
    """Yield name in the archive -> file of gitbench itself, and of what lies beside the package in a clone."""
    yield from _files("gitbench", ROOT / "gitbench")
    yield from _files("ablations", resource("ablations"))
    yield "claims.lock", resource("claims.lock")
    yield "site/sitecustomize.py", _packed("sitecustomize.py")


def site_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield name in the archive -> file of the packages in a folder, without what no run reads."""
    models = re.compile(r"^transformers/models/(?!__init__|" + "|".join(f"{model}/" for model in MODELS) + ")")
    for name, path in _files("", folder):
        if (NEVER.search(name) and not KEPT.search(name)) or models.search(name):
            continue
        # which is the target's own where it has one: others that are there were built for that
        yield f"{'numpy' if name.startswith('numpy') else 'site'}/{name}", path


def _files(name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield (Path(name) / path.relative_to(folder)).as_posix(), path


def _packed(name: str) -> Path:
    return Path(__file__).parent / "packed" / name
