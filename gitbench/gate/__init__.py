"""The regression gate: red when a change breaks the captioner, green when it does not.

Four tiers, cheapest first: `exact` (values of tiny models and of everything around them), `trajectory` (the losses of short
trainings), `quality` (scores of models that see, seed by seed), `speed` (this code and a base revision in turns). The first
three compare with a reference that `gitbench gate record` made (`reference.py`). Each tier is a module with two functions,

    measure(setting) -> values        what a reference holds (not of `speed`, which has none)
    check(setting, values) -> Measured    what was found beside the reference's values

run in a process of its own with a time limit (`run.py`).
"""
