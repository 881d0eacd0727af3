"""What a run's saved model says of test images, loaded and asked as `gitbench caption` does, beside the run's predictions.

No reference is needed for it. Of a run on a GPU nothing is asked: it captions in bfloat16, a loaded model in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gitbench.errors import in_short
from gitbench.gate.band import FLOOR, SAVED, Observed, Ranked
from gitbench.gate.outcome import BEYOND, Finding
from gitbench.tasks import QUESTION_TOKENS

if TYPE_CHECKING:
    from gitbench.data.tasks import TaskSource
    from gitbench.run_folder import RunFolder

IMAGES = 2
ERROR = "error"
Said = Mapping[str, Any]  # id of a request -> its `caption` and `score`; or ERROR -> what was raised


def said_by_saved(run: RunFolder, source: TaskSource) -> Said:
    """Return what the saved model of a finished run says of the first test images, or which error it ends with.

    Errors: those of the machine.
    """
    from gitbench.gate.exact.faults import of_machine

    try:
        return _said(run, source)
    except Exception as error:
        if of_machine(error):
            raise
        return {ERROR: in_short(error)}


def _said(run: RunFolder, source: TaskSource) -> Said:
    """Return what it says, of each image to its first request."""
    import torch
    from PIL import Image

    from gitbench.data.dataset import prefix_ids
    from gitbench.training.caption import load_captioner

    captioner, found = load_captioner(run.path), dict[str, Any]()
    size, file = captioner.git.encoder.spec.image_size, run.path / "image.png"
    for index in range(min(IMAGES, len(source))):
        pixels, request = source.pixels(index, size), source.requests(index)[0]
        frames = []
        for frame in pixels if pixels.ndim == 4 else [pixels]:
            Image.fromarray(frame).save(file)
            frames.append(captioner.pixels(file))
        images = torch.stack(frames)[None] if pixels.ndim == 4 else frames[0][None]
        text = captioner.caption(images, captioner.generation["beam_size"], request.prefix or None)
        prefix = torch.tensor([prefix_ids(captioner.tokenizer, request.prefix, QUESTION_TOKENS)])
        with torch.inference_mode():
            _, scores = captioner.git.generate(images, prefix=prefix, **captioner.generation)
        found[request.request_id] = {"caption": text, "score": scores.item()}
    return found


def otherwise(training: str, run: Observed, said: Said) -> Ranked | None:
    """Return where a saved model says another thing than its run did; None: nowhere.

    Its scores may differ by rounding, and one caption, of two that are nearly tied.
    """
    if ERROR in said:
        return _finding(training, 0, "the first images", "caption", said[ERROR], "no error")
    exact = run["exact"]
    scores = dict(zip(exact["image_id"], run["numbers"]["score"], strict=True))
    texts = dict(zip(exact["image_id"], exact["caption"], strict=True))
    room = FLOOR * max(map(abs, scores.values()), default=0.0)
    for place, (name, own) in enumerate(said.items()):
        if name not in scores:
            return _finding(training, place, name, "caption", own["caption"], "no prediction")
        if not abs(own["score"] - scores[name]) <= room:
            return _finding(training, place, name, "score", f"{own['score']:.9g}", f"{scores[name]:.9g} +- {room:.2g}")
    wrong = [(place, name) for place, (name, own) in enumerate(said.items()) if own["caption"] != texts[name]]
    if wrong and len(wrong) == len(said):
        place, name = wrong[0]
        return _finding(training, place, name, "caption", said[name]["caption"], texts[name])
    return None


def _finding(training: str, place: int, name: str, what: str, value: str, reference: str) -> Ranked:
    finding = Finding(
        quantity=f"{training}, its saved model: the {what} of {name}",
        part="search",
        value=value,
        reference=reference,
        excess=BEYOND,
        said=f"the saved model of {training} gives {name} the {what} {value}, its run gave {reference}",
    )
    return SAVED, place, finding
