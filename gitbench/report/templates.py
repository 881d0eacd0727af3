"""The jinja templates of `reports/templates`, and the filters that make a text safe for the format it is put into.

HTML is escaped by jinja itself; Markdown cells take the filter `pipe`, LaTeX takes `tex`. In LaTeX templates blocks are
written <% %> and values << >>.
"""

from __future__ import annotations

import base64
import functools
import io
import re
import unicodedata
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.image import imsave

import gitbench
from gitbench.files import resource
from gitbench.formats import digits, p_text, signed
from gitbench.judge.sentences import (
    agreement_text,
    difference_numbers,
    difference_text,
    further_seeds_text,
    sides,
    typical_text,
    verdict_clause,
)
from gitbench.judge.verdict import INCOMPLETE, INCONCLUSIVE, REFUTED, SUPPORTED
from gitbench.metric_info import display_name, unit
from gitbench.report.reach import REACH_NOTE
from gitbench.report.samples import same_text
from gitbench.report.tables import CELL_NOTE, cost_text, score_heading
from gitbench.report.verdict_details import CAVEAT, because, margin_text, quoted, source

# each word has a tone (colour) and a symbol, so that it is never told by colour alone
_TONES = {SUPPORTED: "good", REFUTED: "bad"}
_SYMBOLS = {
    SUPPORTED: "\N{CHECK MARK}",
    REFUTED: "\N{MULTIPLICATION SIGN}",
    INCONCLUSIVE: "?",
    INCOMPLETE: "\N{HORIZONTAL ELLIPSIS}",
}
_LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "\N{NO-BREAK SPACE}": "~",
    "\N{MULTIPLICATION SIGN}": "$\\times$",
    "\N{PLUS-MINUS SIGN}": "$\\pm$",
    "\N{DOWNWARDS ARROW}": "$\\downarrow$",
    "\N{DAGGER}": "$^\\dagger$",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{PRIME}": "'",
    "\N{EM DASH}": "---",
    "\N{HORIZONTAL ELLIPSIS}": "\\dots{}",
    "\N{RIGHTWARDS ARROW}": "$\\rightarrow$",
    "\N{GREATER-THAN OR EQUAL TO}": "$\\geq$",
    "\N{LESS-THAN OR EQUAL TO}": "$\\leq$",
}


def render(name: str, **values: Any) -> str:
    """Return a template ("report.html.j2", "table.md.j2", "table.tex.j2") filled with values."""
    return _environment(name.split(".")[1]).get_template(name).render(**values)


@functools.cache
def _environment(kind: str) -> jinja2.Environment:
    delimiters: dict[str, Any] = {}
    if kind == "tex":
        names = ("block_start_string", "block_end_string", "variable_start_string", "variable_end_string")
        delimiters = dict(zip(names, ("<%", "%>", "<<", ">>"), strict=True))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resource("reports/templates")),
        autoescape=kind == "html",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        **delimiters,
    )
    environment.filters |= {"symbol": symbol, "tone": tone, "tie": tie, "code": code, "png": png_uri}
    environment.filters |= {"pipe": pipe, "tex": latex_escape, "display_name": display_name}
    environment.filters |= {"measured": difference_text, "clause": verdict_clause, "further": further_seeds_text}
    environment.filters |= {"typical": typical_text, "agreement": agreement_text}
    environment.filters |= {"margin": margin_text, "p": p_text, "unit": unit, "difference_numbers": difference_numbers}
    environment.filters |= {"score_heading": score_heading, "cost": cost_text}
    environment.filters |= {"because": because, "quoted": quoted, "source": source, "same_text": same_text}
    environment.tests |= {"training": lambda batch: batch.startswith("training")}
    environment.globals |= {"version": gitbench.__version__, "caveat": CAVEAT}
    environment.globals |= {"cell_note": CELL_NOTE, "reach_note": REACH_NOTE}
    environment.globals |= {"digits": digits, "signed": signed, "claim_sides": sides}
    return environment


def symbol(word: str) -> str:
    """Return the mark of a verdict; a circle with nothing in it where a claim cannot be tested."""
    return _SYMBOLS.get(word, "\N{WHITE CIRCLE}")


def tone(word: str) -> str:
    """Return the colour of a verdict by name: "good", "bad" or "open"."""
    return _TONES.get(word, "open")


def tie(text: str) -> str:
    """Keep "n = 5", "95 %" and "p = 0.03" on one line, with no-break spaces."""
    return re.sub(r"\b([np]) = ", "\\1\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}", text).replace(" %", "\N{NO-BREAK SPACE}%")


def code(text: str) -> Markup:
    """Turn `words` in backticks into code elements; all else is escaped."""
    parts = re.split(r"`([^`]+)`", text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def png_uri(image: np.ndarray) -> str:
    """Return an (H, W, 3) uint8 image as a data URI (PNG)."""
    buffer = io.BytesIO()
    imsave(buffer, np.ascontiguousarray(image), format="png", metadata={"Software": ""})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def pipe(text: object) -> str:
    """Return text that cannot break a cell of a Markdown table."""
    return " ".join(str(text).replace("\\", "\\\\").replace("|", "\\|").split())


def latex_escape(text: str) -> str:
    """Escape text for LaTeX: line breaks become spaces, a letter beyond ASCII loses its accent or becomes "?"."""
    return "".join(_LATEX.get(letter) or ascii_letter(letter, "?") for letter in text)


def ascii_letter(letter: str, other: str) -> str:
    """Return one letter without its accents, a space for every kind of break, `other` where ASCII has nothing."""
    if letter.isspace():
        return " "
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or other
