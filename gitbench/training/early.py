"""An early look at what a model says: its texts for a few validation images, written down at each validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from gitbench.files import write_text
from gitbench.registry import HOOKS
from gitbench.run_folder import RunFolder, read_early_captions
from gitbench.training.data import caption_collate
from gitbench.training.distributed import captioner


@HOOKS.register_module()
class EarlyLookHook(Hook):
    """At each validation write the texts for the first `images` validation images to `early_captions.jsonl`.

    Of several questions about an image the first is answered. Nothing random is drawn, so training goes on as without. A
    resumed run keeps what was written up to where it goes on.
    """

    def __init__(self, images: int) -> None:
        self.images = images
        self.rows: list[dict[str, Any]] = []

    def before_train(self, runner) -> None:  # type: ignore[no-untyped-def]
        path = RunFolder(Path(runner.work_dir)).early
        if runner.iter and path.is_file():
            self.rows = [row for row in read_early_captions(path) if row["iteration"] <= runner.iter]

    def after_val_epoch(self, runner, metrics=None) -> None:  # type: ignore[no-untyped-def]
        if not metrics or not is_main_process():
            return
        data = runner.val_dataloader.dataset
        numbers = range(min(self.images, len(data)))
        outputs = captioner(runner).test_step(caption_collate([data[number] for number in numbers]))
        for number, output in zip(numbers, outputs, strict=True):
            request = data.source.requests(number)[0]
            row = {
                "iteration": runner.train_loop.iter,
                "image_id": request.request_id,
                "caption": data.tokenizer.decode(output["outputs"][0]["ids"]),
                "references": list(request.references),
            }
            self.rows.append(row | ({"prefix": request.prefix} if request.prefix else {}))
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
        write_text(RunFolder(Path(runner.work_dir)).early, "".join(lines))
