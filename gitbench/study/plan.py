"""Ablation x profile x data x replicates -> the runs of a study, each with its key and its folder.

Every study gets the blind floor: the base arm trained without ever seeing an image. A run's key hashes its resolved
values and its data, so arms of different ablations that are the same run share one folder, and nothing is trained twice.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitbench.ablations import common_variants
from gitbench.data import (
    SPLITS,
    check_source,
    content_hash,
    data_label,
    data_names,
    limit_of,
)
from gitbench.data.tasks import TaskSource, open_task, study_fingerprint
from gitbench.data.tokenizer import CaptionTokenizer, tokenizer_for
from gitbench.errors import GitbenchError, unknown_name
from gitbench.files import write_text
from gitbench.spec import (
    Ablation,
    AmountSpec,
    Arm,
    DataSpec,
    DecoderSpec,
    EncoderInitSpec,
    EncoderTrainingSpec,
    Profile,
    RunSpec,
    TaskSpec,
    TextSpec,
    TrainSpec,
    run_key,
)
from gitbench.study.bert import bert_suffix, check_shape, decoder_start, with_word_count, with_words
from gitbench.study.config import Vocabulary, make_config
from gitbench.study.labels import arm_label
from gitbench.study.store import completed_record, run_folder, study_file
from gitbench.tasks import TASKS, claims_for, for_task, task_label, task_spec
from gitbench.variants import resolve

LENGTH = "model.generation.max_length"  # the option for the longest text
ENCODER_PATH = "model.encoder_init.path"  # the option that names a file of encoder weights
BLIND = Arm(name="blind", variants={"vision": "blind"}, role="floor")


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One arm and replicate of a study."""

    arm: Arm
    replicate: int
    spec: RunSpec
    key: str
    folder: Path

    @property
    def done(self) -> bool:
        """True once a whole record is there."""
        return completed_record(self.folder) is not None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study: everything needed to run it, and to describe it to the judge."""

    ablation: Ablation
    profile: Profile
    data: str
    data_fingerprint: str
    vocabulary: Vocabulary
    study: str
    work_dir: Path
    cfg_options: Mapping[str, Any]
    runs: tuple[PlannedRun, ...]
    task: TaskSpec = TaskSpec()

    @property
    def label(self) -> str:
        """The data's label, with a suffix for overridden options: the study's name after ablation and profile."""
        return self.study.split(".", 2)[2]

    @property
    def yardstick_key(self) -> str:
        """The ceiling depends on the data and on how many of its images are tested."""
        return hashlib.sha256(self.data_fingerprint.encode()).hexdigest()[:16]


def make_plan(
    ablation: Ablation,
    profile: Profile,
    data: str,
    work_dir: Path,
    replicates: int | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    tokenizer_path: str | None = None,
    task_name: str = "caption",
) -> Plan:
    """Plan a study; `tokenizer_path` replaces the profile's tokenizer by a BERT one (hub name, folder or file).

    `task_name` is one of `gitbench.tasks`. Errors: GitbenchError for unknown profiles, data, tasks or variants, and for
    sizes that do not fit.
    """
    if profile.name not in ablation.arms:
        raise unknown_name(f"profile of {ablation.name}", profile.name, ablation.arms)
    count = profile.replicates if replicates is None else replicates
    if count < 1:
        raise GitbenchError(f"--seeds {count}: at least 1 replicate is needed")
    if data not in data_names() and Path(data).exists():
        data = str(Path(data).resolve())
    task = task_spec(task_name, profile)
    profile = for_task(profile, task)
    for split in SPLITS:
        check_source(open_task(data, split, limit_of(profile.data, split), task))
    options, common = dict(cfg_options or {}), common_variants(ablation, profile.name)
    arms = (*ablation.arms[profile.name], BLIND)
    given, profile = profile, with_words(profile, ablation.name, arms, common, options, tokenizer_path)
    fingerprint = study_fingerprint(data, profile.data, task)
    weights = options.get(ENCODER_PATH)
    if weights is not None and Path(weights).is_file():  # its content decides, whatever it is called
        options[ENCODER_PATH] = str(Path(weights).resolve())
        fingerprint = content_hash([fingerprint, _file_hash(Path(weights))])
    source = open_task(data, "train", profile.data.train_images, task)
    tokenizer = tokenizer_for(profile.text, source)
    _check_labels(profile.text, int(options.get(LENGTH, profile.evaluate.max_length)), source, tokenizer)
    if profile.text.tokenizer != "wordpiece":  # one that is not made from the data: its content decides results too
        fingerprint = content_hash([fingerprint, tokenizer.fingerprint()])
    profile = with_word_count(profile, tokenizer)
    vocabulary = Vocabulary(
        size=tokenizer.vocab_size, pad_id=tokenizer.pad_id, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id
    )
    start = functools.cache(lambda init: decoder_start(init, profile, tokenizer))

    @functools.cache
    def fingerprints(sizes: DataSpec) -> str:
        """The data of an arm: the study's, or its own amount of it."""
        if sizes.train_images == profile.data.train_images:
            return fingerprint
        return content_hash([study_fingerprint(data, sizes, task), fingerprint])

    runs = []
    for replicate in range(count):  # replicate by replicate, so that a stopped study is balanced
        for arm in arms:
            spec = _run_spec(arm, common, profile, data, replicate, options)
            spec = dataclasses.replace(spec, decoder_init=start(spec.decoder_init), task=task)
            _check_lengths(arm.name, spec.decoder, spec)
            key = run_key(spec, fingerprints(spec.data))
            runs.append(PlannedRun(arm=arm, replicate=replicate, spec=spec, key=key, folder=run_folder(work_dir, key)))
    for run in runs[: len(arms)]:  # refuses options that name nothing, before anything is done
        check_shape(run.arm.name, run.spec.decoder_init, make_config(run.spec, vocabulary, run.key))
    return Plan(
        ablation=ablation,
        profile=profile,
        data=data,
        data_fingerprint=fingerprint,
        vocabulary=vocabulary,
        study=study_name(ablation, profile, data, fingerprint, options, task) + bert_suffix(profile, given),
        work_dir=work_dir,
        cfg_options=options,
        runs=tuple(runs),
        task=task,
    )


def _file_hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def study_name(
    ablation: Ablation,
    profile: Profile,
    data: str,
    fingerprint: str,
    cfg_options: Mapping[str, Any],
    task: TaskSpec = TaskSpec(),  # noqa: B008 (frozen)
) -> str:
    """Return the study's name: two folders of one name differ by their content, overridden options are a study apart."""
    name = f"{ablation.name}.{profile.name}.{task_label(data_label(data), task.name)}"
    if data not in data_names():
        name += f"-{fingerprint[:6]}"
    if cfg_options:
        digest = hashlib.sha256(json.dumps(dict(cfg_options), sort_keys=True, default=str).encode()).hexdigest()
        name += f"+cfg-{digest[:6]}"
    return name


def _run_spec(
    arm: Arm, common: Mapping[str, str], profile: Profile, data: str, replicate: int, options: Mapping[str, Any]
) -> RunSpec:
    names = {
        "encoder": profile.encoder,
        "decoder": profile.decoder,
        "vision": "sighted",
        "amount": "all",
        "encoder_training": "trained",
        "encoder_init": "random",
        "decoder_init": "random",
        **common,
        **arm.variants,
    }
    values = {axis: resolve(axis, name) for axis, name in names.items()}
    train, encoder_training = _rates_of(profile.train, values["encoder_training"])
    return RunSpec(
        encoder=values["encoder"],
        decoder=values["decoder"],
        vision=values["vision"],
        data_name=data,
        data=_amount_of(profile.data, values["amount"]),
        text=profile.text,
        train=train,
        evaluate=profile.evaluate,
        replicate=replicate,
        encoder_training=encoder_training,
        encoder_init=_recipe_of(profile, values["encoder_init"]),
        decoder_init=values["decoder_init"],
        variant_names=names,
        cfg_options=dict(options),
    )


def _amount_of(data: DataSpec, amount: AmountSpec) -> DataSpec:
    """Return the data of an arm; its tokenizer is still made from all of the profile's captions."""
    if amount.images is None or amount.images == data.train_images:
        return data
    if data.train_images is not None and amount.images > data.train_images:
        raise GitbenchError(
            f"an amount of {amount.images} images exceeds the profile's {data.train_images}: choose a smaller one"
        )
    return dataclasses.replace(data, train_images=amount.images, vocabulary_images=data.train_images)


def _rates_of(train: TrainSpec, training: EncoderTrainingSpec) -> tuple[TrainSpec, EncoderTrainingSpec]:
    """Turn a ratio of learning rates into the encoder's rate, so that one value decides and equal rates are one run."""
    if training.lr_ratio is None:
        return train, training
    if training.lr_ratio <= 0 or training.frozen:
        raise GitbenchError(f"an encoder rate of {training.lr_ratio} x the decoder's: use one above 0, or frozen alone")
    resolved = dataclasses.replace(train, lr_encoder=train.lr_decoder * training.lr_ratio)
    return resolved, dataclasses.replace(training, lr_ratio=None)


def _recipe_of(profile: Profile, init: EncoderInitSpec) -> EncoderInitSpec:
    """Give a contrastive start the profile's recipe, unless the variant brings its own."""
    if init.source == "contrastive" and init.recipe is None:
        return dataclasses.replace(init, recipe=profile.contrastive)
    return init


def _check_labels(text: TextSpec, room: int, source: TaskSource, tokenizer: CaptionTokenizer) -> None:
    """Refuse labels longer than a text of `room` ids, [CLS] and [SEP] included, before anything is trained."""
    if not TASKS[source.task.name].closed:
        return
    labels = source.vocabulary()
    lengths = [len(ids) for ids in tokenizer.encode_all(list(labels), text.max_tokens)]
    longest = max(lengths)
    if longest + 2 > room:
        raise GitbenchError(
            f"the label '{labels[lengths.index(longest)]}' has {longest} tokens and a text at most {room - 2}: pass "
            f"--cfg-options {LENGTH}={longest + 2}"
        )


def _check_lengths(arm: str, decoder: DecoderSpec, spec: RunSpec) -> None:
    longest = max(spec.text.max_tokens + 2, spec.evaluate.max_length)
    if decoder.max_positions < longest:
        raise GitbenchError(
            f"arm '{arm}' has {decoder.max_positions} text positions but captions need {longest}: raise max_positions"
        )


def with_seeds(plan: Plan, seeds: Mapping[str, int]) -> Plan:
    """Return the plan with the first `seeds[arm]` replicates of every arm alone."""
    return dataclasses.replace(plan, runs=tuple(run for run in plan.runs if run.replicate < seeds[run.arm.name]))


def describe(plan: Plan, command: str) -> dict[str, Any]:
    """Return the study as JSON values: what the judge and the report read."""
    first = {run.arm.name: run for run in reversed(plan.runs)}
    arms = (*plan.ablation.arms[plan.profile.name], BLIND)
    return {
        "schema": 1,
        "study": plan.study,
        "ablation": plan.ablation.name,
        "profile": plan.profile.name,
        "data": plan.label,
        "data_fingerprint": plan.data_fingerprint,
        "command": command,
        "title": plan.ablation.title,
        "question": plan.ablation.question,
        "axis": plan.ablation.axis,
        "base": plan.ablation.base,
        **({"task": plan.task.name} if plan.task != TaskSpec() else {}),
        **({"common": common_variants(plan.ablation, plan.profile.name)} if plan.ablation.common else {}),
        "claims": [dataclasses.asdict(claim) for claim in claims_for(plan.ablation.claims, plan.task)],
        "arms": [
            {
                "name": arm.name,
                "role": arm.role,
                "variants": dict(arm.variants),
                "label": arm_label(first[arm.name].spec, arm),
            }
            for arm in arms
        ],
        "cfg_options": {key: repr(value) for key, value in plan.cfg_options.items()},
        "runs": [{"arm": run.arm.name, "replicate": run.replicate, "run_key": run.key} for run in plan.runs],
        "test_images": plan.profile.data.test_images,
        "yardstick_key": plan.yardstick_key,
    }


def write_plan(plan: Plan, command: str) -> None:
    """Write the study file and the `config.py` of every run that is not done; nothing is touched that is right already."""
    path = study_file(plan.work_dir, plan.study)
    text = json.dumps(describe(plan, command), indent=2) + "\n"
    if not _holds(path, text):
        write_text(path, text)
    for run in plan.runs:
        if not run.done:
            config = make_config(run.spec, plan.vocabulary, run.key).pretty_text
            if not _holds(run.folder / "config.py", config):
                write_text(run.folder / "config.py", config)


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()
