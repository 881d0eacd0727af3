"""The options that say how a data set is read: `--columns`, `--split` and `--images`, which become parts of its name."""

from __future__ import annotations

import argparse

from gitbench.errors import GitbenchError


def data_options(parser: argparse.ArgumentParser, split: bool = True) -> None:
    """Add the options that say how the data set `arguments.data` is read; `join_data` puts them into its name.

    Without `split`, --split is left to the command.
    """
    parser.add_argument(
        "--columns",
        dest="data_columns",
        action="append",
        metavar="ROLE=COLUMN,...",
        help="which columns of a table hold image, captions, ..., where their names leave a choice: image=jpg,captions=txt",
    )
    if split:
        parser.add_argument(
            "--split",
            dest="data_split",
            action="append",
            metavar="SPLITS",
            help="80/10/10 divides all images anew; train=train+restval,val=dev,test=test takes stated splits by name",
        )
    parser.add_argument(
        "--images",
        dest="data_images",
        action="append",
        metavar="DIR",
        help="a further folder in which image files are looked for",
    )


def join_data(arguments: argparse.Namespace) -> None:
    """Put --columns, --split and --images into the name of the data set (see `data.address`).

    Errors: GitbenchError for --split or --images with two values; columns that are named in pieces add up.
    """
    given: dict[str, str] = {}
    for name in ("columns", "split", "images"):
        values = list(dict.fromkeys(getattr(arguments, f"data_{name}", None) or ()))
        if len(values) > 1 and name != "columns":
            raise GitbenchError(f"--{name} is given twice, as {values[0]} and {values[1]}: give it once")
        if values:
            given[name] = ",".join(values)
    if not given:
        return
    from gitbench.data.address import with_options

    if arguments.data is None:
        raise GitbenchError(f"--{next(iter(given))} says how to read other data: pass --data, too")
    arguments.data = with_options(str(arguments.data), given)
