"""The Judge layer: finished run folders in, a tidy frame and verdicts out. Imports no torch.

`frame` reads, `scores` knows units and directions, `intervals` and `compare` do the statistics. `claims` judges a study:
`case` gathers what a claim rests on, `sample` makes one number a replicate of it, `testable` asks whether it can be
tested here, `rules` tests, `family` corrects, `further` says what is missing, `reason` and `answer` put it into words.
`sequential` is the test under looking, `lock` holds claims to what they were, `simulate` puts the judge to the test.
"""

from gitbench.judge.claims import Verdict, judge_claim, judge_study
from gitbench.judge.words import answer
from gitbench.study.records import load_frame, load_study

__all__ = ["Verdict", "answer", "judge_claim", "judge_study", "load_frame", "load_study"]
