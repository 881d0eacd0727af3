"""Run a few runs of a bundle again, on the data found here, and say whether they agree with what the bundle holds.

Which runs is decided by a seed before any is run, arm by arm in turn. A run is made again only if its key comes out
again here: the same spec, the same data by content, the same numerics version. It is trained in a folder of its own
under the work directory, never taken from the runs there. Encoders pre-trained by contrast may come from the cache, as
in every run. The planning and the comparing need no torch, the runs do.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitbench.data import content_hash, data_names
from gitbench.data.bert_folder import described
from gitbench.data.tasks import open_task, study_fingerprint
from gitbench.data.tokenizer import tokenizer_for
from gitbench.errors import GitbenchError
from gitbench.files import write_json, write_text
from gitbench.judge.noise import load_noise_floor
from gitbench.judge.replication import Rerun, as_json, changes, compare, markdown, spread_of
from gitbench.launch.scheduling import Outcome, prepare_images, slots, train
from gitbench.profiles import PROFILES, SMOKE
from gitbench.spec import Ablation, Arm, DataSpec, Profile, RunSpec, run_key
from gitbench.study.bundle import Bundle, unpack
from gitbench.study.config import Vocabulary, make_config
from gitbench.study.plan import Plan, PlannedRun
from gitbench.study.records import Study, load_provenance, load_record, load_study
from gitbench.study.respec import differences, read_run, spec_of
from gitbench.study.store import run_folder


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A run of the bundle that is to be made again."""

    arm: str
    replicate: int
    run_key: str


def replicate(
    bundle: Bundle,
    work_dir: Path,
    *,
    sample: int = 3,
    seed: int = 0,
    data: str | None = None,
    out: Path | None = None,
    jobs: int | None = None,
    plain: bool = False,
    command: str = "gitbench replicate",
) -> tuple[Rerun, ...]:
    """Make `sample` runs of a bundle again and compare; writes `replication.json` and `replication.md` to `out`.

    `out` defaults to the replication's own folder, `<work_dir>/replications/<study>-<bundle>`. A replication that was
    stopped goes on. Errors: GitbenchError for other data, runs that this version would not repeat, a bad sample.
    """
    folder = work_dir / "replications" / f"{bundle.study}-{bundle.digest[:8]}"
    unpack(bundle, folder / "bundle")
    study = load_study(folder / "bundle", *bundle.study.split(".", 2))
    chosen = choose(folder / "bundle", study, sample, seed)
    plan = plan_of(bundle, study, chosen, folder, data)
    outcome = _train(plan, command, jobs, plain)
    runs = tuple(_compare(folder, study, run, plan, outcome, len(chosen)) for run in chosen)
    out = out or folder
    write_json(out / "replication.json", as_json(bundle.study, bundle.digest, seed, runs))
    write_text(out / "replication.md", markdown(bundle.study, bundle.digest, runs))
    return runs


def choose(work_dir: Path, study: Study, sample: int, seed: int) -> tuple[Chosen, ...]:
    """Return `sample` finished runs, one an arm in turn, in an order that study and seed decide; all where there are fewer.

    Runs changed by --cfg-options are left out: they enter no claim, and their options could run anything.
    """
    if sample < 1:
        raise GitbenchError(f"--sample {sample}: at least 1 run must be made again")

    def rank(*names: object) -> str:
        return hashlib.sha256(" ".join(map(str, (seed, study.data_fingerprint, *names))).encode()).hexdigest()

    by_arm: dict[str, list[Chosen]] = {}
    for run in study.runs:
        record = load_record(work_dir, run.run_key)
        if record is not None and not record.get("overridden"):
            by_arm.setdefault(run.arm, []).append(Chosen(arm=run.arm, replicate=run.replicate, run_key=run.run_key))
    queues = [
        sorted(by_arm[arm], key=lambda run: rank(run.arm, run.run_key))
        for arm in sorted(by_arm, key=lambda arm: rank(arm))
    ]
    found: dict[str, Chosen] = {}
    while len(found) < sample and any(queues):
        for queue in queues:
            if queue and len(found) < sample:
                first = queue.pop(0)
                found.setdefault(first.run_key, first)  # arms may share a run
    if not found:
        raise GitbenchError("no run of the bundle can be made again: all were changed by --cfg-options")
    return tuple(found.values())


def plan_of(bundle: Bundle, study: Study, chosen: Sequence[Chosen], folder: Path, data: str | None = None) -> Plan:
    """Plan the chosen runs of a bundle on the data found here. Errors: other data, or runs that would not be the same."""
    records = {run.run_key: _record(bundle, run.run_key) for run in study.runs if _has(bundle, run.run_key)}
    configs = {key: read_run(bundle.files, key) for key in records}
    first = chosen[0].run_key
    data = _data_here(bundle, configs[first], data)
    specs = {key: _spec(records[key], configs[key], data, key) for key in records}
    _check_data(bundle, study, specs.values(), data)
    spec = specs[first]
    tokenizer = tokenizer_for(spec.text, open_task(data, "train", _study_sizes(spec.data).train_images, spec.task))
    vocabulary = Vocabulary(
        size=tokenizer.vocab_size, pad_id=tokenizer.pad_id, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id
    )
    runs = []
    for each in chosen:
        spec, arm = specs[each.run_key], study.arm(each.arm)
        _check_key(study, spec, data, each)
        found = differences(configs[each.run_key], make_config(spec, vocabulary, each.run_key).to_dict())
        if found:
            raise GitbenchError(
                f"{each.arm} seed {each.replicate}: config.py and record.json of the bundle do not say the same "
                f"({found[0]}): the run cannot be made again"
            )
        role = "floor" if arm.role == "floor" else "arm"
        runs.append(
            PlannedRun(
                arm=Arm(name=arm.name, variants=dict(arm.variants), role=role),  # type: ignore[arg-type]
                replicate=each.replicate,
                spec=spec,
                key=each.run_key,
                folder=run_folder(folder, each.run_key),
            )
        )
    return Plan(
        ablation=_ablation(study, runs),
        profile=_profile(study, specs[first]),
        data=data,
        data_fingerprint=study.data_fingerprint,
        vocabulary=vocabulary,
        study=bundle.study,
        work_dir=folder,
        cfg_options={},
        runs=tuple(runs),
        task=specs[first].task,
    )


def _has(bundle: Bundle, key: str) -> bool:
    return f"runs/{key}/record.json" in bundle.files


def _record(bundle: Bundle, key: str) -> dict[str, Any]:
    values = json.loads(bundle.files[f"runs/{key}/record.json"])
    assert isinstance(values, dict)  # load_record has read it
    return values


def _spec(record: Mapping[str, Any], config: Mapping[str, Any], data: str, key: str) -> RunSpec:
    try:
        return spec_of(record, config, data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GitbenchError(
            f"run {key} of the bundle holds a spec that this gitbench does not know ({error}): use the version that made it"
        ) from None


def _data_here(bundle: Bundle, config: Mapping[str, Any], data: str | None) -> str:
    """Return the data to run on: what was asked for, else the registered data that the bundle names."""
    named = str(config["train_dataloader"]["dataset"]["data"])
    if data is None:
        if named in data_names():
            return named
        raise GitbenchError(
            f"{bundle.study} was run on the folder '{named}', which no bundle holds: pass --data FOLDER"
        )
    return str(Path(data).resolve()) if data not in data_names() and Path(data).exists() else data


def _study_sizes(sizes: DataSpec) -> DataSpec:
    """Return the sizes of a study's data, of which an arm may take a part."""
    whole = sizes.vocabulary_images or sizes.train_images
    return dataclasses.replace(sizes, train_images=whole, vocabulary_images=None)


def _check_data(bundle: Bundle, study: Study, specs: Any, data: str) -> None:
    """Raise GitbenchError unless the data here has the content that the study was run on."""
    for spec in {(_study_sizes(each.data), each.text, each.task): each for each in specs}.values():
        found = study_fingerprint(data, _study_sizes(spec.data), spec.task)
        if spec.text.tokenizer != "wordpiece":
            words = open_task(data, "train", _study_sizes(spec.data).train_images, spec.task)
            found = content_hash([found, tokenizer_for(spec.text, words).fingerprint()])
        if found == study.data_fingerprint:
            return
    raise GitbenchError(
        f"{Path(data).name} is not the data of {bundle.study} (fingerprint {study.data_fingerprint[:8]}, here {found[:8]}): "
        "pass the same content as --data, or the gitbench that made the bundle"
    )


def _check_key(study: Study, spec: RunSpec, data: str, run: Chosen) -> None:
    """Raise GitbenchError unless the run's key comes out again: then spec, data and numerics are the same."""
    start = spec.decoder_init
    if start.source == "bert" and described(start.path or "minilm") != start:
        raise GitbenchError(
            f"the BERT {start.path} here is not the one that {run.arm} started from: run it with that one"
        )
    own = functools.partial(study_fingerprint, data, spec.data, spec.task)  # an arm with its own amount of the data
    whole = study.data_fingerprint
    if run.run_key not in (run_key(spec, whole), run_key(spec, content_hash([own(), whole]))):
        raise GitbenchError(
            f"{run.arm} seed {run.replicate}: this gitbench would run something else (run key {run.run_key} does not "
            "come out again): use the version that made the bundle"
        )


def _ablation(study: Study, runs: Sequence[PlannedRun]) -> Ablation:
    arms = tuple({run.arm.name: run.arm for run in runs}.values())
    return Ablation(
        name=study.ablation,
        title=study.title,
        question=study.question,
        axis=study.axis,
        arms={study.profile: arms},
        base=study.base,
    )


def _profile(study: Study, spec: RunSpec) -> Profile:
    """Return the profile of the runs: their own values; memory and time of the profile of that name."""
    known = PROFILES.get(study.profile, SMOKE)
    return dataclasses.replace(
        known,
        name=study.profile,
        data=_study_sizes(spec.data),
        text=spec.text,
        train=spec.train,
        evaluate=spec.evaluate,
    )


def _train(plan: Plan, command: str, jobs: int | None, plain: bool) -> Outcome:
    free = slots(plan, jobs)
    if any(not run.done for run in plan.runs):
        prepare_images(plan)
    for run in plan.runs:
        if not run.done:
            write_text(run.folder / "config.py", make_config(run.spec, plan.vocabulary, run.key).pretty_text)
    return train(plan, command, free, plain)


def _compare(folder: Path, study: Study, run: Chosen, plan: Plan, outcome: Outcome, count: int) -> Rerun:
    """Compare one run with the bundle's; `count` runs are compared in all."""
    named = {"arm": run.arm, "replicate": run.replicate, "run_key": run.run_key}
    here = load_record(folder, run.run_key)
    bundled = folder / "bundle"
    theirs = load_record(bundled, run.run_key)
    assert theirs is not None  # it was chosen
    if here is None:
        reasons = [why for arm, replicate, why in outcome.failed if (arm, replicate) == (run.arm, run.replicate)]
        return Rerun(**named, failed=reasons[0] if reasons else "it was not finished")  # type: ignore[arg-type]
    texts = [run_folder(place, run.run_key) / "predictions.jsonl" for place in (bundled, folder)]
    identical = texts[0].read_bytes() == texts[1].read_bytes()
    floors = load_noise_floor(bundled, study.profile, study.data)
    keys = dict.fromkeys(each.run_key for each in study.runs if each.arm == run.arm)
    found = [load_record(bundled, key) for key in keys]
    replicates = [record for record in found if record is not None]
    both = set(theirs["metrics"]) & set(here["metrics"])
    spreads = {metric: spread_of(replicates, metric, floors.get(metric)) for metric in both}
    return Rerun(
        **named,  # type: ignore[arg-type]
        identical=identical,
        comparisons=compare(theirs, here, identical, spreads, max(1, count * len(both))),
        only_in_one=tuple(sorted(set(theirs["metrics"]) ^ set(here["metrics"]))),
        environment=changes(load_provenance(bundled, run.run_key), load_provenance(folder, run.run_key)),
    )
