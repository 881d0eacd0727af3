"""One sentence: the question this ablation answers and where the paper speaks of it. Copy this file to `<name>.py`.

The file's name is the ablation's name and the name of its nox session; nothing else has to be registered.
Files that start with an underscore are not found. `axis` names a file of `gitbench/variants/`; every arm differs from
the base in that axis alone, and the blind floor is the base without sight. State a claim's margin, and why, before the first run,
and lock it: `gitbench lock`.
"""

from gitbench.spec import Ablation, Arm, Claim

ABLATION = Ablation(
    name="_template",
    title="Template",
    question="Is the arm better than the base?",
    axis="decoder",
    arms={
        "cpu": (
            Arm(name="base", variants={"decoder": "self_2x96"}),
            Arm(name="changed", variants={"decoder": "self_4x128"}),
        ),
    },
    claims=(
        Claim(
            name="changed-better",
            kind="better",
            metric="CIDEr",
            treatment="changed",
            reference="base",
            says="What the paper says, in one sentence.",
            quote="a short quotation",
            where="page or table",
            confidence="SQ",
        ),
    ),
)
