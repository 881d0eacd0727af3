"""Registries of the package, scope "gitbench".

`VARIANTS` holds every model variant under "<axis>/<name>"; each run's `config.py` names its entries. The others are
children of mmengine's roots: one for every root, since a scope with gaps makes mmengine warn about the missing ones.
"""

from __future__ import annotations

from mmengine.registry import Registry, root

from gitbench.variants import BUILDERS

SCOPE = "gitbench"


class _Variants(Registry):
    """Reads `gitbench.variants`, which can be listed without mmengine; what is added there later is here as well."""

    def __init__(self) -> None:
        super().__init__("variant", scope=SCOPE, locations=["gitbench.variants"])
        self._module_dict = BUILDERS


VARIANTS = _Variants()

_CHILDREN = {
    name: Registry(parent.name, parent=parent, scope=SCOPE, locations=["gitbench.training"])
    for name, parent in vars(root).items()
    if isinstance(parent, Registry)
}
DATASETS = _CHILDREN["DATASETS"]
DATA_SAMPLERS = _CHILDREN["DATA_SAMPLERS"]
FUNCTIONS = _CHILDREN["FUNCTIONS"]
HOOKS = _CHILDREN["HOOKS"]
LOOPS = _CHILDREN["LOOPS"]
METRICS = _CHILDREN["METRICS"]
MODELS = _CHILDREN["MODELS"]
OPTIM_WRAPPERS = _CHILDREN["OPTIM_WRAPPERS"]
OPTIM_WRAPPER_CONSTRUCTORS = _CHILDREN["OPTIM_WRAPPER_CONSTRUCTORS"]
PARAM_SCHEDULERS = _CHILDREN["PARAM_SCHEDULERS"]
