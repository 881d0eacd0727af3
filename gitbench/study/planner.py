"""What the runs of a study have in common, resolved once; and each of its runs: its spec and its key.

A run's key hashes its resolved values and its data; arms of one study that are the same run share one folder.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from gitbench.compute import compute_for, compute_mark
from gitbench.data import SPLITS, content_hash, data_label, data_names, limit_of, on_scenes, resolved
from gitbench.data.base import texts_of
from gitbench.data.bert_folder import described
from gitbench.data.tasks import check_labels, data_notes, open_task, study_fingerprint
from gitbench.data.tokenizer import from_bert, rows_of, tokenizer_for
from gitbench.errors import GitbenchError, unknown_name
from gitbench.plan import Plan, PlannedArm, PlannedRun, Vocabulary
from gitbench.run_key import run_key
from gitbench.spec import Ablation, Arm, Compute, DataSpec, Profile, RunSpec
from gitbench.study.config import make_config
from gitbench.study.encoder_start import followed, given_weights
from gitbench.study.start import starts_with
from gitbench.tasks import for_task, task_label, task_spec
from gitbench.variants import AXES
from gitbench.variants.decoder_init import DecoderInitSpec
from gitbench.variants.encoder_init import GIVEN

ENCODER_START = "encoder_init"  # the axis that `--encoder` concerns
LENGTH = "model.generation.max_length"  # the option for the longest text
SAMPLE = 64  # images whose texts say how long texts are
BLIND = Arm(name="blind", variants={"vision": "blind"}, role="floor")


class Planner:
    """What the runs of a study have in common: profile, data, tokenizer, options. Of the data only `splits` are opened."""

    def __init__(
        self,
        ablation: Ablation,
        profile: Profile,
        data: str,
        options: dict[str, Any],
        tokenizer_path: str | None,
        task_name: str,
        seed_root: str,
        splits: Sequence[str] = SPLITS,
        compute: Compute | None = None,
    ) -> None:
        if profile.name not in ablation.arms:
            raise unknown_name(f"profile of {ablation.name}", profile.name, ablation.arms)
        self.splits, self.given = splits, profile
        self.compute = compute_for(profile) if compute is None else compute
        self.ablation, self.options, self.seed_root = ablation, options, seed_root
        self.data = resolved(data)
        self.task = task_spec(task_name, profile)
        self.arms = (*ablation.arms[profile.name], *([BLIND] if ablation.floor else []))
        self.base = next(arm for arm in self.arms if arm.name == ablation.base)  # whose floor is BLIND
        self.starts = self._starts(profile)
        self.common = {axis: self.starts[axis] for axis in ablation.common_variants(profile.name)}
        sizes = for_task(profile, self.task)
        opened = [open_task(self.data, split, limit_of(sizes.data, split), self.task) for split in splits]
        for source in opened:
            source.check()
        self.notes = (*data_notes(opened), *(profile.start.notes if profile.start else ()))
        self.profile = self._for_study(self._with_options(sizes), tokenizer_path)
        self.source = open_task(self.data, "train", self.profile.data.train_images, self.task)
        self.tokenizer = tokenizer_for(self.profile.text, self.source)
        self.fingerprint = self._fingerprint()
        if self.profile.text.subset:  # the number of word pieces that were kept
            text = dataclasses.replace(self.profile.text, vocab_size=self.tokenizer.vocab_size)
            self.profile = dataclasses.replace(self.profile, text=text)
        room = options.get(LENGTH, self.profile.evaluate.max_length)
        if isinstance(room, int):  # another value is refused where it is applied
            check_labels(self.source, self.tokenizer, self.profile.text.max_tokens, room, LENGTH)

    def _starts(self, profile: Profile) -> dict[str, str]:
        """Return axis -> variant where no arm names one: the axis's own, the profile's, what is common, what was given."""
        defaults = {axis.name: axis.default for axis in AXES.values() if axis.default is not None}
        named = self.ablation.starts(profile, on_scenes(self.data))
        if profile.start is not None:
            return {**defaults, **starts_with(self.ablation, profile, named)}
        if not profile.encoder:
            return {**defaults, **named}
        arms = self.ablation.arms[profile.name]
        taking = [arm.variants for arm in arms if arm.variants.get(ENCODER_START, GIVEN) == GIVEN]
        if not taking:
            raise GitbenchError(
                f"--encoder {profile.encoder}: every arm of {self.ablation.name} says where its encoder starts: leave it out"
            )
        encoder = AXES["encoder"]
        if len({encoder.resolve({**named, **variants}[encoder.name]).shape for variants in taking}) > 1:
            raise GitbenchError(
                f"--encoder {profile.encoder}: the arms of {self.ablation.name} have image encoders of several shapes, and "
                "weights fit one: leave it out"
            )
        return {**defaults, **named, ENCODER_START: GIVEN}

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's size and special ids."""
        words = self.tokenizer
        return Vocabulary(size=words.vocab_size, pad_id=words.pad_id, bos_id=words.bos_id, eos_id=words.eos_id)

    def _with_options(self, profile: Profile) -> Profile:
        """Apply the options that belong to planning, and take them out of those that override a config."""
        for axis in AXES.values():
            for option in [each for each in self.options if axis.options and each.startswith(f"model.{axis.name}.")]:
                if option not in axis.options:
                    only = ", ".join(axis.options)
                    raise GitbenchError(f"{option} cannot be overridden, the arms decide it: only {only} can")
                names = {{**self.common, **arm.variants}.get(axis.name, axis.default) for arm in self.arms}
                if names == {axis.default}:
                    raise GitbenchError(
                        f"{option}: no arm of {self.ablation.name} has another {axis.name} than {axis.default}: leave it "
                        f"out, or run an ablation that varies {axis.name}"
                    )
                profile = axis.options[option](profile, str(self.options.pop(option)))
        return profile

    def _for_study(self, profile: Profile, tokenizer_path: str | None) -> Profile:
        """Apply the axes that concern a whole study, and `tokenizer_path`."""
        changed = profile
        for axis in AXES.values():
            if axis.for_study is not None:
                changed = axis.for_study(changed, axis.resolve(self.common.get(axis.name, axis.default or "")))
        if tokenizer_path is None:
            return changed
        if changed.text != profile.text:
            raise GitbenchError(
                f"--tokenizer {tokenizer_path}: {self.ablation.name} uses the tokenizer of its BERT: pass the BERT's "
                "folder as --cfg-options model.decoder_init.path=FOLDER"
            )
        return dataclasses.replace(changed, text=dataclasses.replace(changed.text, tokenizer=tokenizer_path))

    def _fingerprint(self) -> str:
        """Hash the data, and what else decides results by its content: files that options name, a given tokenizer."""
        found = study_fingerprint(self.data, self.profile.data, self.task, self.splits)
        for option, value in self.options.items():
            if isinstance(value, str) and Path(value).is_file():
                self.options[option] = str(Path(value).resolve())
                with open(value, "rb") as file:
                    found = content_hash([found, hashlib.file_digest(file, "sha256").hexdigest()])
        if self.profile.text.tokenizer != "wordpiece":
            found = content_hash([found, self.tokenizer.fingerprint()])
        return found

    def pretrained(self, encoder: Any, recipe: Any) -> tuple[Any, str | None]:
        """Return a recipe as it is followed on the study's data, and what ships for it; see `axis.Planning`."""
        return followed(recipe, encoder, self.source, self.profile.data.train_images)

    @functools.cache  # noqa: B019 (a planner lives as long as its plan is made)
    def weights(self, source: str | None) -> tuple[str, str]:
        """Return weights for an image encoder, and what their content is; see `axis.Planning`."""
        return given_weights(source or self.profile.encoder)

    @functools.cache  # noqa: B019
    def bert(self, source: str | None) -> DecoderInitSpec:
        """Return a BERT checkpoint as the start of a decoder; see `axis.Planning`.

        Errors: a BERT that is not there, none that GIT's decoder could be, or one that lacks a piece of the tokenizer.
        """
        found = described(source or self.profile.bert)
        rows_of(self.tokenizer, from_bert(str(found.path)))
        return found

    @property
    def tunable(self) -> bool:
        """Whether arms have rates of their own: not without a grid, nor where options changed the runs."""
        return len(self.profile.rates) > 1 and not self.options

    def run(self, arm: Arm, replicate: int, factor: float = 1.0) -> PlannedRun:
        """Resolve every axis of one run, whose learning rates are `factor` times the profile's."""
        profile, train = self.profile, self.profile.train
        of_base = self.base.variants if arm.role == "floor" else {}
        names = {**self.starts, **of_base, **arm.variants}
        spec = RunSpec(
            variants={},
            data_name=self.data,
            data=profile.data,
            text=profile.text,
            train=dataclasses.replace(
                train, lr_encoder=factor * train.lr_encoder, lr_decoder=factor * train.lr_decoder
            ),
            evaluate=profile.evaluate,
            replicate=replicate,
            seed_root=self.seed_root,
            task=self.task,
            variant_names=names,
            cfg_options=dict(self.options),
            compute=self.compute,
        )
        for axis in AXES.values():
            if axis.for_study is None:
                if axis.name not in names:
                    raise GitbenchError(
                        f"profile {profile.name} names no {axis.name}: add it to the profile's variants"
                    )
                spec = axis.put(spec, axis.resolve(names[axis.name]), self)
        data = self._data_of(spec.data)
        key = run_key(spec, data)
        return PlannedRun(arm=arm.name, replicate=replicate, run_key=key, spec=spec, data_fingerprint=data)

    @functools.cache  # noqa: B019
    def _data_of(self, sizes: DataSpec) -> str:
        """Return the fingerprint of an arm's data: the study's, or of its own amount of it."""
        if sizes.train_images == self.profile.data.train_images:
            return self.fingerprint
        return content_hash([study_fingerprint(self.data, sizes, self.task, self.splits), self.fingerprint])

    def check(self, run: PlannedRun) -> None:
        """Raise GitbenchError for a run that could not be made."""
        spec = run.resolved
        config = make_config(spec, self.vocabulary, run.run_key)
        for axis in AXES.values():
            if problem := axis.check(spec, config):
                raise GitbenchError(f"arm '{run.arm}' {problem}")

    def describe(self, arm: Arm, run: PlannedRun) -> PlannedArm:
        """Return an arm with its label, which is computed from what it varies."""
        if arm.role == "floor":
            return PlannedArm(name=arm.name, role="floor", variants=dict(arm.variants), label="never sees the image")
        spec, crossed = run.resolved, self.ablation.crossed_with
        labels = {
            axis: AXES[axis].label(spec, spec.variant_names[axis])
            for axis in dict.fromkeys([*arm.variants, *([crossed] if crossed else [])])
        }
        label = ", ".join(labels[axis] for axis in arm.variants)
        own = dict(arm.variants)
        return PlannedArm(name=arm.name, role=arm.role, variants=own, label=label, labels=labels, seeds=arm.seeds)

    def label(self) -> str:
        """Return the label of the study's data.

        Two folders of one name differ by their content; overridden options, another tokenizer or BERT than the profile's, are a
        study apart.
        """
        label = task_label(data_label(self.data), self.task.name)
        if self.data not in data_names():
            label += f"-{self.fingerprint[:6]}"
        if self.options:
            text = json.dumps(self.options, sort_keys=True, default=str)
            label += f"+cfg-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
        if self.profile.text.tokenizer != self.given.text.tokenizer and not self.profile.text.subset:
            label += f"+tokens-{self.tokenizer.fingerprint()[:6]}"
        if self.profile.bert != self.given.bert:
            label += f"+bert-{str(self.bert(None).content)[:6]}"
        if self.profile.encoder is not None:
            label += f"+encoder-{hashlib.sha256(self.weights(None)[1].encode()).hexdigest()[:6]}"
        if self.profile.start is not None:
            label += f"+start-{self.profile.start.content[:6]}"
        return label + self.profile.mark

    def _text_tokens(self) -> int:
        """Return how many tokens the texts of an image have, end to end: the most in a sample of the training images."""
        texts = [texts_of(self.source, index) for index in range(min(SAMPLE, len(self.source)))]
        flat = [f"{text.prefix} {text.target}" for of_image in texts for text in of_image]
        lengths = (1 + len(ids) for ids in self.tokenizer.encode_all(flat, self.profile.text.max_tokens))
        return max(sum(islice(lengths, len(of_image))) for of_image in texts)

    def plan(self, mark: str, **own: Any) -> Plan:
        """Return a plan of these runs' profile and data, with `own` for what is not common to every one of them."""
        ablation, profile = self.ablation, self.profile
        return Plan(
            ablation=ablation.name,
            profile=profile.name,
            data=self.label(),
            data_fingerprint=self.fingerprint,
            title=ablation.title,
            question=ablation.question,
            axis=ablation.axis,
            base=ablation.base,
            task=self.task.name,
            vocabulary=self.vocabulary,
            run_seconds=profile.run_seconds,
            data_notes=self.notes,
            text_tokens=self._text_tokens(),
            mark=mark + compute_mark(self.given, self.compute),
            **own,
        )
