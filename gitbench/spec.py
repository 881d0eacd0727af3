"""The values of the Define layer: what is to be trained, on what, and what is claimed about it.

Frozen keyword-only dataclasses; no torch. An `Ablation` (one file in `ablations/`) is a base, an axis, arms and claims.
Planning crosses its arms with a `Profile` (how large), a data set and replicates into a `gitbench.plan.Plan`, whose runs
have a `RunSpec` each: one training run in one folder. The specs of the axes are in `gitbench.variants`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# The scores a claim may be about, as `gitbench.metrics` names them; all but the likelihood are on the papers' scale (x 100).
_CAPTION_METRICS = ("CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "SPICE", "SPIDEr", "SceneF1")
FALSE_SHARES = ("CHAIRs", "CHAIRi", "false-attributes", "false-relations")  # of what a caption of a scene says
METRICS = (*_CAPTION_METRICS, *FALSE_SHARES, "VQA", "EM", "accuracy", "accuracy-closed", "test_nll")


# The margin of every claim that states no other: a share of what the base arm learned, its score less the blind floor's.
MARGIN = 0.1
OURS = "O"  # how a claim is known that no paper makes: its `quote` is our reason to expect it
LARGEST_MARGIN = 0.2  # of what was learned: a larger difference cannot pass for one that does not matter


def unkeyed(default: Any) -> Any:
    """Return a dataclass field that never enters a run key: it changes no result, or something else stands in for it."""
    return field(default=default, metadata={"keyed": False})


@dataclass(frozen=True, kw_only=True)
class PretrainSpec:
    """The recipe by which an image encoder is pre-trained, stage i of the paper (p. 4).

    "contrastive": images and captions find each other, with a text encoder (CLIP; `loss` "sigmoid": SigLIP).
    "supervised": the facts of a scene are named. "masked": hidden patches are painted, with a decoder (He et al. 2022).
    What helps the encoder is thrown away: `width` and `layers` are the text encoder's or the decoder's.
    """

    objective: Literal["contrastive", "supervised", "masked"] = "contrastive"
    images: int  # the first of the data's pre-training split
    iterations: int
    batch_images: int  # each with one of its captions, chosen at random
    lr: float
    warmup: int
    width: int
    layers: int
    embedding: int = 64  # dimensions of the space in which images and captions meet
    pooling: Literal["class", "attention"] = (
        "class"  # an image is its class token, or what a learned query takes of all
    )
    loss: Literal["infonce", "sigmoid"] = "infonce"
    temperature: float = 0.07  # of InfoNCE at the start, as CLIP; learned
    hidden: float = 0.75  # share of the patches that "masked" hides
    vocab_size: int = 2000  # of the word pieces, trained on captions of the same images
    max_tokens: int = 24
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip_grad: float = 1.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """How much of a data set, at what size. A limit of None takes the whole split."""

    image_size: int
    train_images: int | None = None
    val_images: int | None = None
    test_images: int | None = None
    vocabulary_images: int | None = None  # images whose captions train the tokenizer; None: the training images
    crop_scale: tuple[float, float] | None = None  # RandomResizedCrop area range; None: no augmentation
    # data-loading processes of training, where a GPU does not hold its images, and of pre-training
    workers: int = unkeyed(0)


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """Tokenizer and lengths. `tokenizer` is "wordpiece" (trained on the training captions) or a BERT name or path.

    The content of a BERT's tokenizer is part of the study's data fingerprint, which stands in for its name in run keys.
    """

    tokenizer: str = unkeyed("wordpiece")
    vocab_size: int = 512
    max_tokens: int = 40  # payload tokens, without [CLS] and [SEP] (official `max_text_len`)
    subset: bool = False  # of a BERT tokenizer keep only the pieces that the training captions use


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
    checkpoint_every: float = unkeyed(120.0)  # seconds of training; a resumed run is bit-identical
    looks: int = unkeyed(0)  # validation images whose texts are written down at each validation


@dataclass(frozen=True, kw_only=True)
class EvaluateSpec:
    """Generation at test time; beam 4 and length penalty 0.6 are the official values."""

    beam_size: int = 4
    length_penalty: float = 0.6
    max_length: int = 20  # ids with [CLS] and [SEP] (official `max_steps`)
    batch_images: int = 64


@dataclass(frozen=True, kw_only=True)
class Compute:
    """What computes a run, and in which type its training multiplies matrices: results of others are not mixed with it.

    Weights, optimizer and loss are float32, and so are likelihoods and captions, whatever the precision. `world_size`
    processes, on GPUs each with a card of its own, share every batch of `TrainSpec.batch_images`: their dropout is another,
    and sums are made in another order. `cuda_graph`: training steps are recorded, to the same bits (`gitbench.training.graph`).
    `micro_batch`: a batch of more images goes through the model in parts of so many, whose gradients are added (0: at once):
    sums are made in another order, and dropout is drawn for each part. `checkpointing`: what blocks keep for the backward pass
    is computed again instead, to the same bits (`gitbench.models.recompute`).
    """

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    world_size: int = 1
    cuda_graph: bool = unkeyed(False)
    micro_batch: int = 0
    checkpointing: bool = unkeyed(False)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How large: everything about a run except the axis an ablation varies."""

    name: str
    doc: str
    variants: Mapping[str, str]  # axis -> name of its variant here; other axes have their own default
    on_scenes: Mapping[str, str] = field(default_factory=dict)  # the same, on the embedded world alone
    data: DataSpec
    text: TextSpec
    train: TrainSpec
    evaluate: EvaluateSpec
    pretraining: PretrainSpec  # of the encoders that arms start from
    replicates: int
    run_seconds: float  # one run on the machine the profile is made for; a first guess for --dry-run only
    device: Literal["cpu", "cuda"] = unkeyed("cpu")  # what it is made for, and runs on if nothing else is asked for
    frames: int = 6  # of a film, in the task "video"; 6 in every released video model
    encoder: str | None = None  # weights given for the image encoder, instead of the start that the profile names
    start: Any = None  # facts of the checkpoint (`variants.start.Checkpoint`) from which all weights start
    mark: str = unkeyed("")  # what tells its studies from others of its name: sizes that were asked for
    bert: str = "minilm"  # the BERT of arms that start from one: a folder, "minilm" or a hub name
    rates: tuple[float, ...] = (
        1.0,
    )  # factors of both learning rates, of which each arm's is chosen; one: none is chosen


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One side of a comparison: a name, and the variants in which it differs from the base (axis -> variant)."""

    name: str
    variants: Mapping[str, str]
    role: Literal["arm", "floor"] = "arm"
    seeds: int | None = None  # at most so many; 1 of an arm in which nothing is drawn


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of the paper, or what a `choice` of it seems to say, as a value that can be judged.

    `margin` is the difference that matters: a share of what the base arm learned (its score less the blind floor's), or
    (`margin_unit="metric"`) a number of the metric. For "not_better", `treatment` must not exceed `reference` by more. An
    "interaction" compares two gains, from `treatment_from` to `treatment` and from `reference_from` to `reference`. A
    "trend" goes `along` its arms, from `reference` to `treatment`, in its `direction`: at every step, and by the margin in
    all. `control` names two arms of which the first must gain over the second, or the claim cannot be tested.
    """

    name: str
    kind: Literal["better", "not_better", "equivalent", "interaction", "trend"]
    metric: str
    treatment: str
    reference: str
    says: str  # what the paper says, in one sentence of ours
    quote: str  # a short quotation
    where: str  # page or table
    confidence: str  # S seen, SQ seen as quotation, D digitised, H second-hand, O ours
    choice: bool = False  # the paper does so, and no measurement of it was found: the claim is this project's reading
    treatment_from: str | None = None  # of an interaction only: where each of the two gains starts
    reference_from: str | None = None
    along: tuple[str, ...] = ()  # of a trend only: its arms in order
    direction: Literal["up", "down"] = "up"  # of a trend, in the metric's own numbers
    control: tuple[str, str] | None = None  # a positive control: (treatment, reference)
    margin: float = MARGIN
    margin_unit: Literal["learned", "metric"] = "learned"
    margin_reason: str = ""  # why another margin than 10 % of what was learned

    @property
    def compared(self) -> tuple[str, ...]:
        """The arms whose difference, gains or trend it is about."""
        sides = (self.treatment, self.reference, self.treatment_from, self.reference_from, *self.along[1:-1])
        return tuple(side for side in sides if side)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms of the ablation that it names: those compared, and its control's."""
        return tuple(dict.fromkeys((*self.compared, *(self.control or ()))))


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
    arms: Mapping[str, tuple[Arm, ...]]  # profile -> arms; the blind floor is the one named `base`, without sight
    claims: tuple[Claim, ...] = ()
    base: str = "base"
    crossed_with: str | None = None
    common: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)  # axis -> variant
    replicates: Mapping[str, int] = field(
        default_factory=dict
    )  # profile -> seeds of an arm, where not the profile's own
    floor: bool = True  # whether the base is also trained without sight
    task: str | None = None  # the one task that it can be asked of; None: any, captions where none is named
    # profile -> the `--start` and the `--data` that it has where neither is named
    starts_on: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    varies: tuple[str, ...] = ()  # fields of the axis in which arms may differ from the base; none named: all of them

    def common_variants(self, profile: str) -> dict[str, str]:
        """Return axis -> variant that all arms share in a profile."""
        found = {axis: name if isinstance(name, str) else name.get(profile) for axis, name in self.common.items()}
        return {axis: name for axis, name in found.items() if name is not None}

    def starts(self, profile: Profile, on_scenes: bool) -> dict[str, str]:
        """Return axis -> variant where an arm names none: the profile's (its own for scenes), and what all arms share."""
        here = profile.on_scenes if on_scenes else {}
        return {**profile.variants, **here, **self.common_variants(profile.name)}

    def replicates_in(self, profile: Profile) -> int:
        """Return how many seeds an arm has in a profile."""
        return self.replicates.get(profile.name, profile.replicates)


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training run, every value resolved."""

    variants: Mapping[str, Any]  # axis -> its spec (`gitbench.variants`)
    data_name: str = unkeyed("scenes")  # a registered name or a folder; the data's fingerprint stands in for it
    data: DataSpec
    text: TextSpec
    train: TrainSpec
    evaluate: EvaluateSpec
    replicate: int
    seed_root: str = ""  # what the seeds of all replicates of a study derive from (`study.lock.seed_root`); "": nothing
    task: TaskSpec = TaskSpec()
    variant_names: Mapping[str, str] = field(default_factory=dict, metadata={"keyed": False})  # axis -> name
    cfg_options: Mapping[str, Any] = field(default_factory=dict)  # --cfg-options
    tuning: bool = False  # ends with its validation likelihood: no test image is opened, nothing is captioned
    compute: Compute = Compute()
