"""What an axis is: one thing that the arms of an ablation may differ in, as one object that planning loops over.

Each file of `gitbench/variants/` exports one `Axis`: its spec (a frozen dataclass), its variants, how one is labelled,
what of a run it may touch, and how it takes effect in a run. Planning, labels, configs, the single-difference proof and
`gitbench list` know no axis by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gitbench.errors import GitbenchError, lookup, unknown_name
from gitbench.run_key import typed_fields
from gitbench.spec import PretrainSpec, Profile, RunSpec


class Planning(Protocol):
    """What an axis may ask of the planner while a run is made."""

    profile: Profile

    def pretrained(self, encoder: Any, recipe: PretrainSpec) -> tuple[PretrainSpec, str | None]:
        """Return a recipe as it is followed on the study's data, and the content of the encoder that ships for it."""

    def weights(self, source: str | None) -> tuple[str, str]:
        """Return a file of weights or a name of timm's (None: the one that was given), and what its content is."""

    def bert(self, source: str | None) -> Any:
        """Return a BERT checkpoint (a folder, "minilm" or a hub name; None: the profile's) as a `DecoderInitSpec`."""


@dataclass(frozen=True, kw_only=True)
class Touches:
    """What an axis may touch: patterns of config keys and of tensors of a `GIT` (`*` stands for dots too)."""

    config: tuple[str, ...]
    shapes: tuple[str, ...] = ()  # tensors that one arm may lack, or have in another shape
    training: tuple[str, ...] = ()  # tensors whose rates it sets, or whether they are trained at all
    values: tuple[str, ...] = ()  # tensors that a hook of its own sets when training begins; until then they are equal
    amount: bool = False  # it decides how many of the training images there are


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis. The functions get the run as far as it is planned, and return what becomes of it.

    `apply(run, spec, planning)` returns the run with this axis resolved; None puts the spec into `run.variants` as it is.
    `label(run, name)` is what an arm is called in tables. `check(run, config)` returns what is wrong with a planned run
    and how to mend it, or None. `for_study(profile, spec)` changes the profile of a whole study: such an axis cannot be
    varied, only be `common`. `named(name)` is the spec of a variant whose name says it all. `options` are `--cfg-options`
    that belong to planning (key -> function of profile and value) and are no overridden values.
    """

    name: str
    spec: type
    doc: str
    default: str | None = None  # the variant where nobody names one; None: every profile names its own
    variants: dict[str, Any] = field(default_factory=dict)  # name -> spec; `add` puts more into it
    touches: Touches | None = None  # None: its own part of the model's config
    label: Callable[[RunSpec, str], str] = lambda run, name: name
    apply: Callable[[RunSpec, Any, Planning], RunSpec] | None = None
    check: Callable[[RunSpec, Mapping[str, Any]], str | None] = lambda run, config: None
    for_study: Callable[[Profile, Any], Profile] | None = None
    options: Mapping[str, Callable[[Profile, str], Profile]] = field(default_factory=dict)
    named: Callable[[str], Any | None] = lambda name: None  # the spec that a name spells out, beside the variants
    in_model: bool = True  # whether its spec stands in the config's model, for the model code to read

    @property
    def allowed(self) -> Touches:
        """What it may touch."""
        return self.touches or Touches(config=(f"model.{self.name}.*",))

    def add(self, name: str, spec: Any) -> None:
        """Add a variant. Errors: GitbenchError for a name that is taken, or a spec of another axis."""
        if name in self.variants and self.variants[name] != spec:
            raise GitbenchError(f"there are two variants {self.name}/{name}: give one of them another name")
        if not isinstance(spec, self.spec):
            raise GitbenchError(
                f"variant {self.name}/{name} is a {type(spec).__name__}: it must be a {self.spec.__name__}"
            )
        self.variants[name] = spec

    def resolve(self, name: str) -> Any:
        """Return the spec of a variant; an unknown name raises an error that offers the nearest one."""
        if name not in self.variants and (spelt := self.named(name)) is not None:
            return spelt
        return lookup(f"{self.name} variant", name, self.variants)

    def build(self, name: str, **values: Any) -> Any:
        """Return the spec that a config describes: the variant's, single fields replaced by `values` (plain JSON).

        A name that is not known here (of a plugin, or renamed since) needs all values, as a run's config holds them.
        Errors: GitbenchError for an unknown field, or a value of another kind than its field's.
        """
        known = {each.name for each in dataclasses.fields(self.spec)}
        for each in values:
            if each not in known:
                raise unknown_name(f"field of {self.name}/{name}", each, known)
        try:
            typed = typed_fields(self.spec, values)
        except (TypeError, ValueError) as error:
            raise GitbenchError(f"{self.name}/{name}: {error}: give a value as its field's type says") from None
        if name in self.variants:
            return dataclasses.replace(self.variants[name], **typed)
        try:
            return self.spec(**typed)
        except TypeError:
            raise unknown_name(f"{self.name} variant", name, self.variants) from None

    def put(self, run: RunSpec, spec: Any, planning: Planning) -> RunSpec:
        """Return the run with this axis resolved to `spec`."""
        if self.apply is not None:
            return self.apply(run, spec, planning)
        return with_variant(run, self.name, spec)


def with_variant(run: RunSpec, axis: str, spec: Any) -> RunSpec:
    """Return the run with `spec` as the resolved value of an axis."""
    return dataclasses.replace(run, variants={**run.variants, axis: spec})
