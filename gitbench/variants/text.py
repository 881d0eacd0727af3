"""Whose word pieces a study's text is cut into, in all of its arms (so it stands in an ablation's `common`): "own" is the
profile's tokenizer, "bert" that of the profile's BERT, "bert_subset" the same with only the pieces that the training
captions use, which become the same pieces as before: a small model then carries few of BERT's 30,522 word rows.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from gitbench.axis import Axis
from gitbench.spec import Profile


@dataclass(frozen=True, kw_only=True)
class TextChoiceSpec:
    """Whose word pieces all runs of a study use: the profile's own, or those of its BERT, all or as far as they are used."""

    tokenizer: Literal["own", "bert"] = "own"
    subset: bool = False


def _for_study(profile: Profile, choice: TextChoiceSpec) -> Profile:
    """Return the profile with the word pieces that a study chose."""
    if choice.tokenizer == "own":
        return profile
    return dataclasses.replace(
        profile, text=dataclasses.replace(profile.text, tokenizer=profile.bert, subset=choice.subset)
    )


AXIS = Axis(
    name="text",
    spec=TextChoiceSpec,
    doc="whose word pieces a study uses",
    default="own",
    variants={
        "own": TextChoiceSpec(),
        "bert": TextChoiceSpec(tokenizer="bert"),
        "bert_subset": TextChoiceSpec(tokenizer="bert", subset=True),
    },
    for_study=_for_study,
    in_model=False,
)
