"""Execute one run folder: train (or resume), caption the test split, leave predictions, weights and costs behind.

Scoring needs no torch and is done by the launcher.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.runner import Runner

from gitbench.data import read_once
from gitbench.data.tasks import Request
from gitbench.data.tokenizer import CaptionTokenizer
from gitbench.errors import GitbenchError, StepTooLarge
from gitbench.files import atomic_path, explain_os_errors, write_json
from gitbench.models import parameter_counts
from gitbench.models.flops import flops_by_part
from gitbench.run_folder import RunFolder
from gitbench.spec import Compute
from gitbench.training.adaptation import merge
from gitbench.training.caption_model import CaptionModel
from gitbench.training.device import described, planned, settle
from gitbench.training.distributed import captioner, joined, most, train_together
from gitbench.training.encoder_init import EncoderInitHook
from gitbench.training.evaluation import PerImage
from gitbench.training.hooks import CurveHook, Diverged, latest_checkpoint, torch_write_errors
from gitbench.training.track import tracked

FORMAT = "gitbench"  # of `model.pth`

Progress = Callable[[int, int, float], None]  # iterations done, of how many, loss
PretrainingProgress = Callable[[int, int], None]


class NoPictures:
    """Stands where mmengine has a visualizer, whose matplotlib takes 0.4 s to import: curves are the report's task, and
    trackers hear of them by `track`.
    """

    dataset_meta: Any = None

    def add_config(self, *_: Any, **__: Any) -> None:
        """Write nothing: the config lies in the run's folder, and `CurveHook` keeps the losses."""

    add_scalars = close = add_config


class PlainRunner(Runner):
    """mmengine's Runner without its survey of the machine, which starts processes and costs 2 s; see provenance.json."""

    def _log_env(self, env_cfg: dict) -> None:
        self.logger.info(f"Config: {self.work_dir}/config.py")

    def build_visualizer(self, visualizer: Any = None) -> NoPictures:  # type: ignore[override]
        """Return what draws nothing."""
        return NoPictures()

    def dump_config(self) -> None:
        """Leave the planner's `config.py` as it is: mmengine would write this session's work_dir and resume into it."""


def execute(path: Path, progress: Progress | None = None, pretraining: PretrainingProgress | None = None) -> bool:
    """Train and caption one run folder, or train it alone where it has no test; returns False where that is done already.

    Nobody else may work on the folder meanwhile (`gitbench.launch.work`). `progress` hears of the training, `pretraining`
    of the encoder's pre-training that comes first in some runs.

    Errors: GitbenchError with one line for what a user can mend; anything else is a fault of the program.
    """
    folder = RunFolder(path)
    config = folder.read_config()
    if folder.captioned or (config.test_dataloader is None and folder.trained.is_file()):
        return False
    if (world_size := planned(config).world_size) > 1:
        train_together(path, world_size, _train, {"progress": progress, "pretraining": pretraining})
    else:
        _train(path, progress, pretraining)
    return True


def _train(path: Path, progress: Progress | None, pretraining: PretrainingProgress | None) -> None:
    """Do what `execute` does, as the run's only process or as one of several."""
    folder = RunFolder(path)
    config = folder.read_config()
    compute, tuning = planned(config), config.test_dataloader is None
    settle(compute)
    with joined(compute), read_once():
        runner = PlainRunner.from_cfg(_session_config(config, folder))
        hooks: dict[type, Any] = {type(hook): hook for hook in runner.hooks}
        curve, init = hooks[CurveHook], hooks[EncoderInitHook]
        curve.progress, init.progress = progress, pretraining
        val_nll = None  # of a tuning run that diverges
        with tracked(runner, curve):
            try:
                runner.train()
                val_nll = curve.last("val")
            except torch.OutOfMemoryError:
                raise StepTooLarge(_too_large(runner, compute), described().get("memory_bytes")) from None
            except Diverged:
                if not tuning:
                    raise
                curve.after_train(runner)
            found = {"val_nll": val_nll, "cost": {"seconds": curve.seconds}}
            if not tuning:
                found = _captioned(runner, folder, curve, init)
        if is_main_process():
            write_json(folder.trained, found)
            folder.remove_checkpoints()


def _too_large(runner: Runner, compute: Compute) -> str:
    """Say in one line that a step did not fit into memory, and what to try."""
    batch = runner.train_dataloader.batch_size
    images = min(batch, compute.micro_batch or batch)
    card = described()
    where = f"{card['name']} ({card['memory_bytes'] / 2**30:.1f} GiB)" if "memory_bytes" in card else card["name"]
    options = [f"--micro-batch {images // 2} (half of that)"] * (images > 1)
    options += [] if compute.checkpointing else ["--checkpointing"]
    fix = f"plan it with {' or '.join(options)}" if options else "use a smaller image size, or a larger card"
    return f"step {runner.iter + 1} of training: {images} images at a time do not fit into the memory of {where}: {fix}"


def _captioned(runner: Runner, folder: RunFolder, curve: CurveHook, init: EncoderInitHook) -> dict[str, Any]:
    """Caption the test split and write captions and weights; return what else is to be known of the run."""
    trained = time.monotonic()
    held, stored = merge(captioner(runner).git)
    fit = _fit(runner, curve)
    fitted = time.monotonic()
    metrics = runner.test_loop.run()
    if is_main_process():
        _write_predictions(runner, folder)
        _write_weights(runner, folder)
    captioned = time.monotonic()
    images = curve.images * get_world_size()
    cost = {
        **_size(runner),
        "peak_memory_bytes": most(curve.peak_memory),
        "train_images_per_second": images / curve.image_seconds if curve.image_seconds else None,
        "train_seconds": curve.seconds,
        "data_wait_seconds": curve.data_wait_seconds,
        "caption_seconds": captioned - fitted,
        "seconds": curve.seconds + captioned - trained,
    }
    if (start := captioner(runner).variants.get("start")) is not None and start.source == "checkpoint":
        # of float32 numbers a weight each, and a gradient and two moments where it is trained
        cost |= {"state_bytes": held + 3 * stored, "stored_bytes": stored}
    if init.seconds is not None:
        cost["pretrain_seconds"] = init.seconds
    if init.encode_seconds > 0:
        cost["encode_seconds"] = init.encode_seconds
    train = {"iterations": runner.max_iters, "final_loss": curve.last("train") if runner.max_iters else None}
    found = {"test_nll": metrics["test_nll"], **fit, "train": train, "cost": cost, "encoder_content": init.content}
    return {**found, "device": described()}


def _fit(runner: Runner, curve: CurveHook) -> dict[str, Any]:
    """Return the likelihoods that tell how far a run fits what it alone was trained on, in nats per token, and image counts.

    `val_nll` is that of the last validation; `train_nll` is measured likewise (all captions, no dropout, no label
    smoothing) on as many of the run's own training images, the first ones; on all of them where there are fewer.
    """
    count = len(runner.val_dataloader.dataset)
    first = min(count, len(runner.train_dataloader.dataset))
    config = copy.deepcopy(runner.cfg.val_dataloader)
    config.dataset.update(split="train", first=first)
    model, measured = captioner(runner).eval(), PerImage("train_nll")
    with torch.no_grad():
        for batch in runner.build_dataloader(config):
            measured.process(batch, model.val_step(batch))
    return {
        **measured.evaluate(first),
        "val_nll": curve.last("val"),
        "fit_images": {"train_nll": first, "val_nll": count},
    }


def _size(runner: Runner) -> dict[str, int]:
    """Return the costs that are sizes."""
    git = captioner(runner).git
    counts = parameter_counts(git)
    return {
        "parameters": counts["total"],
        "encoder_parameters": counts["encoder"],
        "decoder_parameters": counts["decoder"],
        "flops_per_image": round(sum(flops_by_part(git).values())),
        "training_images": len(runner.train_dataloader.dataset),
    }


def _session_config(config: Config, folder: RunFolder) -> Config:
    """Return the config of a run folder as this session runs it: from its last checkpoint, which rank 0 looks for."""
    config.work_dir = str(folder.path)
    checkpoint = [latest_checkpoint(folder.path) if is_main_process() else None]
    broadcast_object_list(checkpoint)
    if checkpoint[0] is not None:
        config.resume, config.load_from = True, str(checkpoint[0])
    return config


def _write_predictions(runner: Runner, folder: RunFolder) -> None:
    dataset = runner.test_dataloader.dataset
    items = runner.test_evaluator.metrics[0].items
    if [item["image_id"] for item in items] != [dataset.source.image_id(index) for index in range(len(dataset))]:
        raise GitbenchError(
            f"the {len(items)} captions are not those of the {len(dataset)} test images in their order: "
            f"delete {folder.path} and run again"
        )
    with atomic_path(folder.predictions) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for index, item in enumerate(items):
            for request, output in zip(dataset.source.requests(index), item["outputs"], strict=True):
                row = prediction(request, output, item["image_id"], dataset.tokenizer)
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def prediction(request: Request, output: dict[str, Any], image_id: str, tokenizer: CaptionTokenizer) -> dict[str, Any]:
    """Return a row of `predictions.jsonl`. `image_id` names the request; an image with several has them numbered."""
    row = {
        "image_id": request.request_id,
        "caption": tokenizer.decode(output["ids"]),
        "score": output["score"],
        "nll": output["nll"],
        "tokens": output["tokens"],
        "references": list(request.references),
    }
    if request.request_id != image_id:
        row["image"] = image_id
    if request.prefix:
        row["prefix"] = request.prefix
    if request.answers_are != "alternatives":
        row["answers_are"] = request.answers_are
    if "closed_ids" in output:
        row |= {"closed": tokenizer.decode(output["closed_ids"]), "closed_score": output["closed_score"]}
    return row


def _write_weights(runner: Runner, folder: RunFolder) -> None:
    """Write `model.pth` and `tokenizer.json`: what `gitbench caption --weights FOLDER` needs, and no pickled code."""
    state = {name: tensor.cpu() for name, tensor in captioner(runner).git.state_dict().items()}
    model = runner.cfg.model.to_dict()
    model.pop("adaptation", None)  # which is in the weights
    for part in model.values():  # where a start lay is private, and says nothing elsewhere
        if isinstance(part, dict) and Path(part.get("path") or "").is_absolute():
            part["path"] = Path(part["path"]).name
    config, texts = json.dumps(model), json.dumps(_texts(runner.cfg))
    payload = {"format": FORMAT, "model": config, "texts": texts, "state_dict": state}
    with atomic_path(folder.weights) as temporary, explain_os_errors(temporary), torch_write_errors():
        torch.save(payload, temporary)
    runner.test_dataloader.dataset.tokenizer.save(folder.tokenizer)


def _texts(config: Config) -> dict[str, Any]:
    """Return what a run's texts are: its task, and how many tokens one has at most."""
    tested = config.test_dataloader.dataset
    return {"task": tested.task["name"], "max_tokens": tested.text_spec["max_tokens"]}


def load_run(path: Path) -> tuple[CaptionModel, CaptionTokenizer]:
    """Load the captioner of a finished run folder, or of the `model.pth` in it: (model in eval mode, tokenizer)."""
    file = path if path.is_file() else RunFolder(path).weights
    if not file.is_file():
        raise GitbenchError(f"{file} does not exist: pass the folder of a finished run")
    try:
        payload = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what its unpickler, zipfile and the file system raise
        raise GitbenchError(
            f"{file} cannot be read ({type(error).__name__}): pass the folder of a finished run"
        ) from None
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise GitbenchError(f"{file} is no checkpoint of gitbench: pass the folder of a finished run")
    try:
        config = json.loads(payload["model"])  # with all values of a variant, so that its name may be gone since
        config.pop("type")
        model = CaptionModel(**config)
    except Exception as error:
        raise GitbenchError(
            f"{file} holds a model that this gitbench does not know ({type(error).__name__}), of an earlier version or a "
            "plugin: use the version that made it, or name the plugin with --plugin"
        ) from None
    try:
        model.git.load_state_dict(payload["state_dict"])
    except (KeyError, TypeError, RuntimeError) as error:  # torch lists the tensors, one a line
        wrong = " ".join(str(error).split())
        raise GitbenchError(f"{file} does not hold its model's tensors ({wrong}): run again") from None
    folder = RunFolder(file.parent)
    if "texts" in payload:
        model.texts = json.loads(payload["texts"])
    elif folder.config.is_file():  # a run of before these stood beside its weights
        model.texts = _texts(folder.read_config())
    return model.eval(), CaptionTokenizer.load(folder.tokenizer)
