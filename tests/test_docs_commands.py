"""Every command in README.md, CONTRIBUTING.md and docs/*.md: run where it takes seconds, and parsed everywhere."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from helpers_captioner import huggingface, official
from helpers_cli import call
from helpers_data import coco, photo, with_images, write_parquet
from helpers_docs import DOCS, PAGES, SHELL, Block, blocks, check, unknown_in
from helpers_published import karpathy

from gitbench.data.address import OPTIONS
from gitbench.data.columns import ROLES
from gitbench.data.published import SETS
from gitbench.data.readers import readers
from gitbench.study.store import Study

RUN = {page: [block for block in blocks(page) if block.ours and not block.mark] for page in PAGES}
SLOW = [page for page in PAGES if any(block.mark == "slow" for block in blocks(page))]
# How many blocks of a page are not run, or run by `nox -s slow` alone; a new one is to be seen here.
NOT_RUN = {"README.md": 4, "checkpoints.md": 4, "first_study.md": 2, "gate.md": 4, "gate_calibration.md": 3}
NOT_RUN |= {
    "gpu_check.md": 2,
    "gpus.md": 2,
    "machines.md": 2,
    "own_data.md": 2,
    "scenes.md": 2,
    "slurm.md": 1,
    "tracking.md": 1,
}
RUN_SLOWLY = {"README.md": 1, "first_study.md": 2, "machines.md": 1, "own_data.md": 1}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data that pages name, in which their commands are run."""
    names = [f"{number:03}.png" for number in range(30)]
    coco(tmp_path / "photos", names)
    with_images(tmp_path / "questions", names)
    asked = [
        {"question_id": n, "image": name, "question": f"which is {n}?", "answers": ["this"]}
        for n, name in enumerate(names)
    ]
    (tmp_path / "questions" / "questions.json").write_text(json.dumps(asked))
    rows = [
        {
            "photo": {"bytes": photo(n), "path": None},
            "thumbnail": {"bytes": photo(n), "path": None},
            "english": f"dog {n}",
        }
        for n in range(30)
    ]
    write_parquet(tmp_path / "table" / "train.parquet", rows)
    said = [{"image_id": n, "caption": f"a dog on road {n % 3}"} for n in range(6)]
    (tmp_path / "b.json").write_text(json.dumps(said))
    for name in ("a", "a1", "a2", "a3", "b1", "b2", "b3"):
        lines = ({**each, "references": [f"a dog on road {n}", "a dog"]} for n, each in enumerate(said))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    notes = {
        "images": [{"id": n} for n in range(6)],
        "annotations": [{**each, "id": each["image_id"]} for each in said],
    }
    (tmp_path / "captions_val2014.json").write_text(json.dumps(notes))
    karpathy(tmp_path / "data" / "coco")  # and stand-ins for released models, with a vocabulary of their own
    huggingface(tmp_path / "git-base-coco")
    words = official(tmp_path / "GIT_BASE_COCO", parameters="test_crop_size: 32\n", seed=1) / "words.json"
    words.rename(words.with_name("tokenizer.json"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(block: Block) -> str:
    """Run a block; return what it prints."""
    if block.language == "python":
        exec(compile(block.text, str(block.page), "exec"), {})
        return ""
    printed = ""
    for words in block.commands:
        assert words[0] == "gitbench", f"{words}: only commands of gitbench can be run here; mark the block"
        done = call(*words[1:])
        assert done.returncode == 0, f"{block.page.name}: {words}: {done.stdout}{done.stderr}"
        printed += done.stdout
    return printed


@pytest.mark.parametrize("page", [page for page in PAGES if RUN[page]], ids=lambda page: page.name)
def test_the_commands_of_a_page_are_run_and_print_what_it_says(page: Path, place: Path, trained: Study) -> None:
    shutil.copytree(trained.work_dir, place / "work_dirs")
    printed = None
    for block in blocks(page):
        if block.is_output and printed is not None:
            assert printed == block.text
        printed = run(block) if block in RUN[page] else None


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=lambda page: page.name)
def test_the_slow_commands_of_a_page_are_run_from_nothing(page: Path, place: Path) -> None:
    for block in blocks(page):
        if block.ours and block.mark != "not run" and block.language != "python":
            run(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_one(page: Path) -> None:
    for block in blocks(page):
        for words in block.commands if block.language in SHELL else []:
            check(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_command_and_session_that_a_page_names_is_there(page: Path) -> None:
    assert unknown_in(page.read_text(encoding="utf-8")) == []


def test_what_is_not_run_is_counted() -> None:
    marked = [block for page in PAGES for block in blocks(page) if block.mark]
    assert all(block.ours for block in marked)
    assert Counter(block.page.name for block in marked if block.mark == "not run") == NOT_RUN
    assert Counter(block.page.name for block in marked if block.mark == "slow") == RUN_SLOWLY


def test_a_comment_that_marks_a_block_stands_right_before_it() -> None:
    for page in PAGES:
        written = re.findall(r"^<!-- (?:not run|slow): ", page.read_text(encoding="utf-8"), re.M)
        assert len(written) == sum(bool(block.mark) for block in blocks(page)), page


@pytest.mark.parametrize(
    "words",
    [
        ["gitbench", "run", "decoder_size", "--profil", "smoke"],
        ["gitbench", "rum", "decoder_size"],
        ["nox", "-s", "gates"],
        ["nox", "-s", "gate", "--", "check", "--bases", "main"],
        ["nox", "-s", "ablation_decoder_size", "--", "--profiles", "smoke"],
        ["nox", "-s", "planted", "--", "--onlys", "x"],
        ["python", "docs/tools/nothing.py"],
        ["python", "docs/tools/gate_aa.py", "--check", "3"],
        ["python", "-c", "pass"],
    ],
)
def test_a_command_that_is_wrong_is_found(words: list[str]) -> None:
    with pytest.raises(ValueError):
        check(words)


def test_what_is_not_there_is_found() -> None:
    text = "`gitbench run X --budgets 2h`, `gitbench rum`, `--no-such`, `nox -s gates`\n```\ngitbench list --profile\n```\n"
    assert unknown_in(text) == [
        "gitbench list --profile: --profile",
        "gitbench run X --budgets 2h: --budgets",
        "gitbench rum",
        "--no-such: --no-such",
        "nox -s gates",
    ]


def test_the_page_on_data_has_every_reader_set_role_and_option() -> None:
    page = (DOCS / "own_data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|.*\| ([a-z, ]+) \|$", page, re.M)
    assert {name: set(tasks.split(", ")) for name, tasks in rows} == {
        name: set(r.NEEDS) for name, r in readers().items()
    }
    assert [name for name in SETS if f"`{name}`" not in page] == []
    assert [role for role in ROLES if f"`{role}`" not in page] == []
    assert [option for option in OPTIONS if f"`--{option}`" not in page and f"?{option}=" not in page] == []
