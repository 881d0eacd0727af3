"""The Show layer: a study and its verdicts become tables, figures and one self-contained page. Imports no torch.

`View.of` (`view`) gathers everything a report says, once. `tables`, `figures`, `page` and `latex` draw from it, and `build`
writes the folder. `paper` holds the published numbers and claims, `deviations` what differs from the paper's recipe,
`results` reads committed reports back, and `board` sums up many studies.
"""

from gitbench.report.build import write_report

__all__ = ["write_report"]
