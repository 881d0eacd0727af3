"""The closed vocabulary of "classify" and "read": a trie over all labels, which the model writes within at test time."""

from __future__ import annotations

from mmengine.hooks import Hook

from gitbench.models.trie import Trie
from gitbench.registry import HOOKS


@HOOKS.register_module()
class ClosedVocabularyHook(Hook):
    """Before the test, give the model the labels of the task; labels that the tokenizer writes alike are one entry."""

    def before_test(self, runner) -> None:  # type: ignore[no-untyped-def]
        dataset = runner.test_dataloader.dataset
        labels = dataset.tokenizer.encode_all(list(dataset.source.vocabulary()), dataset.text_spec.max_tokens)
        runner.model.vocabulary = Trie.of(labels, dataset.eos_id)
