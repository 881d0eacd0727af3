"""What a command and a run spend beside their work: imports, waits for data, waits for the device."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers_data import printed_by
from helpers_study import Run, make_study, tiny_profile, write_configs
from mmengine.hooks import LoggerHook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from gitbench.errors import GitbenchError
from gitbench.models.packed import PackedTexts
from gitbench.run_folder import RunFolder
from gitbench.training.data import Batches, CaptionData, CountedSampler, caption_collate
from gitbench.training.hooks import CurveHook
from gitbench.training.run import PlainRunner

HEAVY = ("torch", "mmengine", "numpy", "pandas", "scipy", "matplotlib", "PIL", "pyarrow")
LISTED = (
    "decoder_size",
    "larger-no-better",
    "smoke",
    "scenes",
    "self_6x768",
    "vit_b16",
    "scenes-captioner on scenes-shifted",
    "needs --start",
)


@pytest.mark.parametrize(("command", "told"), [("list", LISTED), ("--help", ("ablation",))])
def test_a_command_that_only_tells_imports_nothing_heavy(command: str, told: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom gitbench.cli import main\n"
        "try: main([sys.argv[1]])\nexcept SystemExit as left: assert left.code == 0\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])"
    )
    said, _, last = printed_by(code, command).rpartition("\n")
    assert last == "heavy: []" and all(name in said for name in told)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A planned run of 40 steps, whose log wants its numbers every second one."""
    return write_configs(make_study(tmp_path / "work", profile=tiny_profile(iterations=40)))[0]


def test_a_run_imports_nothing_needless(run: Run) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom gitbench.training.run import execute\n"
        "execute(Path(sys.argv[1]))\n"
        "print('needless:', [n for n in ('matplotlib', 'pandas', 'datasets') if n in sys.modules])"
    )
    assert printed_by(code, str(run.folder)).splitlines()[-1] == "needless: []"
    cost = json.loads((run.folder / "trained.json").read_text())["cost"]
    assert 0 < cost["data_wait_seconds"] < cost["train_seconds"]


# ---- waiting for the device --------------------------------------------------------------------------------------


class Reads(TorchDispatchMode):
    """Count the tensors whose value the host reads, for which it waits where they are on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if function.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero):
            self.count += 1
        return function(*args, **(kwargs or {}))


def test_a_training_step_reads_nothing_from_the_device(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where the log and the curve ask for numbers, here every 10 steps; mmengine's own hook asks at each."""
    config = RunFolder(run.folder).read_config()
    config.work_dir = str(run.folder)
    runner = PlainRunner.from_cfg(config)
    for one in runner.hooks:
        if isinstance(one, (LoggerHook, CurveHook)):
            one.interval = 10
    reads, loop = [], runner.train_loop
    mode = Reads()

    def step(batch: dict) -> None:
        with mode:
            type(loop).run_iter(loop, batch)
        reads.append(mode.count)
        mode.count = 0

    monkeypatch.setattr(loop, "run_iter", step)
    runner.train()
    assert len(reads) == 40
    assert [place for place, count in enumerate(reads, 1) if count] == [10, 20, 30, 40]
    losses = runner.message_hub.get_scalar("train/loss").data[0]
    norms = runner.message_hub.get_scalar("train/grad_norm").data[0]
    assert len(losses) == len(norms) == 40 and min(norms) > 0
    curve = next(hook for hook in runner.hooks if isinstance(hook, CurveHook))
    kept = {step: loss for step, split, loss, _ in curve.rows if split == "train"}
    assert kept == {step: losses[step - 1] for step in (10, 20, 30, 40)}


# ---- waiting for data --------------------------------------------------------------------------------------------


def loader(run: Run, crop: tuple[float, float] | None, workers: int = 0, pixels: bool = True) -> DataLoader:
    values = RunFolder(run.folder).read_config().train_dataloader.dataset.to_dict()
    values.pop("type")
    values["data_spec"]["crop_scale"] = crop
    data = CaptionData(**values, pixels=pixels)
    sampler = CountedSampler(data)
    sampler.start = 17
    return DataLoader(data, batch_size=4, sampler=sampler, collate_fn=caption_collate, num_workers=workers)


def same(one: Any, other: Any) -> bool:
    """Tell whether two entries of a batch are equal: tensors, packed texts or plain values."""
    if isinstance(one, PackedTexts):
        return type(other) is PackedTexts and all(map(torch.equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize(
    ("crop", "workers", "pixels", "threaded"),
    [((0.6, 1.0), 0, True, 1), (None, 0, True, 0), ((0.6, 1.0), 2, True, 0), (None, 0, False, 1), (None, 2, False, 0)],
)
def test_batches_made_ahead_are_the_loaders(run: Run, crop, workers: int, pixels: bool, threaded: int) -> None:  # type: ignore[no-untyped-def]
    plain = iter(loader(run, crop, pixels=pixels))
    with Batches(loader(run, crop, workers, pixels)) as batches:
        assert len(threads()) == threaded
        for _ in range(9):  # beyond the first pass over the 24 images
            expected, batch = next(plain), next(batches)
            assert expected.keys() == batch.keys()
            for name, value in expected.items():
                assert same(value, batch[name]), name
        assert batches.waited > 0
    assert threads() == []


class Broken(torch.utils.data.Dataset):
    """Three items, then an error."""

    crop_scale = (0.5, 1.0)

    def __len__(self) -> int:
        return 10

    def __getitem__(self, number: int) -> int:
        if number == 3:
            raise GitbenchError("image 3 is damaged: replace it")
        return number


def test_an_error_of_the_data_comes_where_it_belongs() -> None:
    with Batches(DataLoader(Broken(), batch_size=None, shuffle=False)) as batches:
        assert [next(batches) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(GitbenchError, match="image 3 is damaged"):
            next(batches)
    assert threads() == []
