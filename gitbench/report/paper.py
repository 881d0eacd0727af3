"""The paper's published numbers and claims, with where each comes from and how sure we are of it.

They stand as CSV files in `reports/paper/`: `claims.csv` holds what the paper says in words, the others hold values.
A value from memory alone has no place there: the loader refuses every confidence code but those in `CONFIDENCE`.
Where a table of the paper could not be obtained, only its claim is encoded (`numbers` = "not obtained").
"""

from __future__ import annotations

import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.files import resource

CONFIDENCE = {
    "S": "seen in the paper itself or in the authors' own code",
    "SQ": "seen as a verbatim quotation of the paper in a reader's note",
    "D": "read off a figure of the paper, with the stated error",
    "H": "second-hand: reported by another paper, leaderboard or reader",
}

VALUE_COLUMNS = (
    "id",
    "table",
    "model",
    "benchmark",
    "split",
    "metric",
    "value",
    "unit",
    "error",
    "source",
    "page",
    "confidence",
    "note",
)
CLAIM_COLUMNS = ("id", "ablation", "claim", "quote", "table", "page", "source", "confidence", "numbers", "note")


def paper_rows(
    *, table: str | None = None, model: str | None = None, benchmark: str | None = None, metric: str | None = None
) -> pd.DataFrame:
    """Return the paper's values as text columns `VALUE_COLUMNS`, narrowed to exact matches of what is given.

    `value` stays text ("10M" and "1e-5" are values too); `error` is in the unit of the value, empty when unknown.
    """
    files = [path for path in sorted(resource("reports/paper").glob("*.csv")) if path.name != "claims.csv"]
    rows = pd.concat([_read(path.name, VALUE_COLUMNS) for path in files], ignore_index=True)
    for column, wanted in {"table": table, "model": model, "benchmark": benchmark, "metric": metric}.items():
        if wanted is not None:
            rows = rows[rows[column] == wanted]
    return rows.reset_index(drop=True)


def paper_claims(ablation: str | None = None) -> pd.DataFrame:
    """Return the paper's claims in words (`CLAIM_COLUMNS`), all of them or those of one ablation."""
    rows = _read("claims.csv", CLAIM_COLUMNS)
    return rows if ablation is None else rows[rows["ablation"] == ablation].reset_index(drop=True)


def paper_value(identity: str) -> pd.Series:
    """Return the one value whose id is `identity`; raises GitbenchError for an unknown id."""
    rows = paper_rows()
    found = rows[rows["id"] == identity]
    if len(found) != 1:
        raise GitbenchError(f"reports/paper has no single value '{identity}': add the row, or correct the id")
    return found.iloc[0]


def _read(name: str, columns: tuple[str, ...]) -> pd.DataFrame:
    path = resource("reports/paper") / name
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(rows.columns) != columns:
        raise GitbenchError(f"reports/paper/{name} must have the columns {','.join(columns)}: mend its header")
    for line, row in enumerate(rows.itertuples(), start=2):
        if row.confidence not in CONFIDENCE or not row.source:
            codes = ", ".join(CONFIDENCE)
            raise GitbenchError(
                f"reports/paper/{name} line {line} needs a source and a confidence code of {codes}: mend it"
            )
    return rows
