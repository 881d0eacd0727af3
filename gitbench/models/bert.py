"""Pre-trained BERT weights as the initial values of a GIT's text side, read without `transformers`.

The paper compares a random decoder with one that starts from BERT (p. 5: "similar performance"). GIT's decoder layer
is BERT's encoder layer with another mask, so a decoder of its shape (a variant `bert_...`) takes the weights as they are. Run on
text alone with BERT's bidirectional mask it reproduces BERT's hidden states (tests/models/test_bert.py, 1e-5).

What has no exact counterpart, and what is done about it:

* Token types. GIT has none, and captions are of type 0, so row 0 is added to every *position* row. The word rows stay
  BERT's own, for they are also the output head.
* Eps of the embedding's LayerNorm: BERT 1e-12, GIT 1e-8, which is kept. It moves MiniLM's last hidden states (values up
  to 6) by up to 1.2e-6.
* Head. Its bias is that of the masked-language head (`cls.predictions.bias`) where the checkpoint has one, else 0. The
  transform before BERT's head, its pooler and its other heads are left out.

The image encoder, the projection, the temporal embedding and a cross-attention decoder's own parts (`cross_*`) have no
source in BERT and keep the values they have. V vocabulary, D width, F feed-forward width, P positions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gitbench.data.bert_folder import HEAD_BIAS, bert_folder, plain_name, read_config, weight_files
from gitbench.errors import GitbenchError
from gitbench.models.checkpoint import check_names, read_tensors
from gitbench.models.git import GIT
from gitbench.models.weights import BERT_LAYER
from gitbench.variants.decoder_init import DecoderInitSpec

_EMBEDDINGS = {
    "words": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "norm": "embeddings.LayerNorm",
}
_TYPES = "embeddings.token_type_embeddings.weight"
_IGNORED = re.compile(r"(pooler|cls|classifier|qa_outputs)\.|embeddings\.(position_ids|token_type_ids)$")


@dataclass(frozen=True, kw_only=True, eq=False)
class BertWeights:
    """A BERT's sizes and tensors, under Hugging Face's names without `bert.`, and the bias (V,) of its head if any."""

    source: str
    config: DecoderInitSpec
    tensors: Mapping[str, Tensor]
    head_bias: Tensor | None


def load_bert(source: str | Path) -> BertWeights:
    """Read a BERT checkpoint from a folder, "minilm", or a name on the Hugging Face hub; see `bert_folder`.

    Names may carry `bert.` or `module.`, and LayerNorms TensorFlow's `gamma` and `beta`. Missing and unexpected
    tensors, and shapes other than config.json states, are errors that list them.
    """
    folder = bert_folder(source)
    config = read_config(folder)
    state: dict[str, Tensor] = {}
    for file in weight_files(folder):
        state.update(read_tensors(file))
    state = {
        plain_name(name)
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias"): value
        for name, value in state.items()
    }
    head_bias = next((state[name] for name in HEAD_BIAS if name in state), None)
    tensors = {name: value for name, value in state.items() if not _IGNORED.match(name)}
    shapes = _shapes(config)
    check_names(tensors, shapes, f"the weights in {folder} are not those of its config.json")
    given = dict(tensors)
    if head_bias is not None:
        given[HEAD_BIAS[0]], shapes[HEAD_BIAS[0]] = head_bias, (config.vocab_size,)
    for name, shape in shapes.items():
        own = tuple(given[name].shape)
        if len(own) != len(shape) or any(b not in (-1, a) for a, b in zip(own, shape, strict=True)) or 0 in own:
            raise GitbenchError(
                f"{folder}: {name} has shape {own} where config.json says {shape}: the two are of different models"
            )
    return BertWeights(source=str(source), config=config, tensors=tensors, head_bias=head_bias)


def _shapes(config: DecoderInitSpec) -> dict[str, tuple[int, ...]]:
    """Every tensor a BERT of these sizes has, with its shape; the number of token types (-1) is left open."""
    width, ffn = config.width, config.ffn
    shapes: dict[str, tuple[int, ...]] = {
        f"{_EMBEDDINGS['words']}.weight": (config.vocab_size, width),
        f"{_EMBEDDINGS['positions']}.weight": (config.max_positions, width),
        _TYPES: (-1, width),
        f"{_EMBEDDINGS['norm']}.weight": (width,),
        f"{_EMBEDDINGS['norm']}.bias": (width,),
    }
    for i in range(config.layers):
        for ours, parts in BERT_LAYER.items():
            outputs, inputs = (ffn if ours == "up" else width), (ffn if ours == "down" else width)
            for part in parts:
                name = f"encoder.layer.{i}.{part}"
                shapes[f"{name}.weight"] = (outputs,) if ours.startswith("norm") else (outputs, inputs)
                shapes[f"{name}.bias"] = (outputs,)
    return shapes


def initialise_from_bert(git: GIT, weights: BertWeights, rows: Sequence[int] | None = None) -> list[str]:
    """Set a GIT's text side to a BERT's values, in place; return the names of the parameters set.

    The decoder takes the first layers and positions, as many as it has. `rows` are the ids of BERT's
    vocabulary that the model's own ids stand for, in order (`gitbench.data.tokenizer`); None: all of them.
    Everything not named in the result keeps its value. An error says where shapes differ.
    """
    spec, config = git.decoder.spec, weights.config
    if spec.heads != config.heads:
        what = f"{spec.heads} attention heads and the BERT {config.heads}"
        raise GitbenchError(f"the decoder has {what}: give it the shape of the BERT (a variant bert_...)")
    if spec.layers > config.layers:
        what = f"{spec.layers} layers and the BERT {config.layers}"
        raise GitbenchError(f"the decoder has {what}: give it the shape of the BERT (a variant bert_...)")
    values, own = _values(weights, spec.layers, spec.max_positions, rows), dict(git.named_parameters())
    for name, value in values.items():
        if value.shape != own[name].shape:
            raise GitbenchError(
                f"{name} has shape {tuple(own[name].shape)} in the model and {tuple(value.shape)} in BERT: shape the "
                "decoder as the BERT is and give the model as many tokens as there are rows"
            )
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)
    return list(values)


def _values(weights: BertWeights, layers: int, positions: int, rows: Sequence[int] | None) -> dict[str, Tensor]:
    """A BERT's tensors under the names of a GIT's parameters."""
    tensors = weights.tensors
    values = {f"embedding.norm.{kind}": tensors[f"{_EMBEDDINGS['norm']}.{kind}"] for kind in ("weight", "bias")}
    words = tensors[f"{_EMBEDDINGS['words']}.weight"]
    values["embedding.words.weight"] = words
    values["head_bias"] = words.new_zeros(len(words)) if weights.head_bias is None else weights.head_bias
    if rows is not None:
        outside = [row for row in rows if not 0 <= row < len(words)]
        if outside or len(set(rows)) != len(rows):
            what = f"row {outside[0]} lies outside" if outside else "a row is named twice, which cannot be, of"
            raise GitbenchError(
                f"{what} BERT's vocabulary of {len(words)}: pass the rows of subset_for and the same BERT"
            )
        kept = torch.tensor(list(rows), dtype=torch.int64)
        values |= {name: values[name][kept] for name in ("embedding.words.weight", "head_bias")}
    # in float64, so that the sum adds no rounding of its own
    values["embedding.positions.weight"] = (
        tensors[f"{_EMBEDDINGS['positions']}.weight"][:positions].double() + tensors[_TYPES][0].double()
    )
    for i in range(layers):
        for ours, parts in BERT_LAYER.items():
            for kind in ("weight", "bias"):
                values[f"decoder.layers.{i}.{ours}.{kind}"] = torch.cat(
                    [tensors[f"encoder.layer.{i}.{part}.{kind}"] for part in parts]
                )
    return values
