"""How runs share a machine: which may be grouped, which way is chosen, and studies whose seeds trained together."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import pytest
from conftest import TINY, tiny_profile

from gitbench.bench import packing as packing_bench
from gitbench.cli import main
from gitbench.errors import GitbenchError
from gitbench.files import load_json, write_text
from gitbench.runs import trial
from gitbench.runs.grouping import grouped, reasons, why_alone
from gitbench.runs.launch import launch, slots
from gitbench.runs.machine import Gpu
from gitbench.runs.packing import Packing, Way, choose, fastest, rates_file, ways
from gitbench.runs.plan import Plan, make_plan
from gitbench.runs.progress import Display
from gitbench.runs.store import completed_record
from gitbench.spec import Arm, EncoderTrainingSpec, run_key

CARD = Gpu(uuid="GPU-1", name="a card", free_gib=8.5)


def planned(work_dir: Path, replicates: int = 2, **train) -> Plan:
    return make_plan(TINY, tiny_profile(**train), "scenes", work_dir, replicates=replicates)


@pytest.fixture
def on_gpus(monkeypatch):
    """Pretend to have cards; nothing runs on them."""

    def pretend(*cards: Gpu) -> None:
        for module in ("packing", "launch"):
            monkeypatch.setattr(f"gitbench.runs.{module}.gpus", lambda: list(cards))

    return pretend


def fake(rates: dict[str, float], asked: list[Way] | None = None):
    def measure(candidates):
        if asked is not None:
            asked.extend(candidates)
        return {str(way): rates[str(way)] for way in candidates if str(way) in rates}

    return measure


def test_groups_are_replicates_of_one_arm(tmp_path):
    plan = planned(tmp_path, replicates=5)
    groups = grouped(plan.runs, 2)
    assert sorted(len(group) for group in groups) == [1, 1, 1, 2, 2, 2, 2, 2, 2]
    for members in groups:
        assert len({run.arm.name for run in members}) == 1
        assert len({run.replicate for run in members}) == len(members)
    assert {run.key for members in groups for run in members} == {run.key for run in plan.runs}
    assert [members[0].arm.name for members in groups[:3]] == ["base", "small", "blind"]  # balanced where it stops
    assert grouped(plan.runs, 1) == [[run] for run in plan.runs]


def test_what_is_not_tested_equal_trains_alone(tmp_path):
    spec = planned(tmp_path).runs[0].spec
    assert why_alone(spec) is None
    frozen = dataclasses.replace(spec, encoder_training=EncoderTrainingSpec(frozen=True))
    assert "frozen" in (why_alone(frozen) or "")
    pretrained = dataclasses.replace(spec, encoder_init=dataclasses.replace(spec.encoder_init, source="contrastive"))
    assert "its encoder does not start" in (why_alone(pretrained) or "")
    started = dataclasses.replace(spec, decoder_init=dataclasses.replace(spec.decoder_init, source="bert"))
    assert "its decoder does not start" in (why_alone(started) or "")
    assert why_alone(dataclasses.replace(spec, cfg_options={"model.decoder.dropout": 0.2})) is None
    assert why_alone(dataclasses.replace(spec, cfg_options={"train_cfg.max_iters": 4})) is None
    assert "optim_wrapper" in (
        why_alone(dataclasses.replace(spec, cfg_options={"optim_wrapper.clip_grad": None})) or ""
    )
    runs = [
        dataclasses.replace(run, spec=dataclasses.replace(frozen, replicate=run.replicate))
        for run in planned(tmp_path).runs
    ]
    assert all(len(members) == 1 for members in grouped(runs, 4))
    assert set(reasons(runs)) == {"base", "small", "blind"}


def test_ways_keep_to_memory_jobs_and_what_there_is_to_do(tmp_path):
    plan = planned(tmp_path, replicates=5)  # 15 runs, 1 GiB each
    found = ways(plan, [CARD], "auto")
    assert [way.processes for way in found if way.stack == 1] == [1, 2, 4, 8]
    assert [way.stack for way in found if way.stack > 1] == [2, 4, 5]  # five replicates leave no remainder in fives
    small = dataclasses.replace(CARD, free_gib=3.9)
    assert ways(plan, [small], "auto") == [Way(), Way(processes=2), Way(processes=3), Way(stack=2)]
    assert ways(plan, [CARD], "auto", jobs=1) == [Way()]
    assert {way.stack for way in ways(plan, [CARD], "processes")} == {1}
    assert [way.stack for way in ways(plan, [CARD], "stacked")] == [2, 4, 5]
    assert ways(plan, [CARD], "off") == [Way()]
    assert {way.stack for way in ways(plan, [CARD, small], "stacked")} == {2}  # a stack may come to either card
    assert max(way.processes for way in ways(plan, [CARD, small], "auto")) == 8
    full = dataclasses.replace(CARD, free_gib=0.2)
    assert ways(plan, [full], "auto") == [Way()]


def test_the_fastest_way_is_taken_and_a_tie_goes_to_the_plainer():
    candidates = [Way(), Way(processes=2), Way(processes=4), Way(stack=2), Way(stack=4)]
    rates = {"1 process": 10.0, "2 processes": 19.0, "4 processes": 30.0, "1 process of 2 stacked": 25.0}
    assert fastest(candidates, rates) == Way(processes=4)
    assert fastest(candidates, {**rates, "1 process of 4 stacked": 31.0}) == Way(processes=4)  # 3 % is noise
    assert fastest(candidates, {**rates, "1 process of 4 stacked": 33.0}) == Way(stack=4)
    assert fastest(candidates, {}) == Way()


def test_a_card_is_measured_once_and_the_choice_is_kept(tmp_path, on_gpus):
    on_gpus(CARD)
    plan, asked = planned(tmp_path, replicates=4), []
    rates = {"1 process": 10.0, "2 processes": 18.0, "1 process of 2 stacked": 17.0, "1 process of 4 stacked": 31.0}
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots(plan)] == ["GPU-1"]  # nothing is known yet
    chosen = choose(plan, None, None, fake(rates, asked))
    assert chosen.way == Way(stack=4) and Way(processes=4) in asked
    assert "a card" in chosen.line and "1 process of 4 stacked 31; chosen: 1 process of 4 stacked" in chosen.line
    assert "4 processes" not in chosen.line  # had no rate: not possible, or not worth a try
    again: list[Way] = []
    assert choose(plan, None, None, fake({}, again)) == chosen and not again
    assert choose(plan, "processes", None, fake({}, again)).way == Way(processes=2) and not again
    # one slot for a stack of four, four for captions beside it: 8 runs fit
    assert len(slots(plan)) == 5 and len(slots(plan, 2)) == 2
    assert chosen.to_json() == {"processes": 1, "stack": 4, "rates": chosen.rates}
    other = planned(tmp_path / "other", replicates=4, batch_images=8)
    assert rates_file(other, [CARD]) != rates_file(plan, [CARD])
    assert rates_file(plan, [dataclasses.replace(CARD, name="another")]) != rates_file(plan, [CARD])
    write_text(rates_file(plan, [CARD]), "{")  # damaged: measured again
    assert choose(plan, None, None, fake(rates, again)) == chosen and again


def test_slots_follow_the_measured_processes_on_every_card(tmp_path, on_gpus):
    on_gpus(CARD, dataclasses.replace(CARD, uuid="GPU-2", free_gib=1.5))
    plan = planned(tmp_path, replicates=3)
    packed = slots(plan, packing=Packing(way=Way(processes=4)))
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in packed] == ["GPU-1", "GPU-2", "GPU-1", "GPU-1", "GPU-1"]


def test_a_cpu_measures_only_where_asked_to(tmp_path):
    plan, asked = planned(tmp_path, replicates=2), []
    chosen = choose(plan, None, None, fake({}, asked))
    assert not asked and chosen.way.stack == 1 and not chosen.line
    assert choose(plan, "off", None, fake({}, asked)).way.stack == 1 and not asked
    choose(plan, "auto", 2, fake({"1 process": 1.0, "2 processes": 2.0}, asked))
    assert Way(processes=2) in asked and any(way.stack == 2 for way in asked)
    with pytest.raises(GitbenchError, match="did you mean 'stacked'"):
        choose(plan, "stack", None)


def test_real_processes_are_timed(tmp_path):
    plan = planned(tmp_path)
    candidates = [Way(), Way(processes=2), Way(stack=2)]
    rates = trial.measure_ways(plan, [], seconds=0.2)(candidates)
    assert all(rates[str(way)] > 0 for way in candidates[:1]) and rates.keys() <= {str(way) for way in candidates}
    assert "1 process of 2 stacked" in rates


def test_a_way_that_fails_has_no_rate_and_ends_the_growth_of_its_kind(monkeypatch):
    tried: list[Way] = []

    def rate(way, connections, seconds):
        tried.append(way)
        return None if way.processes == 4 else float(way.processes * way.stack)

    monkeypatch.setattr(trial, "_rate", rate)
    candidates = [Way(processes=n) for n in (1, 2, 4, 8)] + [Way(stack=2), Way(stack=4)]
    rates = trial._rates(candidates, [], 1.0)
    assert rates == {"1 process": 1.0, "2 processes": 2.0, "1 process of 2 stacked": 2.0, "1 process of 4 stacked": 4.0}
    assert Way(processes=8) not in tried


STACKED = Packing(way=Way(stack=2, processes=2))


def numbers(plan: Plan) -> dict[str, dict]:
    """Return what each complete run scored, by arm and replicate."""
    found = {}
    for run in plan.runs:
        record = completed_record(run.folder)
        assert record is not None, run.folder
        found[f"{run.arm.name}/{run.replicate}"] = record
    return found


@pytest.mark.timeout(300)
def test_a_grouped_study_scores_as_one_by_one(tmp_path, monkeypatch):
    one_by_one, together = planned(tmp_path / "a"), planned(tmp_path / "b")
    assert [run.key for run in one_by_one.runs] == [run.key for run in together.runs]
    assert launch(one_by_one, "test", plain=True).failed == ()
    monkeypatch.setattr("gitbench.runs.launch.choose", lambda *_: STACKED)
    outcome = launch(together, "test", plain=True)
    assert outcome.completed == 6 and outcome.failed == ()
    left, right = numbers(one_by_one), numbers(together)
    for name, record in left.items():
        other = right[name]
        assert other["run_key"] == record["run_key"] and other["spec"] == record["spec"]
        assert other["metrics"].keys() == record["metrics"].keys()
        for metric, value in record["metrics"].items():
            assert other["metrics"][metric]["value"] == pytest.approx(value["value"], rel=1e-4, abs=1e-6), (
                name,
                metric,
            )
    for run in together.runs:
        origin = load_json(run.folder / "provenance.json")
        partner = next(r for r in together.runs if r.arm == run.arm and r.replicate != run.replicate)
        assert origin["trained_with"] == [partner.key] and origin["packing"]["stack"] == 2
        cost = numbers(together)[f"{run.arm.name}/{run.replicate}"]["cost"]
        assert cost["train_images_per_second"] > 0 and cost["peak_memory_bytes"] > 0 and cost["train_seconds"] > 0
        assert {path.name for path in run.folder.iterdir()} >= {"model.pth", "curve.csv", "predictions.jsonl"}
        assert run_key(run.spec, together.data_fingerprint) == run.key
    assert "trained_with" not in load_json(one_by_one.runs[0].folder / "provenance.json")
    assert launch(together, "test", plain=True).found == 6


def _dies(folders, connections, environment, origins) -> None:
    """A group worker that is killed before it trains anything."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.timeout(300)
def test_a_group_that_fails_is_trained_one_by_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gitbench.runs.launch.choose", lambda *_: STACKED)
    monkeypatch.setattr("gitbench.runs.pool.run_group_worker", _dies)
    plan = planned(tmp_path, iterations=2)
    outcome = launch(plan, "test", plain=True)
    said = capsys.readouterr().out
    assert outcome.completed == 6 and outcome.failed == ()
    assert said.count("killed by signal 9; the 2 seeds of its group are trained one by one") == 3
    assert all("trained_with" not in load_json(run.folder / "provenance.json") for run in plan.runs)


@pytest.mark.timeout(300)
def test_arms_that_cannot_be_grouped_say_why_and_train_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gitbench.runs.launch.choose", lambda *_: STACKED)
    arms = (Arm(name="base", variants={}), Arm(name="still", variants={"encoder_training": "frozen"}))
    ablation = dataclasses.replace(TINY, axis="encoder_training", arms={"smoke": arms})
    plan = make_plan(ablation, tiny_profile(iterations=2), "scenes", tmp_path, replicates=2)
    outcome = launch(plan, "test", plain=True)
    assert outcome.completed == 6 and outcome.failed == ()
    assert (
        "still: its seeds are trained one by one, since a frozen encoder reuses its features" in capsys.readouterr().out
    )
    grouped_arms = {run.arm.name for run in plan.runs if (run.folder / "group.json").is_file()}
    assert grouped_arms == {"base", "blind"}


def test_the_command_knows_the_ways_and_leaves_sequential_studies_alone(capsys):
    with pytest.raises(SystemExit):
        main(["run", "decoder_size", "--pack", "everything"])
    assert "stacked" in capsys.readouterr().err
    assert main(["run", "decoder_size", "--profile", "smoke", "--until-decided", "--pack", "off"]) != 0
    assert "--pack does not go with --until-decided" in capsys.readouterr().err


@pytest.mark.timeout(300)
def test_the_benchmark_times_both_sides_of_every_way(monkeypatch):
    monkeypatch.setattr(packing_bench, "CPU_WAYS", (Way(stack=2), Way(processes=2)))
    monkeypatch.setattr(packing_bench, "TURN", 0.01)
    monkeypatch.setattr(packing_bench, "cpu_count", lambda: 2)
    rows = packing_bench.packing_rows(1, ("quick",))
    assert [row.work for row in rows] == ["replicates: 1 process of 2 stacked", "replicates: 2 processes"]
    for row in rows:
        assert row.shape == "quick" and row.peer == "one after another" and len(row.ratios) == 1
        assert "2 stacked replicates equal" in row.checked


@pytest.mark.timeout(300)
def test_a_launch_that_is_stopped_within_a_group_goes_on_with_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gitbench.runs.launch.choose", lambda *_: STACKED)
    plan = planned(tmp_path, iterations=30)
    shown, stopped = Display.progress, []

    def stop(self, run, done, total, loss):
        shown(self, run, done, total, loss)
        if done >= 10 and not stopped:
            stopped.append(run)
            raise KeyboardInterrupt

    monkeypatch.setattr(Display, "progress", stop)
    with pytest.raises(KeyboardInterrupt):
        launch(plan, "test", plain=True)
    assert any(list(run.folder.glob("iter_*.pth")) for run in plan.runs if run.arm == stopped[0].arm)
    outcome = launch(plan, "test", plain=True)
    assert outcome.completed == 6 and outcome.failed == ()
    assert "one by one" not in capsys.readouterr().out
    assert all((run.folder / "group.json").is_file() for run in plan.runs)
