"""Report a run to trackers by mmengine's `vis_backends`: hyper-parameters, loss curve, in the end its scores.

What was sent is counted in the run's `tracked.json`, in rows of its curve. So a run that goes on after a kill repeats no
row, and whoever comes later, with the curve and the scores as they are on file, sends what is missing. A tracker that
fails is left alone for the rest of the session; nothing of it reaches the training, which draws no number from it.

Known gaps: no test has run Aim, ClearML or SwanLab. A kill in the moment in which a tracker makes its run leaves an
empty one behind.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from logging import WARNING
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.visualization import vis_backend as mmengine_backends

from gitbench.claim import claimed
from gitbench.errors import GitbenchError, in_short
from gitbench.files import load_json, make_dir, write_text
from gitbench.registry import VISBACKENDS
from gitbench.run_folder import RunFolder
from gitbench.run_key import from_json
from gitbench.trackers import Tracking

if TYPE_CHECKING:
    from gitbench.training.hooks import CurveHook

Row = tuple[int, str, float, float]  # of a curve: iteration, split, loss, learning rate
OWN_IDS = {"wandb": 16, "swanlab": 21}  # trackers whose runs are named by us: hexadecimal digits
SERVER = "MLFLOW_TRACKING_URI"  # variable: where the user's MLflow is
MOST = 1000  # metrics that MLflow takes at once
EVERY = 10.0  # seconds of training between two reports
# MLflow would otherwise try for minutes to reach a server that is not there, while the training waits
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


@VISBACKENDS.register_module()
class WandbBackend(mmengine_backends.WandbVisBackend):
    """mmengine's, which uploads the program text of the current folder with a config, and closes as W&B did before 0.13."""

    def add_config(self, config: Config, **_: Any) -> None:
        """Do nothing: hyper-parameters are an argument of `wandb.init`."""

    def add_scalars(self, scalar_dict: dict[str, Any], step: int = 0, file_path: Any = None, **_: Any) -> None:
        """Send scalars with their iteration, over which they are drawn; W&B counts its own steps."""
        super().add_scalars({**scalar_dict, "iteration": step})

    def close(self) -> None:
        """End the run of W&B once all of it is sent."""
        if self._env_initialized:
            self._wandb.finish()


@VISBACKENDS.register_module()
class MlflowBackend(mmengine_backends.MLflowVisBackend):
    """mmengine's, which makes a new run each time, and copies a run's folder to the server when it closes."""

    def __init__(self, run_id: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.run_id: Any = run_id
        self._waiting: list[Any] = []

    def _init_env(self) -> None:
        import mlflow

        before = os.environ.get(SERVER)
        mlflow.set_tracking_uri(self._tracking_uri)
        if before is None:  # or else the next run would take our own store for the user's server
            os.environ.pop(SERVER, None)
        if mlflow.get_experiment_by_name(self._exp_name) is None:
            mlflow.create_experiment(self._exp_name, artifact_location=self._artifact_location)
        mlflow.set_experiment(self._exp_name)
        mlflow.end_run()  # one that could not be ended before
        run = mlflow.start_run(run_id=self.run_id, run_name=self._run_name, tags=self._tags)
        self.run_id = run.info.run_id
        self._mlflow = mlflow

    def add_scalars(self, scalar_dict: dict[str, Any], step: int = 0, file_path: Any = None, **_: Any) -> None:
        """Keep scalars for the next `flush`: a call of its own for each row would take 45 ms."""
        now = int(1000 * time.time())
        self._waiting += [self._mlflow.entities.Metric(name, value, now, step) for name, value in scalar_dict.items()]

    def flush(self) -> None:
        """Send what is kept."""
        client = self._mlflow.MlflowClient()
        for start in range(0, len(self._waiting), MOST):
            client.log_batch(self.run_id, metrics=self._waiting[start : start + MOST])
        self._waiting.clear()

    def close(self) -> None:
        """End the run of MLflow."""
        if self._env_initialized:
            self._mlflow.end_run()


def backend_config(name: str, asked: Tracking, run: str | None) -> dict[str, Any]:
    """Return the config of the vis backend of a tracker; `run` is the tracker's own run, None: it makes one."""
    place = os.path.join(asked.trackers.place, name)
    study, title, tags = asked.study, asked.name, {"study": asked.study, "arm": asked.arm, "seed": str(asked.seed)}
    init: dict[str, Any]
    if name == "tensorboard":
        return dict(type="TensorboardVisBackend", save_dir=os.path.join(place, str(run)))
    if name == "mlflow":
        server = os.environ.get(SERVER)
        files = None if server else Path(place, "artifacts").as_uri()
        made = dict(tracking_uri=server or f"sqlite:///{quote(place)}/mlflow.db", artifact_location=files)
        return dict(type="MlflowBackend", save_dir=place, exp_name=study, run_name=title, tags=tags, run_id=run, **made)
    if name == "wandb":
        init = dict(project=_plain(study), group=asked.arm, name=title, tags=[*tags.values()], id=run, resume="allow")
        init |= dict(config=dict(asked.values), settings=dict(console="off", finish_timeout=60.0))
        return dict(
            type="WandbBackend",
            save_dir=place,
            init_kwargs=init,
            define_metric_cfg=[dict(name="*", step_metric="iteration")],
        )
    if name == "aim":
        init = dict(
            repo=place, experiment=study, run_hash=run, force_resume=run is not None, capture_terminal_logs=False
        )
        return dict(type="AimVisBackend", save_dir=place, init_kwargs=init)
    if name == "clearml":
        init = dict(project_name=study, task_name=title, tags=[*tags.values()], reuse_last_task_id=False)
        init |= dict(continue_last_task=run or False, auto_connect_frameworks=False, auto_connect_arg_parser=False)
        return dict(type="ClearMLVisBackend", init_kwargs=init)
    import swanlab.integration.mmengine  # noqa: F401 - registers the backend

    init = dict(project=_plain(study), group=asked.arm, name=title, tags=[*tags.values()], id=run, resume="allow")
    return dict(type="SwanlabVisBackend", save_dir=place, init_kwargs=init)


def _plain(name: str) -> str:
    """Return a name as folders and projects may have it."""
    return re.sub(r"[^\w.+=-]+", "-", name)


class Sender:
    """Sends what is asked for of a run, each thing once; close it in the end."""

    def __init__(self, folder: RunFolder, asked: Tracking, say: Callable[[str], None] = lambda _: None) -> None:
        self.folder, self.asked, self.say = folder, asked, say
        self.sent: dict[str, dict[str, Any]] = load_json(folder.tracked) or {}
        self.backends: dict[str, Any] = {}
        self.failed: dict[str, str] = {}  # tracker -> why

    def send(self, rows: Sequence[Row], scores: Mapping[str, float] | None = None) -> None:
        """Send the rows of a curve that were not sent yet, and likewise the scores of a run that has some."""
        for name in self.asked.trackers.names:
            sent = self.sent.get(name, {"rows": 0, "scored": False})
            if name in self.failed or (len(rows) <= sent["rows"] and (scores is None or sent["scored"])):
                continue
            try:
                self._send(name, rows, scores)
            except Exception as error:  # whatever a tracker raises
                self._give_up(name, error)
            self._remember()

    def close(self) -> None:
        """End what is open."""
        for name, backend in self.backends.items():
            try:
                backend.close()
                if name == "swanlab":  # whose backend leaves its run open: the next one would go on in it
                    backend.experiment.finish()
            except Exception as error:
                self._give_up(name, error)
        self.backends.clear()

    def _send(self, name: str, rows: Sequence[Row], scores: Mapping[str, float] | None) -> None:
        backend = self._opened(name)
        sent = self.sent[name]
        for iteration, split, loss, rate in rows[sent["rows"] :]:
            known = {"train/loss": loss, "train/lr": rate} if split == "train" else {"val/nll": loss}
            backend.add_scalars(known, step=iteration)
        if scores is not None and not sent["scored"]:
            named = {re.sub(r"[^\w./ -]", "_", f"scores/{metric}"): value for metric, value in scores.items()}
            backend.add_scalars(named, step=rows[-1][0] if rows else 0)
        if name == "tensorboard":
            backend.experiment.flush()  # what is in memory is lost by a kill
        if name == "mlflow":
            backend.flush()
        sent |= {"rows": max(sent["rows"], len(rows)), "scored": sent["scored"] or scores is not None}

    def _opened(self, name: str) -> Any:
        """Return the vis backend of a tracker, whose run it makes or goes on with."""
        if name not in self.backends:
            place = make_dir(Path(self.asked.trackers.place) / name)
            known = self.sent.get(name, {}).get("run")
            for variable, value in PATIENCE.items():
                os.environ.setdefault(variable, value)
            with claimed(place / "opening"):  # of several runs one makes the store and its experiment
                run = known or self._new_run(name, place)
                backend = VISBACKENDS.build(backend_config(name, self.asked, run))
                assert backend.experiment is not None  # which opens it
                self.backends[name] = backend
            if known is None:
                backend.add_config(Config(dict(self.asked.values), format_python_code=False))
            self.sent.setdefault(name, {"rows": 0, "scored": False})["run"] = run or _made_run(name, backend)
        return self.backends[name]

    def _new_run(self, name: str, place: Path) -> str | None:
        """Return the name of a new run, None where the tracker gives it."""
        if name in OWN_IDS:
            return secrets.token_hex(16)[: OWN_IDS[name]]
        if name != "tensorboard":
            return None
        wanted = f"{_plain(self.asked.study)}/{_plain(self.asked.arm)}/seed-{self.asked.seed}"
        again = 2
        run = wanted
        while (place / run).exists():  # of a run that was made again, by other code or on other data
            run, again = f"{wanted}.{again}", again + 1
        make_dir(place / run)
        return run

    def _give_up(self, name: str, error: Exception) -> None:
        self.failed[name] = in_short(error)
        self.say(f"{name} failed, the run goes on without it: {self.failed[name]}")

    def _remember(self) -> None:
        with suppress(GitbenchError, OSError):  # of a full disk the training will say more
            write_text(self.folder.tracked, json.dumps(self.sent, indent=2) + "\n", durable=False)


def _made_run(name: str, backend: Any) -> str:
    """Return the name that a tracker gave to its run."""
    if name == "mlflow":
        return backend.run_id
    return backend.experiment.hash if name == "aim" else backend._task.id


class _TrackHook(Hook):
    """Sends what is new of the curve, now and then and in the end."""

    def __init__(self, sender: Sender, curve: CurveHook) -> None:
        self.sender, self.curve = sender, curve
        self.sent = time.monotonic()

    def after_step(self, runner: Any, done: int) -> None:
        """Called by `CountedTrainLoop`."""
        if done == runner.max_iters or time.monotonic() - self.sent >= EVERY:
            self.sender.send(self.curve.rows)
            self.sent = time.monotonic()


@contextmanager
def tracked(runner: Any, curve: CurveHook) -> Iterator[None]:
    """Report what a runner trains while the block runs, where that is asked for; of several processes rank 0 does."""
    folder = RunFolder(Path(runner.work_dir))
    asked = load_json(folder.track) if is_main_process() else None
    if asked is None:
        yield
        return
    sender = Sender(folder, from_json(Tracking, asked), partial(print_log, logger="current", level=WARNING))
    runner.register_hook(_TrackHook(sender, curve))
    try:
        yield
    finally:
        sender.close()
