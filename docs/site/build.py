"""Make the documentation a site: the pages of docs/, the command line, the API, and what pages link to elsewhere.

    python docs/site/build.py [--out DIR]        (nox -s docs; default: work_dirs/docs)

MkDocs and its theme make the pages, mkdocstrings what stands in docstrings. A broken link, a reference to nothing, or a
page that the navigation lacks fails the build.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config

from gitbench.cli import parser

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()(?![a-z]+:)[^)#\s]+")  # to a file


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=Path, default=ROOT / "work_dirs" / "docs", metavar="DIR")
    out = options.parse_args().out.resolve()
    if out.is_dir() and any(out.iterdir()) and not (out / "objects.inv").is_file():  # MkDocs would empty it
        raise SystemExit(f"{out} is not empty, and holds no such site: pass a new folder")
    os.environ["NO_MKDOCS_2_WARNING"] = "1"  # of the theme, about its successor: see mkdocs.yml
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    with tempfile.TemporaryDirectory(prefix="gitbench-docs-") as folder:
        lay_out(Path(folder))
        build(load_config(str(DOCS / "site" / "mkdocs.yml"), docs_dir=folder, site_dir=str(out)))
    print(f"documentation: {(out / 'index.html').as_uri()}")


def lay_out(folder: Path) -> None:
    """Write the pages, and every file that is to be reached from them, into a folder."""
    waiting = [file for file in sorted(DOCS.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    done = set()
    while waiting:
        file = waiting.pop()
        place = folder / _place(file)
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            text = file.read_text(encoding="utf-8")
            place.write_text(LINK.sub(lambda link, file=file: _moved(file, link[0]), text), encoding="utf-8")
            linked = ((file.parent / link).resolve() for link in LINK.findall(text))
            waiting += [each for each in linked if each.is_file() and each not in done]
        else:
            shutil.copyfile(file, place)
        done.add(file)
    (folder / "commands.md").write_text(command_line(), encoding="utf-8")


def _place(file: Path) -> Path:
    """Return where a file of the repository lies in the site; what is not in docs/ is below `repository`."""
    return file.relative_to(DOCS) if file.is_relative_to(DOCS) else "repository" / file.relative_to(ROOT)


def _moved(page: Path, link: str) -> str:
    """Return a page's link as it is in the site; one to nothing stays, for the build to find."""
    target = (page.parent / link).resolve()
    return os.path.relpath(_place(target), _place(page).parent) if target.is_file() else link


def command_line() -> str:
    """Return the page of all commands and their options."""
    return "\n".join(["# Command line", "", "As `gitbench COMMAND --help` says it.", "", *_commands(parser())])


def _commands(of: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the lines that describe the commands of a parser, and theirs."""
    for part in (each for each in of._actions if isinstance(each, argparse._SubParsersAction)):
        for listed in part._choices_actions:
            command = part.choices[listed.dest]
            said = listed.help or ""
            yield from (f"## {command.prog}", "", f"{said[:1].upper()}{said[1:]}.", "")
            yield from (
                "| option | what it says |",
                "|---|---|",
                *(_row(each) for each in command._actions if _own(each)),
                "",
            )
            yield from _commands(command)


def _own(action: argparse.Action) -> bool:
    return not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)


def _row(action: argparse.Action) -> str:
    """Return an option or argument as it is typed, and what it does."""
    value = action.metavar or ("|".join(action.choices) if action.choices else action.dest.upper())
    value = " ".join(value) if isinstance(value, tuple) else value
    written = ", ".join(action.option_strings) + ("" if action.nargs == 0 else f" {value}")
    said = (action.help or "") % vars(action) + (
        " (must be given)" if action.required and action.option_strings else ""
    )
    more = " ..." if action.nargs in ("+", "*") else ""
    return f"| `{written.strip()}{more}` | {said.replace('|', chr(92) + '|').replace('<', '&lt;')} |"


if __name__ == "__main__":
    main()
