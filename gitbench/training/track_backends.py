"""What mmengine's `vis_backends` need to become the trackers' runs of a training: names, options, two of them mended.

What a tracker sends by itself (output, uncommitted changes, packages, the machine's load) is switched off where an option
of its does that.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmengine.config import Config
from mmengine.visualization import vis_backend as mmengine_backends

from gitbench.registry import VISBACKENDS
from gitbench.trackers import MLFLOW_SERVER, Tracking

TAG = 64  # letters of a tag of W&B
# MLflow would otherwise try for minutes to reach a server that is not there, while the training waits
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
WANDB = {
    **{"console": "off", "disable_git": True, "x_save_requirements": False},
    **{"x_disable_meta": True, "x_disable_stats": True},  # the machine and its load
    **{"finish_timeout": 60.0, "finish_timeout_raises": True},  # seconds for what is still to be sent
}


@VISBACKENDS.register_module()
class WandbBackend(mmengine_backends.WandbVisBackend):
    """mmengine's, which uploads the program text of the current folder with a config, and closes as W&B did before 0.13."""

    def add_config(self, config: Config, **_: Any) -> None:
        """Do nothing: hyper-parameters are an argument of `wandb.init`."""

    def add_scalars(self, scalar_dict: dict[str, Any], step: int = 0, file_path: Any = None, **_: Any) -> None:
        """Send scalars with their iteration, over which they are drawn; W&B counts its own steps."""
        super().add_scalars({**scalar_dict, "iteration": step})

    def close(self, failed: bool = False) -> None:
        """End the run of W&B once all of it is sent."""
        if self._env_initialized:
            self._wandb.finish(exit_code=int(failed))


@VISBACKENDS.register_module()
class MlflowBackend(mmengine_backends.MLflowVisBackend):
    """mmengine's, which makes a new run each time, and copies a run's folder to the server when it closes."""

    def __init__(self, run_id: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.run_id: Any = run_id
        self._waiting: list[Any] = []

    def _init_env(self) -> None:
        import mlflow

        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        before = os.environ.get(MLFLOW_SERVER)
        mlflow.set_tracking_uri(self._tracking_uri)
        if before is None:  # or else the next run would take our own store for the user's server
            os.environ.pop(MLFLOW_SERVER, None)
        if self._artifact_location and mlflow.get_experiment_by_name(self._exp_name) is None:
            mlflow.create_experiment(self._exp_name, artifact_location=self._artifact_location)
        own = mlflow.set_experiment(self._exp_name).experiment_id
        mlflow.end_run()  # one that could not be ended before
        run = mlflow.start_run(run_id=self.run_id, experiment_id=own, run_name=self._run_name, tags=self._tags)
        self.run_id = run.info.run_id
        self._mlflow = mlflow

    def add_scalars(self, scalar_dict: dict[str, Any], step: int = 0, file_path: Any = None, **_: Any) -> None:
        """Keep scalars for the next `flush`: a call of its own for each row would take 45 ms."""
        now = int(1000 * time.time())
        self._waiting += [self._mlflow.entities.Metric(name, value, now, step) for name, value in scalar_dict.items()]

    def flush(self) -> None:
        """Send what is kept, at most 1000 metrics."""
        self._mlflow.MlflowClient().log_batch(self.run_id, metrics=self._waiting)
        self._waiting.clear()

    def close(self, failed: bool = False) -> None:
        """End the run of MLflow."""
        if self._env_initialized:
            self._mlflow.end_run("FAILED" if failed else "FINISHED")


def backend_config(name: str, asked: Tracking, run: str | None) -> dict[str, Any]:
    """Return the config of the vis backend of a tracker; `run` is the tracker's own run, None: it makes one."""
    place = os.path.join(asked.trackers.place, name)
    study, title, seed = asked.study, asked.name, str(asked.seed)
    tags = list(dict.fromkeys(tag[:TAG] for tag in (study, *asked.arms, seed)))
    init: dict[str, Any]
    if name == "tensorboard":
        return dict(type="TensorboardVisBackend", save_dir=os.path.join(place, str(run)))
    if name == "mlflow":
        server = os.environ.get(MLFLOW_SERVER)
        files = None if server else Path(place, "artifacts").as_uri()
        uri = server or f"sqlite:///{quote(place)}/mlflow.db"
        init = dict(tracking_uri=uri, artifact_location=files, exp_name=study, run_name=title, run_id=run)
        init |= dict(tags={"study": study, "arm": asked.arm, "seed": seed})
        return dict(type="MlflowBackend", save_dir=place, **init)
    if name == "wandb":
        init = dict(project=plain(study), group=asked.arm, name=title, tags=tags, id=run, resume="allow")
        init |= dict(config=dict(asked.values), settings=WANDB)
        return dict(
            type="WandbBackend",
            save_dir=place,
            init_kwargs=init,
            define_metric_cfg=[dict(name="*", step_metric="iteration")],
        )
    if name == "aim":
        init = dict(repo=place, experiment=study, run_hash=run, force_resume=run is not None)
        init |= dict(capture_terminal_logs=False, system_tracking_interval=None)
        return dict(type="AimVisBackend", save_dir=place, init_kwargs=init)
    if name == "clearml":
        init = dict(project_name=study, task_name=title, tags=tags)
        # 0: go on with the iterations as they are, and do not count from the last one
        init |= dict(reuse_last_task_id=run or False, continue_last_task=0 if run else False)
        init |= dict(auto_connect_frameworks=False, auto_connect_arg_parser=False)
        init |= dict(auto_connect_streams=False, auto_resource_monitoring=False)
        return dict(type="ClearMLVisBackend", init_kwargs=init)
    import swanlab.integration.mmengine  # noqa: F401 - registers the backend

    init = dict(project=plain(study), group=asked.arm, name=title, tags=tags, id=run, resume="allow")
    return dict(type="SwanlabVisBackend", save_dir=place, init_kwargs=init)


def plain(name: str) -> str:
    """Return a name as folders and projects may have it."""
    return re.sub(r"[^\w.+=-]+", "-", name)


def made_run(name: str, backend: Any) -> str:
    """Return the name that a tracker gave to its run."""
    if name == "mlflow":
        return backend.run_id
    return backend.experiment.hash if name == "aim" else backend._task.id


def flush(name: str, backend: Any) -> None:
    """Send what a tracker has kept to send it later, which a kill would lose."""
    if name == "tensorboard":
        backend.experiment.flush()
    if name == "mlflow":
        backend.flush()


def end(name: str, backend: Any, failed: bool) -> None:
    """End the run of a tracker, as one that failed where its training did."""
    if name in ("mlflow", "wandb"):
        backend.close(failed)
        return
    backend.close()
    if name == "clearml" and failed:
        backend._task.mark_failed(force=True)  # closed, it counts as completed
    if name == "swanlab":  # whose backend leaves its run open: the next one would go on in it
        backend.experiment.finish(**({"state": "crashed", "error": "the run failed"} if failed else {}))
