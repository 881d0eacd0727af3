"""Trackers, to which runs are reported beside their folders (`--track`): which there are, and what is asked for of a run.

mmengine's `vis_backends` do the reporting (`gitbench.training.track`). In a run's folder `track.json` says what is asked
for, and `tracked.json` what was sent. Neither is part of the run's key, its config, its record or a bundle.
"""

from __future__ import annotations

import configparser
import importlib.util
import netrc
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gitbench.errors import GitbenchError, installing, unknown_name

TRACKERS = ("tensorboard", "wandb", "mlflow", "aim", "clearml", "swanlab")  # each named as its package
_MORE = {
    "mlflow": ("sqlalchemy", "alembic", "sqlparse")
}  # of a store of its own, which the package "mlflow-skinny" lacks
MLFLOW_SERVER = "MLFLOW_TRACKING_URI"
# variables that name a tracker's server, and the one that is meant without; of W&B see `_wandb_settings`
SERVERS = {
    "mlflow": (MLFLOW_SERVER, ""),
    "clearml": ("CLEARML_API_HOST", "https://api.clear.ml"),
    "swanlab": ("SWANLAB_API_HOST", "https://api.swanlab.cn"),
}
OFFLINE = ("offline", "dryrun", "disabled")  # modes of W&B


@dataclass(frozen=True, kw_only=True)
class Trackers:
    """The trackers that a command reports its runs to; what they keep on this disk goes below `place`."""

    names: tuple[str, ...]
    place: str  # an absolute path

    def down(self, name: str) -> Path:
        """The file that says why a tracker was given up, while runs are to leave it alone."""
        return Path(self.place) / f"{name}.down"


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """What is reported of one run, to whom, and under which names."""

    trackers: Trackers
    study: str
    arms: tuple[str, ...]  # those that share it
    seed: int
    values: Mapping[str, Any]  # its hyper-parameters

    @property
    def arm(self) -> str:
        """Its arms in one word."""
        return "+".join(self.arms)

    @property
    def name(self) -> str:
        """The run among those of its study."""
        return f"{self.arm} seed {self.seed}"


def parse_trackers(given: Iterable[str]) -> tuple[str, ...]:
    """Return the names in the values of `--track`, each "a" or "a,b".

    Errors: GitbenchError for an unknown name, for a package that is not installed, and for W&B where it would ask for a
    key in the middle of a training.
    """
    names = tuple(dict.fromkeys(name for each in given for name in each.split(",")))
    for name in names:
        if name not in TRACKERS:
            raise unknown_name("tracker", name, TRACKERS)
        if not is_installed(name):
            raise GitbenchError(f"--track {name}: the package is not installed: run `{installing(name)}`")
        if name == "wandb" and not _has_wandb_key():
            raise GitbenchError("--track wandb: nobody is logged in: run `wandb login`, or set WANDB_MODE=offline")
    return names


def is_installed(name: str) -> bool:
    """Tell whether the package of a tracker is there; a folder of that name without code, as W&B makes one, is none."""
    specs = map(importlib.util.find_spec, (name, *_MORE.get(name, ())))
    return all(spec is not None and spec.origin is not None for spec in specs)


def server_of(name: str) -> str:
    """Return the server (and account) that a tracker's runs go to, as its settings name it; "" for a folder of this disk."""
    if name == "wandb":
        said = _wandb_settings()
        return "" if said.get("mode") in OFFLINE else "/".join([said["base_url"], *filter(None, [said.get("entity")])])
    variable, usual = SERVERS.get(name, ("", ""))
    return re.sub("//[^/@]*@", "//", os.environ.get(variable) or usual)  # without a password


def is_remote(name: str) -> bool:
    """Tell whether a tracker's runs go to a server, which makes what it keeps them in, and for which a run may wait."""
    return server_of(name).startswith(("http", "databricks"))


def _wandb_settings() -> dict[str, str]:
    """Return what W&B finds in its files, that of the user and that of the folder, and in the environment before all."""
    own = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    read = configparser.ConfigParser(interpolation=None)
    with suppress(configparser.Error, UnicodeDecodeError):
        read.read([own / "settings", Path("wandb", "settings")], encoding="utf-8")
    said = {"base_url": "https://api.wandb.ai", **dict(read["default"] if read.has_section("default") else {})}
    given = {name: os.environ.get(f"WANDB_{name.upper()}") for name in ("mode", "base_url", "entity")}
    return said | {name: value for name, value in given.items() if value}


def _has_wandb_key() -> bool:
    """Tell whether W&B needs no key, or finds one where it looks for it."""
    said = _wandb_settings()
    if said.get("mode") in OFFLINE or os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        keys = netrc.netrc(Path(os.environ.get("NETRC") or "~/.netrc").expanduser())
    except (OSError, netrc.NetrcParseError):
        return False
    return keys.authenticators(urlsplit(said["base_url"]).netloc) is not None
