"""What `speed` measures, in a process of one side: `python -P workload.py ACTIVITY ASKED` (a subject and a device, in JSON).

Both sides run this very file, each beside a gitbench of its own: so it imports little, within functions; what an older gitbench
lacks, fails while the activity is prepared. A line on stdin says how many units are to be done, a line of JSON on stdout what
they took. A unit is a training step, a batch of captions, a scored set, a start. The end of stdin ends the process.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import json
import os
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMAGES: dict[str, Any] = {"train_images": 640, "val_images": 16, "test_images": 64}
ENDLESS = 10**7  # training steps; beyond those of its profile a run's rates are 0
WARM = 8  # training steps before any is measured
CAPTIONED, TOKENS, BEAMS = 8, 40, 4  # images, tokens of each text, beams
NEVER = -1e4  # bias of the end token, so that every text has its full length
SCORED, SETS = 100, 6  # scenes of a set; sets in turns, more than a scorer remembers
PRELOADED = (
    "torch",
    "torch._dynamo",
    "timm",
    "mmengine.runner",
    "tokenizers",
)  # packages of others: seconds of a start


class Turns:
    """The pipes to the process that commands this one. What others print goes to stderr."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.imported: int | None = None  # bytes that this process held when the imports of a run were done
        self.told = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def wait(self) -> int:
        """Return how many units to do now; ends the process where none will be asked for."""
        line = sys.stdin.readline()
        if not line:
            os._exit(0)  # threads of libraries may hold up a shutdown
        return int(line)

    def tell(self, **said: Any) -> None:
        """Answer, also with the most bytes held since the imports, where these were marked."""
        if self.imported is not None:
            said["memory"] = memory(self.device) - self.imported
        self.told.write(json.dumps(said) + "\n")

    def finish(self) -> None:
        """Wait until a GPU has done all its work."""
        if self.device != "cpu":
            import torch

            torch.cuda.synchronize()

    def serve(self, do: Callable[[], object]) -> None:
        """Do a unit to warm up, then as many as are asked for, again and again."""
        do()
        self.finish()
        self.tell(ready=True)
        while True:
            count, began = self.wait(), self.now()
            for _ in range(count):
                do()
            self.finish()
            self.tell(**self.since(began))

    def now(self) -> dict[str, float]:
        """Return the clocks: seconds, and on a CPU those in which this process or one that it waited for computed."""
        found = {"seconds": time.perf_counter()}
        if self.device == "cpu":
            children = resource.getrusage(resource.RUSAGE_CHILDREN)
            found["processor"] = time.process_time() + children.ru_utime + children.ru_stime
        return found

    def since(self, began: dict[str, float]) -> dict[str, float]:
        """Return how far the clocks went on."""
        return {name: value - began[name] for name, value in self.now().items()}


def plan(asked: dict[str, Any], turns: Turns) -> None:
    """Write the config of a run of the subject for the other activities: a profile's sizes, with few images."""
    import dataclasses

    from gitbench import plugins
    from gitbench.compute import compute_for
    from gitbench.files import write_text
    from gitbench.profiles import PROFILES
    from gitbench.run_folder import RunFolder
    from gitbench.spec import Ablation, Arm
    from gitbench.study.config import config_text, make_config
    from gitbench.study.planner import Planner
    from gitbench.tasks import TASKS

    plugins.load()
    profile = PROFILES["cpu" if asked["device"] == "cpu" else "small-gpu"]
    # its encoder starts from random values: nothing has to be pre-trained, and a step computes the same
    profile = dataclasses.replace(profile, on_scenes={}, data=dataclasses.replace(profile.data, **IMAGES))
    arm = Arm(name="base", variants=asked["variants"])
    ablation = Ablation(name="gate", title="", question="", axis="decoder", arms={profile.name: (arm,)})
    data, compute = asked["data"] or TASKS[asked["task"]].data, compute_for(profile, asked["device"])
    planner = Planner(ablation, profile, data, {}, None, asked["task"], "", compute=compute)
    config = make_config(planner.run(arm, 0).resolved, planner.vocabulary, "gate")
    config.train_cfg.max_iters = ENDLESS
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    write_text(RunFolder(Path(asked["folder"])).config, config_text(config))
    turns.serve(lambda: None)


def make_runner(asked: dict[str, Any], turns: Turns) -> Any:
    """Return the runner of the run that was planned, as a run's process makes it."""
    from gitbench import plugins
    from gitbench.run_folder import RunFolder
    from gitbench.training.device import planned, settle
    from gitbench.training.run import PlainRunner

    plugins.load()
    turns.imported = memory(turns.device)
    folder = RunFolder(Path(asked["folder"]))
    config = folder.read_config()
    config.work_dir = str(folder.path)
    settle(planned(config))
    return PlainRunner.from_cfg(config)


def train(asked: dict[str, Any], turns: Turns) -> None:
    """Training steps by a run's own loop, hooks and batches; `waited`: for how many seconds they waited for data."""
    preload()
    from mmengine.hooks import Hook

    class Clock(Hook):
        """Stops in the middle of training until more steps are asked for."""

        priority = "LOWEST"
        left, waited = WARM, 0.0
        began: dict[str, float] | None = None

        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            self.left -= 1
            if self.left:
                return
            turns.finish()
            waited = runner.train_loop.batches.waited
            if self.began is None:
                turns.tell(ready=True)
            else:
                turns.tell(**turns.since(self.began), waited=waited - self.waited)
            self.left, self.waited, self.began = turns.wait(), waited, turns.now()

    runner = make_runner(asked, turns)
    runner.register_hook(Clock())
    runner.train()


def caption(asked: dict[str, Any], turns: Turns) -> None:
    """Texts of a fixed length about a batch of test images, by beam search."""
    preload()
    runner = make_runner(asked, turns)
    model = runner.model.eval()
    images = model.data_preprocessor(next(iter(runner.test_dataloader)))["images"][:CAPTIONED]
    model.git.head_bias.data[model.git.eos_id] = NEVER
    length = min(TOKENS + 1, model.git.decoder.spec.max_positions)
    turns.serve(lambda: model.git.generate(images, beam_size=BEAMS, max_length=length))


def score(asked: dict[str, Any], turns: Turns) -> None:
    """All scores of captions of the embedded world but METEOR and SPICE, which are others' Java; references made ready anew."""
    from gitbench.data.scenes.world import Scenes
    from gitbench.metrics.captions import CaptionScorer

    source = Scenes("scenes", "train", SCORED * SETS)
    sets: list[Any] = []
    for first in range(0, SCORED * SETS, SCORED):
        names = {source.image_id(number): number for number in range(first, first + SCORED)}
        examples = {name: source.example(number) for name, number in names.items()}
        references = {name: example.captions for name, example in examples.items()}
        graphs = {name: example.graph for name, example in examples.items()}
        sets.append(({name: source.ceiling_caption(number) for name, number in names.items()}, references, graphs))
    scorer, order = CaptionScorer(meteor=False, spice=False), itertools.cycle(sets)
    for each in sets:
        scorer.score(*each)
    turns.serve(lambda: scorer.score(*next(order)))


def start(asked: dict[str, Any], turns: Turns) -> None:
    """What a run's process needs up to its first training step, without importing the large packages of others."""
    preload()

    def first_step() -> None:
        if child := os.fork():
            if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
                raise subprocess.CalledProcessError(status, "a run up to its first step")
            return
        try:
            from mmengine.hooks import Hook

            class Leave(Hook):
                """Ends the process after its first step."""

                priority = "LOWEST"

                def after_train_iter(self, *_: Any, **__: Any) -> None:
                    turns.finish()
                    os._exit(0)

            runner = make_runner(asked, turns)
            runner.register_hook(Leave())
            runner.train()
        except BaseException as error:
            give_up(error, turns)
        finally:
            os._exit(1)

    turns.serve(first_step)


def listing(asked: dict[str, Any], turns: Turns) -> None:
    """The command that tells what there is, in a process each time."""
    command = [sys.executable, "-P", "-m", "gitbench", "list"]
    turns.serve(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True))


def give_up(error: BaseException, turns: Turns) -> None:
    """Say why an activity cannot be done, and whether that is the machine's fault, as far as this gitbench can tell."""
    traceback.print_exception(error)
    machine = getattr(error, "returncode", 0) < 0 or "killed by signal" in str(error)  # a process of this one was ended
    with contextlib.suppress(Exception):  # an older one, or one that cannot be imported
        from gitbench.gate.exact.faults import of_machine

        machine = machine or of_machine(error)
    turns.tell(failed=f"{type(error).__name__}: {' '.join(str(error).split())}", of_machine=machine)


def preload() -> None:
    """Import the large packages of others, as far as they are there."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def memory(device: str) -> int:
    """Return the most bytes that this process has held: of tensors on a GPU, else of memory."""
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss counts what the process held that this one was forked from
        return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


ACTIVITIES = {each.__name__: each for each in (plan, train, caption, score, start, listing)}


def main(activity: str, said: str) -> None:
    """Prepare an activity and serve, or say why that cannot be."""
    asked = json.loads(said)
    turns = Turns(asked["device"])
    try:
        found = importlib.util.find_spec("gitbench")
        if found is None or not Path(str(found.origin)).resolve().is_relative_to(Path(asked["tree"]).resolve()):
            raise ImportError(f"gitbench is {found and found.origin}, and not that of {asked['tree']}")
        ACTIVITIES[activity](asked, turns)
    except BaseException as error:
        give_up(error, turns)
        os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
