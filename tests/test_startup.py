"""What a command and a run spend beside their work: imports, waits for data, waits for the device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_study import Run, make_study, tiny_profile, write_configs
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from gitbench.data import CAPTIONS
from gitbench.data.cache import EncodedCaptions, decoded_split
from gitbench.data.tasks import open_task
from gitbench.errors import GitbenchError
from gitbench.run_folder import RunFolder
from gitbench.study.config import make_config
from gitbench.training import caption_model as model_module
from gitbench.training.data import Batches, CaptionData, CountedSampler, caption_collate
from gitbench.training.hooks import CurveHook, LazyInfoHook
from gitbench.training.run import PlainRunner, execute

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "mmengine", "numpy", "pandas", "scipy", "matplotlib", "PIL", "pyarrow")


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("command", ["list", "--help"])
def test_a_command_that_only_tells_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys\nfrom gitbench.cli import main\n"
        "try: main([sys.argv[1]])\nexcept SystemExit as left: assert left.code == 0\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])"
    )
    lines = python(code, command).splitlines()
    assert lines[-1] == "heavy: []"
    assert any("ablation" in line for line in lines[:-1])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A planned run of 40 steps, whose log wants its numbers every second one."""
    return write_configs(make_study(tmp_path / "work", profile=tiny_profile(iterations=40, checkpoint_every=15)))[0]


def test_a_run_imports_nothing_needless(run: Run) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom gitbench.training.run import execute\n"
        "execute(Path(sys.argv[1]))\n"
        "print('needless:', [n for n in ('matplotlib', 'pandas', 'datasets') if n in sys.modules])"
    )
    assert python(code, str(run.folder)).splitlines()[-1] == "needless: []"
    cost = json.loads((run.folder / "trained.json").read_text())["cost"]
    assert 0 < cost["data_wait_seconds"] < cost["train_seconds"]


def test_waits_of_earlier_sessions_count(run: Run) -> None:
    """A run stopped at its second checkpoint carries its waiting on."""

    class Stopped(Exception):
        pass

    def stop(done: int, total: int, loss: float) -> None:
        if done == 31:
            raise Stopped

    with pytest.raises(Stopped):
        execute(run.folder, stop)
    path = run.folder / "iter_30.pth"
    saved = torch.load(path, weights_only=True)
    assert 0 < saved["meta"]["data_wait_seconds"] < saved["meta"]["seconds"]
    saved["meta"]["data_wait_seconds"] = 1000.0
    torch.save(saved, path)
    execute(run.folder)
    cost = json.loads((run.folder / "trained.json").read_text())["cost"]
    assert 1000 < cost["data_wait_seconds"] < 1010


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


def trained_counting(
    run: Run, monkeypatch: pytest.MonkeyPatch, hook: type[RuntimeInfoHook]
) -> tuple[Runner, list[int]]:
    """Train with the log and the curve read every 10 steps; return the reads of every step as well."""
    config = RunFolder(run.folder).read_config()
    config.work_dir = str(run.folder)
    config.experiment_name = f"counting-{hook.__name__}"  # mmengine gives runs of one name and second one message hub
    runner = PlainRunner.from_cfg(config)
    assert [type(one) for one in runner.hooks if isinstance(one, RuntimeInfoHook)] == [LazyInfoHook]
    runner._hooks = [hook() if isinstance(one, RuntimeInfoHook) else one for one in runner.hooks]
    for one in runner.hooks:
        if isinstance(one, (LoggerHook, CurveHook)):
            one.interval = 10
    reads, loop, pack = [], runner.train_loop, model_module.pack
    mode = Reads()

    def before_the_device(*arguments):  # type: ignore[no-untyped-def]
        kept = mode.count
        packed = pack(*arguments)
        mode.count = kept  # texts are packed on the host
        return packed

    def step(batch: dict) -> None:
        with mode:
            type(loop).run_iter(loop, batch)
        reads.append(mode.count)
        mode.count = 0

    monkeypatch.setattr(model_module, "pack", before_the_device)
    monkeypatch.setattr(loop, "run_iter", step)
    runner.train()
    return runner, reads


def test_a_training_step_reads_nothing_from_the_device(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, reads = trained_counting(run, monkeypatch, LazyInfoHook)
    assert len(reads) == 40
    assert [place for place, count in enumerate(reads, 1) if count] == [10, 20, 30, 40]
    losses = runner.message_hub.get_scalar("train/loss").data[0]
    norms = runner.message_hub.get_scalar("train/grad_norm").data[0]
    assert len(losses) == len(norms) == 40 and min(norms) > 0
    curve = next(hook for hook in runner.hooks if isinstance(hook, CurveHook))
    kept = {step: loss for step, split, loss, _ in curve.rows if split == "train"}
    assert kept == {step: losses[step - 1] for step in (10, 20, 30, 40)}


def test_mmengines_own_hook_reads_every_step(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _, reads = trained_counting(run, monkeypatch, RuntimeInfoHook)
    assert min(reads) >= 1  # so the test above would see it


# ---- waiting for data --------------------------------------------------------------------------------------------


def loader(run: Run, crop: tuple[float, float] | None, workers: int = 0) -> DataLoader:
    config = make_config(run.spec, run_vocabulary(run), run.key)
    values = config.train_dataloader.dataset.to_dict()
    values.pop("type")
    values["data_spec"]["crop_scale"] = crop
    data = CaptionData(**values)
    sampler = CountedSampler(data)
    sampler.start = 17
    return DataLoader(data, batch_size=4, sampler=sampler, collate_fn=caption_collate, num_workers=workers)


def run_vocabulary(run: Run):  # type: ignore[no-untyped-def]
    return make_study(run.folder.parents[1]).plan.vocabulary


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize(("crop", "workers", "threaded"), [((0.6, 1.0), 0, 1), (None, 0, 0), ((0.6, 1.0), 1, 0)])
def test_batches_made_ahead_are_the_loaders(run: Run, crop, workers: int, threaded: int) -> None:  # type: ignore[no-untyped-def]
    plain = iter(loader(run, crop))
    with Batches(loader(run, crop, workers)) as batches:
        assert len(threads()) == threaded
        for _ in range(9):  # beyond the first pass over the 24 images
            expected, batch = next(plain), next(batches)
            assert expected.keys() == batch.keys()
            for name, value in expected.items():
                same = torch.equal(value, batch[name]) if isinstance(value, torch.Tensor) else value == batch[name]
                assert same, name
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


def test_texts_of_an_image_are_slices_of_all() -> None:
    texts = EncodedCaptions(
        ids=np.arange(10, dtype=np.int32),
        captions=np.array([0, 2, 2, 5, 10]),
        images=np.array([0, 3, 4]),
        prefixes=np.zeros(4, np.int64),
    )
    assert texts.of(0) == [[0, 1], [], [2, 3, 4]] and texts.of(1) == [[5, 6, 7, 8, 9]]


def test_images_are_those_of_the_cache(run: Run) -> None:
    data = loader(run, None).dataset
    assert isinstance(data, CaptionData)
    stored = decoded_split(open_task("scenes", "train", 24, CAPTIONS), 64)
    assert type(data.images) is np.ndarray and np.array_equal(data.images, stored) and not data.images.flags.writeable
