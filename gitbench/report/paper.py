"""The paper's published numbers and claims, with where each comes from and how sure we are of it.

They are kept as CSV files in `reports/paper/`: `claims.csv` holds what the paper says in words, the others hold values.
The loader refuses every confidence code but those in `CONFIDENCE`: no value is from memory alone.
Where a table of the paper could not be obtained, only its claim is encoded (`numbers` = "not obtained").
"""

from __future__ import annotations

import functools
from pathlib import Path

import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.files import resource

CONFIDENCE = {
    "S": "seen in the paper itself or in the authors' own code",
    "SQ": "seen as a verbatim quotation of the paper in a reader's note",
    "D": "read off a figure of the paper, with the stated error",
    "H": "second-hand: reported by another paper, leaderboard or reader",
}
# what a report prints for a code, wherever a value or quotation of the paper stands
KNOWN = {"S": "seen in print", "SQ": "as a reader quotes it", "D": "read off the figure", "H": "second-hand"}
VALUE_COLUMNS = (
    *("id", "table", "model", "benchmark", "split", "metric", "value", "unit", "error"),
    *("source", "page", "confidence", "note"),
)
CLAIM_COLUMNS = ("id", "ablation", "claim", "quote", "table", "page", "source", "confidence", "numbers", "note")
_MODEL = r"(?P<size>\w+) \((?P<amount>[\d.]+)(?P<unit>[MB]) images\)"  # a model of Figure 4
_UNITS = {"M": 1e6, "B": 1e9}


@functools.cache
def paper_rows() -> pd.DataFrame:
    """Return all of the paper's values as text columns `VALUE_COLUMNS`.

    `value` stays text ("10M" and "1e-5" are values too); `error` is in the unit of the value, empty when unknown.
    """
    files = [path for path in sorted(resource("reports/paper").glob("*.csv")) if path.name != "claims.csv"]
    return pd.concat([read_rows(path, VALUE_COLUMNS) for path in files], ignore_index=True)


def paper_claims(ablation: str | None = None) -> pd.DataFrame:
    """Return the paper's claims in words (`CLAIM_COLUMNS`), all of them or those of one ablation."""
    rows = read_rows(resource("reports/paper") / "claims.csv", CLAIM_COLUMNS)
    return rows if ablation is None else rows[rows["ablation"] == ablation].reset_index(drop=True)


def paper_value(identity: str) -> pd.Series:
    """Return the one value whose id is `identity`; raises GitbenchError for an unknown id."""
    rows = paper_rows()
    found = rows[rows["id"] == identity]
    if len(found) != 1:
        raise GitbenchError(f"reports/paper has no single value '{identity}': add the row, or correct the id")
    return found.iloc[0]


def figure_4() -> pd.DataFrame:
    """Return the paper's Figure 4: size, amount, images, benchmark, metric, value, error (numbers), unit, in its order."""
    rows = paper_rows().query("table == 'Figure 4'").reset_index(drop=True)
    model = rows["model"].str.extract(_MODEL)
    return rows[["benchmark", "metric", "unit"]].assign(
        size=model["size"],
        amount=model["amount"] + model["unit"],
        images=model["amount"].astype(float) * model["unit"].map(_UNITS),
        value=rows["value"].astype(float),
        error=rows["error"].astype(float),
    )


def has_figure_4(ablation: str) -> bool:
    """Tell whether the paper's numbers for an ablation are those of its Figure 4."""
    return "figure_4" in set(paper_claims(ablation)["numbers"])


def read_rows(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read a CSV file as text. Errors: GitbenchError for other columns, or a row without source or confidence code."""
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(rows.columns) != columns:
        raise GitbenchError(f"reports/paper/{path.name} must have the columns {','.join(columns)}: mend its header")
    if (lacking := rows.index[~rows["confidence"].isin(list(CONFIDENCE)) | (rows["source"] == "")]).size:
        raise GitbenchError(
            f"reports/paper/{path.name} line {lacking[0] + 2} needs a source and a confidence code of "
            f"{', '.join(CONFIDENCE)}: mend it"
        )
    return rows
