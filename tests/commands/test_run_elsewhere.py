"""`gitbench run` on other machines and in parts: what the options mean, and what is refused before anything is done."""

from __future__ import annotations

import pytest
from helpers_cli import call, error_of

from gitbench.launch.session import Outcome

RUN = ("run", "decoder_size", "--profile", "smoke", "--work-dir")


@pytest.fixture
def launched(monkeypatch) -> list[dict]:
    """What `launch` was asked for, each time, instead of being done."""
    found: list[dict] = []

    def launch(study, jobs, plain, **options) -> Outcome:
        found.append({"study": study, "jobs": jobs, **options})
        return Outcome(completed=2, found=1, failed=(), others=3, under_way=0 if options["wait"] else 2)

    monkeypatch.setattr("gitbench.launch.scheduling.launch", launch)
    return found


def test_a_part_is_handed_on_and_the_plan_stays_whole(tmp_path, launched):
    said = call(*RUN, str(tmp_path), "--arms", "small", "blind", "--replicates", "1", "--no-report").stdout
    (asked,) = launched
    assert [(run.arm, run.replicate) for run in asked["part"].of(asked["study"].plan.runs)] == [
        ("small", 1),
        ("blind", 1),
    ]
    assert len(asked["study"].plan.runs) == 8 and "--arms" not in asked["study"].plan.command
    assert "2 runs trained, 3 by other launches, 1 found done, 0 failed\n" in said
    dry = call(*RUN, str(tmp_path), "--replicates", "1", "--dry-run").stdout
    assert "4 runs, 0 done, 4 to do" in dry


def test_a_shard_and_a_launch_that_does_not_wait_write_no_report(tmp_path, launched):
    said = call(*RUN, str(tmp_path), "--shard", "2/4").stdout
    assert launched[0]["part"].shard == (2, 4) and "no report: " in said and "gitbench merge" in said
    said = call(*RUN, str(tmp_path), "--no-wait").stdout
    assert launched[1]["wait"] is False and "2 under way in other launches" in said and "no report: " in said


def test_a_report_is_written_where_other_launches_did_all_of_it(tmp_path, monkeypatch):
    def launch(study, *_, **__) -> Outcome:
        study.write_plan()
        return Outcome(completed=0, found=0, failed=(), others=done)

    monkeypatch.setattr("gitbench.launch.scheduling.launch", launch)
    monkeypatch.setattr("gitbench.commands.report.make_report", lambda study, *_: study.work_dir / "report")
    for done in (0, 8):  # none: there is nothing to report
        said = call(*RUN, str(tmp_path)).stdout
        assert ("report: " in said) == (done > 0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--arms", "smal"), "did you mean 'small'"),
        (("--replicates", "1-2"), "there is no replicate 2, the study has 0 to 1"),
        (("--shard", "0/2"), "write i/n"),
        (("--slurm", "partition=x"), "belongs to --executor slurm"),
        (("--runs-per-gpu", "2"), "as many share a GPU as fit its memory"),
        (("--gpus-per-run", "2"), "planned for the CPU: add --device cuda"),
        (
            ("--device", "cuda", "--executor", "slurm", "--runs-per-gpu", "2", "--gpus-per-run", "2"),
            "takes several GPUs shares none",
        ),
        (("--executor", "slurm", "--jobs", "0"), "at least 1 run at a time"),
        (("--executor", "ray", "--runs-per-gpu", "0"), "--runs-per-gpu 0: at least 1 run is needed"),
        (("--executor", "slurm", "--slurm", "time=soon"), "write minutes"),
        (("--until-decided", "--shard", "1/2"), "--shard with --until-decided"),
        (("--until-decided", "--no-wait"), "--no-wait with --until-decided"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, launched, options, expected):
    for dry_run in ((), ("--dry-run",)):
        assert expected in error_of(*RUN, str(tmp_path / "w"), *options, *dry_run)
    assert not launched and not list(tmp_path.iterdir())


def test_one_launch_decides_a_study(tmp_path, launched):
    from gitbench.commands.until_decided import alone
    from gitbench.errors import GitbenchError
    from gitbench.study.store import Study

    call(*RUN, str(tmp_path), "--no-report")
    study: Study = launched[0]["study"]
    with alone(study), pytest.raises(GitbenchError, match="being decided by another launch"), alone(study):
        pass
    with alone(study):
        pass
