"""Keep it so: a ratio may not fall below what was reached before. No torch.

Ratios, not seconds, are compared: both programs ran side by side, so that another machine of the kind, or a busy one,
shifts both. A row has regressed where its whole interval lies below 90 % of the stored median ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gitbench.bench.rows import Row, from_json
from gitbench.errors import GitbenchError
from gitbench.files import read_json

KEPT = 0.9


def stored_rows(path: Path) -> list[Row]:
    """Read the rows of a bench.json; a file that is none gives a one-line error."""
    values = read_json(path)
    if not isinstance(values, dict) or not isinstance(values.get("rows"), list):
        raise GitbenchError(f"{path} is no result of gitbench bench: pass a bench.json that it wrote")
    return [from_json(row) for row in values["rows"]]


def regressions(rows: Sequence[Row], stored: Sequence[Row]) -> list[str]:
    """Return one line for each row that has regressed. Nothing to compare is an error: such a gate must not be green."""
    before = {row.key: row for row in stored}
    compared = [(row, before[row.key]) for row in rows if row.key in before]
    if not compared:
        raise GitbenchError(
            "none of the rows measured here is in the stored result: compare runs of the same works, shapes and peers"
        )
    lines = []
    for row, old in compared:
        interval = row.interval
        if interval.high < KEPT * old.ratio:
            lines.append(
                f"{row.name}: {row.ratio:.2f} times as fast ({interval.low:.2f} to {interval.high:.2f}), "
                f"was {old.ratio:.2f}"
            )
    return lines
