"""Carry out a planned evaluation: share its batches out to processes, score what they write, leave a record.

A process adds the batches that it finishes to a file of parts of its own. So a killed evaluation goes on where it was, with
any number of processes, and no image is computed twice. When all parts are there they become `predictions.jsonl`, which is
scored as a run's; the record comes last, and then the parts go.
"""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from gitbench import plugins
from gitbench.claim import Claim
from gitbench.data.predictions import write_results
from gitbench.data.tasks import data_notes, open_task
from gitbench.errors import GitbenchError
from gitbench.files import (
    atomic_path,
    make_dir,
    remove_leftovers,
    whole_lines,
    write_json,
)
from gitbench.launch.evaluation_plan import Prepared
from gitbench.machine import cpu_count, gpus, machine_of
from gitbench.metrics import CaptionScorer
from gitbench.metrics.aggregate import LOSS
from gitbench.plan import PlannedEvaluation
from gitbench.processes import BY_NVML, VISIBLE, begin_child, leave, start_context, word_of
from gitbench.run_folder import EvaluationFolder
from gitbench.run_key import NUMERICS_VERSION
from gitbench.study.evaluations import Evaluation
from gitbench.study.makers import Maker
from gitbench.study.manifest import digest
from gitbench.study.provenance import environment, now, published
from gitbench.study.scoring import TaskScorer, likelihood, metric_values, write_per_image

SCHEMA = 1  # of the record
Done = Callable[[int], None]  # hears how many images a finished batch has
Share = tuple[Sequence[int], Path, Mapping[str, str]]  # batches, the file for them, variables of the environment


def evaluate(
    prepared: Prepared, scorer: CaptionScorer, jobs: int | None = None, command: str = "", done: Done | None = None
) -> Evaluation:
    """Carry out an evaluation, or what is left of it, and return it; one that is complete is read alone.

    `jobs` processes; None: one a GPU, or as many as the CPU has cores and the memory room for. Errors: GitbenchError in one
    line, after which all finished batches stay.
    """
    plan, folder = prepared.plan, prepared.folder
    claim = Claim(folder.claim)
    if not claim.take():
        raise GitbenchError(f"another process is at work on {folder.path}: wait until it is done")
    try:
        if folder.key != prepared.key or folder.completed_record() is None:
            remove_leftovers(folder.path)
            if folder.key != prepared.key:  # parts of something else
                shutil.rmtree(folder.parts, ignore_errors=True)
            write_json(folder.plan, {"schema": SCHEMA, "key": prepared.key, "plan": asdict(plan)})
            started = now()
            finished = read_parts(folder, plan)
            if done is not None and finished:
                done(sum(part["images"] for part in finished.values()))
            left = [batch for batch in range(plan.batches) if batch not in finished]
            _compute(plan, folder, left, jobs, done)
            origin = {"command": command, "data_fingerprint": plan.data_fingerprint, "started": started}
            _score(prepared, scorer, origin)
    finally:
        claim.release()
    return Evaluation(folder)


# ---- computing --------------------------------------------------------------------------------------------------------


def read_parts(folder: EvaluationFolder, plan: PlannedEvaluation) -> dict[int, dict[str, Any]]:
    """Return batch -> what was computed of it; a line that was torn by a kill is cut off its file."""
    found: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.parts.glob("*.jsonl")):
        for line in whole_lines(path):
            if isinstance(line, dict) and line.get("images") == len(plan.numbers(line.get("batch", -1))):
                found.setdefault(line["batch"], line)
    return found


def _compute(
    plan: PlannedEvaluation, folder: EvaluationFolder, left: Sequence[int], jobs: int | None, done: Done | None
) -> None:
    """Compute the batches that are left."""
    if not left:
        return
    make_dir(folder.parts)
    cards = gpus() if plan.device == "cuda" else ()
    count = min(jobs or _jobs(plan, len(cards)), len(left))
    if count == 1:
        from gitbench.training.evaluate import write_batches

        write_batches(plan, left, folder.parts / "0.jsonl", done)
        return
    shares: list[Share] = []
    for number in range(count):
        environment = {"OMP_NUM_THREADS": "1", VISIBLE: ""}
        if cards:
            environment |= {VISIBLE: cards[number % len(cards)].uuid, BY_NVML: "0"}
        shares.append((left[number::count], folder.parts / f"{number}.jsonl", environment))
    _compute_together(plan, folder, shares, done)


def _jobs(plan: PlannedEvaluation, cards: int) -> int:
    """Return how many processes compute: one a card, or one a core as far as their copies of the model have room."""
    if cards:
        return cards
    needed = 4 * sum(file.stat().st_size for file in _files(Path(plan.weights))) + 2**30
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(cpu_count(), free // needed))


def _files(weights: Path) -> list[Path]:
    from gitbench.models.checkpoint import checkpoint_files

    return checkpoint_files(weights)


def _compute_together(
    plan: PlannedEvaluation, folder: EvaluationFolder, shares: Sequence[Share], done: Done | None
) -> None:
    """Let a process compute each share; all of them end where one fails, and with this one."""
    context, running = start_context(), {}
    try:
        for number, share in enumerate(shares):
            ours, theirs = context.Pipe(duplex=False)
            variables = {**os.environ, **share[2], **plugins.environment()}
            arguments = (plan, share, variables, folder.log, theirs)
            process = context.Process(target=_compute_share, args=arguments, name=f"evaluate {number}")
            process.start()
            theirs.close()  # so that its end is heard
            running[ours] = process
        talking = dict(running)
        while talking:
            for each in wait([*talking]):
                said: tuple[str, Any] = word_of(each) or ("ended", None)
                word, value = said
                if word == "images" and done is not None:
                    done(value)
                elif word == "failed":
                    raise GitbenchError(value)
                elif word == "ended":
                    talking[each].join()
                    if status := talking[each].exitcode:
                        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
                        raise GitbenchError(
                            f"a process of the evaluation {how} (see {folder.log}): what is done is kept, the same command "
                            "goes on; where memory is short, pass fewer --jobs"
                        )
                    del talking[each]
    finally:
        for process in running.values():
            process.kill()
            process.join()


def _compute_share(
    plan: PlannedEvaluation, share: Share, variables: Mapping[str, str], log: Path, connection: Connection
) -> None:
    """Be one of the processes of an evaluation."""
    begin_child(variables, log)
    try:
        from gitbench.training.evaluate import write_batches

        plugins.load()
        batches, part, _ = share
        write_batches(plan, batches, part, lambda images: connection.send(("images", images)))
    except GitbenchError as error:
        connection.send(("failed", str(error)))
    except Exception as error:
        traceback.print_exc()
        text = (str(error).strip().splitlines() or [""])[0]
        connection.send(("failed", f"{type(error).__name__}: {text} (see {log})"))
    connection.close()
    leave(0)


# ---- scoring ----------------------------------------------------------------------------------------------------------


def _score(prepared: Prepared, scorer: CaptionScorer, origin: Mapping[str, Any]) -> None:
    """Score the finished batches and write all files but the report; the record last."""
    plan, folder = prepared.plan, prepared.folder
    parts = read_parts(folder, plan)
    rows = [row for batch in range(plan.batches) for row in parts[batch]["rows"]]
    source = open_task(plan.data, plan.split, plan.limit, plan.task)
    task = TaskScorer.of(source, scorer)
    if source.fingerprint() != plan.data_fingerprint or [row["image_id"] for row in rows] != list(task.references):
        raise GitbenchError(f"{plan.data} changed while it was evaluated: delete {folder.path} and run again")
    with atomic_path(folder.predictions) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_results(folder.coco, rows, plan.task.name)
    scores = task.scores(rows)
    write_per_image(folder.per_image, scores, rows)
    device = parts[0]["device"]
    machine = machine_of(device["name"], cpu_count())
    provenance = {**environment(), **origin, "device": published(device), "machine": machine, "finished": now()}
    write_json(folder.provenance, {**provenance, "makers": [asdict(Maker.here(plan.device))]})
    seconds = sum(part["seconds"] for part in parts.values())
    loss = sum(row["nll"] for row in rows) / max(1, sum(row["tokens"] for row in rows))
    record = {
        "schema": SCHEMA,
        "key": prepared.key,
        "numerics": NUMERICS_VERSION,
        "name": plan.name,
        "metrics": {**metric_values(scores.values), LOSS: likelihood(loss, plan.model["vocab_size"], len(rows))},
        "absent": dict(scores.absent),
        "warnings": [*prepared.warnings, *data_notes([source]), *scores.warnings],
        "cost": {
            "seconds": seconds,  # of all processes together, reading and preparing images included
            "images_per_second": plan.images / seconds,
            "peak_memory_bytes": max(part["peak_memory_bytes"] for part in parts.values()),
            "device": device["name"],
            "machine": machine,
        },
        "files": {
            path.name: digest(path) for path in (folder.predictions, folder.coco, folder.per_image, folder.provenance)
        },
    }
    write_json(folder.record, record)
    shutil.rmtree(folder.parts, ignore_errors=True)
