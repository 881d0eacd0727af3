"""Find and load the ablation files: each `ablations/<name>.py` holds one frozen `ABLATION`; underscores are skipped."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

from gitbench.errors import GitbenchError, unknown_name
from gitbench.files import resource
from gitbench.spec import Ablation


def ablation_files() -> dict[str, Path]:
    """Return ablation name -> file, sorted by name."""
    return {path.stem: path for path in sorted(resource("ablations").glob("[!_]*.py"))}


def summary(path: Path) -> str:
    """Return the first line of an ablation file's docstring without running the file."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "(no docstring)"
    return doc.splitlines()[0]


def load_ablation(name: str) -> Ablation:
    """Load an ablation by its name or by the path of its file."""
    path = Path(name)
    if path.suffix != ".py":
        files = ablation_files()
        if name not in files:
            raise unknown_name("ablation", name, files)
        path = files[name]
    elif not path.is_file():
        raise GitbenchError(f"ablation file {path} does not exist: pass the path of an existing file or a name")
    spec = importlib.util.spec_from_file_location(f"gitbench_ablation_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ablation = getattr(module, "ABLATION", None)
    if not isinstance(ablation, Ablation):
        raise GitbenchError(f"{path} defines no ABLATION: see ablations/_template.py")
    if ablation.name != path.stem:
        raise GitbenchError(f"{path} names its ablation '{ablation.name}': the name must be the file's, '{path.stem}'")
    return ablation
