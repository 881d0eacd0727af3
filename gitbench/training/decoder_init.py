"""Where the text decoder's first values come from: random, or a BERT's weights, of which it takes the rows of its own words.

An arm that starts from BERT shares with a random one every tensor that BERT has no source for (image encoder,
projection). A resumed run and a finished one that is loaded have the weights in their checkpoint.
"""

from __future__ import annotations

from mmengine.hooks import Hook

from gitbench.data.bert_folder import bert_folder, fingerprint
from gitbench.data.tokenizer import from_bert, rows_of
from gitbench.errors import GitbenchError, unknown_name
from gitbench.models.bert import initialise_from_bert, load_bert
from gitbench.registry import HOOKS

SOURCES = ("random", "bert")


@HOOKS.register_module()
class DecoderInitHook(Hook):
    """Before the first iteration, give the text decoder the values that the model's `decoder_init` asks for.

    Errors: one line for a BERT that is missing, is not the one that was planned with, or has another shape.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner) -> None:  # type: ignore[no-untyped-def]
        init = runner.model.variants["decoder_init"]
        if init.source not in SOURCES:
            raise unknown_name("decoder_init source", init.source, SOURCES)
        if init.source == "random" or runner.iter:
            return
        if init.path is None:
            raise GitbenchError("decoder_init has no path: set model.decoder_init.path to a BERT folder or hub name")
        if init.content is not None and fingerprint(bert_folder(init.path)) != init.content:
            raise GitbenchError(
                f"the BERT in {init.path} is not the one this run was planned with: run the ablation again"
            )
        rows = rows_of(runner.train_dataloader.dataset.tokenizer, from_bert(init.path))
        initialise_from_bert(runner.model.git, load_bert(init.path), rows)
