"""The folder of one run, and that of one evaluation: the names of its files, and which of its states it is in.

A folder passes three states: `config.py` alone (planned), `trained.json` and `predictions.jsonl` (captioned, not scored),
and `record.json` (complete). No torch here, and mmengine is imported only where a config is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from gitbench.errors import GitbenchError
from gitbench.files import load_json

if TYPE_CHECKING:
    from mmengine.config import Config

RECORD_SCHEMA = 2  # of record.json


class RunFolder:
    """Names the files of a run in `path`; a file need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.py"  # a complete mmengine config
        self.provenance = path / "provenance.json"  # revision, packages, machine, command
        self.claim = path / "claim"  # held by the process that works on the run (`gitbench.claim`)
        self.origin = path / "origin.json"  # what provenance knows of the study and not of the machine
        self.track = path / "track.json"  # trackers that the run is to be reported to (`gitbench.trackers`)
        self.tracked = path / "tracked.json"  # what was sent to them
        self.state = path / "state.json"  # how far it is, while it is executed
        self.log = path / "log.txt"  # what that process prints
        self.curve = path / "curve.csv"  # losses by iteration
        self.early = path / "early_captions.jsonl"  # texts of a few validation images, at each validation
        self.trained = path / "trained.json"  # test likelihood, losses and costs
        self.predictions = path / "predictions.jsonl"  # one generated text a line
        self.weights = path / "model.pth"
        self.tokenizer = path / "tokenizer.json"
        self.per_image = path / "per_image.parquet"  # scores of every test image
        self.record = path / "record.json"  # written last: its presence means that the run is complete

    @property
    def captioned(self) -> bool:
        """Whether training and captioning are done; scores may be missing."""
        return self.trained.is_file() and self.predictions.is_file()

    def read_record(self) -> dict[str, Any] | None:
        """Return the record; None where it is missing, damaged, another run's or of another version."""
        record = load_json(self.record)
        try:
            scores = [float(entry["value"]) for entry in record["metrics"].values()]
            whole = bool(scores) and all(isinstance(record[part], dict) for part in ("spec", "cost", "train"))
            whole = whole and (record["schema"], record["run_key"]) == (RECORD_SCHEMA, self.path.name)
            whole = whole and all(
                isinstance(entry.get("signature"), (str, NoneType)) for entry in record["metrics"].values()
            )
            kinds = {name: (str if name in ("device", "machine") else (int, float)) for name in record["cost"]}
            whole = whole and all(
                each is None or isinstance(each, kinds[name]) for name, each in record["cost"].items()
            )
            dicts = ("absent", "files", "variant_names")
            whole = whole and all(isinstance(record.get(part, {}), dict) for part in dicts)
            whole = whole and all(isinstance(each, str) for each in (record.get("overridden") or ()))
        except (ValueError, KeyError, TypeError, AttributeError):
            whole = False
        return record if whole else None

    def completed_record(self) -> dict[str, Any] | None:
        """Return the record of a complete run; None where it is none, or the images' scores are missing."""
        return self.read_record() if self.per_image.is_file() else None

    @property
    def checkpoints(self) -> list[Path]:
        """What a training goes on from, newest first."""
        found = self.path.glob("iter_*.pth")
        return sorted(found, key=lambda path: int(path.stem.split("_")[1]), reverse=True)

    def remove_checkpoints(self) -> None:
        """Remove what a training goes on from."""
        for each in (*self.checkpoints, self.path / "last_checkpoint"):
            each.unlink(missing_ok=True)

    def read_config(self) -> Config:
        """Read `config.py`; a missing or damaged file gives a one-line error."""
        from mmengine.config import Config

        try:
            read = Config.fromfile(self.config, lazy_import=False)
        except FileNotFoundError:
            raise GitbenchError(f"{self.config} does not exist: pass the folder of a run") from None
        except (SyntaxError, ValueError) as error:
            raise GitbenchError(
                f"{self.config} is not a readable config ({error}): delete the run folder and run again"
            ) from None
        # mmengine puts a config's text into every checkpoint, and laying it out takes 0.15 s each time
        return Config(read.to_dict(), filename=self.config, format_python_code=False)


class EvaluationFolder:
    """Names the files of an evaluation of a checkpoint in `path`; a file need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.claim = path / "claim"  # held by the process that works on it
        self.plan = path / "plan.json"  # what is scored on what, and the key; written first
        self.parts = path / "parts"  # the finished batches, a file for each process; gone once the record is there
        self.log = path / "log.txt"  # what further processes print
        self.predictions = path / "predictions.jsonl"  # one generated text a line, as a run's
        self.coco = path / "predictions.coco.json"  # the same in the results format of COCO, or of VQAv2
        self.per_image = path / "per_image.parquet"
        self.provenance = path / "provenance.json"
        self.record = path / "record.json"  # written last: its presence means that all is scored
        self.scores = path / "scores.csv"
        self.report = path / "report.html"

    @property
    def key(self) -> str | None:
        """The key of the evaluation in it; None where there is none."""
        plan = load_json(self.plan)
        return plan.get("key") if isinstance(plan, dict) else None

    def completed_record(self) -> dict[str, Any] | None:
        """Return the record of a complete evaluation; None where it is none, or a file is missing or damaged."""
        record, files = load_json(self.record), (self.predictions, self.coco, self.per_image, self.provenance)
        if not isinstance(record, dict) or not isinstance(record.get("metrics"), dict):
            return None
        return record if record.get("key") == self.key and all(file.is_file() for file in files) else None


def read_early_captions(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an `early_captions.jsonl`. Errors: ValueError for a damaged file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    needed = {"iteration", "image_id", "caption", "references"}
    if not all(isinstance(row, dict) and needed <= set(row) and type(row["iteration"]) is int for row in rows):
        raise ValueError("a row that is no early caption")
    return rows
