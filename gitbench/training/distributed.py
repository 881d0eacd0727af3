"""A run of several processes (DDP), on GPUs each with a card of its own: together they do what one would.

The batch of an iteration is the same, and rank r takes every world-th image of it; the gradient is that of the mean over all
predicted tokens of the batch. So a number of processes changes what rounding changes, and the masks of dropout. Batches of
validation and test are shared out whole (`evaluation.py`). Rank 0 writes what is written; all of them know losses and scores.

The process that was asked for the run trains nothing: it starts the others, hears from them, and ends all of them where one
fails or is killed; they end with it. The environment tells each its place as torchrun does.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.dist import all_gather_object
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from torch import Tensor, nn
from torch.distributed import TCPStore

from gitbench import plugins
from gitbench.errors import GitbenchError
from gitbench.files import ask_guards, guarded
from gitbench.processes import begin_child, leave, start_context, word_of
from gitbench.registry import MODEL_WRAPPERS
from gitbench.run_folder import RunFolder
from gitbench.spec import Compute

if TYPE_CHECKING:
    from gitbench.training.caption_model import CaptionModel

HOST = "127.0.0.1"  # where the processes of a run meet: all are on one machine

GRACE = 2.0  # seconds in which the others are heard where a process fails: one that was killed may be the cause

Hear = Callable[..., None]
Train = Callable[[Path, Hear | None, Hear | None], None]  # of a run folder; what hears of training and of pre-training


@MODEL_WRAPPERS.register_module()
class SharedModel(MMDistributedDataParallel):
    """The model of one of several processes, which add up their gradients in every step.

    torch finds unused parameters, of which there are none, so that it leaves the order alone in which it adds up: else it
    chooses one after the first step of each session, and with three processes or more a resumed run would get other bits.
    Buffers are constants. A parameter's gradient lies where it is sent from, and so nowhere else.
    """

    def __init__(self, module: nn.Module, device_ids: Any = None) -> None:
        # mmengine passes the card's number, which says nothing more, and which a CPU has not
        super().__init__(module, broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """Take a step; return the loss of the whole batch: mean over the predicted tokens of all processes."""
        with optim_wrapper.optim_context(self):
            data = self.module.data_preprocessor(data, True)
            loss = self._run_forward(data, mode="loss")["loss"]
        tokens = data["texts"].predicted.to(loss.dtype)
        sums = torch.stack([loss.detach() * tokens, tokens])
        torch.distributed.all_reduce(sums)
        of_batch, all_tokens = sums[0] / sums[1], sums[1]
        # torch takes the mean of the processes' gradients, each of which counts by its share of the tokens
        optim_wrapper.update_params(loss * (tokens * self.process_group.size() / all_tokens))
        return {"loss": of_batch}


def captioner(runner: Any) -> CaptionModel:
    """Return the model of a runner, without what wraps it where several processes share a run."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def most(value: int) -> int:
    """Return the largest of the values that all processes of the run ask with at the same time."""
    return max(all_gather_object(value))


def rank_here() -> int:
    """Return which of the run's processes this is, from 0; of one alone 0."""
    return int(os.environ.get("LOCAL_RANK", 0))


@contextmanager
def joined(compute: Compute) -> Iterator[None]:
    """Be one of the processes of a run while the block runs. They end it together: each may be needed until then."""
    if compute.world_size == 1:
        yield
        return
    rank, on_gpu = rank_here(), compute.device == "cuda"
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=TCPStore(HOST, int(os.environ["MASTER_PORT"]), is_master=False),
        rank=rank,
        world_size=compute.world_size,
        device_id=torch.device("cuda", rank) if on_gpu else None,
    )
    yield
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


# ---- the process that starts the others -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Rank:
    number: int
    process: Any


def train_together(path: Path, world_size: int, train: Train, hear: Mapping[str, Hear | None]) -> None:
    """Train a run folder with so many processes, each of which calls `train`, a function of a module.

    `hear` holds what hears of "progress" (from rank 0) and of "pretraining". What the processes print goes to the folder's log.
    Errors: GitbenchError with one line where a process fails or is killed, after all have been ended; what `guarded` raises.
    """
    meeting = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    context = start_context()
    ranks: dict[Any, _Rank] = {}  # by the connection to it
    try:
        for number in range(world_size):
            ours, theirs = context.Pipe()
            place = dict(RANK=number, LOCAL_RANK=number, WORLD_SIZE=world_size, MASTER_PORT=meeting.port)
            environment = {**os.environ, **{name: str(each) for name, each in place.items()}, "MASTER_ADDR": HOST}
            arguments = (path, train, environment, theirs)
            process = context.Process(target=_run_rank, args=arguments, name=f"rank {number}")
            process.start()
            theirs.close()  # so that its end is heard
            ranks[ours] = _Rank(number=number, process=process)
        _listen(path, ranks, hear)
    finally:
        for rank in ranks.values():
            rank.process.kill()
            rank.process.join()


def _listen(path: Path, ranks: Mapping[Any, _Rank], hear: Mapping[str, Hear | None]) -> None:
    """Listen until every process is done."""
    talking = dict(ranks)
    while talking:
        heard: list[tuple[Any, Any]] = [(each, word_of(each)) for each in wait([*talking])]
        if any(word is None or word[0] == "failed" for _, word in heard):
            raise GitbenchError(_cause(path, talking, heard, len(ranks)))
        for each, (kind, *values) in heard:
            if kind == "done":
                del talking[each]
            elif kind == "check":
                ask_guards(path)
                each.send(None)
            elif (heard_by := hear[kind]) is not None:
                heard_by(*values)


def _cause(path: Path, talking: Mapping[Any, _Rank], heard: Sequence[tuple[Any, Any]], world_size: int) -> str:
    """Return in one line why a run failed: others fail because one does, and may be heard of first."""
    said = {each: [word for whose, word in heard if whose is each] for each in talking}
    until = time.monotonic() + GRACE
    while (there := [each for each, words in said.items() if None not in words]) and (
        ready := wait(there, max(0.0, until - time.monotonic()))
    ):
        for each in ready:
            said[each].append(word_of(each))
    last_words = {each: next((word[0] for word in reversed(words) if word), "") for each, words in said.items()}
    for each, words in said.items():
        if None in words and last_words[each] not in ("failed", "done"):
            return f"{_ended(talking[each], world_size)} (see {RunFolder(path).log})"
    return min(word[1:] for words in said.values() for word in words if word and word[0] == "failed")[1]


def _ended(rank: _Rank, world_size: int) -> str:
    rank.process.join()
    status = rank.process.exitcode
    how = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
    return f"rank {rank.number} of {world_size} {how}"


# ---- each of the others ---------------------------------------------------------------------------------------------


def _run_rank(path: Path, train: Train, environment: Mapping[str, str], connection: Connection) -> None:
    """Be one of the processes of a run: its environment is set, and it ends with the one that started it."""
    log = RunFolder(path).log
    begin_child(environment, log)

    def may_write() -> None:
        connection.send(("check",))
        connection.recv()

    def tell(kind: str, *values: Any) -> None:
        connection.send((kind, *values))

    try:
        plugins.load()
        with guarded(path, may_write):
            train(path, partial(tell, "progress") if rank_here() == 0 else None, partial(tell, "pretraining"))
        tell("done")
    except GitbenchError as error:
        tell("failed", time.monotonic(), str(error))
    except Exception as error:
        traceback.print_exc()
        text = (str(error).strip().splitlines() or [""])[0]
        tell("failed", time.monotonic(), f"rank {rank_here()}: {type(error).__name__}: {text} (see {log})")
    leave(0)
