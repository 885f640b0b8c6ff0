"""The site as it is built: what a reader sees of the reference, and of every page."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("furo")
bs4 = pytest.importorskip("bs4")
SearchEnglish = pytest.importorskip("sphinx.search.en").SearchEnglish

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = ["-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    process = subprocess.run(
        [sys.executable, *command, "-d", str(folder / "trees"), str(DOCS), str(folder / "html")],
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert process.returncode == 0, process.stderr
    return folder / "html"


@cache
def soup(page: Path) -> Any:
    """A page, to look for things in it."""
    return bs4.BeautifulSoup(page.read_text(), "html.parser")


@cache
def text_of(page: Path) -> str:
    """What a page says, without its layout."""
    article = soup(page).find("article")
    return re.sub(r"\s+", " ", article.get_text())


def test_the_reference_says_of_a_type_what_the_library_says(site: Path) -> None:
    """Not what Python says of all annotated types."""
    text = text_of(site / "reference.html")
    assert "A domain that an organisation owns, for fields" in text
    assert "A whole finalizer, one\N{RIGHT SINGLE QUOTATION MARK}s own or anybody" in text
    assert "annotated type" not in text


def test_the_reference_shows_what_an_identity_is_made_of(site: Path) -> None:
    """All fields, by name, as they are given."""
    text = text_of(site / "reference.html")
    fields = "*, domain: str, operator: str, keep_finalizer: str | None = None,"
    assert f"OperatorIdentity( {fields} )" in text
    assert "domain : OrganisationDomain" in text
    assert "operator : OperatorName" in text
    assert "keep_finalizer : FinalizerName | None" in text


@pytest.mark.parametrize("name", ["configure", "ensure_finalizer", "release_finalizer", "create"])
def test_the_reference_shows_a_function_once(site: Path, name: str) -> None:
    """With its arguments written out; what type checkers see of it is theirs."""
    signatures = re.findall(
        rf"(?<![\w.]){name}\( ?(?:name: str|domain: str|\*resource)",
        text_of(site / "reference.html"),
    )
    assert len(signatures) == 1


@pytest.mark.parametrize(
    "words",
    ["kopf_finalizers._", "LeftOut", "LEFT_OUT", "Unpack", "PYTEST_DONT", "BeforeValidator"],
)
def test_the_reference_shows_no_private_name(site: Path, words: str) -> None:
    """Nobody can import it."""
    assert words not in text_of(site / "reference.html")


def test_every_page_has_a_description(site: Path) -> None:
    """A search engine shows it: its first sentences, and no other page's."""
    found = dict[str, str]()
    for page in site.glob("*.html"):
        tag = soup(page).find("meta", attrs={"name": "description"})
        if page.name not in ("genindex.html", "search.html"):
            assert tag is not None, page.name
            found[page.name] = tag["content"]
    assert [name for name, text in found.items() if not 50 < len(text) <= 160] == []
    assert len(set(found.values())) == len(found)


def test_there_is_a_page_for_wrong_addresses(site: Path) -> None:
    """It looks like the others from wherever it is shown, and leads back to them."""
    page = soup(site / "404.html")
    links = [tag["href"] for tag in page.find_all("link") if "stylesheet" in tag["rel"]]
    assert links
    assert all(link.startswith("/") for link in links)
    assert "/start.html" in [tag.get("href") for tag in page.find_all("a")]


def test_no_page_is_wider_than_a_narrow_screen(site: Path) -> None:
    """At 400 pixels: what cannot be broken is scrolled inside itself, or fits."""
    for page in site.glob("*.html"):
        article = soup(page).find("article")
        for table in article.find_all("table"):
            is_of_the_index = "genindextable" in table["class"]  # as in site.css
            assert is_of_the_index or table.find_parent(class_="table-wrapper"), page.name
        for block in article.find_all("pre"):
            assert block.find_parent(class_="highlight"), f"{page.name}: {block.text}"
        for picture in article.find_all("img"):
            assert picture.parent.name == "p", f"{page.name}: {picture}"  # see site.css
        for picture in article.find_all("svg"):
            assert picture.get("viewbox") or picture.get("viewBox"), page.name
        for heading in article.find_all(["h1", "h2", "h3"]):
            words = re.split(r"[\s-]", heading.text.removesuffix("\N{PILCROW SIGN}"))
            assert max(map(len, words)) <= 18, f"{page.name}: {heading.text}"


def test_commands_are_copied_without_their_prompts(site: Path) -> None:
    """The button is on every page, and takes neither the prompt nor what is printed."""
    page = (site / "start.html").read_text()
    assert "copybutton.js" in page
    assert r"\\$ |>>> " in (site / "_static" / "copybutton.js").read_text()


def test_calls_that_do_not_exist_are_marked(site: Path) -> None:
    """All three of the article, which somebody would copy otherwise."""
    page = soup(site / "article.html")
    marked = [block for block in page.select(".wrong .highlight") if "finalizer" in block.text]
    assert len(marked) == 3


def test_the_picture_of_a_life_is_told_in_words(site: Path) -> None:
    """It is part of the page, in the page's colours, and can be read aloud."""
    (picture,) = soup(site / "handlers.html").select("figure.lifecycle svg")
    assert "Kubernetes removes the object" in picture.find("desc").text
    assert picture["aria-labelledby"] == "lifecycle-title lifecycle-text"


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("stuck", "troubleshooting"),
        ("stuck", "terminating"),
        ("upgrade", "questions"),
        ("422", "troubleshooting"),
        ("multiple operators", "why"),
        ("multiple operators", "questions"),
        ("troubleshooting", "troubleshooting"),
        ("uninstall", "uninstalling"),
        ("leave", "leaving"),
        ("diff-base storage", "glossary"),
    ],
)
def test_the_search_finds_the_page(site: Path, words: str, page: str) -> None:
    """All of the words, as the search of the site looks for them."""
    text = (site / "searchindex.js").read_text()
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    stem = SearchEnglish({}).stem
    for word in words.replace("-", " ").split():
        found = [index[kind].get(stem(word), []) for kind in ("titleterms", "terms")]
        pages = {number for one in found for number in ([one] if isinstance(one, int) else one)}
        # Sphinx looks for numbers among the entries of its index only.
        pages |= {number for number, *_ in index["indexentries"].get(word, [])}
        assert page in {index["docnames"][number] for number in pages}, word
