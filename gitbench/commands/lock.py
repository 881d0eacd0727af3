"""The command `gitbench lock`: write the hashes of all claims to claims.lock, or check that they are those in it."""

from __future__ import annotations

import argparse
from typing import Any

from gitbench.errors import GitbenchError


def add(commands: Any) -> None:
    """Add the parser of the command."""
    lock = commands.add_parser("lock", help="write claims.lock, the hash of every claim that the ablations state")
    lock.add_argument("files", nargs="*", metavar="FILE", help="ablation files of your own, beside those known here")
    lock.add_argument("--check", action="store_true", help="write nothing; fail where a claim is not as it is locked")
    lock.set_defaults(run=_lock)


def _lock(arguments: argparse.Namespace) -> int:
    from gitbench.study.lock import (
        FIX,
        differences,
        lock_path,
        locked_since,
        own_lock_path,
        read_lock,
        stated_claims,
        write_lock,
    )

    stated, path = stated_claims(arguments.files), lock_path()
    found = differences(stated, read_lock(path))
    if arguments.check:
        if found:
            raise GitbenchError(f"{'; '.join(found)}: {FIX}")
        print(f"{path}: {len(stated)} claims, all as they are locked")
        return 0
    for line in found:
        print(f"  {line}")
    if found or "" in locked_since(path).values():
        path = own_lock_path()
        write_lock(path, stated)
    print(f"{path}: {len(stated)} claims{'' if found else ', all as they were locked'}")
    return 0
