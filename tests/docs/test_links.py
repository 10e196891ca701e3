"""Links of the README and of the documents lead to something, in the built pages and in the repository."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from tests.docs.pages import PAGES, ROOT, prose, spans

ROOMS = ("v2a_dpo", "components", "pipelines", "configs", "benchmarks", "tests", "docker", "k8s", "docs")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@each_page
def test_relative_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"https?://|mailto:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


@each_page
def test_paths_of_the_repository_that_a_page_names_exist(page: Path) -> None:
    for span in spans(page):
        path = span.rstrip("/")
        if re.fullmatch(rf"({'|'.join(ROOMS)})/[\w./-]+", path) and "NAME" not in path:
            assert (ROOT / path).exists(), span


class Loaded(HTMLParser):
    """The addresses that a browser loads with a page, links to follow left out."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [given.get("src") or ""] + ([given.get("href") or ""] if tag == "link" else [])


def built(folder: Path, **settings: object) -> Path:
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder / "site"), **settings)
    build(config)
    return folder / "site"


def test_the_documents_build_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    site = built(tmp_path)
    pages = list(site.rglob("*.html"))
    assert {page.name for page in pages} >= {f"{page.stem}.html" for page in PAGES if page.parent == ROOT / "docs"}
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert not [address for address in loaded.addresses if re.match(r"(https?:)?//", address)], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


@pytest.mark.parametrize("link", ["[gone](gone.md)", "[gone](index.md#gone)", "[code](../v2a_dpo/gone.py)"])
def test_a_broken_link_or_anchor_fails_the_build(link: str, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# One page\n\n{link}\n")
    with pytest.raises(Abort):
        built(tmp_path, docs_dir=str(docs), nav=[{"Overview": "index.md"}])
