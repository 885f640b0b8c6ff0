"""The README as a package index shows it: alone, with no repository around it."""

import importlib.util
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from readme_renderer.markdown import render

ROOT = Path(__file__).parents[2]
ADDRESS = "https://code.example.com/kopf-finalizers"


@pytest.fixture(scope="module")
def hook() -> Any:
    """The module that the build loads."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Page(HTMLParser):
    """What a page links to or shows, and its text."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.links = list[str]()
        self.text = ""
        html = render(markdown)
        assert html is not None, "the index would show the source"
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note each link and each picture, but not those to a heading."""
        found = [value or "" for name, value in attrs if name in ("href", "src")]
        self.links += [value for value in found if not value.startswith("#")]

    def handle_data(self, data: str) -> None:
        """Note the words."""
        self.text += data


def metadata() -> Any:
    """As the build makes it."""
    return ProjectMetadata(str(ROOT), PluginManager()).core


def test_no_link_of_the_index_is_dead() -> None:
    """Each leads to another site, and what is in the repository is named in words."""
    page = Page(metadata().readme)
    assert page.links
    assert all(link.startswith("https://") for link in page.links), page.links
    assert "in the repository, docs/handlers.md" in page.text


def test_the_index_has_what_the_repository_has() -> None:
    """All sentences are there, the picture's in its place, and no comment is to be seen."""
    page = Page(metadata().readme)
    for words in ("added and removed all the time", "A cleaned up before", "MIT licence"):
        assert words in page.text
    assert "<!--" not in page.text
    assert "[!" not in page.text


def test_the_page_explains_what_kopf_and_a_finalizer_are() -> None:
    """Whoever knows neither finds both, before the first heading after the title."""
    beginning = (ROOT / "README.md").read_text().split("\n## ")[0]
    assert "](https://docs.kopf.dev/)" in beginning
    assert "](https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/)" in (
        beginning
    )


def test_no_address_is_made_up(hook: Any) -> None:
    """Until the project has one, nothing leads to it."""
    assert hook.urls("") == {}


def test_one_address_makes_all_links(hook: Any) -> None:
    """Files, pictures and what stands beside the page."""
    text = hook.readme_for_an_index((ROOT / "README.md").read_text(), ADDRESS)
    page = Page(text)
    assert f"{ADDRESS}/blob/main/docs/handlers.md" in page.links
    assert f"{ADDRESS}/raw/main/docs/flapping.svg" in page.links
    assert all(link.startswith("https://") for link in page.links), page.links
    assert "in the repository, " not in page.text
    assert all(link.startswith(ADDRESS) for link in hook.urls(ADDRESS).values())


def test_each_file_that_is_linked_to_is_there(hook: Any) -> None:
    """Under the address there is what the repository has."""
    text = hook.readme_for_an_index((ROOT / "README.md").read_text(), ADDRESS)
    files = re.findall(rf"{ADDRESS}/(?:blob|raw)/main/([^)]+)", text)
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []
    linked = hook.urls(ADDRESS).values()
    files = [link.partition("/main/")[2] for link in linked if "/main/" in link]
    assert [file for file in files if not (ROOT / file).exists()] == []
