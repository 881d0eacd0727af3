"""Registries of the package, scope "gitbench".

`VARIANTS` holds every model variant under "<axis>/<name>"; each run's `config.py` names its entries. The others are
children of mmengine's roots: one for every root, since a scope with gaps makes mmengine warn about the missing ones.
"""

from __future__ import annotations

from typing import Any

from mmengine.registry import Registry, root

from gitbench.variants import get_axis

SCOPE = "gitbench"


class _Variants(Registry):
    """Reads `gitbench.variants`, which can be listed without mmengine; what is added there later is here as well."""

    def build(self, cfg: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the spec that a config describes; see `Axis.build`."""
        values = dict(cfg)
        axis, _, name = values.pop("type").partition("/")
        return get_axis(axis).build(name, **values)


VARIANTS = _Variants("variant", scope=SCOPE, locations=["gitbench.variants"])

_CHILDREN = {
    name: Registry(parent.name, parent=parent, scope=SCOPE, locations=["gitbench.training"])
    for name, parent in vars(root).items()
    if isinstance(parent, Registry)
}
DATASETS = _CHILDREN["DATASETS"]
DATA_SAMPLERS = _CHILDREN["DATA_SAMPLERS"]
FUNCTIONS = _CHILDREN["FUNCTIONS"]
HOOKS = _CHILDREN["HOOKS"]
LOG_PROCESSORS = _CHILDREN["LOG_PROCESSORS"]
LOOPS = _CHILDREN["LOOPS"]
METRICS = _CHILDREN["METRICS"]
MODELS = _CHILDREN["MODELS"]
MODEL_WRAPPERS = _CHILDREN["MODEL_WRAPPERS"]
OPTIM_WRAPPERS = _CHILDREN["OPTIM_WRAPPERS"]
OPTIM_WRAPPER_CONSTRUCTORS = _CHILDREN["OPTIM_WRAPPER_CONSTRUCTORS"]
PARAM_SCHEDULERS = _CHILDREN["PARAM_SCHEDULERS"]
VISBACKENDS = _CHILDREN["VISBACKENDS"]
