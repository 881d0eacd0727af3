"""A captioner as others load it: files for `GitForCausalLM` and `GitProcessor`, or in the layout of the official releases.

What these cannot express is refused, since they would caption otherwise without a word: a cross-attention decoder, a
model that sees no plain images, photographs prepared as their programs do not.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gitbench.data.image_processor import ImageProcessor, official_processor
from gitbench.data.wordpiece import BEGIN, END, MASK, PAD, UNKNOWN, CaptionTokenizer
from gitbench.errors import GitbenchError
from gitbench.files import write_json, write_text
from gitbench.formats import plural
from gitbench.models.huggingface_config import config_of
from gitbench.models.weights import to_huggingface, to_official
from gitbench.training.caption import OWN, Captioner, has_berts_vocabulary
from gitbench.training.frozen import FrozenEncoder
from gitbench.training.hooks import torch_write_errors
from gitbench.variants.decoder import DecoderSpec

# What the official program builds: image encoders by layers, width and patch, and one decoder.
OFFICIAL_ENCODERS = {(12, 768, 16): "CLIPViT_B_16", (24, 1024, 14): "CLIPViT_L_14"}
OFFICIAL_DECODER = DecoderSpec(layers=6, width=768, heads=12, ffn=3072, max_positions=1024)


def write_huggingface(captioner: Captioner, folder: Path) -> None:
    """Write what `GitForCausalLM.from_pretrained` and `GitProcessor.from_pretrained` read into a folder."""
    from safetensors.torch import save_file

    git, search = captioner.git, _search(captioner)
    write_json(folder / "preprocessor_config.json", _clip_processor(captioner.rule))
    state = to_huggingface(git)
    if git.head_weight is None:  # beside the word embedding, transformers 5.0 would take a copy for a weight of its own
        del state["output.weight"]
    with torch_write_errors():
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", {**config_of(git), OWN: {**search, "upright": captioner.rule.upright}})
    shutil.copymode(folder / "config.json", folder / "model.safetensors")  # which safetensors lets its owner alone read
    ids = {f"{name}_token_id": getattr(git, f"{name}_id") for name in ("pad", "bos", "eos")}
    # ours counts the token after the last one that a text may hold, too
    generation = {"max_length": search["max_length"] - 1, "num_beams": 1, "do_sample": False}
    write_json(folder / "generation_config.json", {**ids, **generation})
    _write_tokenizer(captioner.tokenizer, folder)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it is; BertTokenizer makes its own
            # of a BERT's vocabulary the spaces that it puts around marks go, as in the official code
            "clean_up_tokenization_spaces": not captioner.tokenizer.reversible,
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": git.decoder.spec.max_positions,
            **{"pad_token": PAD, "unk_token": UNKNOWN, "cls_token": BEGIN, "sep_token": END},
            **({"mask_token": MASK} if MASK in captioner.tokenizer.tokens() else {}),
        },
    )


def write_official(captioner: Captioner, folder: Path) -> None:
    """Write an official checkpoint (model.pt), its parameter.yaml and the tokenizer into a folder.

    Heads, dropout, search and whether photographs are turned upright stand under a key of ours in parameter.yaml, which the
    official program passes over. Of a model that it does not build its loader would take what fits, without a word: so
    parameter.yaml then names an image encoder that it does not have, at which it stops.
    """
    import yaml

    git, vit = captioner.git, captioner.git.encoder.spec
    parameters = {**_official_parameters(captioner.rule), "visual_feature_size": vit.width}
    others = beyond_official(captioner)
    parameters["image_encoder_type"] = (
        f"none, for it has no {', no '.join(others)}" if others else OFFICIAL_ENCODERS[vit.shape]
    )
    if git.num_frames:
        parameters["num_image_with_embedding"] = git.num_frames
    text = git.decoder.spec
    sizes = {"encoder_heads": vit.heads, "decoder_heads": text.heads, "dropout": text.dropout}
    parameters[OWN] = {**sizes, **_search(captioner), "upright": captioner.rule.upright}
    with torch_write_errors():
        torch.save({"model": to_official(git)}, folder / "model.pt")
    write_text(folder / "parameter.yaml", yaml.safe_dump(parameters, sort_keys=False))
    _write_tokenizer(captioner.tokenizer, folder)


def beyond_official(captioner: Captioner) -> list[str]:
    """Return what a captioner has and the official program does not build, in words."""
    git, size = captioner.git, captioner.rule.size
    vit, text = git.encoder.spec, git.decoder.spec
    encoder = f"image encoder of {vit.layers} layers x {vit.width} with {plural(vit.heads, 'head')} and patches of {vit.patch}"
    decoder = f"decoder of {text.layers} layers x {text.width} with {plural(text.heads, 'head')}"
    found = {
        encoder: vit.shape not in OFFICIAL_ENCODERS or (vit.heads, vit.mlp_ratio) != (vit.width // 64, 4.0),
        f"position embeddings for {vit.image_size} pixels beside photographs of {size}": vit.image_size != size,
        decoder: text != dataclasses.replace(OFFICIAL_DECODER, dropout=text.dropout),
        "vocabulary but that of bert-base-uncased": not has_berts_vocabulary(captioner.tokenizer),
        "output head but the word embedding": git.head_weight is not None,
    }
    return [words for words, differs in found.items() if differs]


WRITERS: dict[str, Callable[[Captioner, Path], None]] = {"huggingface": write_huggingface, "official": write_official}


def _search(captioner: Captioner) -> dict[str, Any]:
    """Return what a reader cannot know: the longest text; where they are stated the search, the task and the texts' length;
    and that the encoder sees one image at a time, if it was frozen.
    """
    longest = min(captioner.generation["max_length"], captioner.git.decoder.spec.max_positions)
    stated = {**captioner.generation, "task": captioner.task, "max_tokens": captioner.max_tokens}
    stated["encoder_batch"] = 1 if isinstance(captioner.git.encoder, FrozenEncoder) else None
    names = ("length_penalty", "beam_size", "task", "max_tokens", "encoder_batch")
    return {"max_length": longest, **{name: stated[name] for name in names if stated.get(name) is not None}}


def _clip_processor(rule: ImageProcessor) -> dict[str, Any]:
    """Return a preprocessor_config.json. Errors: GitbenchError for what `CLIPImageProcessor` does not do."""
    if rule.longest is not None:
        raise GitbenchError(
            f"this model's photographs keep their aspect, up to {rule.longest} pixels (test_respect_ratio_max), which "
            "CLIPImageProcessor of Hugging Face does not do: use --to official"
        )
    values: dict[str, Any] = {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "GitProcessor",
        "do_convert_rgb": True,
        "do_resize": rule.size is not None,
        "resample": rule.resample,
        "do_center_crop": rule.crop is not None,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(rule.mean),
        "image_std": list(rule.std),
    }
    if rule.size is not None:
        values["size"] = {"shortest_edge": rule.size} if isinstance(rule.size, int) else _sides(rule.size)
    if rule.crop is not None:
        values["crop_size"] = _sides(rule.crop)
    return values


def _sides(size: tuple[int, int]) -> dict[str, int]:
    return {"height": size[0], "width": size[1]}


def _official_parameters(rule: ImageProcessor) -> dict[str, Any]:
    """Return how photographs are prepared, as a parameter.yaml says it. Errors: GitbenchError for what it cannot say."""
    if isinstance(rule.size, int):
        parameters = {"test_crop_size": rule.size}
        parameters |= {} if rule.longest is None else {"test_respect_ratio_max": rule.longest}
        theirs = official_processor(parameters, rule.size)
        if all(getattr(rule, name) == getattr(theirs, name) for name in ("crop", "resample", "mean", "std")):
            return parameters
    raise GitbenchError(
        "this model's photographs are not prepared as the official program does it (short side, centre square, CLIP's mean "
        "and standard deviation): use --to huggingface"
    )


def _write_tokenizer(tokenizer: CaptionTokenizer, folder: Path) -> None:
    """Write tokenizer.json, which puts a text between [CLS] and [SEP] as BERT's does, and the tokens as vocab.txt."""
    begin, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token in (BEGIN, END))
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    ids = {BEGIN: tokenizer.bos_id, END: tokenizer.eos_id}
    template = {
        "type": "TemplateProcessing",
        "single": [begin, first, end],
        "pair": [begin, first, end, second, end],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]} for token, number in ids.items()},
    }
    definition = tokenizer.definition() | {"post_processor": template}
    write_text(folder / "tokenizer.json", json.dumps(definition, ensure_ascii=False))
    write_text(folder / "vocab.txt", "".join(f"{token}\n" for token in tokenizer.tokens()))
