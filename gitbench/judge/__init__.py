"""The judge: functions of a plan and its tidy frame, values in and verdicts out. Opens no file, imports no torch.

`claims` states the rules and judges a study; `preconditions` asks whether a claim can be tested here, `statistics` and
`sequential` test it, `power` says which seeds are lacking, `sentences` puts verdicts into words. `crossed` gives intervals over
seeds and images, `noise` and `aa` the noise floor; `replication` compares a run with its repetition.
"""

from gitbench.judge.claims import judge_study
from gitbench.judge.sentences import answer
from gitbench.judge.verdict import Verdict

__all__ = ["Verdict", "answer", "judge_study"]
