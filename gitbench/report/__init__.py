"""The Show layer: a study's records and verdicts become tables, figures and one self-contained page. Imports no torch.

`content` gathers everything a report says, `tables` and `figures` draw it, `html` lays it out, `build` writes the
folder; `paper` holds the published numbers and claims, `deviations` what differs from the paper's recipe.
"""

from gitbench.report.build import write_report

__all__ = ["write_report"]
