"""What users would pick instead, with the same weights: Hugging Face's `GitForCausalLM` and the official code.

Each is run as its users run it. Hugging Face: `model(pixel_values, input_ids, attention_mask, labels)` in training mode,
the image repeated for each of its captions, `torch.optim.AdamW` with its defaults, `model.generate` with its cache; the
library's own choice of attention. Its head is not tied (its config's default), so it has more parameters to update. Its
loss shifts labels twice in transformers 4.49 to 5.14 (issue 47394): a token predicts the one after the next, and the last
of a text one of the next text. There its users train on another loss; here it is made from its logits with one shift.
`hf-fused` is the same with the fused AdamW, which its `Trainer` takes since torch 2.8. The official code
(microsoft/GenerativeImage2Text, a checkout that the user names) has no optimizer: it gets `torch.optim.AdamW`; its
search runs without a cache, as its own model builder leaves it. Dropout is 0 in all, nothing else is changed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gitbench.bench.program import BOS, EOS, PAD, Batch, Program
from gitbench.bench.workloads import STEPS
from gitbench.errors import GitbenchError, installing
from gitbench.models.git import GIT
from gitbench.models.weights import to_huggingface, to_official

LENGTH_PENALTY = 0.6  # as ours; all texts are of one length, so that it orders nothing


def make_peer(name: str, model: GIT, official: Path | None = None) -> Program:
    """Build one of `workloads.PEERS` with the weights of `model`, on its device; `official`: a checkout of that code."""
    if name == "official":
        assert official is not None
        return Official(model, official)
    return HuggingFace(model, fused=name == "hf-fused")


class HuggingFace(Program):
    """`transformers.GitForCausalLM`."""

    smoothing = 0.0

    def __init__(self, model: GIT, fused: bool = False) -> None:
        try:
            import transformers
        except ImportError:
            raise GitbenchError(f"the peer hf needs transformers: run `{installing('transformers')}`") from None
        transformers.logging.set_verbosity_error()
        self.name, self.fused = ("hf-fused", True) if fused else ("hf", None)
        vit, text = model.encoder.spec, model.decoder.spec
        config = transformers.GitConfig(
            vision_config=dict(
                hidden_size=vit.width,
                intermediate_size=int(vit.width * vit.mlp_ratio),
                num_hidden_layers=vit.layers,
                num_attention_heads=vit.heads,
                image_size=vit.image_size,
                patch_size=vit.patch,
            ),
            vocab_size=model.vocab_size,
            hidden_size=text.width,
            num_hidden_layers=text.layers,
            num_attention_heads=text.heads,
            intermediate_size=text.ffn,
            max_position_embeddings=text.max_positions,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=EOS,
        )
        hf: Any = transformers.GitForCausalLM(config)
        hf.load_state_dict(to_huggingface(model))
        self.hf = self.model = hf.to(model.head_bias.device).eval()
        self.encoder = hf.git.image_encoder
        self.shifts_twice = shifts_twice(hf)

    def inputs(self, batch: Batch) -> dict[str, Any]:
        return {
            "pixel_values": batch.repeated_images,
            "input_ids": batch.texts,
            "attention_mask": (batch.texts != PAD).long(),
            "labels": batch.texts.masked_fill(~batch.predicted, -100),
        }

    def loss(self, inputs: dict[str, Any]) -> Tensor:
        if not self.shifts_twice:
            return self.hf(**inputs).loss
        shown = {name: value for name, value in inputs.items() if name != "labels"}
        labels = inputs["labels"]
        logits = self.hf(**shown).logits[:, -labels.shape[1] : -1]
        return F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())

    def logits(self, batch: Batch) -> Tensor:
        inputs = self.inputs(batch)
        del inputs["labels"]
        return self.hf(**inputs).logits[:, -batch.texts.shape[1] :]

    def first_weight(self, frozen: bool) -> Tensor:
        git = self.hf.git
        if frozen:
            return git.visual_projection.visual_projection[0].weight
        return git.image_encoder.vision_model.embeddings.patch_embedding.weight

    @torch.no_grad()
    def generate(self, images: Tensor, beams: int) -> Tensor:
        start = torch.full((len(images), 1), BOS, device=images.device)
        options = {"length_penalty": LENGTH_PENALTY} if beams > 1 else {}
        found = self.hf.generate(
            input_ids=start,
            attention_mask=torch.ones_like(start),
            pixel_values=images,
            num_beams=beams,
            do_sample=False,
            max_new_tokens=STEPS,
            **options,
        )
        return found[:, 1:]


def shifts_twice(hf: nn.Module) -> bool:
    """Tell whether a `GitForCausalLM` shifts its labels twice: then the second token of a lone text is no target."""
    git: Any = hf
    vision = git.config.vision_config
    device = next(git.parameters()).device
    images = torch.zeros(1, 3, vision.image_size, vision.image_size, device=device)
    tokens = torch.full((1, 2), git.config.bos_token_id, device=device)
    labels = torch.tensor([[-100, int(git.config.eos_token_id)]], device=device)
    with torch.no_grad():
        return bool(git(pixel_values=images, input_ids=tokens, labels=labels).loss.isnan())


class Official(Program):
    """`CaptioningModel` of the official repository, as its `get_git_model` builds it but for the sizes."""

    name = "official"
    smoothing = 0.1

    def __init__(self, model: GIT, checkout: Path) -> None:
        clip, decoder = _official_modules(checkout)
        vit, text = model.encoder.spec, model.decoder.spec
        visual = clip.VisualTransformer(vit.image_size, vit.patch, vit.width, vit.layers, vit.heads, 16)
        visual.output_grid = visual.grid_after_ln = True
        textual = decoder.TransformerDecoderTextualHead(
            visual_feature_size=vit.width,
            vocab_size=model.vocab_size,
            hidden_size=text.width,
            num_layers=text.layers,
            attention_heads=text.heads,
            feedforward_size=text.ffn,
            max_caption_length=text.max_positions,
            decoder_type="bert_en",
            visual_projection_type="linearLn",
        )
        self.search = decoder.GeneratorWithBeamSearch
        self.git: Any = decoder.CaptioningModel(visual, textual, sos_index=BOS, eos_index=EOS, loss_type="smooth")
        found = self.git.load_state_dict(to_official(model), strict=False)
        if found.unexpected_keys or found.missing_keys != ["image_encoder.proj"]:  # CLIP's, which GIT never uses
            raise GitbenchError(
                f"{checkout} has other parameters than the official code at faae4fb: check it out there"
            )
        for module in self.git.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self.model = self.git.to(model.head_bias.device).eval()
        self.encoder = self.git.image_encoder

    def inputs(self, batch: Batch) -> dict[str, Any]:
        return {
            "image": batch.repeated_images,
            "caption_tokens": batch.texts,
            "need_predict": batch.predicted.int(),
        }

    def loss(self, inputs: dict[str, Any]) -> Tensor:
        return self.git(inputs)["vl_l_loss"]

    def logits(self, batch: Batch) -> Tensor:
        return self.git.textual(self.git.image_encoder(batch.repeated_images), batch.texts)

    def first_weight(self, frozen: bool) -> Tensor:
        return self.git.textual.visual_projection[0].weight if frozen else self.git.image_encoder.conv1.weight

    @torch.no_grad()
    def generate(self, images: Tensor, beams: int) -> Tensor:
        # its builder says max_steps=1024; here its texts end where all others do
        self.git.decoder = self.search(EOS, STEPS + 1, beams, length_penalty=LENGTH_PENALTY)
        return self.git({"image": images})["predictions"][:, 1:]


# Packages that the checkout imports in order to download, and the one name that is taken from them.
_DOWNLOADERS = {
    "boto3": "",
    "botocore": "",
    "botocore.exceptions": "ClientError",
    "requests": "",
    "six": "",
    "azfuse": "File",
}


def _official_modules(checkout: Path) -> tuple[Any, Any]:
    """Import the official encoder and decoder modules; empty ones stand in for packages that only download."""
    if not (checkout / "generativeimage2text").is_dir():
        raise GitbenchError(f"{checkout} holds no generativeimage2text: pass a checkout of GenerativeImage2Text")
    lacking = [
        name
        for name in _DOWNLOADERS
        if name not in sys.modules and importlib.util.find_spec(name.partition(".")[0]) is None
    ]
    for name in lacking:
        sys.modules[name] = types.ModuleType(name)
        if _DOWNLOADERS[name]:
            setattr(sys.modules[name], _DOWNLOADERS[name], Exception)
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    try:
        clip = importlib.import_module("generativeimage2text.layers.CLIP.model")
        decoder = importlib.import_module("generativeimage2text.layers.decoder")
    except ImportError as error:
        raise GitbenchError(
            f"the official code in {checkout} cannot be imported ({error}): install what it misses"
        ) from None
    return clip, decoder
