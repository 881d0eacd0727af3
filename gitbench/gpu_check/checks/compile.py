"""What torch.compile would gain: a measurement, of something that runs do not use."""

from __future__ import annotations

import torch

from gitbench.errors import in_short
from gitbench.gpu_check.results import Report
from gitbench.gpu_check.sizes import Setting, config_of
from gitbench.gpu_check.steps import measure_steps
from gitbench.training.run import PlainRunner

SECONDS = 3.0
WARM = 40  # steps in which lengths of texts come, for which it compiles again


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
    """Compile what is repeated, an encoder's block and a decoder's layer, once each: the whole takes minutes to compile."""
    git = runner.model.git
    for block in git.encoder.blocks:
        block.compile()
    for layer in git.decoder.layers:
        layer.finish = torch.compile(layer.finish)
