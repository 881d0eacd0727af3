"""Planning for arms that start from BERT: one BERT for weights, word pieces and shape, looked at before any run starts.

Imports no torch. Its content enters the keys of the runs that start from its weights, its tokenizer those of all runs
of the study; the path it was found under enters none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from gitbench.data.bert_folder import MINILM, bert_folder, decoder_spec, described, fingerprint, read_config
from gitbench.data.tokenizer import CaptionTokenizer, from_bert
from gitbench.data.tokenizer_subset import rows_of
from gitbench.errors import GitbenchError
from gitbench.spec import Arm, DecoderInitSpec, DecoderSpec, Profile
from gitbench.variants import resolve

AXIS = "decoder_init"
BERT_PATH = f"model.{AXIS}.path"  # the option that names another BERT; part of the plan, not an overridden value


def with_words(
    profile: Profile,
    ablation: str,
    arms: tuple[Arm, ...],
    common: Mapping[str, str],
    options: dict[str, Any],
    tokenizer_path: str | None = None,
) -> Profile:
    """Return the profile with the study's word pieces: those of `tokenizer_path`, or of a BERT where `common` says so.

    The BERT is the profile's or the one that the options name, which are relieved of it.

    Errors: options that no arm heeds, that would change what the arms decide, or that contradict each other.
    """
    for option in options:
        if option.startswith(f"model.{AXIS}.") and option != BERT_PATH:
            raise GitbenchError(
                f"{option} cannot be overridden, the arms decide it: only {BERT_PATH} can, another BERT"
            )
    source = options.pop(BERT_PATH, None)
    if source is not None:
        named = [{**common, **arm.variants}.get(AXIS, "random") for arm in arms]
        if all(resolve(AXIS, name).source != "bert" for name in named):
            raise GitbenchError(
                f"{BERT_PATH}: no arm of {ablation} starts from BERT: leave it out, or run the ablation decoder_init"
            )
        folder = Path(str(source)).expanduser()
        named_here = str(source) != MINILM and folder.is_dir()
        profile = dataclasses.replace(profile, bert=str(folder.resolve()) if named_here else str(source))
    text = resolve("text", common.get("text", "own"))
    own = text.tokenizer == "own"
    if own and tokenizer_path is None:
        return profile
    if not own and tokenizer_path is not None:
        raise GitbenchError(
            f"--tokenizer {tokenizer_path}: {ablation} uses the tokenizer of its BERT: pass the BERT's folder as "
            f"--cfg-options {BERT_PATH}=FOLDER"
        )
    changed = dataclasses.replace(profile.text, tokenizer=tokenizer_path or profile.bert, subset=text.subset)
    return dataclasses.replace(profile, text=changed)


def with_word_count(profile: Profile, tokenizer: CaptionTokenizer) -> Profile:
    """Return the profile with the number of word pieces that were kept, where its text keeps some of a BERT's."""
    if not profile.text.subset:
        return profile
    return dataclasses.replace(profile, text=dataclasses.replace(profile.text, vocab_size=tokenizer.vocab_size))


def bert_suffix(profile: Profile, given: Profile) -> str:
    """Return what a study's name ends in where the options name another BERT than the profile `given`: its content."""
    return "" if profile.bert == given.bert else f"+bert-{fingerprint(bert_folder(profile.bert))[:6]}"


def decoder_start(init: DecoderInitSpec, profile: Profile, tokenizer: CaptionTokenizer) -> DecoderInitSpec:
    """Return a start with its BERT named and described; one without a BERT is returned as it is.

    Errors: a BERT that is not there or none that GIT's decoder could be, or that lacks a piece of the tokenizer.
    """
    if init.source == "random":
        return init
    found = described(init.path or profile.bert)
    assert found.path is not None
    rows_of(tokenizer, from_bert(found.path))
    return found


def check_shape(arm: str, init: DecoderInitSpec, config: Config) -> None:
    """Raise GitbenchError for a run whose decoder, options applied, cannot take the weights of its BERT."""
    if init.source == "random" or init.path is None:
        return
    decoder = DecoderSpec(**{field: value for field, value in config.model.decoder.items() if field != "type"})
    whole = decoder_spec(read_config(bert_folder(init.path)))
    same = (decoder.width, decoder.heads, decoder.ffn) == (whole.width, whole.heads, whole.ffn)
    if not same or decoder.layers > whole.layers or decoder.max_positions > whole.max_positions:
        raise GitbenchError(
            f"arm '{arm}' has a decoder of {_shape(decoder)}, and the BERT {init.path} has {_shape(whole)}: take a "
            "decoder as wide, with as many heads, and at most as deep (--cfg-options model.decoder.width=..., or a variant)"
        )


def _shape(spec: DecoderSpec) -> str:
    return f"{spec.layers} x {spec.width}, {spec.heads} heads, feed-forward {spec.ffn}, {spec.max_positions} text positions"
