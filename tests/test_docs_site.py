"""The documentation as a site: it is built without a warning, whole, and loads nothing from another host."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from helpers_docs import DOCS, commands
from mkdocs.commands.build import build
from mkdocs.config import load_config

CONFIG = DOCS / "site" / "mkdocs.yml"
LOADS = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
}
LOADS |= {"embed": "src", "object": "data", "use": "href", "image": "href"}


class Loads(HTMLParser):
    """What a page loads by itself; links that a reader follows are none of it."""

    def __init__(self, page: Path):
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in ("next", "prev", "canonical"):
            return
        self.found += [value for name, value in attrs if value and name in (LOADS.get(tag), "srcset")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `nox -s docs` builds it."""
    out = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, str(DOCS / "site" / "build.py"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout == f"documentation: {(out / 'index.html').as_uri()}\n"
    return out


def test_every_page_of_docs_is_in_the_navigation() -> None:
    nav = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["nav"]
    named = re.findall(r"[\w]+\.md", str(nav))
    assert sorted(named) == sorted(["commands.md", "CONTRIBUTING.md", *(page.name for page in DOCS.glob("*.md"))])


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loads = Loads(page).found
        assert any("javascripts/bundle" in load for load in loads)
        assert [load for load in loads if re.match(r"([a-z]+:)?//", load)] == []
        assert "mermaid" not in page.read_text(encoding="utf-8")  # for which the theme asks unpkg.com
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_what_pages_link_to_outside_of_docs_is_in_the_site(site: Path) -> None:
    for file in ("repository/LOG.html", "repository/CONTRIBUTING.html", "repository/gitbench/models/packed.py"):
        assert (site / file).is_file()
    for file in ("ci/pre-push", "ci/gitlab-ci.yml", "tools/planted.py", "gate_aa.csv", "slurm.sbatch"):
        assert (site / file).read_bytes() == (DOCS / file).read_bytes()
    assert 'href="repository/LOG.html"' in (site / "rates.html").read_text(encoding="utf-8")
    assert 'href="../gate.html"' in (site / "repository" / "CONTRIBUTING.html").read_text(encoding="utf-8")


def test_the_page_of_commands_has_them_all(site: Path) -> None:
    page = (site / "commands.html").read_text(encoding="utf-8")
    for command, options in commands().items():
        assert f'id="gitbench-{command}"' in page
        assert [option for option in options - {"-h", "--help"} if f"{option}" not in page] == []
    assert 'id="gitbench-gate-record"' in page


def test_the_api_has_docstrings(site: Path) -> None:
    page = (site / "api.html").read_text(encoding="utf-8")
    for name in (
        "models.build_model",
        "study.find.load_frame",
        "models.git.GIT.generate",
        "models.weights.from_official",
    ):
        assert f'id="gitbench.{name}"' in page
    assert "one tidy frame, one row a value" in page
    assert "&lt;ablation&gt;.&lt;profile&gt;" in page  # angle brackets outside of code are taken for HTML


def test_the_search_works_from_a_disk(site: Path) -> None:
    assert '<script src="site/iframe-worker.js"' in (site / "index.html").read_text(encoding="utf-8")
    assert (site / "site" / "iframe-worker.js").is_file()
    assert (site / "search" / "search_index.js").is_file()


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("[a page](other.md#a-part)", True),
        ("[a page](nothing.md)", False),
        ("[a part](other.md#nothing)", False),
        ("![a picture](nothing.png)", False),
        ("::: gitbench.nothing", False),
    ],
)
def test_what_is_broken_fails_the_build(
    text: str, whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.md").write_text(f"# Home\n\n{text}\n")
    (pages / "other.md").write_text("# Other\n\n## A part\n")
    nav = ["index.md", "other.md"]
    with nullcontext() if whole else pytest.raises(SystemExit):
        build(load_config(str(CONFIG), docs_dir=str(pages), site_dir=str(tmp_path / "site"), nav=nav))


def test_a_folder_of_other_things_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    command = [sys.executable, str(DOCS / "site" / "build.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "pass a new folder" in done.stderr
    assert (tmp_path / "thesis.tex").read_text() == "mine"
