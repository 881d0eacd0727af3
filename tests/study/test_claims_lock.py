"""The lock of claims: the repository's is up to date, and a claim that changed after results existed is told of."""

import dataclasses
import json

import pytest
from helpers_judge import claim_of, plan_of

from gitbench.ablations import load_ablation
from gitbench.cli import main
from gitbench.errors import GitbenchError
from gitbench.study import lock
from gitbench.study.lock import (
    FIX,
    claim_hash,
    claim_hashes,
    differences,
    lock_deviations,
    read_lock,
    stated_claims,
    under_lock,
    write_lock,
)

NAME = "decoder_size/larger-no-better"
CLAIM = claim_of("better")
KEY = "ab/better"


def test_the_repository_s_claims_are_as_they_are_locked():
    found = differences(stated_claims(), read_lock().claims)
    assert not found, f"{'; '.join(found)}: {FIX}"


def test_a_hash_covers_all_that_a_claim_says_and_no_field_at_its_default():
    changes = {"margin": 0.06, "margin_reason": "another", "metric": "METEOR", "kind": "not_better", "quote": "x"}
    changes |= {"treatment": "small", "says": "Less.", "direction": "down"}
    hashes = {claim_hash(dataclasses.replace(CLAIM, **{name: value})) for name, value in changes.items()}
    assert len(hashes | {claim_hash(CLAIM)}) == len(changes) + 1
    assert claim_hash(CLAIM) == claim_hash(dataclasses.replace(CLAIM, along_unit="step"))
    whole, written = (dataclasses.replace(CLAIM, along=(("a", one), ("b", 2.5))) for one in (1, 1.0))
    assert claim_hash(whole) == claim_hash(written) != claim_hash(CLAIM)
    # changes only with what is hashed: then every lock is void
    assert claim_hash(load_ablation("decoder_size").claims[0]) == read_lock().claims[NAME]


def test_a_lock_is_written_sorted_says_since_when_and_is_read_again(tmp_path):
    path = tmp_path / "claims.lock"
    assert read_lock(path).claims == {}
    write_lock(path, {"b/y": "2", "a/x": "1"})
    assert list(json.loads(path.read_text())["claims"]) == ["a/x", "b/y"]
    assert read_lock(path).since == {}  # nobody knows when these were stated
    write_lock(path, {"a/x": "1", "b/y": "3", "a/new": "4"})
    since = read_lock(path).since
    assert set(since) == {"b/y", "a/new"} and all(each.endswith("Z") and each > "2026" for each in since.values())
    write_lock(path, {"a/x": "1", "b/y": "3"})
    assert read_lock(path).since == {"b/y": since["b/y"]} and read_lock(path).claims == {"a/x": "1", "b/y": "3"}
    for damaged in ("{}", '{"claims": [1]}', '{"claims": {}, "since": [1]}', "[]"):
        path.write_text(damaged)
        with pytest.raises(GitbenchError, match="claims.lock is damaged: run `gitbench lock`"):
            read_lock(path)


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The lock of a clone that is not this one; there is none yet."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(lock, "ROOT", tmp_path)
    return tmp_path / "claims.lock"


def test_the_command_checks_and_writes(path, capsys):
    write_lock(path, {**stated_claims(), NAME: "0", "gone/claim": "1"})
    assert main(["lock", "--check"]) == 2
    said = capsys.readouterr().err
    assert f"{NAME} was changed" in said and "gone/claim is locked, and no ablation states it" in said and FIX in said
    assert main(["lock"]) == 0 and read_lock().claims == read_lock(path).claims == stated_claims()
    assert main(["lock", "--check"]) == 0
    write_lock(path, {NAME: stated_claims()[NAME]})
    assert main(["lock", "--check"]) == 2 and "data_scale/small-saturates is not locked" in capsys.readouterr().err


def test_a_run_records_the_lock_and_all_claims():
    ablation = load_ablation("decoder_size")
    recorded = under_lock(claim_hashes(ablation))
    assert recorded["claims"] == read_lock().claims and len(recorded["claims_lock"]) == 16
    changed = dataclasses.replace(ablation, claims=(dataclasses.replace(ablation.claims[0], margin=0.5),))
    edited = under_lock(claim_hashes(changed))  # an unlocked edit is recorded as it is, under the lock there is
    assert edited["claims"][NAME] == claim_hash(changed.claims[0]) != recorded["claims"][NAME]
    assert edited["claims_lock"] == recorded["claims_lock"]


# ---- deviations ---------------------------------------------------------------------------------------------------


def deviations(recorded, *claims, only=None, task="caption"):
    """Compare claims with runs made under `recorded` (of the runs named in `only`, others under today's claims)."""
    claims = claims or (CLAIM,)
    runs = tuple((arm, replicate) for arm in ("blind", "b", "a", "d") for replicate in range(3))
    plan = dataclasses.replace(plan_of(*claims, runs=runs), task=task)
    provenance = {}
    for arm, replicate in runs:
        mine = recorded if only is None or (arm, replicate) in only else {KEY: claim_hash(CLAIM)}
        values = {"started": f"2026-01-0{replicate + 1}T00:00:00Z"}
        provenance[f"{arm}{replicate}"] = values if mine is None else values | {"claims": mine}
    return lock_deviations(plan, provenance)


def test_no_deviation_where_nothing_changed_or_nothing_is_known():
    assert deviations({KEY: claim_hash(CLAIM), "other/claim": "1"}) == ()
    assert lock_deviations(plan_of(CLAIM, runs=(("a", 0),)), {}) == ()


def test_a_margin_changed_after_some_results():
    old = {KEY: claim_hash(dataclasses.replace(CLAIM, margin=0.01))}
    (found,) = deviations(old, only=[("d", 2), ("a", 1), ("b", 0)])  # the claim does not rest on b
    assert (found.name, found.kind, found.runs, found.of) == ("better", "changed", 2, 6)
    assert "2 of 6 runs rest on another form" in found.what and found.when == "2026-01-02T00:00:00Z"


def test_a_claim_added_and_one_dropped_after_results():
    recorded = {KEY: claim_hash(CLAIM), "ab/inconvenient": "1"}
    first, second = deviations(recorded, CLAIM, dataclasses.replace(CLAIM, name="new"))
    assert (first.name, first.kind, first.runs, first.of) == ("new", "added", 6, 6)
    assert (second.name, second.kind, second.runs, second.of) == ("inconvenient", "removed", 12, 12)


def test_runs_older_than_the_lock_are_said_to_be(path):
    (found,) = deviations(None)
    assert (found.kind, found.runs, found.of) == ("unlocked", 6, 6)
    for since, hashed, expected in (  # three replicates, started on the first, second and third of January
        ("2026-01-02T12:00:00Z", claim_hash(CLAIM), {"added": 4, "unlocked": 2}),
        ("2025-12-31T00:00:00Z", claim_hash(CLAIM), {"unlocked": 6}),
        ("2026-02-01T00:00:00Z", "another claim", {"unlocked": 6}),
        ("", claim_hash(CLAIM), {"unlocked": 6}),
    ):
        path.write_text(json.dumps({"claims": {KEY: hashed}, "since": {KEY: since}}))
        assert {each.kind: each.runs for each in deviations(None)} == expected


def test_another_task_judges_the_same_claim_by_its_own_score():
    under_vqa = dataclasses.replace(CLAIM, metric="VQA")
    recorded = {KEY: claim_hash(CLAIM), "ab/in-points": "1"}
    assert deviations(recorded, under_vqa, task="vqa") == ()
    (found,) = deviations(recorded, dataclasses.replace(under_vqa, margin=0.1), task="vqa")
    assert found.kind == "changed"
