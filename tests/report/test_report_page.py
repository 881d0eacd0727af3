"""What a machine can check of the pages: well-formed, named, reachable by keyboard, legible in both schemes, as the CSV says."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from helpers_runs import CLAIM, make_images, make_work_dir

from gitbench.files import resource
from gitbench.report import write_report
from gitbench.report.board import WORD_COLOURS, page, rows_of_results, rows_of_work_dir, write_board
from gitbench.report.explain import explain_runs, parse_target
from gitbench.report.html import code, embed_svg
from gitbench.report.style import PALETTE

VOID = {"meta", "img", "br", "link", "input", "hr"}
MARGIN_FREE = CLAIM | {
    "name": "larger-better",
    "kind": "better",
    "margin": 0.0,
    "margin_unit": "metric",
    "reference": "small",
}
DROPPED = "dropped after results existed"


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


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A work directory with two claims, of which some runs knew a third, and its report among results."""
    folder = tmp_path_factory.mktemp("page")
    work_dir = make_work_dir(folder / "work", claims=(CLAIM, MARGIN_FREE))
    for path in sorted((work_dir / "runs").glob("*/provenance.json"))[:3]:
        values = json.loads(path.read_text())
        path.write_text(json.dumps(values | {"claims": {"decoder_size/came-out-badly": "0" * 16}}))
    out = folder / "results" / "decoder_size" / "cpu-scenes-cpu2"
    write_report(work_dir, "decoder_size", "cpu", "scenes", out, images=make_images())
    return work_dir, out


@pytest.fixture(scope="module", params=["report", "board"])
def text(request, made):
    """The report's page, and the board's."""
    if request.param == "report":
        return (made[1] / "report.html").read_text(encoding="utf-8")
    return page(rows_of_results(made[1].parents[1]))


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


def test_every_head_of_a_table_says_what_it_heads(text):
    heads = Tree(text).of("th")
    assert all(attributes.get("scope") in ("col", "row", "colgroup") for _, attributes, _ in heads)
    assert not re.findall(r"<th[^>]*>\s*</th>", text)


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Return the contrast ratio of WCAG 2, 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def schemes(name):
    """Return the colours of a template by variable: those of the light scheme, and those of the dark one."""
    source = (resource("reports/templates") / name).read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", source, flags=re.DOTALL)[:2]
    assert "@media screen and (prefers-color-scheme: dark)" in source  # a printed page is light whoever prints it
    return [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})\b", block)) for block in (light, dark)]


@pytest.mark.parametrize("name", ["report.html.j2", "board.html.j2"])
def test_text_and_marks_are_legible_in_both_schemes(name):
    for colours in schemes(name):
        for ground in ("paper", "panel"):
            for ink in ("ink", "faint", "link", "good", "bad", "open"):
                assert contrast(colours[ink], colours[ground]) >= 4.5, (name, ink, ground)
        marks = [value for variable, value in colours.items() if re.fullmatch(r"c\d", variable)]
        assert len(marks) == (len(PALETTE) if name.startswith("report") else 1)
        assert all(contrast(mark, colours["paper"]) >= 3 for mark in marks)


def test_pages_and_printed_figures_share_their_colours():
    light = schemes("report.html.j2")[0]
    assert tuple(light[f"c{index}"] for index in range(len(PALETTE))) == PALETTE
    assert {tone: light[tone] for tone in WORD_COLOURS} == WORD_COLOURS
    assert all(contrast(colour, "#ffffff") >= 3 for colour in PALETTE)


def test_the_page_shows_what_the_csv_holds(made):
    table = pd.read_csv(made[1] / "table.csv").set_index("arm")
    text = (made[1] / "report.html").read_text(encoding="utf-8")
    body = re.search(r"<b>Table 1\.</b>.*?<tbody>(.*?)</tbody>", text, flags=re.DOTALL).group(1)
    rows = re.findall(r'<th scope="row">([\w]+).*?</th>(.*?)</tr>', body, flags=re.DOTALL)
    assert [arm for arm, _ in rows] == list(table.index)
    for arm, cells in rows:
        number = re.search(r"[\d.]+", re.sub(r"<[^>]+>", " ", cells.split('class="number">')[1])).group()
        assert float(number) == pytest.approx(table.loc[arm, "CIDEr"], abs=0.051)


def test_several_verdicts_stand_on_lines_of_their_own_and_lead_to_their_runs(made):
    text = (made[1] / "report.html").read_text(encoding="utf-8")
    answer = re.search(r'<div class="answer">(.*?)</div>', text, flags=re.DOTALL).group(1)
    assert answer.count("<li>") == answer.count('class="badge') == 2
    assert "of 2 claims" in answer and "large (4 x 256)" in answer and "Large (" not in answer  # an arm keeps its name
    for claim in ("larger-no-better", "larger-better"):
        assert f"<code>gitbench explain decoder_size:{claim} --profile cpu --data scenes</code>" in text
    assert "is 0 points:" in text and "0.000 points" not in text


def test_a_dropped_claim_is_named_everywhere(made):
    work_dir, out = made
    ours, committed = rows_of_work_dir(work_dir), rows_of_results(out.parents[1])
    assert ours[0].dropped == committed[0].dropped and DROPPED in ours[0].dropped[0]
    write_board(committed, out.parents[2] / "board")
    for path in (out / "report.html", out / "table.md", out.parents[2] / "board" / "board.md"):
        said = path.read_text(encoding="utf-8")
        assert "came-out-badly" in said and f"{DROPPED}: 3 of 20 runs" in said, path.name
    assert "came-out-badly" in page(committed)
    assert json.loads((out / "verdicts.json").read_text())["dropped"][0]["name"] == "came-out-badly"


def test_every_figure_is_drawn_for_a_phone_too(made):
    text = (made[1] / "report.html").read_text(encoding="utf-8")
    for name in ("score", "difference", "curves"):
        assert f'id="{name}-figure_1"' in text and f'id="{name}-narrow-figure_1"' in text
    assert text.count('<div class="wide">') == text.count('<div class="narrow">') == 3


def test_words_about_a_margin_need_a_margin(tmp_path):
    work_dir = make_work_dir(tmp_path / "work", claims=(MARGIN_FREE,))
    out = write_report(work_dir, "decoder_size", "cpu", "scenes", tmp_path / "out")
    assert "haded" not in (out / "report.html").read_text(encoding="utf-8")
    assert "shaded" not in (out / "difference.svg").read_text(encoding="utf-8")


def test_a_test_of_the_judge_is_no_claim_of_the_paper(tmp_path):
    work_dir = make_work_dir(tmp_path, claims=(CLAIM,))
    path = work_dir / "studies" / "decoder_size.cpu.scenes.json"
    planted = json.loads(path.read_text()) | {"ablation": "_truth"}
    (path.parent / "_truth.cpu.scenes.json").write_text(json.dumps(planted))
    assert {row.ablation for row in rows_of_work_dir(work_dir)} == {"decoder_size"}


def test_labels_and_code_are_escaped():
    assert str(code("run `a < b`, <i>")) == "run <code>a &lt; b</code>, &lt;i&gt;"
    drawn = embed_svg('<?xml?><svg width="1" height="2"><g id="a"/></svg>', "one", 'a "b" < c')
    assert drawn == '<svg role="img" aria-label="a &quot;b&quot; &lt; c"><g id="one-a"/></svg>'


def test_arms_that_are_only_names_are_not_joined_by_a_line(tmp_path):
    from gitbench.report.figures import score_figure
    from gitbench.report.view import gather

    content = gather(make_work_dir(tmp_path), "decoder_size", "cpu", "scenes")
    sized = sum(
        len(line.get_xdata()) == 3 and line.get_linestyle() == "-"
        for line in score_figure(content, "CIDEr").axes[0].lines
    )
    alike = content.frame[~content.frame["metric"].isin(["decoder_parameters", "training_images"])]
    named = dataclasses.replace(content, frame=alike, amounts={})
    joined = [
        line
        for line in score_figure(named, "CIDEr").axes[0].lines
        if len(line.get_xdata()) == 3 and line.get_linestyle() == "-"
    ]
    assert sized == 1 and not joined


def test_every_explain_command_of_the_page_leads_to_its_runs(made):
    work_dir, out = made
    text = (out / "report.html").read_text(encoding="utf-8")
    commands = re.findall(r"gitbench explain (\S+) --profile (\w+) --data (\w+)", text)
    assert len(commands) == 3
    for target, profile, data in commands:
        told = explain_runs(work_dir, parse_target(target), profile, data)
        assert f"{target} on {data}, {profile} profile" in told and "runs" in told
