"""Caption image files with a checkpoint: a finished run's, an official one, or one of Hugging Face.

Each format is given its photographs in its own way (`gitbench.data.image_processor`) and its own tokenizer; the search
is the official one for all three. As in the official code, a question is cut to 40 tokens and then to its last 38, and
stands between [CLS] and the answer; a single image shown to a video model gets no temporal embedding.

N images of H x W pixels, F frames.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gitbench.data.bert_folder import MINILM, TOKENIZER_FILES
from gitbench.data.dataset import prefix_ids
from gitbench.data.image_processor import (
    ImageProcessor,
    folders_of,
    huggingface_processor,
    official_parameters,
    official_processor,
    square_processor,
)
from gitbench.data.pictures import decode_image, read_image_file
from gitbench.data.tokenizer import CaptionTokenizer, from_bert
from gitbench.errors import GitbenchError
from gitbench.models.checkpoint import (
    GITBENCH,
    HUGGINGFACE,
    check_finite,
    checkpoint_files,
    format_of,
    plain_names,
    read_checkpoint,
)
from gitbench.models.git import GIT
from gitbench.models.huggingface_config import check_ids, read_config
from gitbench.models.weights import from_huggingface, from_official
from gitbench.run_folder import RunFolder
from gitbench.tasks import QUESTION_TOKENS, TASKS
from gitbench.training.device import deterministic
from gitbench.training.frozen import FrozenEncoder
from gitbench.training.run import load_run

MOST_TOKENS = 1024  # `max_steps` of the official search
OWN = "gitbench"  # the key under which `gitbench export` writes what the others' files have no field for
# The sha256 of bert-base-uncased's vocab.txt: 30,522 lines, [PAD] 0, [CLS] 101, [SEP] 102.
BERT_VOCABULARY = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
_WORDS = ("embedding.words.weight", "word_embeddings.weight")  # endings of the word embedding's name

Loaded = tuple[GIT, ImageProcessor, dict[str, Any], dict[str, Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Captioner:
    """A model in eval mode with all that it takes to caption photographs."""

    git: GIT
    tokenizer: CaptionTokenizer
    rule: ImageProcessor
    generation: dict[str, Any]  # arguments of `GIT.generate`
    task: str | None = None  # what it was trained for, where that is known
    max_tokens: int | None = None  # of a text that it was trained on, without [CLS] and [SEP]; likewise

    def caption(self, images: Tensor, beam_size: int = 4, question: str | None = None) -> str:
        """Caption one image (1, 3, H, W) or video (1, F, 3, H, W) as `captions` does."""
        return self.captions(images, beam_size, question)[0]

    def captions(
        self, images: Tensor, beam_size: int = 4, question: str | None = None, greedy: bool = False
    ) -> list[str]:
        """Caption images (N, 3, H, W) or videos (N, F, 3, H, W) of normalised pixels; a question: answer it."""
        prefix, device = prefix_ids(self.tokenizer, question or "", QUESTION_TOKENS), self.git.head_bias.device
        options = {**self.generation, "beam_size": beam_size, "greedy": greedy}
        if options["max_length"] <= len(prefix):  # a captioner that is asked a long question
            options["max_length"] += len(prefix)
        options["max_length"] = min(options["max_length"], self.git.decoder.spec.max_positions)
        with torch.inference_mode():
            start = torch.tensor([prefix] * len(images), device=device)
            sequences, _ = self.git.generate(images.to(device), prefix=start, **options)
        return [self.tokenizer.decode(each) for each in sequences[:, len(prefix) :].tolist()]

    def pixels(self, path: Path) -> Tensor:
        """Read and prepare an image file: (3, H, W)."""
        photograph = decode_image(read_image_file(path, str(path)), str(path), self.rule.upright)
        return torch.from_numpy(self.rule.pixels(photograph).copy())


def load_captioner(weights: Path, tokenizer: str | None = None, device: str = "cpu") -> Captioner:
    """Load a checkpoint of any format from a folder or file, in eval mode and float32 on a device, "cpu" or "cuda".

    `tokenizer` (hub name, folder or file) replaces the checkpoint's own; one that has none beside it, as the official
    releases, gets BERT's. Errors: GitbenchError for what cannot be loaded, and where torch sees no GPU for "cuda".
    """
    if device == "cuda":
        if not torch.cuda.is_available():
            raise GitbenchError("--device cuda: torch finds no GPU here: leave it out, or see `gitbench doctor`")
        deterministic()
    given = from_bert(tokenizer) if tokenizer else None
    state, file = read_checkpoint(weights)
    state = plain_names(state)
    try:
        kind = format_of(state)
        if given is not None:
            words = given
        elif kind == GITBENCH:
            words = CaptionTokenizer.load(RunFolder(file.parent).tokenizer)
        else:
            beside = (folder / name for folder in folders_of(file) for name in TOKENIZER_FILES)
            own = next((found for found in beside if found.is_file()), None)
            words = bert_base_uncased() if own is None else from_bert(str(own))
        ids = {"pad_id": words.pad_id, "bos_id": words.bos_id, "eos_id": words.eos_id}
        rows = next((len(value) for name, value in state.items() if name.endswith(_WORDS)), words.vocab_size)
        if rows != words.vocab_size:
            raise GitbenchError(
                f"the word embedding has {rows} rows and the tokenizer {words.vocab_size} entries: pass "
                "--tokenizer with the one it was trained with"
            )
        git, rule, generation, texts = _load(kind, file, state, ids)
        check_finite(git.float().state_dict())
    except GitbenchError as error:
        named = f"{file.parent}/" in str(error) or str(file) in str(error)
        raise error if named else GitbenchError(f"{file}: {error}") from None
    return Captioner(git=git.to(device), tokenizer=words, rule=rule, generation=generation, **texts)


def _load(kind: str, file: Path, state: dict[str, Tensor], ids: dict[str, int]) -> Loaded:
    """Build the model of a checkpoint: with its rule for photographs, the arguments of `GIT.generate`, and what is known of
    the texts that it was trained on (`task`, `max_tokens`).
    """
    if kind == GITBENCH:
        model, _ = load_run(file)
        git = model.git
        trained = {"pad_id": git.pad_id, "bos_id": git.bos_id, "eos_id": git.eos_id}
        if trained != ids:
            raise GitbenchError(
                f"the model was trained with the ids {trained} and the tokenizer has {ids}: leave --tokenizer out"
            )
        return git, square_processor(git.encoder.spec.image_size), model.generation, model.texts
    if kind == HUGGINGFACE:
        config = read_config(file.parent)
        check_ids(config, ids)
        git = from_huggingface(state, config=config, **ids)
        rule = huggingface_processor(file.parent, git.encoder.spec.image_size)
        return _alone(git, config), _turned(rule, config), _search(config), _noted(config, "task", "max_tokens")
    parameters = official_parameters(file)
    git = from_official(state, **_noted(parameters, "encoder_heads", "decoder_heads", "dropout"), **ids)
    frames = parameters.get("num_image_with_embedding", git.num_frames)
    if frames != git.num_frames:
        raise GitbenchError(
            f"{file} has temporal embeddings for {git.num_frames} frames and its parameter.yaml says {frames}: the two "
            "are of different models"
        )
    rule = official_processor(parameters, git.encoder.spec.image_size)
    texts = _noted(parameters, "task", "max_tokens")
    return _alone(git, parameters), _turned(rule, parameters), _search(parameters), texts


def _turned(rule: ImageProcessor, values: Mapping[str, Any]) -> ImageProcessor:
    """Return a rule that turns photographs as an export notes it."""
    return dataclasses.replace(rule, **_noted(values, "upright"))


def _search(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `GIT.generate`: the official ones, where an export notes no others."""
    return {"max_length": MOST_TOKENS, **_noted(values, "max_length", "length_penalty", "beam_size")}


def _alone(git: GIT, values: Mapping[str, Any]) -> GIT:
    """Give a model the encoder that sees each image by itself on CPUs, where an export notes that it was trained with it."""
    if _noted(values, "encoder_batch"):
        state = git.encoder.state_dict()
        git.encoder = FrozenEncoder(git.encoder.spec)
        git.encoder.load_state_dict(state)
    return git


def _noted(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return what `gitbench export` noted under its own key in a config.json or parameter.yaml. Errors: another kind of value."""
    noted = values.get(OWN, {})
    if not isinstance(noted, Mapping):
        raise GitbenchError(f"{OWN} is {noted!r} beside the weights, and no mapping: export them again")
    found = {name: noted[name] for name in names if name in noted}
    for name, value in found.items():
        kind, right = "whole number from 1 up", type(value) is int and value > 0
        if name == "upright":
            kind, right = "true or false", isinstance(value, bool)
        elif name == "task":
            kind, right = "task", isinstance(value, str) and value in TASKS
        elif name == "dropout":
            kind, right = "share from 0 to below 1", type(value) in (int, float) and 0 <= value < 1
        elif name == "length_penalty":
            kind, right = "number", type(value) in (int, float) and math.isfinite(value)
        if not right:
            raise GitbenchError(f"{OWN}.{name} is {value!r} beside the weights, and no {kind}: export them again")
    return found


def bert_base_uncased() -> CaptionTokenizer:
    """Return the tokenizer of the official models, `bert-base-uncased`.

    The package that carries MiniLM carries the same vocabulary: where it is installed and its content is BERT's to the
    last byte, it is used, and nothing is fetched. Otherwise the Hugging Face hub is asked.
    """
    try:
        carried = from_bert(MINILM)
    except GitbenchError:
        return from_bert("bert-base-uncased")
    return carried if has_berts_vocabulary(carried) else from_bert("bert-base-uncased")


def has_berts_vocabulary(tokenizer: CaptionTokenizer) -> bool:
    """Tell whether a tokenizer's tokens are those of bert-base-uncased, in their order."""
    content = "".join(f"{token}\n" for token in tokenizer.tokens())
    return hashlib.sha256(content.encode()).hexdigest() == BERT_VOCABULARY


def caption_files(
    paths: Sequence[Path],
    weights: Path,
    beam_size: int = 4,
    *,
    tokenizer: str | None = None,
    question: str | None = None,
    greedy: bool = False,
    batch: int = 1,
    unreadable: list[str] | None = None,
    device: str = "cpu",
) -> Iterator[tuple[Path, str]]:
    """Yield (path, caption or answer) of each image, in order; up to `batch` neighbours of one size are captioned together.

    What is wrong with an image that cannot be read is added to `unreadable`, and the image is left out; without such a
    list it is an error. Errors: one line for images, for weights, and for a tokenizer that does not fit.
    """
    _check_files(paths, weights)
    captioner = load_captioner(weights, tokenizer, device)
    for some, images in _batches(captioner, paths, batch, unreadable):
        yield from zip(some, captioner.captions(images, beam_size, question, greedy), strict=True)


def caption_video(
    paths: Sequence[Path],
    weights: Path,
    beam_size: int = 4,
    *,
    tokenizer: str | None = None,
    question: str | None = None,
    greedy: bool = False,
    device: str = "cpu",
) -> str:
    """Return the caption of a video, or the answer about it; its frames are image files, in order. Errors as above."""
    _check_files(paths, weights)
    captioner = load_captioner(weights, tokenizer, device)
    video = [captioner.pixels(path) for path in paths]
    for path, frame in zip(paths, video, strict=True):
        if frame.shape != video[0].shape:
            sizes = " and ".join(f"{frame.shape[1]} x {frame.shape[2]}" for frame in (video[0], frame))
            raise GitbenchError(f"{path}: the frames of a video differ in size ({sizes}): pass frames of one video")
    return captioner.captions(torch.stack(video)[None], beam_size, question, greedy)[0]


def _check_files(paths: Sequence[Path], weights: Path) -> None:
    """Say what is missing before the weights are read, which takes longest."""
    checkpoint_files(weights)
    for path in paths:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise GitbenchError(f"{path} {what}: pass image files")


def _batches(
    captioner: Captioner, paths: Sequence[Path], most: int, unreadable: list[str] | None
) -> Iterator[tuple[list[Path], Tensor]]:
    """Yield images and their pixels (N, 3, H, W), in order; a batch ends at `most` images, or where the size changes."""
    some: list[Path] = []
    images: list[Tensor] = []
    for path in paths:
        try:
            pixels = captioner.pixels(path)
        except GitbenchError as error:
            if unreadable is None:
                raise
            unreadable.append(str(error))
            continue
        if images and (len(images) == most or pixels.shape != images[0].shape):
            yield some, torch.stack(images)
            some, images = [], []
        some.append(path)
        images.append(pixels)
    if images:
        yield some, torch.stack(images)
