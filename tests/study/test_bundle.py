"""Bundles: the same numbers elsewhere, nothing of the machine in them, and nothing taken on trust."""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from helpers_bundle import FILES, copied, finish, members, repack
from helpers_cli import call_without_torch, error_of
from helpers_study import make_study

from gitbench.commands.report import make_report
from gitbench.errors import GitbenchError
from gitbench.study.anonymize import check_portable, portable_json
from gitbench.study.bundle import open_bundle, unpack, write_bundle
from gitbench.study.store import Study

pytestmark = pytest.mark.usefixtures("svg_alone")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """A finished study, made up."""
    return finish(make_study(tmp_path_factory.mktemp("bundled") / "work"))


@pytest.fixture(scope="module")
def packed(study, tmp_path_factory) -> Path:
    return write_bundle(study, tmp_path_factory.mktemp("packed") / "tiny.tar.xz").path


def test_a_bundle_holds_what_the_numbers_rest_on_and_no_image_weight_or_program(trained, tmp_path):
    found = members(write_bundle(trained, tmp_path / "trained.tar.xz").path)
    assert next(iter(found)) == "bundle.json"
    assert set(json.loads(found["bundle.json"])["files"]) == set(found) - {"bundle.json"}
    for run in trained.unique_runs:
        assert {name.split("/")[2] for name in found if name.startswith(f"runs/{run.run_key}/")} == FILES
    others = {f"studies/{trained.name}.json", f"studies/{trained.name}.proof.json", "claims.lock"}
    assert others <= set(found) and any(name.startswith("yardsticks/") for name in found)


def test_the_same_study_gives_the_same_bytes_wherever_it_lies(study, packed, tmp_path):
    again = write_bundle(copied(study, tmp_path / "elsewhere"), tmp_path / "again.tar.xz")
    assert again.path.read_bytes() == packed.read_bytes()
    with tarfile.open(packed, "r:xz") as archive:
        assert all((one.mtime, one.uid, one.gid, one.uname) == (0, 0, 0, "") for one in archive)


def test_the_report_of_a_bundle_has_the_same_numbers_without_torch(trained, tmp_path):
    bundle = write_bundle(trained, tmp_path / "trained.tar.xz").path
    make_report(copied(trained, tmp_path / "work"), tmp_path / "here")
    words = ["report", "--bundle", str(bundle), "--work-dir", str(tmp_path / "w"), "--out", str(tmp_path / "there")]
    result = call_without_torch(*words, first="from gitbench.report import build\nbuild.save = lambda *_: []")
    assert result.returncode == 0, result.stderr[-2000:]
    for name in ("table.csv", "verdicts.json", "runs.csv"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert json.loads((tmp_path / "here" / "verdicts.json").read_text())["verdicts"]
    assert (tmp_path / "w" / "studies" / f"{trained.name}.json").is_file()


def listed(manifest: dict, name: str) -> dict:
    """Put a file that holds "{}" into a manifest, and return it as a file to add."""
    digest = hashlib.sha256(b"{}").hexdigest()
    manifest["files"][name] = {"bytes": 2, "sha256": digest}
    return {name: b"{}"}


def flipped(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


@pytest.mark.parametrize(
    "change", [lambda content: content[: len(content) // 2], flipped, lambda content: b"this is no archive"]
)
def test_a_damaged_archive_is_one_line(change, packed, tmp_path):
    path = tmp_path / "bad.tar.xz"
    path.write_bytes(change(packed.read_bytes()))
    assert_refused(path, "no whole gitbench bundle")


@pytest.mark.parametrize(
    ("change", "said"),  # of the manifest, the files, and the name of a record: returns what becomes of files
    [
        (lambda manifest, files, record: {record: files[record].replace(b"50.0", b"60.0")}, "(SHA-256)"),
        (lambda manifest, files, record: {record: files[record] + b" "}, "(size)"),
        (lambda manifest, files, record: {record: None}, "lacks runs/"),
        (lambda manifest, files, record: manifest.update(schema=1), "schema 1"),
        (lambda manifest, files, record: {"bundle.json": None}, "where no bundle has it"),
        (lambda manifest, files, record: {"bundle.json": b"[]"}, "no readable bundle.json"),
        (lambda manifest, files, record: listed(manifest, "../x.json"), "x.json"),
        (lambda manifest, files, record: listed(manifest, "/tmp/x.json"), "x.json"),
        (lambda manifest, files, record: listed(manifest, record.replace("record.json", "config.py")), "no file of"),
        (lambda manifest, files, record: manifest["files"][record].update(bytes=2**40), "more than 4 GiB"),
        (lambda manifest, files, record: {"studies/link.json": "/etc/passwd"}, "studies/link.json"),
    ],
)
def test_a_changed_bundle_is_one_line(change, said, packed, tmp_path):
    files = members(packed)
    manifest = json.loads(files["bundle.json"])
    changed = change(manifest, files, next(name for name in files if name.endswith("record.json"))) or {}
    files = {**files, "bundle.json": json.dumps(manifest).encode(), **changed}
    path = repack(tmp_path / "bad.tar.xz", {name: content for name, content in files.items() if content is not None})
    assert_refused(path, said)


def assert_refused(path: Path, said: str) -> None:
    """Both commands that read a bundle end with one line and write nothing."""
    for command in ("report", "replicate"):
        assert said in error_of(command, str(path), "--work-dir", str(path.parent / "w"))
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_names_that_are_wrong_are_one_line(study, packed, tmp_path):
    assert "name one of them" in error_of("report", "tiny", "--bundle", str(packed))
    words = ("bundle", "tiny", "--work-dir", str(study.work_dir), "--out")
    assert "is a folder" in error_of(*words, str(tmp_path))
    (tmp_path / "thesis.txt").write_text("dear")
    assert "is no bundle" in error_of(*words, str(tmp_path / "thesis.txt"))
    assert (tmp_path / "thesis.txt").read_text() == "dear"


def test_unpacking_keeps_what_is_there_and_overwrites_nothing(packed, study, tmp_path):
    bundle = open_bundle(packed)
    unpack(bundle, tmp_path)
    unpack(bundle, tmp_path)  # the same again is fine
    plan = tmp_path / "studies" / f"{study.name}.json"
    plan.write_text("{}")
    with pytest.raises(GitbenchError, match="another content"):
        unpack(bundle, tmp_path)
    assert plan.read_text() == "{}"


def test_a_study_without_a_finished_run_or_with_a_file_missing_is_refused(study, tmp_path):
    copy = copied(study, tmp_path / "work")
    next(copy.work_dir.glob("runs/*/curve.csv")).unlink()
    with pytest.raises(GitbenchError, match=r"curve\.csv is missing"):
        write_bundle(copy, tmp_path / "x.tar.xz")
    shutil.rmtree(copy.work_dir / "runs")
    with pytest.raises(GitbenchError, match="no run of tiny"):
        write_bundle(Study.open(copy.work_dir, copy.name), tmp_path / "x.tar.xz")
    assert not (tmp_path / "x.tar.xz").exists()


# ---- the machine is taken out -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/home/ann/my photos/flickr8k", "flickr8k"),
        ("C:\\data\\x", "x"),
        ("gitbench run x --tokenizer /home/ann/tok.json --cfg-options a=/data/b/c.pth", None),
        ("4/5, see https://a.org/b/c", "4/5, see https://a.org/b/c"),
    ],
)
def test_paths_become_their_last_name_and_nothing_else_changes(value, expected):
    said = json.loads(portable_json(json.dumps({"value": [value]}), ()))["value"][0]
    assert said == (expected or "gitbench run x --tokenizer tok.json --cfg-options a=c.pth")


def test_of_program_text_only_what_is_of_this_machine_is_taken_out():
    plain = '{"command":  "gitbench run decoder_size --profile cpu"}'
    assert portable_json(plain, ("/home/ann",)) == plain  # byte for byte
    diff = {"git_diff": "--- a/x\n+++ /dev/null\n-open('/proc/cpuinfo') # /home/ann/clone/x on node-17.lab\n"}
    kept = json.loads(portable_json(json.dumps(diff), ("/home/ann", "node-17.lab")))["git_diff"]
    assert "/proc/cpuinfo" in kept and "/dev/null" in kept and "ann" not in kept and "node-17" not in kept


def test_what_no_rule_takes_out_is_refused():
    check_portable("x", b"a caption about a home", ("/home/ann", "node-17"))
    for content in (b"kept in /home/ann/x", b"on node-17\n"):
        with pytest.raises(GitbenchError, match="this machine"):
            check_portable("x", content, ("/home/ann", "node-17"))
