"""Whose word pieces a study's text is cut into, in all of its arms (so it stands in an ablation's `common`): "own" is the
profile's tokenizer, "bert" that of the profile's BERT, "bert_subset" the same with only the pieces that the training
captions use, which become the same pieces as before: a small model then carries few of BERT's 30,522 word rows.
"""

from __future__ import annotations

from gitbench.spec import TextChoiceSpec
from gitbench.variants import add

add("text", "own", TextChoiceSpec())
add("text", "bert", TextChoiceSpec(tokenizer="bert"))
add("text", "bert_subset", TextChoiceSpec(tokenizer="bert", subset=True))
