"""Where files lie: large arrays beside the process that reads them, whatever the hosts share."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitbench import files
from gitbench.files import LINE, local_cache_dir, on_network, read_json, write_json_lines

MOUNTS = """overlay / overlay rw 0 0
fs:/home /home nfs4 rw 0 0
/dev/sdb /home/me/local\\040disk ext4 rw 0 0
10.0.0.1@tcp:/scratch /scratch lustre rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/home/me/.cache", True),
        ("/home/me/local disk/cache", False),
        ("/homes", False),
        ("/scratch/x", True),
        ("/var/cache", False),
    ],
)
def test_a_folder_that_other_hosts_share_is_known_by_its_mount(tmp_path, path, there):
    (tmp_path / "mounts").write_text(MOUNTS)
    assert on_network(Path(path), tmp_path / "mounts") is there
    assert not on_network(Path(path), tmp_path / "none")


def test_large_arrays_stay_on_the_host_where_the_cache_is_shared(tmp_path, monkeypatch):
    monkeypatch.delenv("GITBENCH_LOCAL_CACHE", raising=False)
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))
    assert local_cache_dir() == tmp_path / "cache"
    monkeypatch.setattr(files, "on_network", lambda _: True)
    own = local_cache_dir()
    assert own.parent == tmp_path and own.is_dir() and own.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(files.os, "getuid", lambda: own.stat().st_uid + 1)  # a folder of that name is somebody else's
    (tmp_path / f"gitbench-{own.stat().st_uid + 1}").mkdir()
    assert local_cache_dir() == tmp_path / "cache"
    monkeypatch.setenv("GITBENCH_LOCAL_CACHE", str(tmp_path / "mine"))
    assert local_cache_dir() == tmp_path / "mine"


def test_a_list_of_json_is_a_line_and_so_is_an_object_that_fits(tmp_path):
    value = {"short": {"a": 1}, "losses": [0.1] * 99, "long": {"one": "x" * LINE, "two": None}, "runs": [{"b": []}, {}]}
    write_json_lines(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value and [*read_json(tmp_path / "x.json")] == [*value]
    lines = (tmp_path / "x.json").read_text().splitlines()
    assert [line.strip()[:12] for line in lines] == [
        *("{", '"short": {"a', '"losses": [0', '"long": {', '"one": "xxxx', '"two": null', "},"),
        *('"runs": [', '{"b": []},', "{}", "]", "}"),
    ]
    with pytest.raises(ValueError, match="JSON"):
        write_json_lines(tmp_path / "x.json", {"a": [float("nan")]})
