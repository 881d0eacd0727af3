"""What `gitbench evaluate` is to do, planned before anything is computed: the task, the checkpoint's facts, the data, the key.

The task is the one that is asked for; else the checkpoint's own (runs and exports note it, video models have frames), where
the data suit it; else the first that the data suit. A checkpoint of another task is not refused, since it can be asked: it is
said.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gitbench.data import data_label, data_names, on_scenes, open_source, resolved
from gitbench.data.address import parse
from gitbench.data.published import published_set
from gitbench.data.readers import Nothing
from gitbench.data.tasks import TaskSource, open_task
from gitbench.errors import GitbenchError
from gitbench.plan import PlannedEvaluation
from gitbench.run_folder import EvaluationFolder
from gitbench.run_key import canonical, run_key
from gitbench.spec import EvaluateSpec, TaskSpec, TextSpec
from gitbench.tasks import QUESTION_TOKENS, TASKS, get_task, task_label

if TYPE_CHECKING:
    from gitbench.training.caption import Captioner

FRAMES = 6  # of a film for a model that has no temporal embedding; of every released video model
EVALUATIONS = "evaluations"  # the folder in a work directory
_PLAIN = ("model", "pytorch_model", "snapshot")  # names that say nothing of a checkpoint
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command asks for; None where the checkpoint, or the data, decide."""

    data: str
    task: str | None = None
    split: str = "test"
    limit: int | None = None
    tokenizer: str | None = None
    beam_size: int | None = None
    batch: int = EvaluateSpec.batch_images
    device: Literal["cpu", "cuda"] = "cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A plan, where its evaluation goes, and what is to be known of it."""

    plan: PlannedEvaluation
    key: str
    folder: EvaluationFolder
    warnings: tuple[str, ...]


def suited(asked: Asked) -> list[str]:
    """Return the tasks that the data suit, or the one that is asked for. Errors: what is wrong with the data for all of them."""
    if asked.task is not None:
        get_task(asked.task)
        return [asked.task]
    if on_scenes(asked.data):
        tasks = [name for name in TASKS if name != "video"]
        return ["video", *tasks] if asked.data == "scenes-motion" else tasks
    if asked.data in data_names():
        return ["caption"]
    if published := parse(asked.data).published:
        return [published_set(published).task]
    found, errors = [], []
    for name in TASKS:
        try:
            source = open_source(asked.data, asked.split, asked.limit, name)
            if len(source) and getattr(source, "moving", False) == (name == "video"):
                found.append(name)
        except GitbenchError as error:
            errors.append(error)
    if not found:
        told = [error for error in errors if not isinstance(error, Nothing)]
        raise (told or errors)[0]
    return found


def prepare(weights: Sequence[Path], asked: Asked, work_dir: Path) -> list[Prepared]:
    """Plan the evaluation of some checkpoints on the same images; what is wrong with any of them is told before any begins.

    Errors: GitbenchError, in one line.
    """
    from gitbench.models.checkpoint import checkpoint_files
    from gitbench.training.caption import load_captioner

    tasks = suited(asked)
    for each in weights:
        checkpoint_files(each)
    sources: dict[TaskSpec, TaskSource] = {}
    prepared: list[Prepared] = []
    for each in weights:
        captioner = load_captioner(each, asked.tokenizer)
        task = task_for(captioner, tasks)
        if prepared and (first := prepared[0].plan).task.name != task.name:
            raise GitbenchError(
                f"{first.weights} is for --task {first.task.name} and {each} for --task {task.name}: pass the one on which to "
                "compare them"
            )
        if task not in sources:
            sources[task] = checked(asked, task)
        plan = _planned(each, captioner, asked, task, sources[task])
        key = run_key(canonical(plan), plan.data_fingerprint)
        if same := [other.plan.weights for other in prepared if other.key == key]:
            raise GitbenchError(f"{same[0]} and {each} are the same weights: pass each once")
        warnings = tuple(_mismatch(captioner, task))
        prepared.append(Prepared(plan=plan, key=key, folder=_folder(work_dir, plan, key), warnings=warnings))
    return prepared


def task_for(captioner: Captioner, tasks: Sequence[str]) -> TaskSpec:
    """Return the task of a checkpoint, of those that are possible."""
    frames = captioner.git.num_frames
    own = captioner.task or ("video" if frames else None)
    name: Any = own if own in tasks else tasks[0]
    return TaskSpec(name=name, frames=(frames or FRAMES) if name == "video" else 0)


def checked(asked: Asked, task: TaskSpec) -> TaskSource:
    """Open the split and read all its texts. Errors: no image, one without a text, a missing file."""
    source = open_task(asked.data, asked.split, asked.limit, task)
    source.check()
    if not [request for index in range(len(source)) for request in source.requests(index)]:
        raise GitbenchError(
            f"{asked.data} ({asked.split}) holds no image to evaluate: pass other data, or another --split"
        )
    return source


def _planned(
    weights: Path, captioner: Captioner, asked: Asked, task: TaskSpec, source: TaskSource
) -> PlannedEvaluation:
    from gitbench.training.evaluate import content_of, model_of

    positions = captioner.git.decoder.spec.max_positions
    tokens = captioner.max_tokens or min(TextSpec().max_tokens, positions - 1)
    if task.name == "vqa" and captioner.task != "vqa":
        tokens = min(max(tokens, QUESTION_TOKENS), positions - 1)
    search = {
        "beam_size": EvaluateSpec.beam_size,
        "length_penalty": EvaluateSpec.length_penalty,
        **captioner.generation,
    }
    if task.name == "vqa":  # room for a question before its answer, as in `tasks.for_task`
        search["max_length"] = max(search["max_length"], tokens + 2)
    search["max_length"] = min(search["max_length"], positions)
    if asked.beam_size is not None:
        search["beam_size"] = asked.beam_size
    return PlannedEvaluation(
        name=name_of(weights),
        weights=str(weights),
        content=content_of(weights),
        model=model_of(captioner),
        tokenizer_given=asked.tokenizer,
        tokenizer=captioner.tokenizer.fingerprint(),
        cleans_up=not captioner.tokenizer.reversible,
        rule=dataclasses.asdict(captioner.rule),
        search=search,
        max_tokens=tokens,
        task=task,
        data=resolved(asked.data),
        split=asked.split,
        limit=asked.limit,
        images=len(source),
        data_fingerprint=source.fingerprint(),
        batch=asked.batch,
        device=asked.device,
    )


def name_of(weights: Path) -> str:
    """Return a checkpoint's name for people and file names: its folder's, or that of a file which has one of its own."""
    path = weights.absolute()
    parts = [_SHARD.sub("", path.stem) if path.is_file() else path.name, *(parent.name for parent in path.parents)]
    name = next((part for part in parts if part and part not in _PLAIN), "weights")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "weights"


def _folder(work_dir: Path, plan: PlannedEvaluation, key: str) -> EvaluationFolder:
    """Return the folder of an evaluation; where another one has its name, its key tells them apart."""
    path = work_dir / EVALUATIONS / f"{plan.name}.{label_of(plan)}"
    folder = EvaluationFolder(path)
    return folder if folder.key in (None, key) else EvaluationFolder(path.with_name(f"{path.name}.{key[:8]}"))


def label_of(plan: PlannedEvaluation) -> str:
    """Return "scenes.test", "scenes-vqa.val": data, task and split."""
    return f"{task_label(data_label(plan.data), plan.task.name)}.{plan.split}"


def _mismatch(captioner: Captioner, task: TaskSpec) -> Iterator[str]:
    """Say where a checkpoint was made for something else than it is asked for."""
    frames = captioner.git.num_frames
    if captioner.task not in (None, task.name):
        yield f"it was trained for --task {captioner.task}, and is asked for {task.name}"
    if frames and not task.frames:
        yield f"it is a model of films of {frames} frames: still images get no temporal embedding"
    elif task.frames and not frames:
        yield f"it has no temporal embedding: {task.frames} frames of a film are joined without one"
