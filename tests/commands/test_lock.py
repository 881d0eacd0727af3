"""`gitbench lock`: ablations of one's own, in a clone and outside of one."""

import json
from pathlib import Path

import pytest

from gitbench import cli
from gitbench.files import resource
from gitbench.study import lock


@pytest.fixture
def own(tmp_path, monkeypatch):
    """An ablation file in a current folder that is no clone, as where gitbench is installed from a wheel."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lock, "ROOT", tmp_path / "site-packages")
    file = tmp_path / "own_size.py"
    text = (resource("ablations") / "decoder_size.py").read_text()
    file.write_text(text.replace('name="decoder_size"', 'name="own_size"'))
    return file


def claims(folder: Path) -> dict[str, str]:
    return json.loads((folder / "claims.lock").read_text())["claims"]


def test_a_file_of_ones_own_is_locked_in_the_current_folder(own, tmp_path, capsys):
    packaged = resource("claims.lock")
    assert lock.lock_path() == packaged
    assert cli.main(["lock", str(own), "--check"]) == 2
    assert "own_size/" in capsys.readouterr().err
    assert cli.main(["lock", str(own)]) == 0
    found, known = claims(tmp_path), claims(packaged.parent)
    added = set(found) - set(known)
    assert known.items() <= found.items() and added and all(name.startswith("own_size/") for name in added)
    assert cli.main(["lock", str(own), "--check"]) == 0
    hashes = lock.read_lock()
    changed = (tmp_path / "claims.lock").read_text().replace(found["own_size/larger-no-better"]["hash"], "0")
    (tmp_path / "claims.lock").write_text(changed)
    assert cli.main(["lock", str(own), "--check"]) == 2
    assert "own_size/larger-no-better was changed" in capsys.readouterr().err
    assert cli.main(["lock", str(own)]) == 0 and lock.read_lock() == hashes


def test_a_clone_has_its_lock_at_the_top(own, tmp_path):
    clone = tmp_path / "site-packages"
    clone.mkdir()
    (clone / "pyproject.toml").touch()
    assert cli.main(["lock", str(own)]) == 0 and not (tmp_path / "claims.lock").exists()
    assert lock.lock_path() == clone / "claims.lock" and "own_size/larger-no-better" in claims(clone)
