"""The site as it is built: what a reader sees of the reference, and of every page."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("furo")
bs4 = pytest.importorskip("bs4")

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
def text_of(page: Path) -> str:
    """What a page says, without its layout."""
    article = bs4.BeautifulSoup(page.read_text(), "html.parser").find("article")
    return re.sub(r"\s+", " ", article.get_text())


def test_the_reference_says_of_a_type_what_the_library_says(site: Path) -> None:
    """Not what Python says of all annotated types."""
    text = text_of(site / "reference.html")
    assert "A domain that an organisation owns, for fields" in text
    assert "A whole finalizer, one\N{RIGHT SINGLE QUOTATION MARK}s own or anybody" in text
    assert "annotated type" not in text


def test_the_reference_shows_what_an_identity_is_made_of(site: Path) -> None:
    """Both fields, by name, as they are given."""
    text = text_of(site / "reference.html")
    assert "OperatorIdentity(*, domain: str, operator: str)" in text
    assert "domain : OrganisationDomain" in text
    assert "operator : OperatorName" in text


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
