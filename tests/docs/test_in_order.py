"""The pages with commands for a cluster: all of their commands, in the page's own order."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kopf_finalizers.testing import ApiServer

from ..conftest import ASSETS, NO_ASSETS
from ..support.reader import Reader, blocks_of
from ..support.servers import KubeApiServer, Resource, Server, client_of, wait_until

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

MISSING = [tool for tool in ("kubectl", "jq") if shutil.which(tool) is None]

# Which test types the commands of a page that needs a cluster.
TYPED_BY = {
    "README.md": "test_documentation.py",
    "adopting.md": "test_adopting.py",
    "db-operator-finalizers.md": "test_pages.py",
    "leaving.md": "test_in_order.py",
    "start.md": "test_in_order.py",
    "terminating.md": "test_pages.py",
    "watching.md": "test_watching.py",
}


pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"there is no {' and no '.join(MISSING)}")


@pytest.fixture(scope="module", params=["in-process", "kube-apiserver"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of its own, on which the pages may define and remove what they like."""
    if request.param == "in-process":
        with ApiServer() as server:
            yield server
    elif assets := os.environ.get(ASSETS):
        with KubeApiServer(Path(assets)) as real_server:
            yield real_server
    else:
        pytest.skip(NO_ASSETS)


def test_the_first_page_can_be_followed_from_top_to_bottom(cluster: Server, tmp_path: Path) -> None:
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


# Once is enough for its four operators, on the server that is not ours.
@pytest.mark.parametrize("cluster", ["kube-apiserver"], indirect=True)
def test_the_library_can_be_left(cluster: Server, tmp_path: Path) -> None:
    """In the page's releases each object is created once and cleaned up once, plain Kopf's too."""
    databases = Resource("mycompany.com", "v1", "databases", "Database")
    cluster.define(databases.group, databases.version, databases.plural, kind=databases.kind)
    blocks = list(blocks_of((DOCS / "leaving.md").read_text()))
    today, one, two = [code for kind, code, _ in blocks if kind == "python"]
    (command,) = [code for kind, code, _ in blocks if kind == "sh"]
    own, backups = "mycompany.com/db-operator", "mycompany.com/db-operator.backups"

    with (
        contextlib.closing(client_of(cluster)) as api,
        api.watching(databases.path) as seen,
        Reader(cluster, tmp_path) as reader,
    ):

        def release(code: str) -> None:
            reader.interrupt()
            (tmp_path / "db_operator.py").write_text(code)
            reader.type("kopf run -A db_operator.py", "")

        def finalizers() -> list[str]:
            return list(api.get(databases.path_to("a")).json()["metadata"]["finalizers"])

        release(today)
        for name in ("a", "b"):
            api.create(databases.path, databases.body(name, spec={"size": 1})).raise_for_status()
        wait_until(lambda: reader.log.count("is created") == 2, what=reader.log)
        assert finalizers() == [backups, own]
        assert reader.output(command) == "default/a\ndefault/b\n"
        release(one)
        wait_until(lambda: finalizers() == [own], what=reader.log)
        wait_until(lambda: reader.output(command) == "")
        release(two)
        api.merge_patch(databases.path_to("a"), {"spec": {"size": 2}}).raise_for_status()
        handled = '{"spec":{"size":2}}\n'
        wait_until(lambda: handled in seen.of("a")[-1][1]["metadata"]["annotations"].values())
        api.delete(databases.path_to("b")).raise_for_status()
        seen.wait_for("DELETED", "b")
        release(today)  # back again
        wait_until(lambda: finalizers() == [own, backups], what=reader.log)
        api.delete(databases.path_to("a")).raise_for_status()
        seen.wait_for("DELETED", "a")
    for name in ("a", "b"):
        assert reader.log.count(f"database of {name} is created") == 1
        assert reader.log.count(f"backups of {name} are dropped") == 1
        assert "kopf.zalando.org" not in str(seen.of(name))
