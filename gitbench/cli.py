"""The command line: the parser, and how errors end a command. The commands are in `gitbench.commands`, one file each.

Parsing and `list` import neither torch nor pandas; each command imports what it needs. Errors meant for people end
with one line on stderr and a non-zero status; Ctrl-C ends with 130 and says what is kept.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import NoReturn

from gitbench import plugins
from gitbench.commands import (
    bench,
    bundle,
    caption,
    data,
    doctor,
    encoders,
    evaluate,
    explain,
    export,
    finetune,
    gate,
    gpu_check,
    judge,
    listing,
    lock,
    merge,
    noise_floor,
    pretrain,
    probe,
    replicate,
    report,
    run,
    scenes,
    tune,
    verify,
)
from gitbench.commands.data_options import join_data
from gitbench.errors import GitbenchError

COMMANDS = (
    listing, run, evaluate, finetune, merge, report, explain, bundle, replicate, judge, verify, noise_floor, tune, pretrain,
    encoders, probe, bench, gpu_check, gate, lock, data, scenes, caption, export, doctor,
)  # fmt: skip


KEPT = "what was done is kept, the same command goes on from here"  # of commands that state nothing else as `stopped`


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line: what is wrong and where help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 not all done, 2 an error to mend, 130 interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows ASCII alone gets "?" for "×", not a traceback
            stream.reconfigure(errors="replace")
    arguments = parser().parse_args(argv)
    try:
        plugins.load(arguments.plugin or ())
        join_data(arguments)
        return arguments.run(arguments)
    except GitbenchError as error:
        print(f"gitbench: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"gitbench: stopped; {getattr(arguments, 'stopped', KEPT)}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `gitbench list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    whole = _Parser(
        prog="gitbench",
        description="Reproducible benchmarks and ablations of GIT, the Generative Image-to-text Transformer.",
    )
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    for each in commands.choices.values():
        each.add_argument(
            "--plugin",
            action="append",
            metavar="MODULE|FILE",
            help="import this first: it may register what is its own",
        )
    return whole
