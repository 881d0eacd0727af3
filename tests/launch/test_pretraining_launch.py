"""Contrastive pre-training in the display of a launch."""

from __future__ import annotations

from gitbench.launch.progress import Display


def test_the_display_says_pretraining_and_counts_none_of_it(tiny_study, capsys, monkeypatch):
    run = tiny_study.plan.runs[0]
    with Display(tiny_study.name, 0, 3, plain=True) as display:
        monkeypatch.setattr("gitbench.launch.progress.QUIET_SECONDS", -1.0)
        display.training(run)
        display.training(run, 2, 5)
        assert "base/0 pre-training 40%" in capsys.readouterr().out
        assert display.bar.tasks[0].completed == 0
        display.training(run, 1, 4, 2.5)
        assert "base/0 25% loss 2.50" in capsys.readouterr().out
        assert display.bar.tasks[0].completed == 0.25
        display.finished(
            run, {"metrics": {"test_nll": {"value": 1.0}, "VQA": {"value": 41.23}}, "cost": {"seconds": 9}}
        )
        assert "VQA accuracy 41.2, 9 s" in capsys.readouterr().out
