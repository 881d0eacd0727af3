"""The option `--cfg-options`: values of a run's config that are set from outside."""

from __future__ import annotations

import argparse
from typing import Any

from gitbench.errors import GitbenchError


def cfg_option(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override config values, as in mmengine; such runs enter no claim",
    )


def parsed(items: list[str]) -> dict[str, Any]:
    """Parse KEY=VALUE the way mmengine does: numbers, booleans, None, lists as [a,b] or a,b, else text."""
    from mmengine.config import DictAction

    options: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise GitbenchError(f"--cfg-options {item}: write KEY=VALUE, for example train_cfg.max_iters=100")
        try:
            given = DictAction._parse_iterable(value)
        except AssertionError:
            raise GitbenchError(f"--cfg-options {item}: the brackets of the value do not match: close them") from None
        if options.setdefault(key, given) != given:
            raise GitbenchError(
                f"--cfg-options {key} is given twice, with {options[key]!r} and {given!r}: leave one out"
            )
    return options
