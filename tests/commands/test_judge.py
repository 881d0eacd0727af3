"""`gitbench judge`: two files, groups of seeds, what is printed and written, and that it needs no torch."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers_cli import call, call_without_torch, error_of
from helpers_systems import references_of, system, write_lines, write_system

from gitbench.metrics import captions as captions_module
from gitbench.report.systems import FILES, short_names

# Stands in for METEOR's process, which needs 8 s of CPU to start: the words in common with the first reference.
METEOR = """
import sys
from collections import Counter
for kind, *rest in (line.strip().split(" ||| ") for line in sys.stdin):
    if kind == "SCORE":
        said, first = rest[-1].split(), rest[0].split()
        common = (Counter(said) & Counter(first)).total()
        print(len(said), len(first), 0, 0, common, common, *[0] * 14, 2, common, common, flush=True)
    else:
        rows = [[*map(int, each.split())] for each in rest]
        shares, (words, *_, common) = [row[-1] / row[0] for row in rows], map(sum, zip(*rows))
        print(*shares, common / words, sep="\\n", flush=True)
"""


@pytest.fixture
def fast(monkeypatch):
    """Leave METEOR out: its process takes seconds to start."""
    started = captions_module.CaptionScorer.__init__

    def init(self, **options):
        started(self, meteor=False, spice=False)

    monkeypatch.setattr(captions_module.CaptionScorer, "__init__", init)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three seeds of two systems on 120 images, in folders a and b; the first of a has references."""
    folder, references = tmp_path_factory.mktemp("systems"), references_of(120)
    found = []
    for name, wrong, start in (("a", 0.15, 1), ("b", 0.5, 10)):
        (folder / name).mkdir()
        for seed in range(3):
            beside = references if (name, seed) == ("a", 0) else None
            path = folder / name / f"seed{seed}.jsonl"
            found.append(str(write_system(path, system(references, wrong, start + seed), beside)))
    return found


def test_two_files_are_compared_in_words_and_in_files(files, tmp_path, fast):
    done = call("judge", files[0], files[3], "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "A: a/seed0\nB: b/seed0\n120 images; references: those in the files of captions" in said
    assert "\nA is better by " in said and " points of CIDEr (95 % interval " in said
    assert "One set of captions a side: the intervals hold for these two models on other images" in said
    assert "CIDEr-D|lib:pycocoevalcap-1.2|" in said and "\nvocabulary (words) " in said
    assert "METEOR is absent: switched off." in said and "Mind:" not in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    with open(tmp_path / "out" / "systems.csv", encoding="utf-8") as table:
        rows = {row["metric"]: row for row in csv.DictReader(table)}
    values = json.loads((tmp_path / "out" / "systems.json").read_text())
    assert list(rows) == [each["metric"] for each in values["differences"]]
    assert list(rows) == ["CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"]
    cider = values["differences"][0]
    assert cider["better"] == rows["CIDEr"]["better"] == "A" and 0 < cider["low"] < cider["difference"] < cider["high"]
    assert (
        cider["difference"]
        == pytest.approx(cider["a"][0] - cider["b"][0])
        == pytest.approx(float(rows["CIDEr"]["difference"]))
    )
    assert f"\n{cider['says']}.\n" in said and values["images"] == 120
    tex = (tmp_path / "out" / "systems.tex").read_text()
    assert f"\\textbf{{{cider['difference']:+.1f}}}" in tex and "CIDEr-D|lib" in tex and "BLEU-1 &" not in tex
    assert tex.count("\\begin") == tex.count("\\end") == 2


def test_the_latex_table_fits_a_column(files, tmp_path, fast):
    if shutil.which("pdflatex") is None:
        pytest.skip("no LaTeX here")
    call("judge", files[0], files[3], "--out", str(tmp_path))
    page = (
        "\\documentclass[twocolumn]{article}\\usepackage{booktabs}\\begin{document}\\input{systems.tex}x\\end{document}"
    )
    (tmp_path / "page.tex").write_text(page)
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "page.tex"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0 and b"Overfull" not in (tmp_path / "page.log").read_bytes()


def test_seeds_of_two_systems_and_references_of_coco(files, tmp_path, fast):
    references = references_of(121)
    notes = [{"image_id": int(i), "caption": text} for i, texts in references.items() for text in texts]
    coco = tmp_path / "captions_val.json"
    coco.write_text(json.dumps({"images": [], "annotations": notes}))
    results = []
    for number, path in enumerate(files):
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        results.append(tmp_path / f"r{number}.json")
        results[-1].write_text(json.dumps([{"image_id": int(r["image_id"]), "caption": r["caption"]} for r in rows]))
    given = [str(path) for path in results]
    done = call("judge", *given[:3], "--against", *given[3:], "--references", str(coco))
    assert done.returncode == 0, done.stderr
    assert "A: r0, r1, r2\nB: r3, r4, r5\n120 images; references: captions_val.json" in done.stdout
    assert "3 sets of captions a side, paired in the order given: the intervals hold for other seeds and" in done.stdout
    assert "A is better by " in done.stdout and "|n:120|refs:3|" in done.stdout


def test_what_misleads_is_said(files, tmp_path, fast):
    references = {image: texts for image, texts in list(references_of(120).items())[:40]}
    flat = write_system(tmp_path / "flat.jsonl", dict.fromkeys(references, "a dog"), references)
    copy = write_system(tmp_path / "copy.jsonl", dict.fromkeys(references, "a dog"))
    said = call("judge", str(flat), str(copy)).stdout
    assert "Mind: flat and copy say the same of every image" in said
    assert 'Mind: all files: the same caption for all 40 images ("a dog")' in said
    assert "Mind: all files: CIDEr of 40 images is not comparable" in said
    assert "No difference in CIDEr could be shown" in said


def test_what_cannot_be_compared_is_refused(files, tmp_path):
    assert "judge 3 files: pass one of A and one of B, or those of A, --against and those of B" in error_of(
        "judge", *files[:3]
    )
    assert "A has 2 files and B 1" in error_of("judge", *files[:2], "--against", files[3])
    assert "are one file" in error_of("judge", files[0], files[0])
    assert "holds no references: pass --references" in error_of("judge", files[1], files[4])
    assert "about other images" in error_of("judge", files[0], str(write_system(tmp_path / "x.jsonl", {"1": "a dog"})))
    one = [
        write_lines(tmp_path / f"{name}.jsonl", [{"image_id": 1, "caption": name, "references": ["x"]}])
        for name in "pq"
    ]
    assert "one image gives no interval over images, and a CIDEr of 0" in error_of("judge", *map(str, one))


def test_a_file_in_the_way_of_the_folder_is_an_error_after_the_numbers_are_printed(files, tmp_path, fast):
    (tmp_path / "out").write_text("mine")
    done = call("judge", files[0], files[3], "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and "a file is in the way" in done.stderr and "A is better by" in done.stdout
    assert (tmp_path / "out").read_text() == "mine"


def test_it_needs_no_torch(files):
    first = f"from gitbench.metrics import meteor\nmeteor.java_command = lambda *_: [sys.executable, '-c', {METEOR!r}]"
    done = call_without_torch("judge", files[0], files[3], first=first)
    assert done.returncode == 0, done.stderr
    assert "A is better by " in done.stdout and "points of METEOR" in done.stdout


def test_names_are_as_short_as_tells_them_apart(tmp_path):
    assert short_names([tmp_path / "a.jsonl", tmp_path / "b.json"]) == ["a", "b"]
    assert short_names([tmp_path / "x" / "p.jsonl", tmp_path / "y" / "p.jsonl"]) == ["x/p", "y/p"]
    assert short_names([tmp_path / "p.json", tmp_path / "p.jsonl"]) == ["p.json", "p.jsonl"]
