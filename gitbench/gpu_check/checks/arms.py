"""How fast every arm trains, how many calls a step takes its host, and how busy the card is meanwhile; what padding gains.

A card that is busy a third of the time waits for its host: then several processes, or CUDA graphs, gain most.
"""

from __future__ import annotations

from gitbench.gpu_check.results import NO_CARD, Report
from gitbench.gpu_check.sizes import Setting, arms, config_of
from gitbench.gpu_check.steps import Steps, measure_steps

SECONDS = {"cuda": 1.5, "cpu": 0.2}  # of timing an arm
PROFILED = 5
CASTS = "aten::_to_copy"  # by which autocast lowers a precision, and batches come to the card


def check(setting: Setting, report: Report) -> None:
    """Report steps per second, calls and busy share of all arms, and of the base arm without padding."""
    for arm, variants in arms(setting).items():
        with report.part(f"arm {arm}"):
            found = measure_steps(config_of(setting, variants), SECONDS[setting.device], PROFILED)
            tell(report, arm, found, setting.on_card)
    with report.part("padding"):
        config = config_of(setting)
        config.train_dataloader.collate_fn.multiple = 1
        unpadded = measure_steps(config, SECONDS[setting.device])
        report.figure("base, rows of text not padded", round(unpadded.per_second, 2), "steps/s")


def tell(report: Report, arm: str, found: Steps, on_card: bool) -> None:
    """Report the figures of an arm; judge that its steps were seen at all."""
    report.figure(arm, round(found.per_second, 2), "steps/s")
    casts = found.seen.calls.get(CASTS, 0) / found.profiled
    report.figure(f"{arm}: calls a step", round(found.seen.lowest / found.profiled), said=f"{casts:.0f} of them casts")
    if on_card:
        report.figure(f"{arm}: kernels a step", round(found.seen.kernels / found.profiled))
        report.figure(f"{arm}: the card is busy", round(100 * found.busy_share, 1), "%")
        seen = found.seen.kernels > 0 and found.busy_share > 0
        report.judge(f"{arm}: what the card does was seen", seen, "kernels in the profile")
    else:
        report.not_run(f"{arm}: the card is busy", NO_CARD)
