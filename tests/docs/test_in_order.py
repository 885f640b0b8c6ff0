"""The pages with commands for a cluster: all of their commands, in the page's own order."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import ASSETS, NO_ASSETS
from ..support.reader import Reader, blocks_of
from ..support.servers import KubeApiServer

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

# Which test types the commands of a page that needs a cluster.
TYPED_BY = {
    "README.md": "test_documentation.py",
    "adopting.md": "test_adopting.py",
    "db-operator-finalizers.md": "test_pages.py",
    "start.md": "test_in_order.py",
    "terminating.md": "test_pages.py",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[KubeApiServer]:
    """A server of its own, on which the pages may define and remove what they like."""
    if not os.environ.get(ASSETS):
        pytest.skip(NO_ASSETS)
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not there")
    with KubeApiServer(Path(os.environ[ASSETS])) as server:
        yield server


def test_the_first_page_can_be_followed_from_top_to_bottom(
    cluster: KubeApiServer, tmp_path: Path
) -> None:
    """Whoever types it in its order sees what it shows, and has nothing left at the end."""
    with Reader(cluster, tmp_path) as reader:
        reader.read((DOCS / "start.md").read_text())
    assert "Traceback" not in reader.log


def test_every_page_with_commands_for_a_cluster_is_typed() -> None:
    """A new page with such commands is noticed here."""
    found = {
        page.name
        for page in [ROOT / "README.md", *DOCS.glob("*.md")]
        for _, code, _ in blocks_of(page.read_text())
        if re.search(r"^(\$ )?(kubectl|kopf run)", code, re.MULTILINE)
    }
    assert found <= TYPED_BY.keys()
