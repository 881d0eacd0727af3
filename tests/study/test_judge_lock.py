"""The lock of claims: the repository's is up to date, and a claim that changed after results existed is told of."""

import dataclasses
import json

import pytest
from helpers_runs import CLAIM, make_work_dir, run_key

from gitbench.ablations import load_ablation
from gitbench.cli import main
from gitbench.errors import GitbenchError
from gitbench.spec import Claim
from gitbench.study import lock
from gitbench.study.lock import (
    FIX,
    claim_hash,
    differences,
    lock_deviations,
    read_lock,
    read_since,
    stated_claims,
    write_lock,
)
from gitbench.study.provenance import provenance
from gitbench.study.records import load_study

NAME = "decoder_size/larger-no-better"


def test_the_repository_s_claims_are_as_they_are_locked():
    found = differences(stated_claims(), read_lock())
    assert not found, f"{'; '.join(found)}: {FIX}"


def test_a_hash_covers_all_that_a_claim_says_and_no_field_at_its_default():
    claim = Claim(**CLAIM)
    changes = {"margin": 0.06, "margin_reason": "another", "metric": "METEOR", "kind": "better", "quote": "x"}
    changes |= {"family": "own", "test": "sign_flip", "treatment": "small", "says": "Less."}
    hashes = {claim_hash(dataclasses.replace(claim, **{name: value})) for name, value in changes.items()}
    assert len(hashes | {claim_hash(claim)}) == len(changes) + 1
    assert claim_hash(claim) == claim_hash(dataclasses.replace(claim, along_unit="step", family=None))
    whole, written = (dataclasses.replace(claim, along=(("a", one), ("b", 2.5))) for one in (1, 1.0))
    assert claim_hash(whole) == claim_hash(written) != claim_hash(claim)
    assert claim_hash(claim) == "165ea0c389b2ef35"  # changes only with what is hashed: then every lock is void


def test_lock_is_written_sorted_and_read_again(tmp_path):
    path = write_lock(tmp_path / "claims.lock", {"b/y": "2", "a/x": "1"})
    assert list(json.loads(path.read_text())["claims"]) == ["a/x", "b/y"]
    assert read_lock(path) == {"a/x": "1", "b/y": "2"} and read_lock(tmp_path / "none") == {}
    path.write_text('{"claims": [1]}')
    with pytest.raises(GitbenchError, match="is damaged: run `gitbench lock`"):
        read_lock(path)


def test_differences_name_what_is_new_gone_and_changed():
    found = differences({"a": "1", "b": "2", "c": "3"}, {"b": "2", "c": "4", "d": "5"})
    assert found == [
        "a is not locked",
        "c was changed since it was locked",
        "d is locked, and no ablation states it",
    ]


def test_the_command_checks_and_writes(tmp_path, monkeypatch, capsys):
    path = tmp_path / "claims.lock"
    monkeypatch.setattr(lock, "lock_path", lambda: path)
    assert main(["lock", "--check"]) == 2
    assert f"{NAME} is not locked" in (said := capsys.readouterr().err) and FIX in said and not path.exists()
    assert main(["lock"]) == 0 and read_lock(path) == stated_claims()
    capsys.readouterr()
    assert main(["lock", "--check"]) == 0 and "all as they are locked" in capsys.readouterr().out
    write_lock(path, {**stated_claims(), NAME: "0"})
    assert main(["lock", "--check"]) == 2 and f"{NAME} was changed" in capsys.readouterr().err
    written = path.read_bytes()
    assert main(["lock"]) == 0 and path.read_bytes() != written and read_lock(path) == stated_claims()


def test_a_run_records_the_lock_and_all_claims():
    ablation = load_ablation("decoder_size")
    recorded = provenance("f", "test", ablation)
    assert recorded["claims"] == read_lock() and recorded["claims"][NAME] == claim_hash(ablation.claims[0])
    assert len(recorded["claims_lock"]) == 16
    changed = dataclasses.replace(ablation, claims=(dataclasses.replace(ablation.claims[0], margin=0.5),))
    edited = provenance("f", "test", changed)  # an unlocked edit is recorded as it is, under the lock there is
    assert edited["claims"][NAME] == claim_hash(changed.claims[0]) != recorded["claims"][NAME]
    assert edited["claims_lock"] == recorded["claims_lock"] and "claims" not in provenance("f", "test")


# ---- deviations ---------------------------------------------------------------------------------------------------


def study_with(tmp_path, recorded, *, claims=(CLAIM,), only=None, task=None):
    """Return a study whose runs were made under `recorded` claims (of the runs named in `only`, others unchanged)."""
    work_dir = make_work_dir(tmp_path / "work", claims=claims, replicates=3, records_only=True)
    for arm in ("blind", "small", "base", "large"):
        for replicate in range(3):
            values = {"started": f"2026-01-0{replicate + 1}T00:00:00Z"}
            mine = recorded if only is None or (arm, replicate) in only else {NAME: claim_hash(Claim(**CLAIM))}
            if mine is not None:
                values |= {"claims_lock": "x", "claims": mine}
            (work_dir / "runs" / run_key(arm, replicate) / "provenance.json").write_text(json.dumps(values))
    if task is not None:
        path = work_dir / "studies" / "decoder_size.cpu.scenes.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "task": task}))
    return load_study(work_dir, "decoder_size", "cpu", "scenes"), work_dir


def test_no_deviation_where_nothing_changed(tmp_path):
    assert lock_deviations(*study_with(tmp_path, {NAME: claim_hash(Claim(**CLAIM)), "other/claim": "1"})) == ()


def test_a_margin_changed_after_some_results(tmp_path):
    old = {NAME: claim_hash(Claim(**{**CLAIM, "margin": 0.01}))}
    only = [("large", 2), ("base", 1), ("small", 0)]  # the claim does not rest on small
    (found,) = lock_deviations(*study_with(tmp_path, old, only=only))
    assert (found.name, found.kind, found.runs, found.of) == ("larger-no-better", "changed", 2, 6)
    assert found.what == "changed after results existed: 2 of 6 runs rest on another form of it"
    assert found.when == "2026-01-02T00:00:00Z"


def test_a_claim_added_and_one_dropped_after_results(tmp_path):
    added = {**CLAIM, "name": "new"}
    recorded = {NAME: claim_hash(Claim(**CLAIM)), "decoder_size/inconvenient": "1"}
    first, second = lock_deviations(*study_with(tmp_path, recorded, claims=(CLAIM, added)))
    assert (first.name, first.kind) == ("new", "added") and "6 of 6 runs were made before it was stated" in first.what
    assert (second.name, second.kind, second.of) == ("inconvenient", "removed", 12)
    assert "dropped after results existed" in second.what


def test_runs_older_than_the_lock_are_said_to_be(tmp_path):
    (found,) = lock_deviations(*study_with(tmp_path, None))
    assert found.kind == "unlocked" and found.what == "6 of 6 runs ran before claims were locked"
    study, work_dir = study_with(tmp_path / "half", None, only=[("large", 0)])
    (found,) = lock_deviations(study, work_dir)
    assert (found.runs, found.of) == (1, 6)
    (work_dir / "runs" / run_key("large", 0) / "provenance.json").unlink()  # nothing is known of it
    assert lock_deviations(study, work_dir) == ()


def test_the_lock_says_since_when_a_claim_stands(tmp_path):
    path = tmp_path / "claims.lock"
    write_lock(path, {"a/first": "1", "a/other": "2"})
    assert read_since(path) == {}  # nobody knows when these were stated
    write_lock(path, {"a/first": "1", "a/other": "3", "a/new": "4"})
    since = read_since(path)
    assert set(since) == {"a/other", "a/new"} and all(each.endswith("Z") and each > "2026" for each in since.values())
    write_lock(path, {"a/first": "1", "a/other": "3"})
    assert read_since(path) == {"a/other": since["a/other"]}
    path.write_text(json.dumps({"claims": {}, "since": [1]}))
    with pytest.raises(GitbenchError, match="claims.lock is damaged"):
        read_since(path)


def test_a_claim_younger_than_unlocked_runs_was_added_after_them(tmp_path, monkeypatch):
    claim = Claim(**CLAIM)
    path = tmp_path / "claims.lock"
    monkeypatch.setattr("gitbench.study.lock.lock_path", lambda: path)
    where = study_with(tmp_path, None)  # three replicates, started on the first, second and third of January
    for since, hashed, expected in (
        ("2026-01-02T12:00:00Z", claim_hash(claim), {"added": 4, "unlocked": 2}),
        ("2025-12-31T00:00:00Z", claim_hash(claim), {"unlocked": 6}),
        ("2026-02-01T00:00:00Z", "another claim", {"unlocked": 6}),
        ("", claim_hash(claim), {"unlocked": 6}),
    ):
        path.write_text(json.dumps({"claims": {NAME: hashed}, "since": {NAME: since}}))
        found = lock_deviations(*where)
        assert {each.kind: each.runs for each in found} == expected


def test_another_task_judges_the_same_claim_by_its_own_score(tmp_path):
    under_vqa = {**CLAIM, "metric": "VQA"}
    recorded = {NAME: claim_hash(Claim(**CLAIM)), "decoder_size/in-points": "1"}
    assert lock_deviations(*study_with(tmp_path, recorded, claims=(under_vqa,), task="vqa")) == ()
    wider = {**under_vqa, "margin": 0.1}
    (found,) = lock_deviations(*study_with(tmp_path / "wider", recorded, claims=(wider,), task="vqa"))
    assert found.kind == "changed"
