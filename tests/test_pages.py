"""The pages: what a reader's browser, eyes and screen reader can rely on."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from bs4 import BeautifulSoup

pytest.importorskip("sphinx", reason="the extra `notebooks` brings it")
ROOT = Path(__file__).parent.parent
LESSONS = sorted(file.stem for file in (ROOT / "notebooks").glob("0*.ipynb"))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder that `make pages` writes, where other pages lie already."""
    home = tmp_path_factory.mktemp("home")
    other = home / "run" / "mine-mobilenet_v2" / "index.html"
    other.parent.mkdir(parents=True)
    other.write_text("of another choice")
    made = subprocess.run(
        [sys.executable, ROOT / "notebooks" / "execute.py", "pages"],
        env=os.environ | {"DOGTL_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not made.stderr, made.stderr
    assert other.read_text() == "of another choice"
    return home / "pages"


@pytest.fixture(scope="module")
def pages(site) -> dict[str, BeautifulSoup]:
    """Every page, by its path."""
    return {
        str(file.relative_to(site)): BeautifulSoup(file.read_bytes(), "html.parser")
        for file in site.rglob("*.html")
    }


def test_every_lesson_the_glossary_and_the_gallery_are_there(pages):
    notebooks = [f"notebooks/{stem}.html" for stem in LESSONS]
    others = {"index", "notebooks/glossary", "figures/README", "search"}
    assert {*notebooks, *(f"{name}.html" for name in others)} <= set(pages)
    for name, other in zip(notebooks, notebooks[1:], strict=False):
        assert Path(other).name == pages[name].find("a", class_="next-page")["href"]
        assert Path(name).name == pages[other].find("a", class_="prev-page")["href"]
    assert all(pages["index.html"].find("a", href=name) for name in notebooks)


def test_pages_ask_nothing_of_the_network(site, pages):
    for name, page in pages.items():
        for tag in page.select("[src], link[href]"):
            address = tag.get("src") or tag["href"]
            assert not urlsplit(address).netloc, f"{name}: {tag}"
    asks = re.compile(r"(url\(|@import)[\s\"']*(https?:)?//")
    for style in site.rglob("*.css"):
        assert not asks.search(style.read_text("utf-8")), style.name


def test_pages_have_a_language_and_headings_in_order(pages):
    for name, page in pages.items():
        assert page.html["lang"] == "en" and page.title.text.strip(), name
        levels = [int(tag.name[1]) for tag in page.find_all(re.compile("^h[1-6]$"))]
        assert levels[0] == 1 and levels.count(1) == 1, name
        steps = [b - a for a, b in zip(levels, levels[1:], strict=False)]
        assert max(steps, default=0) <= 1, f"{name}: {levels}"


def test_every_image_says_what_it_shows(site, pages):
    for name, page in pages.items():
        for image in page.find_all("img"):
            alt = image.get("alt", "")
            assert len(alt) > 10 and "/" not in alt.split()[0], f"{name}: {image}"
            assert ((site / name).parent / unquote(image["src"])).exists(), image
    assert len(pages[f"notebooks/{LESSONS[0]}.html"].find_all("img")) >= 3


def test_links_between_pages_lead_somewhere(site, pages):
    for name, page in pages.items():
        for link in page.find_all("a", href=True):
            address, mark = urldefrag(link["href"])
            if urlsplit(address).scheme or not address + mark:
                continue
            target = site / name
            if address:
                target = target.parent / unquote(address)
            assert target.resolve().exists(), f"{name}: {link['href']}"
            if mark and target.suffix == ".html":
                other = pages[str(target.resolve().relative_to(site.resolve()))]
                assert other.find(id=unquote(mark)), f"{name}: {link['href']}"


def test_formulas_are_drawn_by_the_browser_itself(pages):
    for name, page in pages.items():
        for code in page.find_all(["pre", "code", "script"]):
            code.decompose()
        assert not re.search(r"\$[^$\s]|\\frac|\\sum", page.get_text()), name
        for formula in page.find_all("math"):
            assert not formula.find("merror") and formula.get_text().strip(), name
