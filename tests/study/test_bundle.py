"""Bundles: the same numbers elsewhere, runs made again, and nothing taken on trust."""

import dataclasses
import io
import json
import lzma
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import helpers_runs
import pytest
from conftest import TINY, tiny_profile
from helpers_data import row, write_parquet
from test_layers import BLOCK

from gitbench import cli
from gitbench.commands.publish import publish
from gitbench.commands.rerun import choose
from gitbench.errors import GitbenchError
from gitbench.judge.replication import (
    AGREE,
    DISAGREE,
    OPEN,
    Rerun,
    Spread,
    allowed_difference,
    compare,
    spread_of,
    verdict,
)
from gitbench.launch.scheduling import launch
from gitbench.spec import Claim
from gitbench.study import bundle as bundles
from gitbench.study.anonymize import check_portable, portable_config, portable_json
from gitbench.study.bundle import open_bundle, unpack, write_bundle
from gitbench.study.plan import make_plan
from gitbench.study.records import load_study
from gitbench.study.respec import read_values

CLAIM = Claim(**{**helpers_runs.CLAIM, "treatment": "small", "reference": "base"})
STUDY = "tiny.smoke.scenes"


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A work directory with a study of two arms and the floor, two seeds each."""
    folder = tmp_path_factory.mktemp("bundled") / "work"
    profile = dataclasses.replace(tiny_profile(), replicates=2)
    plan = make_plan(dataclasses.replace(TINY, claims=(CLAIM,)), profile, "scenes", folder)
    outcome = launch(plan, "gitbench run tiny --profile smoke", jobs=2, plain=True)
    assert outcome.completed == 6 and not outcome.failed
    return folder


@pytest.fixture(scope="module")
def packed(work, tmp_path_factory) -> Path:
    return write_bundle(work, STUDY, tmp_path_factory.mktemp("packed") / "tiny.tar.xz").path


def edited(work: Path, folder: Path, change) -> Path:
    """Return the bundle of a copy of `work` in which `change(folder of a base run)` was called for every base run."""
    shutil.copytree(work, folder / "work")
    for run in load_study(folder / "work", "tiny", "smoke", "scenes").runs:
        if run.arm == "base":
            change(folder / "work" / "runs" / run.run_key)
    return write_bundle(folder / "work", STUDY, folder / "edited.tar.xz").path


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path, "r:xz") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def repack(path: Path, files: dict[str, bytes], *more: tarfile.TarInfo) -> Path:
    """Write files as they are, whatever the manifest says, and then members without content."""
    with lzma.open(path, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in more:
            archive.addfile(member)
    return path


def test_a_bundle_holds_what_the_numbers_rest_on_and_no_image_or_weight(packed):
    found = members(packed)
    assert next(iter(found)) == "bundle.json"
    manifest = json.loads(found["bundle.json"])
    assert set(manifest["files"]) == set(found) - {"bundle.json"}
    assert manifest["finished"] == manifest["runs"] == 6 and manifest["environment"]["package torch"]
    runs = {name.split("/")[1] for name in found if name.startswith("runs/")}
    assert len(runs) == 6
    for key in runs:
        assert {name.split("/")[2] for name in found if f"/{key}/" in name} == set(bundles.RUN_FILES)
    assert f"studies/{STUDY}.proof.json" in found and any(name.startswith("yardsticks/") for name in found)


def test_the_same_study_gives_the_same_bytes_wherever_it_lies(work, packed, tmp_path):
    shutil.copytree(work, tmp_path / "elsewhere")
    again = write_bundle(tmp_path / "elsewhere", STUDY, tmp_path / "again.tar.xz")
    assert again.path.read_bytes() == packed.read_bytes()
    with tarfile.open(packed, "r:xz") as archive:
        assert all((one.mtime, one.uid, one.gid, one.uname) == (0, 0, 0, "") for one in archive)


def test_the_report_of_a_bundle_has_the_same_numbers_without_torch(work, packed, tmp_path):
    publish(work, STUDY, tmp_path / "here")
    for arguments in (["report", str(packed)], ["report", "--bundle", str(packed), "--work-dir", str(tmp_path / "w")]):
        out = tmp_path / f"there{len(arguments)}"
        code = BLOCK + f"from gitbench.cli import main\nraise SystemExit(main({[*arguments, '--out', str(out)]!r}))"
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr[-2000:]
        for name in ("table.csv", "verdicts.json", "runs.csv"):
            assert (out / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert json.loads((tmp_path / "here" / "verdicts.json").read_text())["verdicts"]
    assert (tmp_path / "w" / "studies" / f"{STUDY}.json").is_file()


def test_runs_made_again_are_bit_identical(packed, tmp_path, capsys):
    arguments = ["replicate", str(packed), "--sample", "2", "--work-dir", str(tmp_path), "--plain"]
    assert cli.main([*arguments, "--out", str(tmp_path / "said")]) == 0
    found = json.loads((tmp_path / "said" / "replication.json").read_text())
    assert found["verdict"] == "agree" and len(found["runs"]) == 2
    assert len({run["arm"] for run in found["runs"]}) == 2  # spread over the arms
    for run in found["runs"]:
        assert run["identical"] and {"CIDEr", "test_nll"} <= {each["metric"] for each in run["comparisons"]}
        assert all(each["difference"] == 0 for each in run["comparisons"])
        assert len(list(tmp_path.glob(f"replications/*/runs/{run['run_key']}/model.pth"))) == 1  # it was trained
    said = (tmp_path / "said" / "replication.md").read_text()
    assert "all agree with the bundle, 2 of them bit for bit" in said and said in capsys.readouterr().out


def test_a_run_that_was_changed_disagrees(work, tmp_path, capsys):
    def flatter(folder: Path) -> None:
        record = json.loads((folder / "record.json").read_text())
        record["metrics"]["CIDEr"]["value"] += 40
        (folder / "record.json").write_text(json.dumps(record))

    bundle = edited(work, tmp_path, flatter)
    assert cli.main(["replicate", str(bundle), "--sample", "3", "--work-dir", str(tmp_path / "w"), "--plain"]) == 1
    found = json.loads(next(tmp_path.glob("w/replications/*/replication.json")).read_text())
    assert {run["arm"]: run["verdict"] for run in found["runs"]} == {
        "base": "disagree", "small": "agree", "blind": "agree"
    }  # fmt: skip
    assert "1 disagrees with the bundle" in capsys.readouterr().out


def parquet_folder(folder: Path, animal: str) -> Path:
    for split, numbers in {"train": range(24), "val": range(24, 28), "test": range(28, 34)}.items():
        rows = [row(number, [f"a {animal} runs", f"{number % 3} of them"]) for number in numbers]
        write_parquet(folder / f"{split}.parquet", rows)
    return folder


def test_a_study_on_a_folder_is_made_again_on_the_same_content_only(tmp_path, capsys):
    data = parquet_folder(tmp_path / "photos", "dog")
    plan = make_plan(TINY, tiny_profile(), str(data), tmp_path / "work")
    assert not launch(plan, "gitbench run tiny", jobs=2, plain=True).failed
    packed = write_bundle(tmp_path / "work", plan.study, tmp_path / "photos.tar.xz").path
    everything = b"".join(members(packed).values())
    assert str(tmp_path).encode() not in everything and b"'photos'" in everything
    arguments = ["replicate", str(packed), "--sample", "1", "--work-dir", str(tmp_path / "w"), "--plain"]
    assert cli.main(arguments) == 2
    assert "'photos', which no bundle holds: pass --data" in capsys.readouterr().err
    assert cli.main([*arguments, "--data", str(parquet_folder(tmp_path / "other", "cat"))]) == 2
    assert "other is not the data of" in capsys.readouterr().err
    assert not list(tmp_path.glob("w/replications/*/runs"))
    shutil.copytree(data, tmp_path / "moved" / "photos")
    assert cli.main([*arguments, "--data", str(tmp_path / "moved" / "photos")]) == 0


def test_what_is_not_the_same_run_is_not_made_again(work, packed, tmp_path, capsys, monkeypatch):
    def refused(bundle: Path) -> str:
        assert cli.main(["replicate", str(bundle), "--sample", "3", "--work-dir", str(tmp_path / "w")]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        return error

    def slower(folder: Path) -> None:
        text = (folder / "config.py").read_text()
        (folder / "config.py").write_text(text.replace("lr_decoder=0.002", "lr_decoder=0.001"))

    def wider(folder: Path) -> None:
        record = json.loads((folder / "record.json").read_text())
        record["spec"]["decoder"]["ffn"] *= 2
        (folder / "record.json").write_text(json.dumps(record))

    def program(folder: Path) -> None:
        (folder / "config.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'executed')!r})\n")

    for name, change, said in (
        ("slower", slower, "do not say the same (optim_wrapper.paramwise_cfg.lr_decoder: 0.001 there, 0.002 here"),
        ("wider", wider, "does not come out again"),
        ("program", program, "no config of gitbench's"),
    ):
        (tmp_path / name).mkdir()
        assert said in refused(edited(work, tmp_path / name, change))
    assert not (tmp_path / "executed").exists()
    monkeypatch.setattr("gitbench.spec.NUMERICS_VERSION", 99)
    assert "use the version that made the bundle" in refused(packed)


def test_what_is_chosen_is_decided_by_the_seed_and_spread_over_arms(work):
    study = load_study(work, "tiny", "smoke", "scenes")
    three = choose(work, study, 3, 0)
    assert three == choose(work, study, 3, 0) and {run.arm for run in three} == {"base", "small", "blind"}
    assert len({choose(work, study, 1, seed) for seed in range(20)}) == 6  # every run can be the one
    assert len(choose(work, study, 99, 0)) == 6
    with pytest.raises(GitbenchError, match="--sample 0"):
        choose(work, study, 0, 0)


def damaged(kind: str, packed: Path, folder: Path) -> Path:
    """Return a bundle that is wrong in one way."""
    path, files = folder / "bad.tar.xz", members(packed)
    record = next(name for name in files if name.endswith("record.json"))
    manifest = json.loads(files["bundle.json"])
    if kind == "truncated":
        path.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
        return path
    if kind == "a flipped bit":
        content = bytearray(packed.read_bytes())
        content[len(content) // 2] ^= 16
        path.write_bytes(content)
        return path
    if kind == "no archive":
        path.write_text("this is no archive")
        return path
    if kind == "a changed number":
        files[record] = files[record].replace(b'"schema": 1', b'"schema": 2')
    elif kind == "another length":
        files[record] += b" "
    elif kind == "a file too few":
        del files[record]
    elif kind == "a newer schema":
        files["bundle.json"] = json.dumps({**manifest, "schema": 2}).encode()
    elif kind == "no manifest":
        del files["bundle.json"]
    elif kind == "another archive":
        files = {"bundle.json": b"[]"}
    elif kind in ("a way out", "an absolute name", "weights"):
        name = {
            "a way out": "../out.json",
            "an absolute name": "/tmp/out.json",
            "weights": "runs/0123456789abcdef/model.pth",
        }[kind]
        files[name] = b"{}"
        manifest["files"][name] = {
            "bytes": 2,
            "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        }
        files["bundle.json"] = json.dumps(manifest).encode()
    elif kind == "a link":
        link = tarfile.TarInfo("studies/link.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        return repack(path, files, link)
    elif kind == "too much":
        manifest["files"][record]["bytes"] = 2**40
        files["bundle.json"] = json.dumps(manifest).encode()
    return repack(path, files)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("truncated", "no whole gitbench bundle"),
        ("a flipped bit", "no whole gitbench bundle"),
        ("no archive", "no whole gitbench bundle"),
        ("a changed number", "(SHA-256)"),
        ("another length", "(size)"),
        ("a file too few", "lacks runs/"),
        ("a newer schema", "schema 2"),
        ("no manifest", "where no bundle has it"),
        ("another archive", "no readable bundle.json"),
        ("a way out", "out.json"),
        ("an absolute name", "out.json"),
        ("weights", "no file of a bundle"),
        ("a link", "studies/link.json"),
        ("too much", "more than 4 GiB"),
    ],
)
def test_a_damaged_or_changed_bundle_is_one_line_and_writes_nothing(kind, said, packed, tmp_path, capsys):
    path = damaged(kind, packed, tmp_path)
    for command in ("report", "replicate"):
        assert cli.main([command, str(path), "--work-dir", str(tmp_path / "w")]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and said in error, error
    assert {each.name for each in tmp_path.iterdir()} == {"bad.tar.xz"}


def test_names_that_are_wrong_are_one_line(work, packed, tmp_path, capsys):
    for arguments, said in (
        (["report", str(tmp_path / "none.tar.xz")], "does not exist"),
        (["replicate", str(tmp_path)], "is a folder"),
        (["report"], "name an ablation, or a bundle"),
        (["report", "tiny", "--bundle", str(packed)], "name one of them"),
        (["bundle", "tiny", "--profile", "smoke", "--work-dir", str(tmp_path)], "no study tiny.smoke.scenes"),
        (["bundle", "tiny", "--profile", "smoke", "--work-dir", str(work), "--out", str(tmp_path)], "is a folder"),
    ):
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert said in error and len(error.splitlines()) == 1, error


def test_unpacking_keeps_what_is_there_and_overwrites_nothing(packed, tmp_path):
    bundle = open_bundle(packed)
    unpack(bundle, tmp_path)
    unpack(bundle, tmp_path)  # the same again is fine
    study = tmp_path / "studies" / f"{STUDY}.json"
    study.write_text("{}")
    with pytest.raises(GitbenchError, match="another content"):
        unpack(bundle, tmp_path)
    assert study.read_text() == "{}"


def test_a_study_without_a_finished_run_or_with_a_file_missing_is_refused(tmp_path):
    work = helpers_runs.make_work_dir(tmp_path / "a", replicates=1)
    with pytest.raises(GitbenchError, match=r"config\.py is missing"):
        write_bundle(work, "decoder_size.cpu.scenes", tmp_path / "x.tar.xz")
    for record in work.glob("runs/*/record.json"):
        record.unlink()
    with pytest.raises(GitbenchError, match="no run of decoder_size"):
        write_bundle(work, "decoder_size.cpu.scenes", tmp_path / "x.tar.xz")
    assert not (tmp_path / "x.tar.xz").exists()


# ---- the machine is taken out -----------------------------------------------------------------------------------


def test_paths_become_their_last_name_and_nothing_else_changes():
    config = "model = dict(data='/home/ann/my photos/flickr8k', type='decoder/self_2x96', rate=1.0)\nwork_dir = 'a/b'\n"
    assert portable_config(config) == config.replace("/home/ann/my photos/flickr8k", "flickr8k")
    assert portable_config("path = 'C:\\\\data\\\\x'\n") == "path = 'x'\n"
    plain = '{"command":  "gitbench run decoder_size --profile cpu", "size": "4/5", "url": "https://a.org/b/c"}'
    assert portable_json(plain, ("/home/ann",)) == plain  # byte for byte
    said = json.loads(
        portable_json(
            json.dumps({"command": "gitbench run x --tokenizer /home/ann/tok.json --cfg-options a=/data/b/c.pth"}), ()
        )
    )
    assert said == {"command": "gitbench run x --tokenizer tok.json --cfg-options a=c.pth"}
    diff = {"git_diff": "--- a/x\n+++ /dev/null\n-open('/proc/cpuinfo') # /home/ann/clone/x on node-17.lab\n"}
    kept = json.loads(portable_json(json.dumps(diff), ("/home/ann", "node-17.lab")))["git_diff"]
    assert "/proc/cpuinfo" in kept and "/dev/null" in kept and "ann" not in kept and "node-17" not in kept


def test_what_no_rule_takes_out_is_refused():
    check_portable("x", b"a caption about a home", ("/home/ann", "node-17"))
    for content in (b"kept in /home/ann/x", b"on node-17\n"):
        with pytest.raises(GitbenchError, match="this machine"):
            check_portable("x", content, ("/home/ann", "node-17"))


def test_a_config_is_read_as_values_only():
    assert read_values("a = dict(b=[1, -2.5, None], c=(True,))\nd = {'e': 'f'}\n") == {
        "a": {"b": [1, -2.5, None], "c": (True,)}, "d": {"e": "f"}
    }  # fmt: skip
    for text in ("import os", "a = open('x')", "a = dict(**b)", "a = [x for x in 'ab']", "a.b = 1", "a = 1 + b"):
        with pytest.raises(ValueError):
            read_values(text)


# ---- the judgement ----------------------------------------------------------------------------------------------


def record(value: float, signature: str = "s") -> dict:
    return {"metrics": {"CIDEr": {"value": value, "signature": signature}}}


def test_other_predictions_are_measured_by_the_noise_and_equal_ones_exactly():
    spread = spread_of([record(value) for value in (90.0, 94.0, 98.0)], "CIDEr")
    assert spread == Spread(sd=4.0, df=2, source="spread of the arm's 3 replicates")
    limit = allowed_difference(spread, 1)
    assert limit == pytest.approx(4.302653 * 4 * 2**0.5, rel=1e-5)  # Student's 97.5 % at 2 degrees of freedom
    assert allowed_difference(spread, 10) > limit

    def word(difference: float, identical: bool, noise: Spread | None = spread, signature: str = "s") -> str:
        new = record(100 + difference, signature)
        return compare(record(100.0), new, identical, {"CIDEr": noise}, 1)[0].word

    assert word(0.99 * limit, False) == AGREE and word(1.01 * limit, False) == DISAGREE
    assert word(1e-9, True) == AGREE and word(0.01, True) == DISAGREE
    assert word(0.01, True, signature="other") == AGREE  # another scorer: within the noise
    assert word(0.01, False, None) == OPEN and word(0.0, False, None) == AGREE


def test_the_measured_noise_floor_comes_first(tmp_path):
    from gitbench.judge.noise import NoiseFloor

    values = {each.name: 0 for each in dataclasses.fields(NoiseFloor)} | {"sd": 3.0, "n": 12}
    found = spread_of([record(1.0), record(2.0)], "CIDEr", NoiseFloor(**values))
    assert found == Spread(sd=3.0, df=11, source="noise floor, 12 replicates")
    assert spread_of([record(1.0)], "CIDEr") is None


def test_one_disagreement_decides_and_agreement_needs_every_run():
    def rerun(difference: float, failed: str = "") -> Rerun:
        spreads = {"CIDEr": Spread(sd=1.0, df=9, source="")}
        pairs = () if failed else compare(record(1.0), record(1.0 + difference), False, spreads, 1)
        return Rerun(arm="base", replicate=0, run_key="k", comparisons=pairs, failed=failed)

    assert verdict([rerun(0.1), rerun(0.2)]) == AGREE
    assert verdict([rerun(0.1), rerun(50)]) == DISAGREE
    assert verdict([rerun(0.1), rerun(0, "no memory")]) == OPEN
    assert verdict([rerun(50), rerun(0, "no memory")]) == DISAGREE
