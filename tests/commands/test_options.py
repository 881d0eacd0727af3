"""Options that are given in pieces mean what they mean given at once."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from gitbench.cli import main, parser
from gitbench.commands.cfg_options import parsed
from gitbench.commands.data_options import join_data
from gitbench.commands.tracking import trackers_of
from gitbench.errors import GitbenchError
from gitbench.launch.session import Outcome
from gitbench.trackers import is_remote, server_of

FOUND = SimpleNamespace(origin="a file")  # the spec of a package that is installed


def test_what_is_given_again_adds_to_what_was_given():
    line = "run x --cfg-options a=1 c=[1,2] --arms base --cfg-options b=2 a=1 --arms small"
    arguments = parser().parse_args(line.split())
    assert parsed(arguments.cfg_options) == {"a": 1, "c": [1, 2], "b": 2} and arguments.arms == ["base", "small"]
    judged = parser().parse_args(["judge", "a1", "a2", "--against", "b1", "--against", "b2"])
    assert [path.name for path in judged.against] == ["b1", "b2"]
    assert parser().parse_args(["pretrain", "--only", "a", "--only", "b"]).only == ["a", "b"]


def test_options_of_data_are_joined_or_refused_and_none_is_dropped():
    words = ["run", "x", "--data", "photos", "--columns", "image=a", "--split", "1/1/1", "--columns", "captions=b"]
    arguments = parser().parse_args([*words, "--split", "1/1/1"])
    join_data(arguments)
    assert arguments.data == "photos?columns=image=a,captions=b&split=1/1/1"
    for option, pair, message in (
        ("--split", ("1/1/1", "8/1/1"), "--split is given twice, as 1/1/1 and 8/1/1"),
        ("--images", ("a", "b"), "--images is given twice"),
        ("--columns", ("image=a", "image=b"), "image is given twice: join its columns"),
    ):
        with pytest.raises(GitbenchError, match=message):
            join_data(parser().parse_args(["run", "x", "--data", "photos", option, pair[0], option, pair[1]]))


def test_trackers_are_named_at_once_or_in_pieces_and_refused_where_they_are_not_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__spec__=FOUND))
    for line in ("--track tensorboard,wandb", "--track tensorboard --track wandb --track wandb"):
        arguments = parser().parse_args(["run", "x", "--work-dir", str(tmp_path), *line.split()])
        found = trackers_of(arguments)
        assert (
            found is not None and found.names == ("tensorboard", "wandb") and found.place == str(tmp_path / "trackers")
        )
    assert trackers_of(parser().parse_args(["run", "x"])) is None
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None if module == "alembic" else FOUND)
    with pytest.raises(GitbenchError, match="--track mlflow: the package is not installed: run `.*pip install mlflow"):
        trackers_of(parser().parse_args(["run", "x", "--track", "mlflow"]))


def test_run_hands_its_trackers_on(monkeypatch, tmp_path):
    heard = {}

    def launch(study: Any, jobs: Any, plain: Any, **options: Any) -> Outcome:
        heard.update(options)
        return Outcome(completed=0, found=0, failed=())

    monkeypatch.setattr("gitbench.launch.scheduling.launch", launch)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(__spec__=FOUND))
    options = ["--profile", "smoke", "--rates", "shared", "--work-dir", str(tmp_path), "--track", "wandb"]
    assert main(["run", "decoder_size", *options, "--no-report"]) == 0
    assert heard["trackers"].names == ("wandb",) and heard["trackers"].place == str(tmp_path / "trackers")


def test_a_folder_of_a_trackers_name_is_no_package(monkeypatch, tmp_path):
    (tmp_path / "clearml").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(GitbenchError, match="--track clearml: the package is not installed"):
        trackers_of(parser().parse_args(["run", "x", "--track", "clearml"]))


def test_wandb_is_refused_where_it_would_ask_for_a_key(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(__spec__=FOUND))
    for variable in ("MODE", "API_KEY", "IDENTITY_TOKEN_FILE", "BASE_URL", "ENTITY"):
        monkeypatch.delenv(f"WANDB_{variable}", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    arguments = parser().parse_args(["run", "x", "--track", "wandb"])

    def refused() -> None:
        with pytest.raises(GitbenchError, match="--track wandb: nobody is logged in: run `wandb login`, or set WANDB"):
            trackers_of(arguments)

    refused()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password key\n")
    assert trackers_of(arguments) is not None
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    refused()
    for variable, value in (("API_KEY", "key"), ("MODE", "offline")):
        with monkeypatch.context() as patch:
            patch.setenv(f"WANDB_{variable}", value)
            assert trackers_of(arguments) is not None
    for folder, mode in (("config", "offline"), ("wandb", "online")):  # that of the folder counts before the user's
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "settings").write_text(f"[default]\nmode = {mode}\n")
        assert refused() is None if mode == "online" else trackers_of(arguments) is not None
    (tmp_path / "wandb" / "settings").write_text("no section\n")
    assert trackers_of(arguments) is not None


def test_where_a_tracker_sends_to_is_told_by_its_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example.org")
    assert server_of("tensorboard") == "" and server_of("mlflow") == "https://example.org" and is_remote("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///a.db")
    assert server_of("mlflow") == "sqlite:///a.db" and not is_remote("mlflow")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    assert server_of("wandb") == "https://api.wandb.ai/team" and is_remote("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert server_of("wandb") == "" and not is_remote("wandb")
