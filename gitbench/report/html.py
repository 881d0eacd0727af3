"""Lay a report out as one self-contained HTML page: inline SVG, inline PNG, no script, no request to anywhere.

Figures take the page's colours: the few colours that `figures` draws with become CSS variables, so that the same
drawing reads on light paper and in dark mode.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.image import imsave

import gitbench
from gitbench.files import resource
from gitbench.judge.claims import INCOMPLETE, INCONCLUSIVE, REFUTED, SUPPORTED
from gitbench.judge.words import further_seeds, measured_difference, sides, verdict_clause
from gitbench.report import costs, tables
from gitbench.report.paper import CONFIDENCE
from gitbench.report.paper_table import beside_tables
from gitbench.report.proof import proof_view
from gitbench.report.style import FAINT, INK, PALETTE, RULE
from gitbench.report.verdict_details import Evidence, evidence_lines, p_text
from gitbench.report.view import Content
from gitbench.scores import claim_unit, digits, display_name, lower_is_better, unit

# Never by colour alone: each word has a tone (colour) and a symbol.
TONES = {SUPPORTED: "good", REFUTED: "bad", INCONCLUSIVE: "open", INCOMPLETE: "open"}
SYMBOLS = {
    SUPPORTED: "\N{CHECK MARK}",
    REFUTED: "\N{MULTIPLICATION SIGN}",
    INCONCLUSIVE: "?",
    INCOMPLETE: "\N{HORIZONTAL ELLIPSIS}",
}


_FIGURES = {  # what is read out for each; the caption below says the rest
    "score": "Plot of the score of each arm and seed; the same numbers stand in the table of results",
    "scale": "Plots of scores over the amount of data, ours and the paper's; the numbers stand in the tables",
    "difference": "Plot of the paired differences of each claim; the same numbers stand in the tables of evidence",
    "curves": "Plots of training and validation loss of each arm over iterations",
}


def symbol(word: str) -> str:
    """Return the mark of a verdict; a circle with nothing in it where a claim cannot be tested."""
    return SYMBOLS.get(word, "\N{WHITE CIRCLE}")


def template(name: str) -> jinja2.Template:
    """Return a template of `reports/templates` with the filters that pages use."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resource("reports/templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"png": png_uri, "tie": tie, "symbol": symbol, "code": code}
    return environment.get_template(name)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One figure of a page as SVG text, drawn twice: a wide one shrunk to a phone's width could not be read."""

    wide: str
    narrow: str


def page(content: Content, figures: Mapping[str, Drawing]) -> str:
    """Return the whole page; `figures` holds drawings by name ("score", "scale", "difference", "curves")."""
    frame, study = content.frame, content.study
    rows, headline = tables.score_cells(frame, study, content.floors), tables.headline_names(frame)
    return template("report.html.j2").render(
        content=content,
        study=study,
        version=gitbench.__version__,
        rows=rows,
        scores=_headings(headline),
        more_scores=_headings([name for name in tables.score_names(frame) if name not in headline]),
        costs=[{"name": name, "heading": costs.cost_heading(name)} for name in costs.cost_names(frame)],
        note=tables.CELL_NOTE,
        confidence=CONFIDENCE,
        verdicts=[_verdict_view(content, verdict) for verdict in content.verdicts],
        beside=beside_tables(study, frame, content.verdicts),
        floors=_floor_views(content, headline),
        figures={
            name: {
                "wide": embed_svg(drawing.wide, name, _FIGURES[name]),
                "narrow": embed_svg(drawing.narrow, f"{name}-narrow", _FIGURES[name]),
            }
            for name, drawing in figures.items()
        },
        lead=_lead(content),
        shaded=any(verdict.margin for verdict in content.verdicts),
        yardsticks=_yardsticks(content),
        proof=proof_view(content.proof, study),
        counts={"planned": len(study.runs), "finished": len(content.finished), "overridden": len(content.overridden)},
        machines=sorted(set(frame["machine"].dropna()) | set(frame["device"].dropna())),
        replicates=sorted({run.replicate for run in content.finished}),
        packages={name[8:]: versions for name, versions in content.provenance.items() if name.startswith("package ")},
        display_name=display_name,
        pictured=any(sample.image is not None for sample in content.samples),
    )


def _lead(content: Content) -> str:
    """Return what stands above the verdicts of several claims: "On scenes at the cpu profile, of 3 claims 1 supported:"."""
    return content.answer.partition(":")[0] + ":"


def _headings(names: list[str]) -> list[dict[str, Any]]:
    """Return column heads; "ROUGE-L" must not break at its hyphen."""
    heads = {name: tables.heading(name).replace("-", "\N{NON-BREAKING HYPHEN}") for name in names}
    return [{"name": name, "heading": head, "lower": lower_is_better(name)} for name, head in heads.items()]


def embed_svg(text: str, name: str, label: str) -> str:
    """Return a matplotlib SVG for embedding: no prologue or metadata, ids made unique, colours as CSS variables.

    `label` is read out in place of the loose words of its axes.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text, count=1)
    text = text.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    colours = {INK: "--ink", FAINT: "--faint", RULE: "--rule"} | {colour: f"--c{i}" for i, colour in enumerate(PALETTE)}
    for colour, variable in colours.items():
        text = text.replace(colour, f"var({variable})")
    return text


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


def _verdict_view(content: Content, verdict: Any) -> dict[str, Any]:
    """Return what the template shows of a verdict."""
    claim = verdict.claim
    share = f" ({100 * claim.margin:g} % of the range from floor to ceiling)" if claim.margin_unit == "range" else ""
    margin = verdict.margin
    known = content.paper_claims[content.paper_claims["quote"] == claim.quote]
    return {
        "claim": claim,
        "compared": " against ".join(sides(claim)),
        "word": verdict.word,
        "tone": TONES.get(verdict.word, "open"),
        "reason": verdict.reason[0].upper() + verdict.reason[1:],
        "further": further_seeds(verdict) if verdict.word == INCONCLUSIVE else "",
        "measured": measured_difference(verdict),
        "clause": f"{verdict_clause(verdict)}.",
        "margin": "unknown" if margin is None else f"{_plain(margin)} {claim_unit(claim)}{share}",
        "evidence": evidence_lines(verdict, content.evidence.get(claim.name, Evidence())),
        "p": "" if verdict.p is None else p_text(verdict.p),
        "notes": verdict.notes,
        "confidence": CONFIDENCE.get(claim.confidence, "unknown"),
        "numbers_missing": bool((known["numbers"] == "not obtained").any()),
        "paper_note": next(iter(known["note"]), ""),
    }


def _plain(value: float) -> str:
    """Return a number at three significant digits; a margin of nothing is 0, not 0.000."""
    return f"{value:.{digits((value,))}f}" if value else "0"


def _floor_views(content: Content, metrics: list[str]) -> list[dict[str, Any]]:
    """Return the noise floor of each printed metric: sd between replicates of one arm and what that can detect."""
    views = []
    for metric in metrics:
        floor = content.floors.get(metric)
        if floor is not None:
            places = digits((floor.sd, floor.mde))
            views.append(
                {
                    "metric": display_name(metric),
                    "sd": f"{floor.sd:.{places}f} {unit(metric)}",
                    "n": floor.n,
                    "mde": f"{floor.mde:.{places}f} {unit(metric)}",
                    "seeds": floor.seeds,
                    "rate": "not judged"
                    if floor.false_positive_rate is None
                    else f"{100 * floor.false_positive_rate:.1f} %",
                }
            )
    return views


def _yardsticks(content: Content) -> list[dict[str, Any]]:
    """Return floor, best arm and ceiling of the main metric, and how far up the range each arm stands."""
    frame, metric = content.frame, main_metric(content)
    found = {
        role: frame.loc[(frame["role"] == role) & (frame["metric"] == metric), "value"].dropna()
        for role in ("floor", "ceiling")
    }
    floor, ceiling = (float(found[role].mean()) if len(found[role]) else None for role in ("floor", "ceiling"))
    rows, places = [], digits(frame.loc[frame["metric"] == metric, "value"].dropna())  # as in the table of results
    for arm in content.study.arms:
        interval = tables.arm_interval(frame, arm.name, metric)
        if arm.role == "floor" or interval is None:
            continue
        rows.append(
            {
                "arm": arm.name,
                "value": f"{interval.mean:.{places}f}",
                "times": interval.mean / floor if floor and floor > 0 else None,
                "share": None
                if None in (floor, ceiling) or ceiling == floor
                else (interval.mean - floor) / (ceiling - floor),  # type: ignore[operator]
                "floor": None if floor is None else f"{floor:.{places}f}",
                "ceiling": None if ceiling is None else f"{ceiling:.{places}f}",
            }
        )
    return rows


def main_metric(content: Content) -> str:
    """Return the metric that a study is about: that of its first claim, else the first score of the table."""
    if content.study.claims:
        return content.study.claims[0].metric
    return tables.score_names(content.frame)[0]
