"""The fingerprint of the code that makes numbers: what changes it, and what does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gitbench import code, plugins

SOURCE = '''"""A module."""
import math


def area(radius, scale=1.0):
    """Return an area."""
    values = {"a": radius, "b": [1, 2]}
    return math.pi * radius**2 * scale if values["a"] > 0 else None  # none of a hole
'''


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("  # none of a hole", "").replace("A module", "Another one"),
        lambda text: text.replace('    """Return an area."""\n', ""),
        lambda text: text.replace("\n\n\n", "\n\n\n\n# more\n"),
        lambda text: text.replace('"a"', "'a'").replace("[1, 2]}", "[\n        1,\n        2,\n    ],}"),
        lambda text: text.replace("return ", "return (").replace("None  #", "None)  #"),
        lambda text: text.replace("radius**2", "radius ** (2)").replace("1.0", "1.00"),
        lambda text: text.replace("\n", "\r\n"),
    ],
)
def test_comments_docstrings_and_layout_leave_the_fingerprint(change: Callable[[str], str]) -> None:
    changed = change(SOURCE)
    assert changed != SOURCE and code.meaning(changed) == code.meaning(SOURCE)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.0", "1"),
        ("**2", "*2"),
        ("> 0", ">= 0"),
        ("def area", "def surface"),
        ("scale=1.0", "scale"),
        ('"b"', "b'b'"),
        ("[1, 2]", "[2, 1]"),
        ('{"a": radius, ', '{"a": radius, **{}, '),
        ("import math", "import cmath as math"),
        ("math.pi * radius", "math.pi + radius"),
    ],
)
def test_a_constant_an_operator_or_a_name_changes_it(one: str, other: str) -> None:
    assert one in SOURCE and code.meaning(SOURCE.replace(one, other, 1)) != code.meaning(SOURCE)


def test_no_key_and_the_key_none_are_two() -> None:
    assert code.meaning("{**a}") != code.meaning("{None: a}")


def test_formatting_leaves_it() -> None:
    ragged = "def f(a,b):\n  x=('one'\n     'two')\n  if (a and\n      b): return (a, b,)\n  return f'{a!r:>3}' , x\n"
    formatted = """def f(a, b):
    x = "one" "two"
    if a and b:
        return (
            a,
            b,
        )
    return f"{a!r:>3}", x
"""
    assert code.meaning(formatted) == code.meaning(ragged)


def test_modules_that_were_read_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("a = 1\n")
    other.write_text("b = 1\n")
    first = code.fingerprint_of([one, other])
    with monkeypatch.context() as patch:
        patch.setattr(code, "meaning", lambda _: pytest.fail("read again"))
        assert code.fingerprint_of([one, other]) == first
    other.write_text("b = 2\n")
    assert code.fingerprint_of([one, other]) != first
    other.write_text("b = 1  # as before\n")
    (tmp_path / "cache" / "code.json").write_text("{")  # damaged
    assert code.fingerprint_of([one, other]) == first


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "file" / "cache"))
    here = Path(__file__)
    assert code.fingerprint_of([here]) == code.fingerprint_of([here]) and not (tmp_path / "file" / "cache").exists()


@pytest.mark.parametrize(
    ("name", "within"),
    [
        ("models/decoder.py", True),
        ("training/optimizer.py", True),
        ("data/tokenizer.py", True),
        ("metrics/cider.py", True),
        ("variants/decoder.py", True),
        ("study/config.py", True),
        ("spec.py", True),
        ("encoders/store.py", True),
        ("launch/records.py", True),
        ("report/page.py", False),
        ("profiles.py", False),
        ("judge/claims.py", False),
    ],
)
def test_it_covers_what_makes_numbers(name: str, within: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, copy = code.code_fingerprint(), tmp_path / "gitbench"
    shutil.copytree(code.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    monkeypatch.setattr(code, "PACKAGE", copy)
    assert code.fingerprint_now() == before
    (copy / name).write_text((copy / name).read_text() + "\nMORE = 1\n")
    assert (code.fingerprint_now() != before) == within


def test_telling_commands_do_not_pay_for_it(tmp_path: Path) -> None:
    said = "import sys; from gitbench.cli import main; main(['list']); print('gitbench.code' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "False"


def test_what_an_ablation_file_plans_is_no_code(tmp_path: Path) -> None:
    """It stands in the keys of its runs; an arm more must not make those that are done other code's."""
    plan = "import math\nSIZE = 2\nABLATION = dict(arms=[1])\n"
    assert code.meaning(plan) == code.meaning(plan.replace("[1]", "[1, 2]"))
    assert code.meaning(plan) != code.meaning(plan.replace("SIZE = 2", "SIZE = 3"))


def test_a_plugin_has_a_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own_variant_of_mine.py"
    file.write_text("SIZE = 3\n")
    plugins.load([str(file)])
    assert code.plugin_fingerprints.__wrapped__() == {"own_variant_of_mine": code.fingerprint_of([file])}
