"""The pages of the documentation: their fenced blocks, the commands in these, and what else they name."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gitbench.cli import parser

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
SHELL = ("sh", "bash")
OTHERS = ("torchrun ",)  # programs whose options are no concern of ours
OURS = ("gitbench", "nox", "python", "python3")
# A comment before a block says why it is not run here: "slow" ones are run by `nox -s slow`.
_BLOCK = re.compile(r"(?:<!-- (not run|slow): (.+?) -->\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)
_OPTION = re.compile(r"(?<![\w/-])--[a-z][a-z0-9-]*")
# What sessions put before what follows `--`.
_SESSIONS = {
    "bench": ["bench"],
    "gpu_check": ["gpu-check"],
    "gate": ["gate"],
    "encoders": ["pretrain", "--profile", "cpu"],
}
_SESSIONS |= {"noise_floor": ["noise-floor"], "rates": ["tune", "--all"], "report": ["report", "--all"]}
_TOOLS = {"planted": "docs/tools/planted.py", "docs": "docs/site/build.py"}


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    page: Path
    mark: str  # "": it is run as it stands; "slow", "not run"
    reason: str
    language: str
    text: str
    is_output: bool  # it stands right behind another one

    @property
    def commands(self) -> list[list[str]]:
        """Its commands, each as words; those that `&&` joins one by one."""
        found = []
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "&&" in words:
                found.append(words[: words.index("&&")])
                words = words[words.index("&&") + 1 :]
            found += [words] if words else []
        return found

    @property
    def ours(self) -> bool:
        """Whether it holds commands that are to be run, or Python."""
        return self.language == "python" or (
            self.language in SHELL and any(words[0] in OURS for words in self.commands)
        )


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text, end, found = page.read_text(encoding="utf-8"), 0, []
    for match in _BLOCK.finditer(text):
        mark, reason, language, content = match.groups()
        behind = bool(found) and not text[end : match.start()].strip()
        found.append(
            Block(
                page=page,
                mark=mark or "",
                reason=reason or "",
                language=language,
                text=content,
                is_output=behind and language == "text",
            )
        )
        end = match.end()
    return found


def sessions() -> set[str]:
    """Return the names of the nox sessions."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    named = {each.name for each in tree.body if isinstance(each, ast.FunctionDef) and each.decorator_list}
    return named | {f"ablation_{path.stem}" for path in (ROOT / "ablations").glob("[!_]*.py")}


def check(words: list[str]) -> None:
    """Raise ValueError for a command of ours that could not be started as it stands: a wrong name, a wrong option."""
    match words:
        case ["gitbench", *rest]:
            _parse(rest)
        case ["nox", "-s", session, *rest] if not rest or rest[0] == "--":
            _check_session(session, rest[1:])
        case ["python", script, *rest] if script.endswith(".py"):
            _check_tool(script, rest)
        case ["python", "-m", ("pip" | "venv"), *_] | ["python3", "gpu_check.pyz"]:
            pass
        case [first, *_] if first in OURS:
            raise ValueError(f"{shlex.join(words)}: no test knows how to check this")


def _parse(words: list[str]) -> None:
    try:
        parser().parse_args(words)
    except SystemExit:
        raise ValueError(f"gitbench {shlex.join(words)}: refused by the command's own parser") from None
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    if short := given - commands()[words[0]]:
        raise ValueError(f"gitbench {shlex.join(words)}: write {', '.join(short)} out")


def _check_session(session: str, rest: list[str]) -> None:
    if session not in sessions():
        raise ValueError(f"nox -s {session}: there is no such session")
    if session.startswith("ablation_"):
        _parse(["run", session.removeprefix("ablation_"), *rest])
    elif session in _TOOLS:
        _check_tool(_TOOLS[session], rest)
    elif session in _SESSIONS:
        own = ["check"] if session == "gate" and not rest else []
        _parse([*_SESSIONS[session], *own, *rest])
    elif rest:
        raise ValueError(f"nox -s {session}: what follows -- is not checked: add the session to _SESSIONS")


def _check_tool(script: str, rest: list[str]) -> None:
    if not (ROOT / script).is_file():
        raise ValueError(f"{script} is not there")
    if unknown := set(_options(" ".join(rest))) - set(_options((ROOT / script).read_text(encoding="utf-8"))):
        raise ValueError(f"{script} has no {', '.join(unknown)}")


def _options(text: str) -> list[str]:
    return _OPTION.findall(text)


def commands() -> dict[str, set[str]]:
    """Return command -> its options, those of its parts too."""
    (all_of_them,) = (each for each in parser()._actions if isinstance(each, argparse._SubParsersAction))
    return {name: set(_options_of(command)) for name, command in all_of_them.choices.items()}


def _options_of(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in command._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                yield from _options_of(part)


def unknown_in(text: str) -> list[str]:
    """Return what code in a page names and is not there: commands and options of gitbench, sessions of nox."""
    known, tools = commands(), DOCS.rglob("*.py")
    everywhere = set().union(*known.values(), *(_options(tool.read_text(encoding="utf-8")) for tool in tools))
    found = []
    for code in _code(text):
        if code.startswith(OTHERS):
            continue
        named = re.match(r"gitbench ([a-z][a-z-]*)", code)
        if named and named[1] not in known:
            found.append(f"gitbench {named[1]}")
        own = known.get(named[1], set()) if named else everywhere
        found += [f"{code}: {option}" for option in _options(code) if option not in own]
        session = re.match(r"nox -s ([a-z_]+)$", code)
        if session and session[1] not in sessions():
            found.append(code)
    return found


def _code(text: str) -> Iterator[str]:
    """Yield what stands between backticks, and the lines of blocks that are no commands to be run."""
    for match in _BLOCK.finditer(text):
        if match[3] not in (*SHELL, "python"):
            yield from match[4].splitlines()
    yield from re.findall(r"`([^`\n]+)`", _BLOCK.sub("", text))
