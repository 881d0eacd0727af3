"""The Judge layer: finished run folders in, a tidy frame and verdicts out. Imports no torch.

`frame` reads, `scores` knows units and directions, `intervals` and `compare` do the statistics, `claims` judges
one claim, `answer` puts verdicts into words.
"""

from gitbench.judge.answer import answer
from gitbench.judge.claims import Verdict, judge_claim, judge_study
from gitbench.judge.frame import load_frame, load_study

__all__ = ["Verdict", "answer", "judge_claim", "judge_study", "load_frame", "load_study"]
