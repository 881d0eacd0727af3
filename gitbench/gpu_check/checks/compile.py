"""What torch.compile would gain: a measurement, of something that runs do not use."""

from __future__ import annotations

import torch

from gitbench.gpu_check.results import Report, in_short
from gitbench.gpu_check.sizes import Setting, config_of
from gitbench.gpu_check.steps import measure_steps
from gitbench.training.run import PlainRunner

SECONDS = 3.0
WARM = 60  # steps in which most lengths of texts come, each of which is compiled


def check(setting: Setting, report: Report) -> None:
    """Report the base arm's steps per second with encoder and decoder compiled, and without."""
    plain = measure_steps(config_of(setting), SECONDS)
    report.figure("base", round(plain.per_second, 2), "steps/s")
    try:
        compiled = measure_steps(config_of(setting), SECONDS, warm=WARM, prepare=compile_model)
    except Exception as error:
        report.not_run("base, compiled", in_short(error))
        return
    report.figure("base, compiled", round(compiled.per_second, 2), "steps/s")
    report.figure("compiled / plain", round(compiled.per_second / plain.per_second, 3))


def compile_model(runner: PlainRunner) -> None:
    """Compile the parts of a model that hold nearly all of its work; names of its parameters stay."""
    git = runner.model.git
    git.encoder.compile()
    for name in ("image_memory", "text"):
        setattr(git.decoder, name, torch.compile(getattr(git.decoder, name)))
