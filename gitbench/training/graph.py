"""Training steps as CUDA graphs: the thousand calls of a step are recorded once, and then launched as one.

A step of a small model takes a fast GPU less time than its host needs to call it (docs/gpus.md). A graph replays the kernels of
the step that was recorded, on the same memory. So what it reads lies in fixed places, the batch and the learning rates; and
no shape may change, so each length of the rows of text has a graph of its own. The first step of a length is taken plainly, in
which libraries and the optimizer make ready what they need; the second is recorded.

Before a graph is used it has to give the plain step's bits: both start from the same state, and weights, moments, loss scale
and loss are compared. Where they differ, or where recording fails, the run goes on without graphs, and its log says so. So a run
has the same bits with graphs and without, and which it was does not enter its key.

No GPU has run this. By torch's sources nothing of a step waits for the GPU: clipping, `GradScaler` and fused AdamW keep all they
decide on the device; dropout, that of attention too, reads its seed and offset from memory that is set when a graph starts;
gradients of embeddings sort there (before CUB had `unique_by_key` they did not; pytorch/pytorch#82886).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from mmengine.logging import print_log
from torch import Tensor

from gitbench.training.caption_model import CaptionModel
from gitbench.training.device import on_device
from gitbench.training.frozen import FrozenEncoder
from gitbench.training.optimizer import DeviceOptimWrapper

Outputs = dict[str, Tensor]  # what the log gets of a step: its loss
Step = Callable[[], Outputs]
OLDEST = "2.13"  # torch: in earlier ones (as reported, not tried) dropout fails after a recording that failed
State = tuple[list[Tensor], dict[str, Any]]  # tensors on the host, and the state of the loss scale


class Recorder(Protocol):
    """What makes graphs."""

    def plainly(self, step: Step) -> Outputs:
        """Take a step as one that is recorded later."""

    def record(self, step: Step) -> tuple[Callable[[], None], Outputs]:
        """Record a step without taking it; returns what takes it, and where its outputs are then."""


class GpuRecorder:
    """Records CUDA graphs that share one pool of memory, on a stream of their own."""

    def __init__(self) -> None:
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        self.graphs: list[torch.cuda.CUDAGraph] = []  # those that failed too: torch's allocator still asks them

    def plainly(self, step: Step) -> Outputs:
        """Take a step on the stream that records, as torch asks for before it does."""
        here = torch.cuda.current_stream()
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            outputs = step()
        here.wait_stream(self.stream)
        return outputs

    def record(self, step: Step) -> tuple[Callable[[], None], Outputs]:
        """Record a step; other threads may go on to use the GPU meanwhile (they make batches)."""
        graph = torch.cuda.CUDAGraph()
        self.graphs.append(graph)
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            outputs = step()
        return graph.replay, outputs


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """A recorded step, and where it reads and writes."""

    replay: Callable[[], None]
    inputs: Sequence[Tensor]
    outputs: Outputs
    norms: Sequence[Tensor]


class GraphedSteps:
    """Takes the training steps of a model, by graphs where it can. `refused` says why it does not, or is None.

    `replayed` counts the steps that were taken by graphs.
    """

    def __init__(self, model: CaptionModel, wrapper: DeviceOptimWrapper, recorder: Recorder | None = None) -> None:
        self.model, self.wrapper = model, wrapper
        self.recorder = GpuRecorder() if recorder is None else recorder
        self.graphs: dict[tuple[torch.Size, ...], _Graph | None] = {}  # by shapes; None: met once
        self.refused: str | None = None
        self.replayed = 0
        groups = wrapper.optimizer.param_groups
        self._rates = torch.zeros(len(groups), device=groups[0]["params"][0].device)
        if isinstance(model.git.encoder, FrozenEncoder) and not model.git.vision.blind:
            self._refuse("the features of its frozen encoder are looked up by the host")
        elif torch.__version__ < OLDEST:
            self._refuse(f"torch {torch.__version__} is older than {OLDEST}")

    def __call__(self, batch: dict[str, Any], seed: int) -> Outputs:
        """Take the step of a batch, as `model.train_step` does; dropout follows from `seed`."""
        data = self.model.data_preprocessor(batch, True)
        shapes = tuple(tensor.shape for tensor in _inputs(data))
        torch.manual_seed(seed)
        if self.refused or shapes not in self.graphs:
            self.graphs.setdefault(shapes)
            return self.recorder.plainly(lambda: self._step(data))
        graph = self.graphs[shapes]
        return self._first(shapes, data, seed) if graph is None else self._replay(graph, data)

    def _step(self, data: dict[str, Any]) -> Outputs:
        """Do what `BaseModel.train_step` does, with a batch that is ready."""
        with self.wrapper.optim_context(self.model):
            losses = self.model(**data, mode="loss")
        loss, logged = self.model.parse_losses(losses)
        self.wrapper.update_params(loss)
        return logged

    def _first(self, shapes: tuple[torch.Size, ...], data: dict[str, Any], seed: int) -> Outputs:
        """Take the step plainly, record it, take it again by the graph, and keep the graph if both are the same.

        A step that is left out, since float16 overflowed, would show nothing: then the next one of this length is recorded.
        """
        before = self._state()
        outputs = self.recorder.plainly(lambda: self._step(data))
        after, norms = self._state(), list(self.wrapper.norms)
        if all(map(torch.equal, before[0], after[0])):
            return outputs
        self.wrapper.norms.clear()
        try:
            graph = self._record(data)
        except RuntimeError as error:  # torch's word for all that may go wrong on a GPU
            self._tidy()
            self._refuse(f"a step cannot be recorded ({str(error).splitlines()[0]})")
            self.wrapper.norms[:] = norms
            return outputs
        self._restore(before)
        torch.manual_seed(seed)
        replayed = self._replay(graph, data)
        if self._is(after) and all(torch.equal(outputs[name], replayed[name]) for name in outputs):
            self.graphs[shapes] = graph
            return replayed
        self._restore(after)
        self.wrapper.norms[:] = norms
        self._refuse("the graph of a step gives other bits than the step")
        return outputs

    def _record(self, data: dict[str, Any]) -> _Graph:
        """Record the step of a batch like this one."""
        images, *texts = fixed = [tensor.clone() for tensor in _inputs(data)]
        packed = data["texts"].with_tensors(texts)
        with self._rates_on_device():
            replay, outputs = self.recorder.record(lambda: self._step({**data, "images": images, "texts": packed}))
        norms, self.wrapper.norms[:] = list(self.wrapper.norms), []
        return _Graph(replay=replay, inputs=fixed, outputs=outputs, norms=norms)

    def _replay(self, graph: _Graph, data: dict[str, Any]) -> Outputs:
        """Take the step of a batch by a graph; its outputs are overwritten by the next one, so copies of them are returned."""
        rates = [group["lr"] for group in self.wrapper.optimizer.param_groups]
        self._rates.copy_(on_device(self._rates.device, rates))
        for fixed, tensor in zip(graph.inputs, _inputs(data), strict=True):
            fixed.copy_(tensor)
        graph.replay()
        self.replayed += 1
        self.wrapper.norms[:] = [norm.clone() for norm in graph.norms]
        return {name: value.detach().clone() for name, value in graph.outputs.items()}

    @contextlib.contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """Let the optimizer read its learning rates from the device, where those of each step are put."""
        groups = self.wrapper.optimizer.param_groups
        usual = [(group["lr"], group["capturable"]) for group in groups]
        for group, rate in zip(groups, self._rates.unbind(), strict=True):
            group["lr"], group["capturable"] = rate, True
        try:
            yield
        finally:
            for group, (rate, capturable) in zip(groups, usual, strict=True):
                group["lr"], group["capturable"] = rate, capturable

    def _trained(self) -> list[Tensor]:
        """Return the tensors that a step changes: weights, AdamW's moments and step counts."""
        optimizer = self.wrapper.optimizer
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        return [*weights, *(value for weight in weights for value in optimizer.state[weight].values())]

    def _state(self) -> State:
        """Copy what a step changes to the host, of whose memory there is more."""
        return [tensor.detach().to("cpu", copy=True) for tensor in self._trained()], self.wrapper.scaler.state_dict()

    def _is(self, state: State) -> bool:
        """Tell whether the state is this one, bit for bit."""
        alike = (
            torch.equal(tensor.detach().cpu(), value) for tensor, value in zip(self._trained(), state[0], strict=True)
        )
        return self.wrapper.scaler.state_dict() == state[1] and all(alike)

    @torch.no_grad()
    def _restore(self, state: State) -> None:
        for tensor, value in zip(self._trained(), state[0], strict=True):
            tensor.copy_(value)
        self.wrapper.scaler.load_state_dict(state[1])

    def _tidy(self) -> None:
        """Leave nothing of a step that was recorded by half."""
        self.wrapper.optimizer.zero_grad()
        self.wrapper.norms.clear()
        if self.wrapper.scaler.is_enabled():
            self.wrapper.scaler._per_optimizer_states.clear()  # which says that gradients are unscaled already

    def _refuse(self, why: str) -> None:
        self.refused = why
        self.graphs.clear()
        print_log(f"training without CUDA graphs: {why}", "current")


def _inputs(data: dict[str, Any]) -> list[Tensor]:
    """Return the tensors of a batch that its loss depends on."""
    return [data["images"], *data["texts"].tensors]
