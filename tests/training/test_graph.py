"""Training steps as CUDA graphs: the bits of plain steps, or no graphs. No GPU is needed: what records is a stand-in.

That the real recorder's kernels give these bits only a card can tell: `nox -s gpu_check`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers_resume import assert_same_results, stop_at
from helpers_study import Run, edited, make_study, run_of, tiny_profile, write_configs
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.torch_version import TorchVersion
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gitbench.gpu_check.checks.graph import both_ways
from gitbench.models.git import GIT
from gitbench.models.packed import PackedTexts, pack
from gitbench.run_folder import RunFolder
from gitbench.spec import Compute
from gitbench.training import graph
from gitbench.training.graph import GpuRecorder, GraphedSteps
from gitbench.training.optimizer import DeviceOptimWrapper, WarmupCosineLR, parameter_groups
from gitbench.training.run import execute
from gitbench.variants import AXES

STEPS = 8
SLOW = functools.partial(pytest.param, marks=pytest.mark.slow)


class Stage:
    """Stands in for what records: a step is taken again on the same tensors, with the learning rates of the recording.

    As with the real one nothing is changed when it records, and outputs have a place that the next step overwrites.
    """

    made: list[Stage] = []

    def __init__(self) -> None:
        self.plain = self.recorded = self.taken = 0
        self.made.append(self)

    def plainly(self, step):  # type: ignore[no-untyped-def]
        self.plain += 1
        return step()

    def record(self, step):  # type: ignore[no-untyped-def]
        steps: GraphedSteps = inspect.getclosurevars(step).nonlocals["self"]
        groups = steps.wrapper.optimizer.param_groups
        assert all(group["capturable"] for group in groups)
        rates, before = [group["lr"] for group in groups], steps._state()
        outputs = {name: value.detach().clone() for name, value in step().items()}
        norms = [norm.clone() for norm in steps.wrapper.norms]
        steps.wrapper.norms[:] = norms
        steps._restore(before)
        self.recorded += 1

        def replay() -> None:
            usual = [group["lr"] for group in groups]
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate
            for name, value in step().items():
                outputs[name].copy_(value.detach())
            for norm, value in zip(norms, steps.wrapper.norms, strict=True):
                norm.copy_(value)
            for group, rate in zip(groups, usual, strict=True):
                group["lr"] = rate
            self.taken += 1
            self.spoil(steps)

        return replay, outputs

    def spoil(self, steps: GraphedSteps) -> None:
        """Do nothing; for those that go wrong."""


class Wrong(Stage):
    """Its graphs give other bits in one weight."""

    def spoil(self, steps: GraphedSteps) -> None:
        with torch.no_grad():
            weight = steps.wrapper.optimizer.param_groups[0]["params"][0].view(-1)
            weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))


class Refusing(Stage):
    """Fails in the middle of a step, as a call does that waits for the GPU."""

    def record(self, step):  # type: ignore[no-untyped-def]
        steps: GraphedSteps = inspect.getclosurevars(step).nonlocals["self"]
        self.recorded += 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(steps.wrapper.optimizer, "step", self._waits)
            return step()

    @staticmethod
    def _waits(**_: object) -> None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore of it")


@pytest.fixture(autouse=True)
def stage(monkeypatch):
    """Let the stand-in record, and rates be rounded as on a GPU; returns the function that exchanges it."""
    Stage.made = []
    monkeypatch.setattr(WarmupCosineLR, "rounded", True)
    monkeypatch.setattr(graph, "GpuRecorder", Stage)
    yield lambda kind: monkeypatch.setattr(graph, "GpuRecorder", kind)


def planned(folder: Path, precision: str = "float32", graphs: bool = False, **model) -> Run:
    """Return a run of the CPU that trains as one of a GPU does: in rows of few lengths, in a precision, with dropout."""
    study = make_study(folder, profile=tiny_profile(iterations=STEPS, val_every=4, checkpoint_every=0))
    write_configs(study)
    run = run_of(study, "base")
    with edited(run) as config:
        config.optim_wrapper.precision = precision
        config.compute.cuda_graph = graphs
        config.train_dataloader.collate_fn.update(multiple=16, everywhere=True)
        config.model.decoder.dropout = 0.1
        for part, values in model.items():
            config.model[part].update(values)
    return run


@pytest.fixture(scope="module")
def quiet(tmp_path_factory) -> Run:
    """A run in float32 without graphs that was left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WarmupCosineLR, "rounded", True)
        execute((run := planned(tmp_path_factory.mktemp("quiet"))).folder)
    return run


@pytest.fixture
def logged(monkeypatch) -> list[str]:
    """What is said in the logs of runs: mmengine writes it to the first one's file, of runs of one key within a second."""
    lines: list[str] = []
    monkeypatch.setattr(graph, "print_log", lambda line, logger: lines.append(line) if logger == "current" else None)
    return lines


@pytest.mark.parametrize("precision", [SLOW("float32"), SLOW("bfloat16"), "float16"])
def test_a_run_has_the_same_bits_with_graphs(tmp_path, monkeypatch, logged, precision):
    """Weights, captions and the curve, over several lengths; float16's scale starts so large that some steps are left out."""
    real = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda *_, **options: real("cpu", init_scale=2.0**22, **options))
    plain, graphed = planned(tmp_path / "plain", precision), planned(tmp_path / "graphed", precision, graphs=True)
    execute(plain.folder)
    assert not Stage.made
    execute(graphed.folder)
    (one,) = Stage.made
    # the first step of a length is plain, the second is taken both ways
    assert one.recorded > 1 and one.taken > STEPS / 2 and one.taken + one.plain == STEPS + one.recorded
    assert_same_results(plain.folder, graphed.folder)
    assert not logged


def test_a_stopped_run_with_graphs_goes_on_to_the_same_bits(quiet, tmp_path):
    stopped = planned(tmp_path, graphs=True)
    stop_at(stopped, 6)
    assert (stopped.folder / "iter_5.pth").is_file()
    execute(stopped.folder)
    assert len(Stage.made) == 2 and Stage.made[0].taken > 1
    assert_same_results(quiet.folder, stopped.folder)


@pytest.mark.parametrize(
    ("kind", "precision", "said"),
    [
        SLOW(Wrong, "float32", "training without CUDA graphs: the graph of a step gives other bits than the step"),
        (Refusing, "float16", "cannot be recorded (CUDA error: operation not permitted when stream is capturing)"),
    ],
)
def test_where_graphs_go_wrong_a_run_goes_on_without_them_to_the_same_bits(
    tmp_path, stage, logged, kind, precision, said
):
    plain, graphed = planned(tmp_path / "plain", precision), planned(tmp_path / "graphed", precision, graphs=True)
    execute(plain.folder)
    stage(kind)
    execute(graphed.folder)
    (one,) = Stage.made
    assert one.recorded == 1
    assert_same_results(plain.folder, graphed.folder)
    assert len(logged) == 1 and said in logged[0]


def test_a_frozen_encoder_is_looked_up_by_the_host_and_not_recorded(tmp_path, logged):
    plain, graphed = (
        planned(tmp_path / name, graphs=name == "graphed", encoder_training={"frozen": True})
        for name in ("plain", "graphed")
    )
    for run in (plain, graphed):
        execute(run.folder)
    assert Stage.made[0].recorded == 0 and "frozen encoder" in logged[0]
    assert_same_results(plain.folder, graphed.folder)


def test_with_a_torch_that_cannot_go_on_from_a_failed_recording_none_is_tried(quiet, tmp_path, monkeypatch, logged):
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.12.1+cu128"))
    run = planned(tmp_path, graphs=True)
    execute(run.folder)
    assert Stage.made[0].recorded == 0 and "torch 2.12.1+cu128 is older than 2.13" in logged[0]
    assert_same_results(quiet.folder, run.folder)


def test_a_step_that_was_left_out_proves_no_graph(tmp_path, monkeypatch, stage):
    """Its weights stay what they were by whatever graph: one that changes them wrongly must still be found."""
    real = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda *_, **options: real("cpu", init_scale=2.0**40, **options))

    class Idle(Stage):
        """Its graphs do nothing."""

        def record(self, step):  # type: ignore[no-untyped-def]
            _, outputs = super().record(step)
            return (lambda: None), outputs

    stage(Idle)
    plain, graphed = planned(tmp_path / "plain", "float16"), planned(tmp_path / "graphed", "float16", graphs=True)
    for run in (plain, graphed):
        execute(run.folder)
    assert Stage.made[0].recorded == 0
    assert_same_results(plain.folder, graphed.folder)


def test_the_check_for_a_card_tells_equal_bits_from_others(tmp_path, stage):
    run = planned(tmp_path, graphs=True)
    config = RunFolder(run.folder).read_config()
    found = both_ways(config, steps=8)
    assert found["refused"] is None and found["same_bits"] and 0 < found["replayed"] < 8
    assert found["plain_steps_per_second"] > 0 and found["graph_steps_per_second"] > 0
    assert not (run.folder / "curve.csv").exists()
    stage(Wrong)
    assert "other bits" in both_ways(config, steps=8)["refused"]


# ---- the real recorder, and what it records ----------------------------------------------------------------------


def test_steps_are_recorded_on_a_stream_of_their_own_into_one_pool(monkeypatch):
    """Torch's documentation asks for the stream; the mode lets the thread that makes batches use the GPU meanwhile."""
    done: list[str] = []

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            done.append(f"{self.name} waits for {other.name}")

    @contextlib.contextmanager
    def entered(*words, **options):  # type: ignore[no-untyped-def]
        done.append(" ".join([*words, *(f"{name}={getattr(value, 'name', value)}" for name, value in options.items())]))
        yield
        done.append("left")

    monkeypatch.setattr(torch.cuda, "Stream", lambda: Stream("side"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream("usual"))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(
        torch.cuda, "CUDAGraph", lambda: SimpleNamespace(name="graph", replay=lambda: done.append("replay"))
    )
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: entered("on", stream.name))
    monkeypatch.setattr(torch.cuda, "graph", lambda made, **options: entered("recording", made.name, **options))
    recorder = GpuRecorder()
    assert recorder.plainly(lambda: done.append("step") or {"loss": 1}) == {"loss": 1}
    assert done == ["side waits for usual", "on side", "step", "left", "usual waits for side"]
    done.clear()
    replay, outputs = recorder.record(lambda: done.append("step") or {"loss": 2})
    assert outputs == {"loss": 2} and done[1:] == ["step", "left"]
    assert done[0] == "recording graph pool=pool stream=side capture_error_mode=thread_local"
    replay()
    assert done[-1] == "replay"


class HostWork(TorchDispatchMode):
    """Collect the operations that have to do with tensors of the host; one that needs a value of the GPU raises by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = function(*args, **(kwargs or {}))
        if any(
            isinstance(each, torch.Tensor) and each.device.type == "cpu" for each in tree_leaves((args, kwargs, made))
        ):
            self.found.append(str(function))
        return made


@pytest.mark.filterwarnings("ignore:CUDA is not available", "ignore:.*GradScaler is enabled")
@pytest.mark.parametrize("attention", ["self", "cross"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_no_part_of_a_step_waits_for_the_gpu_or_brings_something_there(monkeypatch, attention, precision):
    """What a graph may hold: all of the forward pass and of what follows the backward pass, on a GPU of fake tensors."""
    for module in (torch.amp.autocast_mode, torch.amp.grad_scaler):
        if hasattr(module, "amp_definitely_not_available"):
            monkeypatch.setattr(module, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    size, rows, length = AXES["encoder"].resolve("vit_1x64_p8_64"), 2, 32
    model = GIT(encoder=size, decoder=AXES["decoder"].resolve(f"{attention}_2x384"), vocab_size=50, bos_id=1, eos_id=2)
    with FakeTensorMode():
        for part in model.modules():
            for name, weight in part._parameters.items():
                if weight is not None:
                    part._parameters[name] = torch.nn.Parameter(torch.empty(weight.shape, device="cuda"))
        images = torch.empty(rows, 3, 64, 64, device="cuda")
        tokens = torch.empty(rows, length, dtype=torch.long, device="cuda")
        visible = torch.empty(rows, length, length, dtype=torch.bool, device="cuda")
        texts = PackedTexts(tokens, tokens, visible, None, tokens.view(-1), None)
        optimizer = torch.optim.AdamW(parameter_groups(model, 1e-4, 1e-3, 0.01), fused=True)
        wrapper = DeviceOptimWrapper(optimizer, precision=precision, clip_grad={"max_norm": 1.0})

        def step() -> None:
            with wrapper.optim_context(model):
                loss = model.packed_loss(model.image_memory(images), texts)
            wrapper.scaler.scale(loss)
            for weight in model.parameters():  # the engine of backward passes asks for a real GPU
                weight.grad = torch.empty_like(weight)
            wrapper.step()
            wrapper.zero_grad()

        step()  # in which the optimizer makes its moments, and the loss its scale
        with HostWork() as work:
            step()
    assert wrapper.scaler.is_enabled() == (precision == "float16") and work.found == []


WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "item", "equal", "unique", "index", "index_put_")


def test_nor_does_the_backward_pass():
    class Operations(TorchDispatchMode):
        names: set[str] = set()

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            self.names.add(function.overloadpacket.__name__)
            return function(*args, **(kwargs or {}))

    sizes = AXES["encoder"].resolve("vit_1x64_p8_64"), AXES["decoder"].resolve("self_1x64")
    model = GIT(encoder=sizes[0], decoder=sizes[1], vocab_size=50, bos_id=1, eos_id=2)
    tokens = torch.randint(3, 50, (4, 7))
    texts = pack(tokens, torch.ones_like(tokens), 2, 0, 16, everywhere=True)
    loss = model.packed_loss(model.image_memory(torch.randn(2, 3, 64, 64)), texts)
    with Operations() as operations:
        loss.backward()
    assert "embedding_dense_backward" in operations.names and not operations.names & set(WAITING)


# ---- the switch --------------------------------------------------------------------------------------------------


def test_graphs_are_planned_only_for_gpus_and_enter_no_key(tmp_path):
    plain, graphed = (
        make_study(tmp_path, compute=Compute(device="cuda", precision="float16", cuda_graph=graphs))
        for graphs in (False, True)
    )
    assert plain.name == graphed.name
    assert [run.run_key for run in plain.plan.runs] == [run.run_key for run in graphed.plan.runs]
    found = [RunFolder(write_configs(study)[0].folder).read_config().compute.cuda_graph for study in (plain, graphed)]
    assert found == [False, True]
