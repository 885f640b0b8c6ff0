"""Whatever a reader may copy is run here: the code of README and docs, and the docstrings."""

import ast
import contextlib
import doctest
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kopf
import pytest

import kopf_finalizers
from kopf_finalizers import instrumentation
from kopf_finalizers.testing import ApiServer

from ..support.documents import PAGES, ROOT, begins_a_file, code_of
from ..support.operators import OperatorProcess
from ..support.servers import Resource, client_of, wait_until

MODULES = sorted(ROOT.glob("kopf_finalizers/**/*.py"))


@pytest.fixture(autouse=True)
def default_registry() -> Iterator[None]:
    """What the examples register with Kopf, and their hooks, go with the test."""
    before = kopf.get_default_registry()
    kopf.set_default_registry(kopf.OperatorRegistry())
    yield
    kopf.set_default_registry(before)
    for hook in instrumentation.get_hooks():
        instrumentation.remove_hook(hook)


def docstrings() -> Iterator[tuple[str, Path, int, str]]:
    """All docstrings with an example: those of attributes too, which Python does not keep."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Expr(value=ast.Constant(value=str(text))) if ">>>" in text:
                    name = f"{path.relative_to(ROOT)}:{node.lineno}"
                    yield name, path, node.lineno - 1, text


@pytest.fixture
def quickstart(tmp_path: Path) -> Path:
    """The first file of the README."""
    _, code = next(code_of(ROOT / "README.md"))
    file = tmp_path / "db_operator.py"
    file.write_text(code)
    return file


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page: Path) -> None:
    """A block that begins with an import is a new file; the others go on from the one before."""
    namespace: dict[str, Any] = {}
    for line, code in code_of(page):
        if begins_a_file(code):
            namespace = {"__name__": page.stem}
            kopf.set_default_registry(kopf.OperatorRegistry())
        exec(compile("\n" * line + code, page, "exec"), namespace)


@pytest.mark.parametrize(
    ("path", "line", "text"),
    [pytest.param(*rest, id=name) for name, *rest in docstrings()],
)
def test_the_example_of_a_docstring_is_true(path: Path, line: int, text: str) -> None:
    """It runs as it stands, with the public names and a `finalizers` at hand."""
    names = {name: getattr(kopf_finalizers, name) for name in kopf_finalizers.__all__}
    names |= {name: getattr(instrumentation, name) for name in instrumentation.__all__}
    names |= {"kopf": kopf, "kopf_finalizers": kopf_finalizers, "instrumentation": instrumentation}
    names["finalizers"] = kopf_finalizers.configure("mycompany.com", "db-operator")
    example = doctest.DocTestParser().get_doctest(text, names, path.name, str(path), line)
    said = list[str]()
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert not said, "".join(said)


def test_the_quickstart_does_what_it_says(quickstart: Path, api_server: ApiServer) -> None:
    """With `kopf run` the object has both finalizers, gets both cleanups, and is gone then."""
    api_server.define("mycompany.com", "v1", "databases", kind="Database")
    databases = Resource("mycompany.com", "v1", "databases", "Database")
    log = quickstart.with_suffix(".log")
    with (
        OperatorProcess(quickstart, api_server, log, resource=databases) as operator,
        contextlib.closing(client_of(api_server)) as api,
        api.watching(databases.path) as seen,
    ):
        api.create(databases.path, databases.body("a")).raise_for_status()
        wait_until(lambda: "is created" in operator.output(), what="the creation is handled")
        assert api.get(databases.path_to("a")).json()["metadata"]["finalizers"] == [
            "mycompany.com/db-operator.backups",
            "mycompany.com/db-operator",
        ]
        api.delete(databases.path_to("a")).raise_for_status()
        seen.wait_for("DELETED", "a")
        assert "database of a is dropped" in operator.output()
        assert "backups of a are dropped" in operator.output()


def test_what_stands_in_for_a_removed_handler_releases_its_finalizer(
    api_server: ApiServer, tmp_path: Path
) -> None:
    """The line of the documentation takes off what an earlier release has put on."""
    found = [code for _, code in code_of(ROOT / "docs" / "handlers.md") if "release_dns" in code]
    file = tmp_path / "released.py"
    file.write_text("import kopf_finalizers\n" + "".join(found))
    api_server.define("mycompany.com", "v1", "databases", kind="Database")
    databases = Resource("mycompany.com", "v1", "databases", "Database")
    with (
        contextlib.closing(client_of(api_server)) as api,
        OperatorProcess(file, api_server, tmp_path / "log", resource=databases),
    ):
        body = databases.body("a", finalizers=["other.org/f", "mycompany.com/db-operator.dns"])
        api.create(databases.path, body).raise_for_status()

        def released() -> bool:
            answer = api.get(databases.path_to("a")).json()
            return bool(answer["metadata"]["finalizers"] == ["other.org/f"])

        wait_until(released)


@pytest.mark.parametrize("clients", ["as they are", "without pykube"])
def test_the_test_of_an_operator_passes(quickstart: Path, clients: str) -> None:
    """The two blocks of the page about tests are a test of the README's operator, or several.

    Whichever client library Kopf finds: two of them learn where the server is at their import.
    """
    (_, conftest), (_, test) = code_of(ROOT / "docs" / "testing.md")
    quickstart.with_name("pytest.ini").touch()  # so that this project's own does not count
    quickstart.with_name("conftest.py").write_text(conftest)
    quickstart.with_name("test_operator.py").write_text(test)
    quickstart.with_name("test_again.py").write_text(test)
    if clients == "without pykube":
        quickstart.with_name("pykube.py").write_text("raise ImportError")
    process = subprocess.run(
        [sys.executable, "-m", "pytest"],
        cwd=quickstart.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "2 passed" in process.stdout, process.stdout + process.stderr
