"""A whole report from fabricated runs: rebuilt without torch, self-contained, deterministic, honest, atomic."""

import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers_runs import make_images, make_work_dir, run_key

from gitbench.errors import GitbenchError
from gitbench.report import write_report

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "report.html", "manifest.json", "verdicts.json", "runs.csv", "table.csv", "table.md", "table.tex",
    "numbers.tex",
    *(f"{name}.{kind}" for name in ("score", "difference", "curves") for kind in ("svg", "pdf", "png")),
}  # fmt: skip
PICTURES = {f"predictions.{kind}" for kind in ("svg", "pdf", "png")}


class Page(HTMLParser):
    """Collect tags and attributes; void and foreign elements are left to the browser."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [
            (tag, name, value) for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data")
        ]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """One report with pictures, made in a process in which importing torch raises."""
    folder = tmp_path_factory.mktemp("built")
    work_dir = make_work_dir(folder / "work", missing=(("small", 4),))
    script = folder / "rebuild.py"
    script.write_text(
        f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "mmengine", "timm", "datasets", "transformers"):
            raise ImportError(f"{{name}} must not be imported here")

sys.meta_path.insert(0, Refuse())
from helpers_runs import make_images
from gitbench.report import write_report
write_report({str(work_dir)!r}, "decoder_size", "cpu", "scenes", {str(folder / "out")!r}, images=make_images())
"""
    )
    subprocess.run([sys.executable, str(script)], check=True, cwd=folder)
    return work_dir, folder / "out"


def test_every_file_is_there_and_in_the_manifest(built):
    _, out = built
    assert {path.name for path in out.iterdir()} == FILES | PICTURES
    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest["files"]) == (FILES | PICTURES) - {"manifest.json"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert len(manifest["runs"]) == 19 and manifest["missing_runs"] == [run_key("small", 4)]
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


def test_page_is_self_contained(built):
    page = Page((built[1] / "report.html").read_text(encoding="utf-8"))
    outside = [link for link in page.links if not link[2].startswith(("#", "data:"))]
    assert outside == [("a", "href", "https://arxiv.org/abs/2205.14100")]
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    text = (built[1] / "report.html").read_text(encoding="utf-8")
    assert "@import" not in text and not re.search(r"url\((?!#|&quot;#)", text)


def test_page_says_what_was_asked_found_and_left_out(built):
    text = (built[1] / "report.html").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    for said in (
        "Does a larger text decoder give better captions",
        "SUPPORTED",
        "n = 5 paired seeds",
        "a larger decoder shows no improvement",
        "Table 10, p. 11",
        "verbatim quotation",
        "numbers for this table were not obtainable; only its claim is encoded",
        "gitbench run decoder_size --profile cpu",
        "0123abc",
        "f00d" * 4,
        "CIDEr-D|pycocoevalcap",
        "1 of 20 planned runs are missing or failed: small #4",
        "SPICE is absent",
        "torch 2.15.0",
        "CLIP ViT-B/16",
        "prefers-color-scheme: dark",
    ):
        assert said in text, said


def test_ids_of_the_inlined_figures_do_not_collide(built):
    text = (built[1] / "report.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) > 50
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    assert used and used <= set(ids)


def test_figures_keep_text_as_text_and_carry_no_date(built):
    _, out = built
    svg = (out / "score.svg").read_text(encoding="utf-8")
    assert "<text" in svg and "blind floor" in svg and "<dc:date>" not in svg
    pdf = (out / "score.pdf").read_bytes()
    assert b"/CreationDate" not in pdf and b"/FontFile2" in pdf and b"/Type3" not in pdf  # TrueType: selectable text


def test_score_figure_draws_every_seed(built):
    svg = (built[1] / "score.svg").read_text(encoding="utf-8")
    assert svg.count("<use ") >= 14  # 4 + 5 + 5 seeds


def test_same_work_dir_gives_the_same_bytes(built):
    work_dir, out = built
    write_report(work_dir, "decoder_size", "cpu", "scenes", out.parent / "again", images=make_images())
    for path in out.iterdir():
        assert path.read_bytes() == (out.parent / "again" / path.name).read_bytes(), path.name


def test_without_images_no_file_holds_a_picture_and_an_old_report_is_replaced(tmp_path):
    work_dir, out = make_work_dir(tmp_path / "work", replicates=3, kind="leave-one-out"), tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text(json.dumps({"files": {"predictions.png": "0"}}))
    (out / "predictions.png").write_text("from an earlier report")
    assert write_report(work_dir, "decoder_size", "cpu", "scenes", out) == out
    assert {path.name for path in out.iterdir()} == FILES
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "<img" not in text and "data:image" not in text and "carries no image of the data set" in text
    assert "a green circle on a white ground" in text and "each human reference against the others" in text


def test_captions_cannot_break_the_page_or_the_figures(tmp_path):
    work_dir = make_work_dir(tmp_path / "work", replicates=1)
    path = work_dir / "runs" / run_key("large", 0) / "predictions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["caption"] = "<script>alert(1)</script> $\\frac{1}$ | a\u2028b " + "word " * 2000
    lines[2]["caption"] = ""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    images = {name: image / 255.0 for name, image in make_images().items()}  # floats are taken as well
    out = write_report(work_dir, "decoder_size", "cpu", "scenes", tmp_path / "out", images=images)
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text and "&lt;script&gt;" in text and "(empty)" in text
    assert "NOT TESTABLE AT THIS SCALE" in text
    assert (out / "predictions.pdf").stat().st_size > 1000


def test_foreign_files_are_never_deleted(tmp_path):
    work_dir, out = make_work_dir(tmp_path / "work", replicates=1), tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(GitbenchError, match="thesis.txt.*pass an empty folder"):
        write_report(work_dir, "decoder_size", "cpu", "scenes", out)
    assert (out / "thesis.txt").read_text() == "mine"
    with pytest.raises(GitbenchError, match="is a file"):
        write_report(work_dir, "decoder_size", "cpu", "scenes", out / "thesis.txt")


def test_failure_leaves_the_old_report_and_no_litter(tmp_path, monkeypatch):
    work_dir, out = make_work_dir(tmp_path / "work", replicates=1), tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text(json.dumps({"files": {"report.html": "0"}}))
    (out / "report.html").write_text("old")

    def fail(*_):
        raise RuntimeError("killed here")

    monkeypatch.setattr("gitbench.report.build.page", fail)
    with pytest.raises(RuntimeError):
        write_report(work_dir, "decoder_size", "cpu", "scenes", out)
    assert (out / "report.html").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "work"]


def test_no_finished_run_names_the_command(tmp_path):
    everything = tuple((arm, 0) for arm in ("blind", "small", "base", "large"))
    work_dir = make_work_dir(tmp_path / "work", replicates=1, missing=everything)
    with pytest.raises(GitbenchError, match="run `gitbench run decoder_size --profile cpu` first"):
        write_report(work_dir, "decoder_size", "cpu", "scenes", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_samples_are_evenly_spaced_not_chosen(tmp_path):
    from gitbench.report.view import gather

    content = gather(make_work_dir(tmp_path, replicates=1), "decoder_size", "cpu", "scenes")
    assert [sample.image_id for sample in content.samples] == [
        f"test-{i:04d}" for i in np.linspace(0, 11, 6).round().astype(int)
    ]
    assert [caption.arm for caption in content.samples[0].captions] == ["blind", "small", "base", "large"]
    assert content.samples[0].image is None
    first = dict(list(make_images().items())[:3])
    content = gather(tmp_path, "decoder_size", "cpu", "scenes", first)
    assert [sample.image_id for sample in content.samples] == list(first)
    assert all(np.array_equal(sample.image, first[sample.image_id]) for sample in content.samples)
