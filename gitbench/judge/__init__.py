"""The judge: functions of a plan and its tidy frame, values in and verdicts out. Opens no file, imports no torch.

`claims` states the rules and judges a study: `claim_data` gathers what a claim rests on, `sample` makes one number a
replicate of it, `preconditions` asks whether it can be tested here, `statistics` holds intervals, tests and Holm's
correction, `power` says how many seeds are lacking, `words` puts it into sentences. `sequential` is the test of a study
that was looked at while seeds were added, `allocation` says which arms get the next ones; `crossed` and `resample` give
intervals over seeds and images, `noise` and `aa` the noise floor, `replication` compares a run with its repetition.
"""

from gitbench.judge.claims import judge_study
from gitbench.judge.verdict import Verdict
from gitbench.judge.words import answer

__all__ = ["Verdict", "answer", "judge_study"]
