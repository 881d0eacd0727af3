"""What a run computes on: refused where it is not what was planned, deterministic on a GPU, described as torch sees it.

No GPU is needed: torch's answers about one are replaced.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import tempfile
from pathlib import Path
from types import SimpleNamespace

import mmengine.device
import pytest
import torch
from helpers_errors import refused
from helpers_resume import assert_same_results, stop_at
from helpers_study import Run, edited, make_study, run_of, tiny_profile, write_configs
from mmengine.evaluator import BaseMetric
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from gitbench.models.encoder import ImageEncoder, resizing
from gitbench.models.init import initialise
from gitbench.models.trie import Trie
from gitbench.registry import METRICS, OPTIM_WRAPPER_CONSTRUCTORS
from gitbench.run_folder import RunFolder
from gitbench.spec import Compute, PretrainSpec
from gitbench.training import device
from gitbench.training.distributed import most
from gitbench.training.evaluation import PerImage
from gitbench.training.hooks import CurveHook
from gitbench.training.objectives import objective_for, training_images
from gitbench.training.run import PlainRunner, execute
from gitbench.variants.encoder import EncoderSpec

pytestmark = pytest.mark.usefixtures("as_before")
SPEC = EncoderSpec(width=32, layers=1, heads=2, patch=8, image_size=32)
BF16, FP16 = (Compute(device="cuda", precision=each) for each in ("bfloat16", "float16"))


@pytest.fixture
def t4(monkeypatch) -> None:
    """Let torch tell of a Tesla T4."""
    card = SimpleNamespace(name="Tesla T4", uuid="0a1b-2c", total_memory=15 * 2**30, major=7, minor=5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: card.name)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: card)


def planned_run(folder: Path, compute: Compute | None = None, **train) -> Run:
    study = make_study(folder, profile=tiny_profile(**train), compute=compute)
    write_configs(study)
    return run_of(study, "base")


# ---- the device that was planned ---------------------------------------------------------------------------------


def test_a_run_for_a_gpu_is_refused_where_torch_finds_none(tmp_path):
    run = planned_run(tmp_path, BF16)
    with refused("planned for a GPU, and torch finds none here: plan it with --device cpu"):
        execute(run.folder)
    assert not (run.folder / "curve.csv").exists()


def test_a_card_without_the_planned_precision_is_refused_in_one_line(t4):
    with refused("planned in bfloat16, which Tesla T4 has not: plan it with another --precision"):
        device.settle(BF16)
    assert not torch.are_deterministic_algorithms_enabled()
    device.settle(FP16)
    assert mmengine.device.get_device() == "cuda"
    assert device.pretraining_precision(torch.device("cuda")) == "float16"


def test_each_process_of_a_run_takes_the_card_of_its_rank(t4, monkeypatch):
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    device.settle(dataclasses.replace(FP16, world_size=2))
    device.settle(FP16)  # one alone takes the first
    assert chosen == [1]
    with refused("planned for 4 GPUs, and torch finds 2 here: show it as many"):
        device.settle(dataclasses.replace(FP16, world_size=4))


def test_a_run_for_the_cpu_stays_there_beside_a_gpu(t4):
    """mmengine decides by a constant of its import, when it may have seen a card."""
    mmengine.device.utils.DEVICE = "cuda"
    torch.set_num_threads(2)
    device.settle(Compute())
    assert mmengine.device.get_device() == "cpu" and device.described() == {"name": "cpu"}
    assert torch.get_num_threads() == 1 and not torch.are_deterministic_algorithms_enabled()


def test_the_card_is_described_as_torch_sees_it(t4):
    device.settle(FP16)
    assert device.described() == {
        "name": "Tesla T4",
        "uuid": "0a1b-2c",
        "memory_bytes": 15 * 2**30,
        "capability": "7.5",
    }


def test_a_plain_runner_is_refused_where_mmengine_put_the_model_elsewhere(tmp_path, t4):
    config = RunFolder(planned_run(tmp_path, FP16).folder).read_config()
    config.work_dir = str(tmp_path)
    mmengine.device.utils.DEVICE = "cpu"  # an import that saw no card
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "manual_seed_all", lambda seed: None)
        runner = PlainRunner.from_cfg(config)
    assert torch.are_deterministic_algorithms_enabled()  # from mmengine's `randomness` already
    with refused("planned for cuda and its model is on cpu"):
        runner.call_hook("before_run")


# ---- determinism -------------------------------------------------------------------------------------------------


def test_on_a_gpu_nothing_but_deterministic_algorithms_is_left(t4):
    torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = True
    torch.set_num_threads(2)
    device.settle(FP16)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.mem_efficient_sdp_enabled()
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
    assert not torch.utils.deterministic.fill_uninitialized_memory  # a kernel for each tensor


# What has no deterministic kernel on CUDA: the documentation of `use_deterministic_algorithms`, as aten names it.
UNORDERED = (
    "avg_pool3d_backward", "adaptive_avg_pool", "adaptive_max_pool", "fractional_max_pool", "max_unpool", "upsample_linear",
    "upsample_bilinear", "upsample_bicubic2d_backward", "upsample_trilinear", "reflection_pad", "nll_loss2d", "ctc_loss",
    "embedding_bag", "put_", "histc", "bincount", "median", "kthvalue", "grid_sampler", "scatter_reduce", "index_reduce",
)  # fmt: skip


class Operations(TorchDispatchMode):
    """Collect the names of the operations that run, those of backward passes too."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))

    @property
    def unordered(self) -> set[str]:
        names = {name for name in self.names if name != "index_put_"}
        return {name for name in names if any(name.startswith(each) for each in UNORDERED)}


def test_a_run_uses_no_operation_without_a_deterministic_kernel_and_passes_strict_mode(tmp_path):
    """Training, validation, test with free and closed beam search; all of it strict, as far as a CPU can tell."""
    torch.use_deterministic_algorithms(True)
    run = planned_run(tmp_path, iterations=2)
    config = RunFolder(run.folder).read_config()
    config.work_dir = str(tmp_path)
    runner = PlainRunner.from_cfg(config)
    with Operations() as operations:
        runner.train()
        tokenizer = runner.train_dataloader.dataset.tokenizer
        runner.model.vocabulary = Trie.of([[7, 8], [7, 9], [11]], tokenizer.eos_id)
        runner.test_loop.run()
    expected = {"native_layer_norm_backward", "embedding_dense_backward", "topk", "gather", "index_add_"}
    assert expected <= operations.names and not operations.unordered


@pytest.mark.parametrize("objective", ["contrastive", "supervised", "masked"])
def test_pretraining_uses_none_either(objective):
    torch.use_deterministic_algorithms(True)
    recipe = PretrainSpec(
        objective=objective, images=8, iterations=1, batch_images=4, lr=1e-3, warmup=1, width=32, layers=1,
        pooling="attention", vocab_size=400,
    )  # fmt: skip
    images = training_images(recipe, "scenes", 32)
    made = objective_for(SPEC, recipe, images)
    batch = device_batch(images)
    with Operations() as operations:
        made.module(batch["images"].float() / 255, made.targets(batch, 0)).backward()
    assert "native_layer_norm_backward" in operations.names and not operations.unordered


def device_batch(images):
    from gitbench.data.dataset import collate

    return collate([images[number] for number in range(4)])


def test_positions_are_resized_on_a_gpu_by_a_matrix_whose_gradient_is_deterministic():
    """The list of what has no deterministic kernel catches torch's own resizing, and the way around it gives the same."""
    encoder = ImageEncoder(SPEC)
    initialise(encoder, 0)
    with Operations() as operations:
        own = encoder.positions((3, 7))
        own.square().sum().backward()
    assert operations.unordered == {"upsample_bicubic2d_backward"}
    gradient, encoder.pos_embed.grad = encoder.pos_embed.grad, None
    with Operations() as operations:
        by_matrix = resizing((4, 4), (3, 7)) @ encoder.pos_embed[:, 1:]
        (by_matrix.square().sum() + encoder.pos_embed[:, :1].square().sum()).backward()
    assert not operations.unordered
    torch.testing.assert_close(by_matrix, own[:, 1:], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(encoder.pos_embed.grad, gradient, rtol=1e-5, atol=1e-6)
    with FakeTensorMode(allow_non_fake_inputs=True), Operations() as operations:
        encoder.pos_embed = torch.nn.Parameter(torch.empty(1, 17, 32, device="cuda"))
        assert encoder.positions((3, 7)).shape == (1, 22, 32)
    assert "bmm" in operations.names and "upsample_bicubic2d" not in operations.names


# ---- results of several processes --------------------------------------------------------------------------------


def _evaluate(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    metric = PerImage("nll")
    mine = [number % 5 for number in range(rank, 6, 2)]  # the sixth is padding of a loader
    metric.process({"indices": mine}, [{"image_id": str(number), "nll": number, "tokens": 1} for number in mine])
    found = metric.evaluate(5)
    items = [item["image_id"] for item in metric.items]
    Path(folder, f"{rank}.json").write_text(json.dumps([found, items, most(2**40 + rank)]))
    torch.distributed.destroy_process_group()


def test_results_of_two_processes_are_joined_and_no_folder_is_deleted(tmp_path, monkeypatch):
    """mmengine removes the folder through which it collects, with all that is in it."""
    temporary, meeting = tmp_path / "temporary", tmp_path / "meeting"
    for folder in (temporary, meeting):
        folder.mkdir()
    (temporary / "somebody's").write_text("work")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(temporary)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_evaluate, args=(rank, str(meeting))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.name for path in temporary.iterdir()] == ["somebody's"]
    first, second = (json.loads((meeting / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second == [{"nll": 2.0}, ["0", "1", "2", "3", "4"], 2**40 + 1]


def test_no_evaluator_collects_through_a_folder():
    own = [each for each in METRICS.module_dict.values() if issubclass(each, BaseMetric)]
    assert PerImage in own
    for each in own:
        metric = each("some")
        assert metric.collect_device == "gpu" and metric.collect_dir is None


# ---- memory ------------------------------------------------------------------------------------------------------


def test_the_log_leaves_the_peak_of_the_gpus_memory_alone(tmp_path, monkeypatch):
    """A simulated allocator, which peaks in the third step: mmengine's own processor would forget it at the next line."""
    run = planned_run(tmp_path)
    config = RunFolder(run.folder).read_config()
    config.work_dir = str(tmp_path)
    config.default_hooks.logger.interval = 1
    peak, said = [100 * 2**20], []
    runner = PlainRunner.from_cfg(config)
    curve = next(hook for hook in runner.hooks if isinstance(hook, CurveHook))
    monkeypatch.setattr("mmengine.runner.log_processor.is_cuda_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda *_, **__: peak[0])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda *_: peak.__setitem__(0, 100 * 2**20))
    format_line = runner.log_processor.get_log_after_iter

    def line(runner, batch_idx, mode):  # type: ignore[no-untyped-def]
        peak[0] = max(peak[0], 5000 * 2**20 if batch_idx == 2 and mode == "train" else 900 * 2**20)
        said.append(format_line(runner, batch_idx, mode)[0].get("memory"))
        return format_line(runner, batch_idx, mode)

    monkeypatch.setattr(runner.log_processor, "get_log_after_iter", line)
    runner.train()
    mmengine.device.utils.DEVICE = "cuda"
    assert 5000 in said and said[-1] == 5000 and curve.peak_memory == 5000 * 2**20


def test_memory_that_graphs_hold_is_in_no_tensor_and_counts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 8)
    mmengine.device.utils.DEVICE = "cuda"
    assert (device.peak_memory(), device.peak_memory(cuda_graph=True)) == (5, 8)


# ---- precision ---------------------------------------------------------------------------------------------------


def lowered(folder: Path, precision: str, **train) -> Run:
    """Return a run that trains on the CPU in a precision of GPUs."""
    run = planned_run(folder, **train)
    with edited(run) as config:
        config.optim_wrapper.precision = precision
    return run


@pytest.mark.parametrize("precision", [pytest.param("bfloat16", marks=pytest.mark.slow), "float16"])
def test_a_stopped_run_in_low_precision_goes_on_to_the_same_bits(tmp_path, monkeypatch, precision):
    """The scale of float16's loss is part of the checkpoint: it starts so large here that it falls on the way."""
    real = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda *_, **options: real("cpu", init_scale=2.0**24, **options))
    quiet, stopped = (lowered(tmp_path / name, precision, checkpoint_every=0) for name in ("quiet", "stopped"))
    execute(quiet.folder)
    stop_at(stopped, 4)
    saved = torch.load(stopped.folder / "iter_3.pth", weights_only=True)["optimizer"]
    assert ("scaler" in saved) == (precision == "float16")
    if precision == "float16":
        assert saved["scaler"]["scale"] < 2.0**24
    execute(stopped.folder)
    assert_same_results(quiet.folder, stopped.folder)


def test_a_step_that_overflows_float16_is_left_out_and_any_other_is_the_plain_one():
    model = torch.nn.Module()
    model.git = torch.nn.Linear(2, 1)
    before = model.git.weight.detach().clone()
    optimizer = {"type": "AdamW", "weight_decay": 0.0}
    wrappers = []
    for precision in ("float16", "float32"):
        config = {"type": "DeviceOptimWrapper", "optimizer": dict(optimizer), "precision": precision}
        config["clip_grad"] = {"max_norm": 1.0}
        rates = {"lr_encoder": 0.1, "lr_decoder": 0.1}
        made = {"type": "EncoderDecoderOptim", "optim_wrapper_cfg": config, "paramwise_cfg": rates}
        wrappers.append(OPTIM_WRAPPER_CONSTRUCTORS.build(made)(model))
    scaled, plain = wrappers
    scaled.update_params(model.git.weight.sum() * torch.inf)
    assert torch.equal(model.git.weight, before) and scaled.scaler.get_scale() == 2.0**15
    scaled.update_params(model.git.weight.square().sum())
    after = model.git.weight.detach().clone()
    with torch.no_grad():
        model.git.weight.copy_(before)
    plain.update_params(model.git.weight.square().sum())
    assert not torch.equal(after, before) and torch.equal(model.git.weight, after)
    assert float(plain.norms[0]) == pytest.approx(float(scaled.norms[0]))
