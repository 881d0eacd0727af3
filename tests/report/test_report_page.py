"""What a machine can check of the pages: well-formed, named, reachable by keyboard, legible in both schemes, as the CSV says."""

import html
import itertools
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from matplotlib.figure import Figure

from gitbench.files import resource
from gitbench.judge.sentences import finding_text
from gitbench.report.board import WORD_COLOURS, page, rows_of_results, write_board
from gitbench.report.style import PALETTE, embedded_svg
from gitbench.report.verdict_details import CAVEAT
from gitbench.study.interim import judge

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Tree(HTMLParser):
    """Every element as (tag, attributes, text until the next tag); refuses a page whose tags do not close as they opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(text)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"an attribute twice: {tag} {attrs}"
        self.elements.append([tag, attributes, ""])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.elements:
            self.elements[-1][2] += data

    def of(self, *tags):
        return [(tag, attributes, text) for tag, attributes, text in self.elements if tag in tags]


@pytest.fixture(scope="module", params=["report", "board"])
def text(request, made):
    """The report's page, and the board's."""
    if request.param == "report":
        return (made.out / "report.html").read_text(encoding="utf-8")
    return page(rows_of_results(made.results))


def test_pages_are_well_formed_and_ids_are_unique(text):
    tree = Tree(text)
    ids = [attributes["id"] for _, attributes, _ in tree.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    assert used and used <= set(ids)


def test_pages_have_language_title_skip_link_and_headings_in_order(text):
    tree = Tree(text)
    assert tree.of("html")[0][1]["lang"] == "en" and tree.of("title")[0][2].strip()
    first = next(element for element in tree.elements if element[0] in ("a", "button", "summary"))
    ids = {attributes["id"]: tag for tag, attributes, _ in tree.elements if "id" in attributes}
    assert first[1]["class"] == "skip" and ids[first[1]["href"][1:]] == "main"
    levels = [int(tag[1]) for tag, _, _ in tree.of("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_pictures_have_a_name_and_no_two_regions_or_links_share_one(text):
    tree = Tree(text)
    assert all(attributes.get("alt") for _, attributes, _ in tree.of("img"))
    drawings = tree.of("svg")
    assert drawings and all(each["role"] == "img" and each["aria-label"] for _, each, _ in drawings)
    regions = [attributes for _, attributes, _ in tree.elements if attributes.get("class") == "scroll"]
    assert all(each["tabindex"] == "0" and each["role"] == "region" for each in regions)  # the keyboard can scroll them
    names = [each["aria-label"] for each in regions]
    assert len(names) == len(set(names))
    assert all("tabindex" not in attributes or attributes["tabindex"] == "0" for _, attributes, _ in tree.elements)
    links = [attributes.get("aria-label") or words for _, attributes, words in tree.of("a")]
    assert len(links) == len(set(links))
    assert all(attributes.get("scope") in ("col", "row", "colgroup") for _, attributes, _ in tree.of("th"))
    assert not re.findall(r"<th[^>]*>\s*</th>", text)


def contrast(*colours):
    """Return the contrast ratio of WCAG 2 between two colours, 1 to 21."""
    parts = [[int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)] for colour in colours]
    linear = [[part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in each] for each in parts]
    dark, light = sorted(0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in linear)
    return (light + 0.05) / (dark + 0.05)


def test_text_and_marks_are_legible_in_both_schemes():
    source = (resource("reports/templates") / "page.css").read_text(encoding="utf-8")
    assert "@media screen and (prefers-color-scheme: dark)" in source  # a printed page is light whoever prints it
    blocks = re.findall(r":root \{(.*?)\}", source, flags=re.DOTALL)[:2]
    light, dark = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6})\b", block)) for block in blocks)
    for colours in (light, dark):
        for ground, ink in itertools.product(("paper", "panel"), ("ink", "faint", "link", "good", "bad", "open")):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        assert all(contrast(colours[f"c{index}"], colours["paper"]) >= 3 for index in range(len(PALETTE)))
    assert tuple(light[f"c{index}"] for index in range(len(PALETTE))) == PALETTE  # those of the printed figures
    assert {tone: light[tone] for tone in WORD_COLOURS} == WORD_COLOURS
    assert all(contrast(colour, "#ffffff") >= 3 for colour in PALETTE)


def test_pages_are_self_contained(text):
    links = [each for _, attributes, _ in Tree(text).elements for each in attributes.items()]
    outside = [value for name, value in links if name in ("src", "href", "xlink:href", "srcset", "data")]
    outside = [value for value in outside if not value.startswith(("#", "data:", "decoder_size/"))]
    assert set(outside) <= {"https://arxiv.org/abs/2205.14100"}
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _, _ in Tree(text).elements}
    (script,) = Tree(text).of("script")  # our own, which asks nobody for anything
    assert not script[1] and not re.search("fetch|XMLHttp|import|http", script[2])
    assert "@import" not in text and not re.search(r"url\((?!#|&quot;#)", text)


def test_the_page_shows_what_the_csv_holds(made):
    table = pd.read_csv(made.out / "table.csv").set_index("arm")
    text = (made.out / "report.html").read_text(encoding="utf-8")
    body = re.search(r"<b>Table 1\.</b>.*?<tbody>(.*?)</tbody>", text, flags=re.DOTALL).group(1)
    rows = re.findall(
        r'<th scope="row">.*?([a-z]+)(?:</code>|<span class="label">.*?</span>)?</th>(.*?)</tr>', body, re.DOTALL
    )
    assert [arm for arm, _ in rows] == list(table.index)
    assert "4 x 256<code" in body  # an arm has its label and its name
    for arm, cells in rows:
        number = re.search(r"[\d.]+", re.sub(r"<[^>]+>", " ", "<td " + cells.split('class="number"')[1])).group()
        assert float(number) == pytest.approx(table.loc[arm, "CIDEr"], abs=0.051)


def test_the_page_names_question_claims_runs_and_what_is_missing(made):
    text = (made.out / "report.html").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    plan = made.study.plan
    facts = (plan.question, plan.command, plan.data_fingerprint, "0123abc", "CIDEr-D|", "torch 2.15.0")
    found = (
        "n = 5 paired seeds",
        "not obtainable",
        "as a reader quotes it",
        "CLIP ViT-B/16",
        "small #4",
        "19 finished of 20 planned",
    )
    for said in (*facts, *found, "SPICE is absent", *(claim.quote for claim in plan.claims)):
        assert said in text, said
    assert all(run.run_key in text for run in made.study.finished)
    assert all(f'id="{name}-0-figure_1"' in text for name in ("forest", "score", "cost", "curves"))
    answer = re.search(r'<div class="answer">(.*?)</div>', text, flags=re.DOTALL).group(1)
    assert answer.count("<li>") == answer.count('class="badge') == 2
    assert "large (4 x 256)" in answer and "Large (" not in answer  # an arm keeps its name


def test_every_number_leads_to_its_runs_and_every_word_to_its_evidence(made):
    text = (made.out / "report.html").read_text(encoding="utf-8")
    runs = re.findall(r'<tr id="run-([a-z]+)-(\d)">.*?<code>(\w{16})</code>', text)
    assert {(run.arm, str(run.replicate), run.run_key) for run in made.study.finished} == set(runs) and len(runs) == 19
    score = made.study.frame.query("arm == 'base' and replicate == 2 and metric == 'CIDEr'")["value"].item()
    (row,) = re.findall(r'<tr id="run-base-2">(.*?)</tr>', text)
    assert f'data-value="{score}"' in row
    linked = set(re.findall(r'<a href="#runs-([a-z]+)" aria-label="CIDEr of', text))
    assert linked == {"blind", "small", "base", "large"} and all(text.count(f'id="runs-{arm}"') == 1 for arm in linked)
    claims = {claim.name for claim in made.study.plan.claims}
    assert set(re.findall('href="#claim-([a-z-]+)"', text)) == claims
    assert 'aria-label="runs of large behind larger-better"' in text


def test_long_sections_are_folded_and_listed_and_tables_sort(made):
    text = (made.out / "report.html").read_text(encoding="utf-8")
    contents = re.findall(r'<li><a href="#(\w+)">([^<]+)</a></li>', text.partition("</nav>")[0])
    assert [title for _, title in contents] == re.findall("<h2[^>]*>([^<]+)</h2>", text) and len(contents) == 12
    assert all(f'id="{name}"' in text for name, _ in contents)
    folded = re.findall(r'<details class="part"><summary><h2>([^<]+)', text)
    assert {"Runs", "Cost", "Arms differ in one thing"} <= set(folded) and "Results" not in folded
    tables = re.findall('<table class="sortable[ a-z]*">(.*?)</table>', text, re.DOTALL)
    assert len(tables) >= 3 and all(body.count("<thead>") == body.count("<tbody>") == 1 for body in tables)
    (cost,) = [body for body in tables if "What each arm costs" in body]
    assert (
        'data-value="3400000.0">3.4 M<' in cost or 'data-value="3400000">3.4 M<' in cost
    )  # sorted by value, not letters


def test_what_a_word_is_worth_stands_beside_it(made, tmp_path):
    board = write_board(rows_of_results(made.results), tmp_path)
    for path in (*(made.out / name for name in ("report.html", "table.md", "table.tex", "table_column.tex")), *board):
        if path.suffix not in (".html", ".md", ".tex", ".svg"):
            continue
        said = " ".join(path.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ").split())
        said = html.unescape(said.replace("$-$", "\N{MINUS SIGN}").replace("\\%", "%"))
        assert CAVEAT in said, path
        for verdict in judge(made.study):
            assert verdict.word.lower() in said.lower(), path
            # in the picture lines are broken
            reason = f"seen: {finding_text(verdict)[:20]}" if path.suffix == ".svg" else verdict.reason
            assert reason.lower() in said.lower(), path


def test_no_code_of_ours_is_left_to_be_guessed(made):
    for path in (made.out / "report.html", made.out / "table.md", made.out / "table.tex"):
        assert not re.search(r"\bcode (S|SQ|D|H)\b|\b(SQ|, D)\)|\((S|D|H)\)", path.read_text(encoding="utf-8")), path


def test_a_dropped_claim_is_named_everywhere(made):
    for name in ("report.html", "table.md"):
        said = (made.out / name).read_text(encoding="utf-8")
        assert "came-out-badly" in said and "dropped after results existed: 3 of 19 runs" in said, name
    assert json.loads((made.out / "verdicts.json").read_text())["dropped"][0]["name"] == "came-out-badly"


def test_a_drawing_scales_and_its_label_is_escaped():
    drawn = embedded_svg(Figure(figsize=(1, 2)), "one", 'a "b" < c')
    head = drawn.partition(">")[0]
    assert head.startswith('<svg role="img" aria-label="a &quot;b&quot; &lt; c"') and "viewBox" in head
    assert "width=" not in head and "height=" not in head and 'id="one-figure_1"' in drawn
