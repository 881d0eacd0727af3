"""The values of the Define layer: what is to be trained, on what, and what is claimed about it.

Frozen keyword-only dataclasses and nothing else: no behaviour, no torch. An `Ablation` (one file in
`ablations/`) is a base, an axis, arms and claims; planning crosses its arms with a `Profile` (how large),
a data set and replicates into `RunSpec`s, and one `RunSpec` is one training run in one folder.
Names of variants are resolved to their values before a run key is computed, so a display name can change
without invalidating a result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# Enters every run key: raise it when a change alters the numbers a run produces.
NUMERICS_VERSION = 4

# The scores a claim may be about, as `gitbench.metrics` names them; all but the likelihood are on the papers' scale (x 100).
_CAPTION_METRICS = ("CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "SPICE", "SceneF1")
METRICS = (*_CAPTION_METRICS, "VQA", "EM", "accuracy", "accuracy-closed", "test_nll")


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """A CLIP-shaped ViT (official `CLIP/model.py`): norm before the blocks, QuickGELU, all tokens kept."""

    width: int
    layers: int
    heads: int
    patch: int
    image_size: int  # pixels; the grid that the position embedding is made for
    mlp_ratio: float = 4.0


@dataclass(frozen=True, kw_only=True)
class DecoderSpec:
    """A text decoder over image and text tokens (official `layers/decoder.py`)."""

    attention: Literal["self", "cross"] = "self"
    layers: int
    width: int
    heads: int
    ffn: int  # hidden units of the feed-forward part
    dropout: float = 0.1
    max_positions: int = 1024


@dataclass(frozen=True, kw_only=True)
class VisionSpec:
    """What the model sees: the image, a blurred one, or nothing (the blind floor, every pixel at the mean)."""

    blind: bool = False
    blur: float = 0.0  # sigma of a Gaussian in pixels of the model's image; 0: as it is


@dataclass(frozen=True, kw_only=True)
class AmountSpec:
    """How many training images: None is the profile's own number. Smaller amounts are the first images of larger ones."""

    images: int | None = None


@dataclass(frozen=True, kw_only=True)
class EncoderTrainingSpec:
    """What captioning does to the image encoder: trains it, at which share of the decoder's rate, or leaves it alone."""

    frozen: bool = False  # no gradient, eval mode, features computed once per image
    lr_ratio: float | None = None  # encoder rate / decoder rate; None: the profile's own rates (1:5)


@dataclass(frozen=True, kw_only=True)
class ContrastiveSpec:
    """The recipe of contrastive pre-training (stage i of the paper, p. 4) and its text encoder, which is thrown away."""

    iterations: int
    batch_images: int  # each image with one caption; the others of the batch are its negatives
    lr: float
    warmup: int
    width: int  # of the text encoder
    layers: int
    embedding: int  # dimensions of the space in which images and captions meet
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip_grad: float = 1.0
    temperature: float = 0.07  # at the start, as CLIP; learned


@dataclass(frozen=True, kw_only=True)
class EncoderInitSpec:
    """Where the image encoder's first values come from; a contrastive recipe of None is the profile's.

    `path`, for "file", is a file of weights or a name of timm's with its tag, which stands for one content.
    """

    source: Literal["random", "contrastive", "file"] = "random"
    recipe: ContrastiveSpec | None = None
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class DecoderInitSpec:
    """Where the text decoder's first values come from. `path` of "bert" is a folder, "minilm" or a hub name; None: the
    profile's BERT. The other fields are what planning finds there: facts of the checkpoint, which stand in for its path.
    """

    source: Literal["random", "bert"] = "random"
    path: str | None = None
    content: str | None = None  # hash of its config and weights
    layers: int = 0  # of the BERT; a decoder takes the first ones
    vocab_size: int = 0  # of the BERT; a tokenizer that was cut down takes some of its word rows
    head_bias: bool = False  # whether it has the bias of the masked-language head, which becomes GIT's


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """How much of a data set, at what size. A limit of None takes the whole split."""

    image_size: int
    train_images: int | None = None
    val_images: int | None = None
    test_images: int | None = None
    vocabulary_images: int | None = None  # images whose captions train the tokenizer; None: the training images
    crop_scale: tuple[float, float] | None = None  # RandomResizedCrop area range; None: no augmentation
    workers: int = 0  # data-loading processes; never enters a run key


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """Tokenizer and lengths. `tokenizer` is "wordpiece" (trained on the training captions) or a BERT name or path."""

    tokenizer: str = "wordpiece"
    vocab_size: int = 512
    max_tokens: int = 40  # payload tokens, without [CLS] and [SEP] (official `max_text_len`)
    subset: bool = False  # of a BERT tokenizer keep only the pieces that the training captions use


@dataclass(frozen=True, kw_only=True)
class TextChoiceSpec:
    """Whose word pieces all runs of a study use: the profile's own, or those of its BERT, all or as far as they are used."""

    tokenizer: Literal["own", "bert"] = "own"
    subset: bool = False


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """What the model is asked for. All tasks are text generation: they differ in what is given and what is said.

    "caption": a caption; "vqa": the answer to a question, which is given as a prefix; "video": the caption of a film of
    `frames` frames; "classify": the name of a class; "read": the text in the image.
    """

    name: Literal["caption", "vqa", "video", "classify", "read"] = "caption"
    frames: int = 0  # of a film; 0: still images


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """The recipe. The paper keeps encoder and decoder learning rates at 1:5 (p. 6) and decays both to 0 by cosine."""

    iterations: int
    batch_images: int
    captions_per_image: int = 5  # captions of an image used in a step; they share its image stream
    lr_encoder: float
    lr_decoder: float
    warmup: int
    weight_decay: float = 0.01  # the author's value, issue 41 of the official repository
    betas: tuple[float, float] = (0.9, 0.999)
    clip_grad: float = 1.0
    label_smoothing: float = 0.1
    val_every: int = 0  # iterations between validations; 0: only at the end
    checkpoint_every: int = 200  # iterations; enters no run key: a resumed run is bit-identical


@dataclass(frozen=True, kw_only=True)
class EvaluateSpec:
    """Generation at test time; beam 4 and length penalty 0.6 are the official values."""

    beam_size: int = 4
    length_penalty: float = 0.6
    max_length: int = 20  # ids with [CLS] and [SEP] (official `max_steps`)
    batch_images: int = 64


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How large: everything about a run except the axis an ablation varies."""

    name: str
    doc: str
    encoder: str  # names of variants
    decoder: str
    data: DataSpec
    text: TextSpec
    train: TrainSpec
    evaluate: EvaluateSpec
    contrastive: ContrastiveSpec  # for the arms whose encoder starts from it
    replicates: int
    run_seconds: float  # one run on the machine the profile is made for; a first guess for --dry-run only
    gpu_gib: float  # memory a run needs on a GPU, for packing several onto one
    frames: int = 6  # of a film, in the task "video"; 6 in every released video model
    bert: str = "minilm"  # the BERT of arms that start from one: a folder, "minilm" or a hub name


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One side of a comparison: a name, and the variants in which it differs from the base (axis -> variant)."""

    name: str
    variants: Mapping[str, str]
    role: Literal["arm", "floor"] = "arm"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of the paper, as a value that can be judged.

    `margin` is stated beforehand: in the metric's unit, or (`margin_unit="range"`) as a share of the distance from
    the blind floor to the ceiling. For "not_better", `treatment` must not exceed `reference` by more than the margin.
    An "interaction" compares two gains: from `treatment_from` to `treatment`, and from `reference_from` to `reference`;
    the first must exceed the second. A "trend" is the slope of the metric over `along`, arms with their place x in rising
    order, from `reference` to `treatment`; it must exceed the margin in its `direction`. A "threshold" is about one arm,
    `treatment`, whose mean must lie beyond `level` (by the margin) in its `direction`.
    """

    name: str
    kind: Literal["better", "not_better", "equivalent", "interaction", "trend", "threshold"]
    metric: str
    treatment: str
    reference: str = ""  # a threshold has none
    margin: float
    margin_unit: Literal["metric", "range"]  # of a trend: for each 1 of x
    margin_reason: str
    says: str  # what the paper says, in one sentence of ours
    quote: str  # a short quotation
    where: str  # page or table
    confidence: str  # S seen, SQ seen as quotation, D digitised, H second-hand
    treatment_from: str | None = None  # of an interaction only: where each of the two gains starts
    reference_from: str | None = None
    along: tuple[tuple[str, float], ...] = ()  # of a trend only: (arm, x), the same x in every profile
    along_unit: str = "step"  # what 1 of x is: "step", "doubling of the images"
    level: float | None = None  # of a threshold only
    level_unit: Literal["metric", "range"] = "metric"  # a range is a share of the way from floor to ceiling
    direction: Literal["up", "down"] = "up"  # of a trend or threshold, in the metric's own numbers
    test: Literal["t", "sign_flip"] = "t"  # which test decides; the exact one needs at least 5 seeds
    family: str | None = None  # claims that are corrected together; None: those of the ablation

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that the claim rests on."""
        between = tuple(arm for arm, _ in self.along[1:-1])
        sides = (self.treatment, self.reference, self.treatment_from, self.reference_from, *between)
        return tuple(side for side in sides if side)


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A question, the axis it varies, the arms per profile, and the claims it judges.

    `crossed_with` names a second axis over which the whole comparison is repeated (the amount of data, say);
    `common` holds the variants in which all arms, the blind floor too, depart from the profile: one variant for every
    profile, or profile -> variant (a profile that is not named keeps its own).
    """

    name: str
    title: str
    question: str
    axis: str
    arms: Mapping[str, tuple[Arm, ...]]  # profile -> arms; the arm named `base` carries the profile's own variant
    claims: tuple[Claim, ...] = ()
    base: str = "base"
    crossed_with: str | None = None
    common: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)  # axis -> variant
    varies: tuple[str, ...] = ()  # fields of the axis in which arms may differ from the base; none named: all of them


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training run: variant values already resolved, names kept for the config file only."""

    encoder: EncoderSpec
    decoder: DecoderSpec
    vision: VisionSpec
    data_name: str
    data: DataSpec
    text: TextSpec
    train: TrainSpec
    evaluate: EvaluateSpec
    replicate: int
    encoder_training: EncoderTrainingSpec = EncoderTrainingSpec()  # its ratio is resolved into the rates of `train`
    encoder_init: EncoderInitSpec = EncoderInitSpec()
    decoder_init: DecoderInitSpec = DecoderInitSpec()
    task: TaskSpec = TaskSpec()
    variant_names: Mapping[str, str] = field(default_factory=dict)  # axis -> name, for config.py; not in the key
    cfg_options: Mapping[str, Any] = field(default_factory=dict)  # --cfg-options; in the key when not empty


# Younger than some results: they enter a run's key where they are not the default.
_YOUNGER = ("encoder_training", "encoder_init", "decoder_init", "task")


def canonical(spec: RunSpec) -> dict[str, Any]:
    """Return the part of a spec that decides its result, as plain JSON values.

    Worker counts, checkpoint intervals, paths and display names are left out.
    """
    values = dataclasses.asdict(spec)
    del values["variant_names"], values["data"]["workers"], values["train"]["checkpoint_every"]
    del values["data_name"]  # the data's fingerprint stands in for its name, and a tokenizer's content for its path
    if values["text"]["tokenizer"] != "wordpiece":
        values["text"]["tokenizer"] = "given"
    if not values["text"]["subset"]:  # the field is younger than some results
        del values["text"]["subset"]
    del values["decoder_init"]["path"]  # its content stands in for it
    if not values["cfg_options"]:
        del values["cfg_options"]
    if not values["vision"]["blur"]:  # the field is younger than some results
        del values["vision"]["blur"]
    if values["data"]["vocabulary_images"] is None:  # the field is younger than some results
        del values["data"]["vocabulary_images"]
    for part in _YOUNGER:
        if getattr(spec, part) == RunSpec.__dataclass_fields__[part].default:
            del values[part]
    return json.loads(json.dumps(values, sort_keys=True))


def run_key(spec: RunSpec, data_fingerprint: str) -> str:
    """Hash what decides a run's result: canonical spec, data content and numerics version. 16 hex digits."""
    payload = {"spec": canonical(spec), "data": data_fingerprint, "numerics": NUMERICS_VERSION}
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:16]
