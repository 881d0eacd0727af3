"""The lock of claims: the repository's is up to date, and a claim that changed after results existed is told of."""

import dataclasses
import json

import pytest
from helpers_runs import CLAIM, make_work_dir

from gitbench.ablations import load_ablation
from gitbench.errors import GitbenchError
from gitbench.spec import Claim
from gitbench.study.lock import (
    FIX,
    claim_hash,
    claim_hashes,
    differences,
    lock_deviations,
    locked_since,
    read_lock,
    stated_claims,
    under_lock,
    write_lock,
)
from gitbench.study.store import Study

NAME = "decoder_size/larger-no-better"
HASH = claim_hash(Claim(**CLAIM))


def test_the_repository_s_claims_are_as_they_are_locked():
    found = differences(stated_claims(), read_lock())
    assert not found, f"{'; '.join(found)}: {FIX}"


def test_a_hash_covers_all_that_a_claim_says_and_no_field_at_its_default():
    claim = Claim(**CLAIM)
    changes = {
        "margin": 0.06,
        "margin_unit": "metric",
        "margin_reason": "another",
        "metric": "METEOR",
        "kind": "better",
        "quote": "x",
    }
    changes |= {"treatment": "small", "says": "Less.", "direction": "down"}
    hashes = {claim_hash(dataclasses.replace(claim, **{name: value})) for name, value in changes.items()}
    assert len(hashes | {HASH}) == len(changes) + 1
    whole, written = (dataclasses.replace(claim, margin=one) for one in (1, 1.0))
    assert claim_hash(whole) == claim_hash(written) != HASH
    assert HASH == "6b00f7259e173b50"  # changes only with what is hashed: then every lock is void


def test_a_lock_is_written_sorted_and_read_again(tmp_path):
    path = tmp_path / "claims.lock"
    write_lock(path, {"b/y": "2", "a/x": "1"})
    assert list(json.loads(path.read_text())["claims"]) == ["a/x", "b/y"]
    assert read_lock(path) == {"a/x": "1", "b/y": "2"} and read_lock(tmp_path / "none") == {}
    path.write_text('{"claims": [1]}')
    with pytest.raises(GitbenchError, match="is damaged: .* run `gitbench lock`"):
        read_lock(path)


def test_differences_name_what_is_new_gone_and_changed():
    found = differences({"a": "1", "b": "2", "c": "3"}, {"b": "2", "c": "4", "d": "5"})
    assert [line.split()[0] for line in found] == ["a", "c", "d"]
    assert all(word in line for line, word in zip(found, ("not", "changed", "no ablation"), strict=True))


def test_a_run_records_the_lock_and_all_claims():
    ablation = load_ablation("decoder_size")
    recorded = under_lock(claim_hashes(ablation))
    assert recorded["claims"] == read_lock() and recorded["claims"][NAME] == claim_hash(ablation.claims[0])
    assert len(recorded["claims_lock"]) == 16
    changed = dataclasses.replace(ablation, claims=(dataclasses.replace(ablation.claims[0], margin=0.5),))
    edited = under_lock(claim_hashes(changed))  # an unlocked edit is recorded as it is, under the lock there is
    assert edited["claims"][NAME] == claim_hash(changed.claims[0]) != recorded["claims"][NAME]
    assert edited["claims_lock"] == recorded["claims_lock"]


# ---- deviations ---------------------------------------------------------------------------------------------------


def deviations(folder, recorded, *, claims=(CLAIM,), only=None, task="caption"):
    """Return the deviations of a study whose runs were made under `recorded` claims (those in `only`; the others as now)."""
    plan = Study.open(
        make_work_dir(folder, claims=claims, replicates=3, records_only=True), "decoder_size.cpu.scenes"
    ).plan
    provenance = {
        run.run_key: {
            "started": f"2026-01-0{run.replicate + 1}T00:00:00Z",
            "claims": recorded if only is None or (run.arm, run.replicate) in only else {NAME: HASH},
        }
        for run in plan.runs
    }  # fmt: skip
    return lock_deviations(dataclasses.replace(plan, task=task), provenance)


def test_no_deviation_where_nothing_changed(tmp_path):
    assert deviations(tmp_path, {NAME: HASH, "other/claim": "1"}) == ()


def test_a_margin_changed_after_some_results(tmp_path):
    old = {NAME: claim_hash(Claim(**{**CLAIM, "margin": 0.01}))}
    only = [("large", 2), ("base", 1), ("small", 0)]  # the claim does not rest on small
    (found,) = deviations(tmp_path, old, only=only)
    assert (found.name, found.kind, found.runs, found.of) == ("larger-no-better", "changed", 2, 6)
    assert "2 of 6 runs" in found.what and found.when == "2026-01-02T00:00:00Z"


def test_a_claim_added_and_one_dropped_after_results(tmp_path):
    recorded = {NAME: HASH, "decoder_size/inconvenient": "1"}
    first, second = deviations(tmp_path, recorded, claims=(CLAIM, {**CLAIM, "name": "new"}))
    assert (first.name, first.kind, first.runs, first.of) == ("new", "added", 6, 6)
    assert (second.name, second.kind, second.of) == ("inconvenient", "removed", 12)


def test_another_task_judges_the_same_claim_by_its_own_score(tmp_path):
    under_vqa = {**CLAIM, "metric": "VQA"}
    recorded = {NAME: HASH, "decoder_size/in-points": "1"}
    assert deviations(tmp_path / "same", recorded, claims=(under_vqa,), task="vqa") == ()
    (found,) = deviations(
        tmp_path / "wider", recorded, claims=({**under_vqa, "margin": 0.15, "margin_reason": "any"},), task="vqa"
    )
    assert found.kind == "changed"


def test_a_lock_says_since_when_each_claim_is_as_it_is(tmp_path):
    path = tmp_path / "claims.lock"
    path.write_text(json.dumps({"claims": {"a/x": {"hash": "1", "since": "2026-01-02"}, "a/y": "2"}}))
    assert read_lock(path) == {"a/x": "1", "a/y": "2"} and locked_since(path) == {"a/x": "2026-01-02", "a/y": ""}
    write_lock(path, {"a/x": "1", "a/y": "2", "a/z": "3"})
    since = locked_since(path)
    assert since["a/x"] == "2026-01-02" and since["a/y"] == since["a/z"] > "2026-01-02"
    write_lock(path, {"a/x": "9"})
    assert locked_since(path) == {"a/x": since["a/z"]}
