"""The command `gitbench replicate`: make a few runs of a bundle again, on the data found here, and compare.

Which runs is decided by the bundle's own digest, arm by arm in turn. A run is made again only if its key comes out
again here: the same spec, the same data by content, the same numerics version. It is trained in a folder of its own
under the work directory, never taken from the runs there. Pre-trained encoders ship with the package or may come from the
cache, as in every run. The planning and the comparing need no torch, the runs do.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Collection, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.commands.options import run_options, work_dir_of
from gitbench.commands.tracking import trackers_of
from gitbench.errors import GitbenchError

if TYPE_CHECKING:
    from gitbench.judge.replication import Rerun
    from gitbench.plan import Plan, PlannedRun
    from gitbench.spec import RunSpec
    from gitbench.study.store import Study


def add(commands: Any) -> None:
    """Add the parser of the command."""
    again = commands.add_parser("replicate", help="run a few runs of a bundle again and say whether they agree")
    again.add_argument("bundle", type=Path, metavar="BUNDLE", help="an archive that `gitbench bundle` wrote")
    again.add_argument("--sample", type=int, default=3, metavar="N", help="how many runs (default 3)")
    again.add_argument(
        "--exact",
        action="store_true",
        help="predictions must be bit-identical, on the kind of machine that made the bundle",
    )
    again.add_argument("--data", metavar="PATH", help="the folder of its images, where it was run on a folder")
    again.add_argument("--work-dir", type=Path, metavar="DIR", help="where the runs are made (default: work_dirs)")
    again.add_argument(
        "--out", type=Path, metavar="DIR", help="where replication.json and .md go (default: beside the runs)"
    )
    run_options(again)
    again.set_defaults(run=_replicate)


def _replicate(arguments: argparse.Namespace) -> int:
    """0: all agree; 1: one disagrees; 2: one could not be run or judged."""
    from gitbench.files import write_json, write_text
    from gitbench.judge.replication import AGREE, DISAGREE, sentence, verdict
    from gitbench.launch.places import check_jobs
    from gitbench.launch.scheduling import prepare_images
    from gitbench.report.templates import render
    from gitbench.study.bundle import open_bundle, unpack
    from gitbench.study.store import Study

    if arguments.out is not None and arguments.out.is_file():
        raise GitbenchError(f"--out {arguments.out} is a file: pass a folder")
    check_jobs(arguments.jobs)
    trackers_of(arguments)  # refuses one that is not there
    if arguments.sample < 1:
        raise GitbenchError(f"--sample {arguments.sample}: at least 1 run must be made again")
    bundle = open_bundle(arguments.bundle)
    folder = work_dir_of(arguments) / "replications" / f"{bundle.study}-{bundle.digest[:8]}"
    unpack(bundle, folder / "bundle")
    bundled = Study.open(folder / "bundle", bundle.study)
    command = f"gitbench replicate {arguments.bundle.name} --sample {arguments.sample}{' --exact' * arguments.exact}"
    chosen = choose(bundled, arguments.sample, bundle.digest)
    if arguments.exact:
        _check_machine(bundled, chosen)
    plan = dataclasses.replace(plan_again(bundled, chosen, arguments.data), command=command)
    again = Study(folder, plan)
    if any(not again.done(run) for run in again.plan.runs):  # one that was stopped goes on
        prepare_images(again.plan)
    failed = _executed(again, arguments)
    second = Study(folder / "second", dataclasses.replace(plan, runs=_differing(bundled, again)))
    if second.plan.runs and not arguments.exact:
        failed += _executed(second, arguments)
    runs = _compared(bundled, again, second, failed, arguments.exact)
    found = {
        "schema": 1,
        "study": bundle.study,
        "bundle_sha256": bundle.digest,
        "exact": arguments.exact,
        "verdict": verdict(runs),
        "answer": sentence(bundle.study, runs),
    }
    values = [{**dataclasses.asdict(run), "verdict": run.word} for run in runs]
    said = render("replication.md.j2", **found, runs=runs)
    out = arguments.out or folder
    write_json(out / "replication.json", {**found, "runs": values})
    write_text(out / "replication.md", said)
    print(said)
    return {AGREE: 0, DISAGREE: 1}.get(verdict(runs), 2)


def _executed(study: Study, arguments: argparse.Namespace) -> list[tuple[str, int, str]]:
    """Make runs on this machine; return those that failed."""
    from gitbench.launch.scheduling import execute_runs, local_executor

    with local_executor(study, arguments.jobs) as executor:
        return [*execute_runs(study, executor, arguments.plain, trackers=trackers_of(arguments)).failed]


def choose(study: Study, sample: int, digest: str) -> tuple[PlannedRun, ...]:
    """Return `sample` runs, one an arm in turn, in an order that the bundle's digest decides; all where there are fewer.

    Runs changed by --cfg-options are left out: they enter no claim, and their options could run anything.
    """

    def rank(*names: str) -> str:
        return hashlib.sha256(" ".join([digest, *names]).encode()).hexdigest()

    by_arm: dict[str, list[PlannedRun]] = {}
    for run in sorted(_repeatable(study), key=lambda run: rank(run.arm, run.run_key)):
        by_arm.setdefault(run.arm, []).append(run)
    turns = zip_longest(*(by_arm[arm] for arm in sorted(by_arm, key=rank)))
    found = {run.run_key: run for turn in turns for run in turn if run is not None}  # arms may share a run
    if not found:
        raise GitbenchError("no run of the bundle can be made again: all were changed by --cfg-options")
    return tuple(found.values())[:sample]


def plan_again(study: Study, chosen: Sequence[PlannedRun], data: str | None = None) -> Plan:
    """Return the bundle's plan with the chosen runs alone, each with its spec as it can be run on the data found here.

    Errors: GitbenchError for other data, or for runs that would not be the same.
    """
    stored = _repeatable(study)
    runs = tuple(dataclasses.replace(run, spec=_found_here(study, stored[run], data)) for run in chosen)
    runs = _checked(study, runs, {spec.data.vocabulary_images or spec.data.train_images for spec in stored.values()})
    return dataclasses.replace(study.plan, runs=runs)


def _repeatable(study: Study) -> dict[PlannedRun, RunSpec]:
    """Return the finished runs that no --cfg-options changed, with the specs that their records hold."""
    from gitbench.variants import run_spec_from_json

    specs = {}
    for run in study.finished:
        values = (study.record(run.run_key) or {}).get("spec") or {}
        if "{{" in json.dumps(values):  # mmengine would fill that in, which can turn a text of a config into a program
            raise GitbenchError(f"run {run.run_key} of the bundle holds a spec that no gitbench wrote: it was changed")
        specs[run] = run_spec_from_json(values)
    return {run: spec for run, spec in specs.items() if not spec.cfg_options}


def _found_here(study: Study, spec: RunSpec, data: str | None) -> RunSpec:
    """Return a spec with its data, tokenizer and BERT as they are found here, weights of an encoder or a checkpoint too."""
    from gitbench.axis import with_variant
    from gitbench.data import data_names, resolved
    from gitbench.data.bert_folder import described

    if data is None and spec.data_name not in data_names():
        raise GitbenchError(
            f"{study.name} was run on the folder '{spec.data_name}', which no bundle holds: pass --data FOLDER"
        )
    start = spec.variants.get("decoder_init")
    if start is not None and start.source == "bert":
        spec = with_variant(spec, "decoder_init", described(start.path or "minilm"))
    encoder = spec.variants.get("encoder_init")
    if encoder is not None and encoder.source == "file":
        spec = with_variant(spec, "encoder_init", dataclasses.replace(encoder, path=_place(encoder.path, ())))
    whole, words = spec.variants.get("start"), spec.text.tokenizer
    if whole is not None and whole.source == "checkpoint":
        from gitbench.training.start import described as facts_of

        found = facts_of(Path(whole.path))  # a run that finds another content there refuses it
        spec, words = with_variant(spec, "start", dataclasses.replace(whole, path=found.path)), found.tokenizer
    text = dataclasses.replace(spec.text, tokenizer=_place(words, ("wordpiece",)))
    return dataclasses.replace(spec, data_name=resolved(data or spec.data_name), text=text)


def _place(name: str, known: Sequence[str]) -> str:
    """Return the whole path of a file or folder that is there, any other name and a `known` one as it is."""
    return str(Path(name).resolve()) if name not in known and Path(name).exists() else name


def _checked(study: Study, runs: Sequence[PlannedRun], amounts: Collection[int | None]) -> tuple[PlannedRun, ...]:
    """Return the runs with the fingerprints of their data, if their keys come out again: spec, data, numerics are the same.

    `amounts`: numbers of training images, of which one is the study's; an arm may take a part of these.
    """
    from gitbench.data import content_hash
    from gitbench.data.tasks import study_fingerprint
    from gitbench.run_key import run_key

    spec, whole = runs[0].resolved, study.plan.data_fingerprint
    matching = [images for images in amounts if _fingerprint(spec, images) == whole]
    if not matching:
        raise GitbenchError(
            f"{Path(spec.data_name).name} is not the data of {study.name} (fingerprint {whole[:8]}): pass the same content "
            "as --data, or use the gitbench that made the bundle"
        )
    made = []
    for run in runs:
        spec, data = run.resolved, whole
        if spec.data.train_images != matching[0]:  # an arm with its own amount of the data
            data = content_hash([study_fingerprint(spec.data_name, spec.data, spec.task), whole])
        if run_key(spec, data) != run.run_key:
            raise GitbenchError(
                f"{run.arm} seed {run.replicate}: this gitbench would run something else (run key {run.run_key} does not "
                "come out again): use the version that made the bundle, and the BERT that it started from"
            )
        made.append(dataclasses.replace(run, data_fingerprint=data))
    return tuple(made)


def _fingerprint(spec: RunSpec, images: int | None) -> str:
    """Return the fingerprint of a study's data that has so many training images, as planning computes it."""
    from gitbench.data import content_hash
    from gitbench.data.tasks import open_task, study_fingerprint
    from gitbench.data.tokenizer import tokenizer_for

    found = study_fingerprint(spec.data_name, dataclasses.replace(spec.data, train_images=images), spec.task)
    if spec.text.tokenizer == "wordpiece":
        return found
    words = tokenizer_for(spec.text, open_task(spec.data_name, "train", images, spec.task))
    return content_hash([found, words.fingerprint()])


def _check_machine(study: Study, chosen: Sequence[PlannedRun]) -> None:
    """Refuse `--exact` on another kind of machine than the runs were made on."""
    from gitbench.machine import machine_label

    there = sorted({str(study.provenance(run.run_key).get("machine")) for run in chosen})
    here = machine_label(_repeatable(study)[chosen[0]].compute.device)
    if there != [here]:
        raise GitbenchError(
            f"--exact: the runs were made on {' and '.join(there)}, this is {here}: leave it out, and runs that differ "
            "are made twice"
        )


def _differing(bundled: Study, again: Study) -> tuple[PlannedRun, ...]:
    """Return the runs that were made again and whose predictions are not those of the bundle."""
    return tuple(run for run in again.plan.runs if again.done(run) and not _same_texts(bundled, again, run))


def _same_texts(one: Study, other: Study, run: PlannedRun) -> bool:
    texts = (study.folder(run.run_key).predictions.read_bytes() for study in (one, other))
    return len(set(texts)) == 1


def _compared(
    bundled: Study, again: Study, second: Study, failed: Sequence[tuple[str, int, str]], exact: bool
) -> tuple[Rerun, ...]:
    """Compare every run with the bundle's."""
    from gitbench.judge.replication import Rerun, changes, compare, spread_of

    made, records = [], {}
    for run in again.plan.runs:
        found = (again.record(run.run_key), second.record(run.run_key))
        records[run.run_key] = [record for record in found if record is not None]
    pairs = [(here[0], here[1]) for here in records.values() if len(here) == 2]
    metrics = {metric for here in records.values() for record in here for metric in record["metrics"]}
    spreads, count = {metric: spread_of(pairs, metric) for metric in metrics}, max(1, len(records) * len(metrics))
    for run in again.plan.runs:
        here, theirs = records[run.run_key], bundled.record(run.run_key)
        rerun = Rerun(arm=run.arm, replicate=run.replicate, run_key=run.run_key)
        assert theirs is not None  # it was chosen
        reasons = [why for arm, replicate, why in failed if (arm, replicate) == (run.arm, run.replicate)]
        if reasons or not here:
            made.append(dataclasses.replace(rerun, failed=reasons[0] if reasons else "it was not finished"))
            continue
        identical = _same_texts(bundled, again, run)
        differs = changes(bundled.provenance(run.run_key), again.provenance(run.run_key))
        both = set(theirs["metrics"]) ^ set(here[0]["metrics"])
        compared = compare(theirs, here[:1] if identical else here, identical, spreads, count, elsewhere=bool(differs))
        rerun = dataclasses.replace(rerun, identical=identical, exact=exact, comparisons=compared, environment=differs)
        made.append(dataclasses.replace(rerun, only_in_one=tuple(sorted(both))))
    return tuple(made)
