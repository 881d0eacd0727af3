"""Which GPUs there are: what CUDA shows, whatever names them, and one line where it cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_cuda import A10, H100, SLICE, T4, compiled_driver, shown

from gitbench import machine
from gitbench.errors import GitbenchError
from gitbench.machine import Gpu, gpus, machine_label


@pytest.fixture
def show(shared_folder, monkeypatch) -> Callable[..., None]:
    """Return the function that puts cards into this machine: `show(*cards, CUDA_VISIBLE_DEVICES=..., ...)`."""
    library = compiled_driver(shared_folder)

    def put(*cards: str, **environment: str) -> None:
        machine._gpus.cache_clear()
        for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "FAKE_CUDA_CODE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in shown(library, *cards, **environment).items():
            monkeypatch.setenv(name, value)

    monkeypatch.setattr(machine, "_CARD_FILES", ("/",))  # a card's device file is there
    return put


def test_a_card_is_described_by_what_the_driver_says_of_it(show):
    show(H100)
    assert gpus() == (
        Gpu(
            uuid="GPU-aaaaaaaa-0000-1111-2222-333333333333",
            name="NVIDIA H100 80GB HBM3",
            free_gib=80000 / 1024,
            total_gib=81000 / 1024,
            capability=(9, 0),
        ),
    )
    assert machine_label() == "h100-80gb-hbm3"


@pytest.mark.parametrize(
    ("visible", "order", "names"),
    [
        (None, None, ["H100", "A10G", "T4"]),
        (None, "PCI_BUS_ID", ["T4", "A10G", "H100"]),
        ("2,0", None, ["T4", "H100"]),
        ("2,0", "PCI_BUS_ID", ["H100", "T4"]),
        ("GPU-cccccccc-0000-1111-2222-333333333333", None, ["T4"]),
        ("GPU-c,GPU-aa", None, ["T4", "H100"]),
        ("1,7,0", None, ["A10G"]),  # CUDA stops at the first name of no card
        ("", None, []),
        ("-1", None, []),
        ("NoDevFiles", None, []),  # of Slurm, for a job without cards
    ],
)
def test_the_cards_are_those_that_cuda_shows_in_its_order(show, visible, order, names):
    named = {"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": order}
    show(H100, A10, T4, **{name: value for name, value in named.items() if value is not None})
    assert [next(part for part in ("H100", "A10G", "T4") if part in card.name) for card in gpus()] == names


def test_a_slice_is_a_card_like_any_other_and_is_called_as_it_was_named(show):
    show(H100, SLICE, CUDA_VISIBLE_DEVICES="MIG-dddddddd-0000-1111-2222-333333333333")
    (card,) = gpus()
    assert card.uuid == "MIG-dddddddd-0000-1111-2222-333333333333" and card.free_gib == 9.5
    show(SLICE)  # of a card that is cut up CUDA shows a slice by itself
    assert gpus() == (card,)
    show(SLICE, CUDA_VISIBLE_DEVICES="MIG-dd")
    assert [each.uuid for each in gpus()] == ["MIG-dd"]


def test_compute_mode_mps_and_a_card_that_another_process_holds_are_seen(show):
    show("Held,GPU-aaaaaaaa-0000-1111-2222-333333333333,16000,0,8,0,3,0", T4.removesuffix("0,0") + "3,1")
    held, served = gpus()
    assert (held.free_gib, held.exclusive, held.mps) == (0.0, True, False)
    assert (served.free_gib, served.exclusive, served.mps) == (14.0, True, True)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"CUDA_VISIBLE_DEVICES": "7"}, "CUDA_VISIBLE_DEVICES=7 names no card"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-a"}, "CUDA_VISIBLE_DEVICES=GPU-a names no card"),  # of two
        ({"FAKE_CUDA_CODE": "803"}, r"CUDA cannot be used here \(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH\)"),
        ({"FAKE_CUDA_CODE": "34"}, r"cannot be loaded \(CUDA_ERROR_STUB_LIBRARY\)"),
    ],
)
def test_a_card_that_cannot_be_used_is_said_in_one_line_and_never_becomes_the_cpu(show, environment, said):
    show(H100, A10, **environment)
    with pytest.raises(GitbenchError, match=said) as error:
        gpus()
    assert "\n" not in str(error.value) and "to use the CPU" in str(error.value)


def test_a_machine_without_card_or_driver_has_none_and_no_error(show, monkeypatch):
    show()
    assert gpus() == ()  # a driver without a card, as on a login node
    monkeypatch.setattr(machine, "_CARD_FILES", ())
    for code in ("34", "999"):  # the toolkit's stub; a driver's library in the image of a container without cards
        show(FAKE_CUDA_CODE=code)
        assert gpus() == ()
    show(CUDA_VISIBLE_DEVICES="0", LD_LIBRARY_PATH="")
    monkeypatch.setattr(machine, "ask_driver", lambda: {"absent": "libcuda.so.1: cannot open shared object file"})
    assert gpus() == ()
    show(CUDA_VISIBLE_DEVICES="MIG-5a6b", LD_LIBRARY_PATH="")
    with pytest.raises(
        GitbenchError, match="CUDA_VISIBLE_DEVICES=MIG-5a6b names a card, and this machine has no CUDA driver"
    ):
        gpus()
    monkeypatch.setattr(machine, "_CARD_FILES", ("/",))
    show()
    with pytest.raises(GitbenchError, match=r"cannot be loaded \(libcuda.so.1, cannot open[^:]*\): install it"):
        gpus()  # a container that was given the card without its driver


def test_a_driver_that_crashes_is_an_error_and_this_process_never_starts_cuda(show, monkeypatch, tmp_path):
    show(H100, FAKE_CUDA_LOG=str(tmp_path / "log"))
    assert len(gpus()) == 1 and gpus() is gpus()
    (started,) = (tmp_path / "log").read_text().split()  # once, and not here
    assert int(started) != os.getpid()
    show(H100)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(GitbenchError, match="status 1"):
        gpus()


def test_the_driver_is_asked_without_anything_but_the_standard_library():
    program = Path(machine.__file__).with_name("cuda_driver.py")
    code = f"import runpy, sys; runpy.run_path({str(program)!r}); print('gitbench' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False"]
