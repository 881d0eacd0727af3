"""The memory that a run needs on a GPU, by formula: it decides how many runs share a card. No torch.

Counted is what lies on the card at the fullest moment of a training step, of captioning, and of the encoder's pre-training
where a run has to make it: parameters with gradients and AdamW's two moments, their copies in the compute type, what a
forward pass keeps for the backward pass, the vocabulary's scores, and a frozen encoder's features. Attention is fused, so
its weights are never written out; norms and losses are in float32, as autocast has them. `docs/tools/gpus.py` compares the
formula with a step of the real model; docs/gpus.md says how well it fits.

b bytes of a number of the compute type; s tokens an image, q text tokens an image (of all its texts, end to end), w encoder
width, d decoder width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from gitbench.errors import GitbenchError
from gitbench.plan import Plan, PlannedRun
from gitbench.study.config import ROW_MULTIPLE, make_config
from gitbench.variants.decoder import DecoderSpec, layer_parameters

if TYPE_CHECKING:
    from gitbench.study.store import Study

GIB = 2**30
# A process's CUDA context and kernels. Reported were 426 MiB (torch 2.10, RTX 6000 Ada; unslothai/unsloth-zoo#1053) and
# 616 MiB (LMCache/LMCache#4019); cuBLAS takes 32 MiB besides, as CUBLAS_WORKSPACE_CONFIG says.
CONTEXT_GIB = 0.65
# torch's allocator gives blocks larger than asked for, and leaves gaps: an assumption that no card has checked yet.
FRAGMENTATION = 1.15
FEATURE_LIMIT = 2 * GIB  # of what a frozen encoder made of a split (`gitbench.training.frozen`)
BUSY = 8  # images at a time that keep a card busy: assumed
STEPS_AHEAD = 24  # of a text search: steps for which it makes room at a time (`gitbench.models.cache`)

Config = Mapping[str, Any]


def measured_gib(study: Study, cards: Collection[str]) -> dict[str, float]:
    """Return arm -> the most GiB that its finished runs took of GPUs of these names, of the arms that have such runs.

    Those with CUDA graphs, which take more, say nothing about those without, and the other way round.
    """
    found: dict[str, float] = {}
    for run in study.plan.runs:
        record = (study.record(run.run_key) or {}) if study.done(run) else {}
        cost, compute = record.get("cost", {}), record.get("spec", {}).get("compute", {})
        alike = compute.get("cuda_graph", False) == study.plan.compute.cuda_graph
        if alike and cost.get("device") in cards and cost.get("peak_memory_bytes"):
            found[run.arm] = max(found.get(run.arm, 0.0), with_allowances(cost["peak_memory_bytes"]))
    return found


def planned_gib(plan: Plan, run: PlannedRun, pretrains: bool = False) -> float:
    """Return the GiB that a run takes of a GPU by formula, its context included."""
    config, texts, b = _sizes(plan, run)
    peak = peak_bytes(config, texts, b)
    return with_allowances(max(peak, pretraining_bytes(config, b)) if pretrains else peak)


def fit_plan(plan: Plan, gib: float) -> tuple[int, bool]:
    """Return what `fit` does for all runs of a plan, which are trained alike: the least of what they may have.

    Errors: as of `fit`.
    """
    found = [fit(*_sizes(plan, run), gib) for run in {run.arm: run for run in plan.runs}.values()]
    return min((micro for micro, _ in found if micro), default=0), any(again for _, again in found)


def _sizes(plan: Plan, run: PlannedRun) -> tuple[Config, int, int]:
    """Return the config of a run, the most text tokens in a batch, and the bytes of a number of its compute type."""
    spec = run.resolved
    texts = plan.text_tokens or spec.train.captions_per_image * (spec.text.max_tokens + 1)
    b = 4 if spec.compute.precision == "float32" else 2
    return make_config(spec, plan.vocabulary, run.run_key), -(-texts // ROW_MULTIPLE) * ROW_MULTIPLE, b


def with_allowances(peak: float) -> float:
    """Return the GiB that a process takes whose tensors are so many bytes at most."""
    return peak / GIB * FRAGMENTATION + CONTEXT_GIB


def peak_bytes(config: Config, text_tokens: int, b: int, trained: int | None = None) -> float:
    """Return the bytes of tensors at the fullest moment of training and captioning.

    config: of the run (`study.config`); text_tokens: q, the most in a batch; b: 2 or 4; trained: as of `training_bytes`.
    """
    steps = [training_bytes(config, text_tokens, b, trained) + resident_images_bytes(config)]
    if config["test_dataloader"] is not None:
        steps.append(captioning_bytes(config, text_tokens))
    return frozen_features_bytes(config, b) + max(steps)


def training_bytes(config: Config, text_tokens: int, b: int, trained: int | None = None) -> float:
    """Return the most that a training step holds: when the backward pass begins, or when all gradients are there.

    trained: parameters with gradients, where the encoder's training does not say it; their gradients flow through all layers.
    """
    model, compute, batch = config["model"], config["compute"], config["train_dataloader"]["batch_size"]
    images = min(batch, compute.get("micro_batch") or batch)
    decoder, d, w = model["decoder"], model["decoder"]["width"], model["encoder"]["width"]
    frozen, frames = model["encoder_training"]["frozen"], max(1, model["num_frames"])
    s = frames * _tokens(config)
    image = s * (1 if model["vision"]["blind"] else images)  # blind images are equal: one stands for all
    text = images * text_tokens
    block, again = _block(model["encoder"]["mlp_ratio"], b), bool(compute.get("checkpointing"))
    encoded = image * w * (b if frozen else model["encoder"]["layers"] * (4 if again else block) + 12 + b)
    encoded += _pixels(config, images * frames, 4 if frozen else b)
    projected = encoded + image * (4 + b) * d
    decoded = _checkpointed_bytes if again else _decoder_bytes
    kept = projected + decoded(decoder, b, image, text, images * s)
    kept += text * ((9 if decoder["dropout"] else 8) * d + text_tokens + b * (s + text_tokens))  # who sees whom
    scores = 12 * text * model["vocab_size"]  # with the gradient, and what makes one of the other
    encoder, rest, positions = parameters(config)
    trained = rest + (0 if frozen else encoder) if trained is None else trained
    copies = (rest - positions + (0 if frozen else encoder)) * b if b < 4 else 0
    held = 12 * trained + 4 * (encoder + rest - trained) + copies
    first, later = kept + scores, 0.0
    if (
        again
    ):  # in the text's last layer; in the image's last of the decoder, or of the encoder, when the rest has gradients
        one = {**decoder, "layers": 1}
        first = max(first, kept + _decoder_bytes(one, b, 0, text, images * s) + text * (8 * d + b * decoder["ffn"]))
        first += (
            2 * b * d * (images * s + text) if decoder["attention"] == "self" else 0
        )  # of keys and values, gradients
        in_decoder = projected + decoded(decoder, b, image, 0, 0) + image * 2 * b * decoder["layers"] * d
        in_decoder += image * _of_token(decoder, b) if decoder["attention"] == "self" else 0
        later = max(in_decoder, 0 if frozen else encoded + image * (block + 8) * w)
    gradients = 4 * trained
    step = max(first, min(4 * rest, gradients) + later, gradients)
    if images < batch:  # those of earlier parts are there all the time
        step = gradients + max(first, later)
    # CUDA graphs share the memory of one step, which is theirs as long as they live: a plain step has its own beside it
    return held + (2 * step if config["compute"].get("cuda_graph") else step)


def captioning_bytes(config: Config, text_tokens: int) -> float:
    """Return the most that captioning a batch in float32 holds: encoding, the likelihoods, or the last step of the search."""
    model, images = config["model"], config["test_dataloader"]["batch_size"]
    decoder, search, vocabulary = model["decoder"], model["generation"], model["vocab_size"]
    d, s = decoder["width"], max(1, model["num_frames"]) * _tokens(config)
    memory = 8 * decoder["layers"] * d  # keys and values of a token in every layer
    in_encoder = (24 + 12 * model["encoder"]["mlp_ratio"]) * model["encoder"]["width"]
    encoding = s * max(in_encoder, memory + 32 * d + 8 * decoder["ffn"])
    likelihood = s * memory + text_tokens * (8 * vocabulary + 24 * d)
    beams, steps = search["beam_size"], search["max_length"] - 1
    rooms = [steps] if steps <= STEPS_AHEAD else [STEPS_AHEAD, 2 * STEPS_AHEAD]  # the old one is there until the new is
    image = s if decoder["attention"] == "self" else 0  # which has the image among its slots
    slots = sum(image + 1 + beams * room for room in rooms)
    writing = (s + slots) * memory + beams * (16 * vocabulary + 64 * d)
    encoder, rest, _ = parameters(config)
    moments = 8 * (rest + (0 if model["encoder_training"]["frozen"] else encoder))
    return 4 * (encoder + rest) + moments + images * max(encoding, likelihood, writing)


def frozen_features_bytes(config: Config, b: int) -> float:
    """Return the bytes of what a frozen encoder made of the images of training and validation, which a run keeps on the card."""
    model, total = config["model"], 0
    if not model["encoder_training"]["frozen"] or model["vision"]["blind"] or model["vision"]["blur"]:
        return 0
    of_image = max(1, model["num_frames"]) * _tokens(config) * model["encoder"]["width"]
    for split, size in (("train", b), ("val", 4)):
        loader = config[f"{split}_dataloader"]
        if loader is None or (split == "train" and loader["dataset"]["data_spec"]["crop_scale"]):
            continue
        images = loader["dataset"]["data_spec"][f"{split}_images"]
        total += FEATURE_LIMIT if images is None else min(FEATURE_LIMIT, images * of_image * size)
    return total


def resident_images_bytes(config: Config) -> int:
    """Return the bytes of the training images that a run keeps on the card while it trains."""
    data = config["train_dataloader"]["dataset"]
    if data.get("pixels", True):
        return 0
    return data["data_spec"]["train_images"] * max(1, config["model"]["num_frames"]) * 3 * _image_size(config) ** 2


def pretraining_bytes(config: Config, b: int) -> float:
    """Return the most that a step of the encoder's pre-training holds, the run's own model beside it; 0 if there is none."""
    model, init = config["model"], config["model"]["encoder_init"]
    recipe = init["recipe"]
    if not recipe or init["content"] is not None:  # which ships
        return 0
    spec, images, width = model["encoder"], recipe["batch_images"], recipe["width"]
    s = shown = _tokens(config)
    own, other = 0, 0.0  # parameters, and what is kept of an image, of what is thrown away
    if recipe["objective"] == "masked":
        shown = 1 + max(1, round((s - 1) * (1 - recipe["hidden"])))
        other = s * (recipe["layers"] * _block(4, b) + 12) * width + 20 * (s - 1) * spec["patch"] ** 2
    elif recipe["objective"] == "contrastive":
        own = (recipe["vocab_size"] + recipe["max_tokens"] + 2) * width
        other = (recipe["max_tokens"] + 2) * recipe["layers"] * _block(4, b) * width
        other += s * (4 + 3 * b) * spec["width"] if recipe["pooling"] == "attention" else 0
    if recipe["objective"] != "supervised":
        own += recipe["layers"] * (12 * width**2 + 13 * width)
    kept = shown * (spec["layers"] * _block(spec["mlp_ratio"], b) + 12 + b) * spec["width"] + other
    encoder, rest, _ = parameters(config)
    trained = encoder + own
    copies = trained * b if b < 4 else 0
    return 4 * (encoder + rest) + 12 * trained + copies + images * kept + _pixels(config, images, b)


def parameters(config: Config) -> tuple[int, int, int]:
    """Count the parameters of the encoder, those of the rest, and those of the rest that are in no matrix product."""
    model, spec = config["model"], config["model"]["encoder"]
    decoder, d, w = model["decoder"], model["decoder"]["width"], spec["width"]
    hidden, patches = int(w * spec["mlp_ratio"]), (spec["image_size"] // spec["patch"]) ** 2
    block = 4 * (w**2 + w) + 2 * w * hidden + hidden + 5 * w
    encoder = spec["layers"] * block + (3 * spec["patch"] ** 2 + 6 + patches) * w
    layer = layer_parameters(DecoderSpec(**{name: value for name, value in decoder.items() if name != "type"}))
    positions = decoder["max_positions"] * d + model["num_frames"] * w
    words_and_projection = (d + 1) * model["vocab_size"] + 2 * d + w * d + 3 * d
    return encoder, decoder["layers"] * layer + words_and_projection + positions, positions


def _tokens(config: Config) -> int:
    """Return the tokens of an image, of a film those of a frame."""
    return 1 + (_image_size(config) // config["model"]["encoder"]["patch"]) ** 2


def _image_size(config: Config) -> int:
    return config["train_dataloader"]["dataset"]["data_spec"]["image_size"]


def _pixels(config: Config, images: int, b: int) -> int:
    """Return the bytes of a batch's pixels: as they come, as floats, and as `b` bytes where these are kept besides."""
    return images * 3 * _image_size(config) ** 2 * (5 + b % 4)


def fit(config: Config, text_tokens: int, b: int, gib: float, trained: int | None = None) -> tuple[int, bool]:
    """Return (micro_batch, checkpointing) with which a run fits into so many GiB of a card, its context and gaps included.

    (0, False) where the batch fits as it is. Else it is halved, then cut in three and so on, down to parts of `BUSY` images,
    which keep a card busy; then blocks are computed again, which costs a third more time; then parts may be smaller.
    Errors: GitbenchError where one image at a time is too much, or captioning is.
    """
    batch = config["train_dataloader"]["batch_size"]
    sizes = sorted({-(-batch // parts) for parts in range(1, batch + 1)}, reverse=True)
    usual = [(size, False) for size in sizes if size >= min(BUSY, batch)]
    for size, again in [*usual, *((size, True) for size in sizes)]:
        micro = size if size < batch else 0
        tried = {**config, "compute": {**config["compute"], "micro_batch": micro, "checkpointing": again}}
        need = with_allowances(peak_bytes(tried, text_tokens, b, trained))
        if need <= gib:
            return micro, again
    raise GitbenchError(
        f"--memory {gib:g}: {need:.1f} GiB are needed to train one image at a time with checkpointing, and to caption: use a "
        "smaller image size or model, or a larger card"
    )


def fits_card(config: Config, memory_bytes: int) -> str:
    """Say what of a run, a step of which did not fit, does by formula; "" where by formula that step does."""
    data, gib = config["train_dataloader"]["dataset"], memory_bytes / GIB
    texts = data["captions_per_image"] * (data["text_spec"]["max_tokens"] + 1)
    b = 4 if config["compute"]["precision"] == "float32" else 2
    if with_allowances(training_bytes(config, texts, b)) <= gib:
        return ""
    try:
        micro, again = fit(config, texts, b, gib)
    except GitbenchError as error:
        return f" (by formula {str(error).partition(': ')[2]})"
    chosen = [f"--micro-batch {micro}"] * bool(micro) + ["--checkpointing"] * again
    return f"; by formula {' '.join(chosen)} fits"


def _block(ratio: float, b: int) -> float:
    """Return the bytes, per unit of width, that a pre-norm block keeps of a token: inputs of norms, products, activation."""
    return 8 + 6 * b + 2 * b * ratio


def _decoder_bytes(decoder: Mapping[str, Any], b: int, image: int, text: int, beside: int) -> float:
    """Return the bytes that the decoder keeps of so many image and text tokens; texts stand beside `beside` image tokens."""
    d, layers, mask = decoder["width"], decoder["layers"], 1 if decoder["dropout"] else 0  # a byte a number
    if decoder["attention"] == "cross":
        of_text = (12 + 9 * b + 3 * mask) * d + 2 * b * decoder["ffn"]
        return layers * (image * 3 * b * d + text * of_text)
    of_token = _of_token(decoder, b)
    joined = 2 * b * d * (beside + text)  # keys and values of image and text, one after the other
    return (layers - 1) * image * of_token + image * 3 * b * d + layers * (text * of_token + joined)


def _of_token(decoder: Mapping[str, Any], b: int) -> float:
    """Return the bytes that a layer of self-attention keeps of a token."""
    mask = 1 if decoder["dropout"] else 0
    return (8 + 6 * b + 2 * mask) * decoder["width"] + 2 * b * decoder["ffn"]


def _checkpointed_bytes(decoder: Mapping[str, Any], b: int, image: int, text: int, beside: int) -> float:
    """Return what `_decoder_bytes` does where layers keep their inputs, and the image's queries, keys and values, alone."""
    d, layers = decoder["width"], decoder["layers"]
    of_image = layers * 3 * b + (0 if decoder["attention"] == "cross" else (layers - 1) * 4)
    return image * of_image * d + layers * text * 4 * d
