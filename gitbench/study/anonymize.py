"""Make what a run wrote fit to leave its machine: no absolute paths, no host name, no home folder.

An absolute path says nothing elsewhere, and who may log in where is nobody's business. It is replaced by its last name
(`/home/ann/flickr8k` becomes `flickr8k`). What no rule can mend is refused, never shipped. Needs no torch.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.files import ROOT, cache_dir

# A path in running text: a drive letter or a slash that follows no word, and at least two names.
_PATH = re.compile(r"(?<![\w.:/\\~-])(?:[A-Za-z]:[\\/]|~?/)(?:[^\s\"'=,;:\\/]+[\\/])+[^\s\"'=,;:\\/]*")
_KEPT = ("/dev/null",)  # of a diff
_FREE_TEXT = ("git_diff",)  # program text: only what is known to be of this machine is taken out


def machine_words(work_dir: Path) -> tuple[str, ...]:
    """Return what identifies this machine or its user: folders (longest first) and a host name that is no plain word."""
    folders = {str(path) for path in (Path.home(), ROOT, Path.cwd(), work_dir.resolve(), cache_dir().resolve())}
    host = platform.node()
    named = [host] if re.search(r"[0-9.-]", host) and len(host) > 3 and host != "localhost" else []
    return tuple(sorted((word for word in folders if len(word) > 1), key=len, reverse=True)) + tuple(named)


def portable_json(text: str, words: Iterable[str]) -> str:
    """Return a JSON text without paths and without `words`; the text itself, byte for byte, where it has none."""
    value = json.loads(text)
    cleaned = _cleaned(value, tuple(words))
    return text if cleaned == value else json.dumps(cleaned, indent=2, allow_nan=False) + "\n"


def without_machine(value: Any) -> Any:
    """Return what of a JSON value is the same wherever it lies: without paths, and without program text."""
    if isinstance(value, dict):
        value = {key: each for key, each in value.items() if key not in _FREE_TEXT}
    return _cleaned(value, ())


def check_portable(name: str, content: bytes, words: Iterable[str]) -> None:
    """Raise GitbenchError where a file still holds one of `words` (a folder or name of this machine) as a whole."""
    for word in words:
        if re.search(rb"(?<![\w.-])" + re.escape(word.encode()) + rb"(?![\w-])", content):
            raise GitbenchError(
                f"{name} names a folder or the host of this machine: take that out of it before it is passed on"
            )


def _cleaned(value: Any, words: tuple[str, ...], free: bool = False) -> Any:
    if isinstance(value, dict):
        return {
            _cleaned(key, words): _cleaned(each, words, free=key in _FREE_TEXT or free) for key, each in value.items()
        }
    if isinstance(value, list):
        return [_cleaned(each, words, free) for each in value]
    return _clean_text(value, words, free) if isinstance(value, str) else value


def _clean_text(text: str, words: tuple[str, ...], free: bool) -> str:
    if not free:
        if _is_path(text):
            return _last_name(text)
        text = _PATH.sub(lambda found: found[0] if found[0] in _KEPT else _last_name(found[0]), text)
    for word in words:
        text = re.sub(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", "-", text)
    return text


def _is_path(text: str) -> bool:
    """Tell whether a whole text is an absolute path (blanks and all) of at least one name."""
    return bool(re.match(r"(?:[A-Za-z]:[\\/]|~?/)[^/\\]", text)) and "\n" not in text and text not in _KEPT


def _last_name(path: str) -> str:
    names = [name for name in re.split(r"[\\/]", path) if name]
    return names[-1] if names else "-"
