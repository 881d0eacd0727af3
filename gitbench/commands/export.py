"""The command `gitbench export`: a trained model as a folder that other programs load, with a model card."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.commands.options import study_of, study_options
from gitbench.errors import GitbenchError

if TYPE_CHECKING:
    from gitbench.report.card import Exported
    from gitbench.training.caption import Captioner

UNKNOWN = "unknown"  # licence


def add(commands: Any) -> None:
    """Add the parser of the command."""
    export = commands.add_parser(
        "export", help="write a trained model as others load it: Hugging Face or official layout"
    )
    export.add_argument(
        "source",
        metavar="RUN",
        help="a run's folder, weights that `gitbench caption` takes, or an ablation, with --arm",
    )
    export.add_argument(
        "--to",
        required=True,
        choices=("huggingface", "official"),
        help="for GitForCausalLM, or as the official releases",
    )
    export.add_argument(
        "out", type=Path, metavar="DIR", help="the folder that is made; it may not be there, or be empty"
    )
    export.add_argument("--arm", metavar="NAME", help="RUN is an ablation: export a run of this arm of it")
    export.add_argument("--replicate", type=int, metavar="N", help="its seed (default 0)")
    study_options(export)
    export.add_argument(
        "--tokenizer", metavar="NAME|PATH", help="instead of the checkpoint's own, or BERT's for an official one"
    )
    export.add_argument(
        "--license", default=UNKNOWN, metavar="NAME", help="of the model card, as model hubs name it (default: unknown)"
    )
    export.set_defaults(run=_export, stopped="nothing was written")


def _export(arguments: argparse.Namespace) -> int:
    from gitbench.files import new_folder, write_text

    weights = _weights(arguments)
    with new_folder(arguments.out) as folder:  # what is in the way is told before torch is imported
        from gitbench.models.checkpoint import checkpoint_files
        from gitbench.report.card import Trained, model_card
        from gitbench.run_folder import RunFolder
        from gitbench.training.caption import load_captioner
        from gitbench.training.export import WRITERS, beyond_official

        file, captioner = checkpoint_files(weights)[0], load_captioner(weights, arguments.tokenizer)
        WRITERS[arguments.to](captioner, folder)
        others = beyond_official(captioner) if arguments.to == "official" else []
        exported = _described(arguments.to, file, captioner, others)
        trained = Trained.of(RunFolder(file.parent)) if file.name == RunFolder(file.parent).weights.name else None
        write_text(folder / "README.md", model_card(exported, trained, arguments.license, _command(arguments)))
    print(f"exported: {arguments.out}")
    return 0


def _weights(arguments: argparse.Namespace) -> Path:
    """Return where the weights are that were asked for."""
    if arguments.arm is None:
        given = [
            name
            for name in ("replicate", "profile", "task", "data", "work_dir")
            if getattr(arguments, name) is not None
        ]
        if given:
            raise GitbenchError(
                f"--{given[0].replace('_', '-')} belongs to --arm, with an ablation as RUN: name the arm, or leave it out"
            )
        from gitbench.captioners.shipped import weights_at

        source = weights_at(Path(arguments.source))
        if not source.exists():
            raise GitbenchError(
                f"{arguments.source} does not exist: pass a run's folder or weights, or --arm if it is an ablation"
            )
        return source
    study, replicate = study_of(arguments, arguments.source), arguments.replicate or 0
    arm = study.plan.arm(arguments.arm)
    seeds = {run.replicate: run for run in study.plan.runs if run.arm == arm.name}
    if replicate not in seeds:
        known = ", ".join(map(str, seeds))
        raise GitbenchError(
            f"{study.name} has no seed {replicate} of the arm {arm.name}: pass --replicate, one of {known}"
        )
    if not study.done(seeds[replicate]):
        raise GitbenchError(f"seed {replicate} of the arm {arm.name} is not finished: run `{study.plan.command}` first")
    return study.folder(seeds[replicate].run_key).path


def _described(layout: str, file: Path, captioner: Captioner, beyond_official: list[str]) -> Exported:
    """Return what the card says of the model."""
    import hashlib

    from gitbench.models import parameter_counts
    from gitbench.models.generate import LENGTH_PENALTY
    from gitbench.report.card import Exported

    git, search = captioner.git, captioner.generation
    with open(file, "rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return Exported(
        layout=layout,
        digest=digest,
        encoder=git.encoder.spec,
        decoder=git.decoder.spec,
        tied=git.head_weight is None,
        frames=git.num_frames,
        vocab_size=git.vocab_size,
        parameters=parameter_counts(git)["total"],
        rule=captioner.rule,
        max_length=min(search["max_length"], git.decoder.spec.max_positions),
        length_penalty=search.get("length_penalty", LENGTH_PENALTY),
        beyond_official=tuple(beyond_official),
    )


def _command(arguments: argparse.Namespace) -> str:
    """Return the command as a card may print it: folders by name alone."""
    from gitbench.data.address import by_name

    source, out = Path(arguments.source).resolve().name, arguments.out.resolve().name
    words = ["gitbench", "export", source, "--to", arguments.to, out]
    for name in ("arm", "replicate", "profile", "task", "data", "tokenizer", "license"):
        value = getattr(arguments, name)
        if name == "data" and value is not None:
            value = by_name(value)
        elif name == "tokenizer" and value is not None and Path(value).expanduser().exists():
            value = Path(value).expanduser().resolve().name
        if value is not None and value != UNKNOWN:
            words += [f"--{name}", str(value)]
    return shlex.join(words)
