"""The pages of the documentation: what they show is what happens, and nothing is left out."""

import ast
import builtins
import contextlib
import importlib.util
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import kopf
import pytest
import yaml
from click.testing import CliRunner

import kopf_finalizers
import kopf_finalizers.instrumentation
import kopf_finalizers.testing
from benchmarks import pages
from kopf_finalizers._cli import main
from kopf_finalizers._on import On
from kopf_finalizers.testing import ApiServer

from ..support.operators import OperatorProcess
from ..support.reader import steps_of
from ..support.servers import CRDS, Api, KubeApiServer, Resource, Server, client_of, wait_until

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]

_BLOCK = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

KINDS = {
    "python": "run, by test_documentation.py",
    "console": "run, below and in test_in_order.py",
    "sh": "run with kubectl, below",
    "yaml": "compared with what is there, or at least read",
    "text": "what a command prints",
    "": "a command to install or to type",
    "{eval-rst}": "Sphinx's",
    "{glossary}": "Sphinx's",
    "{include}": "Sphinx's",
    "{index}": "Sphinx's",
    "{raw}": "Sphinx's",
    "{toctree}": "Sphinx's",
}


def blocks_of(page: str | Path, kind: str) -> list[str]:
    """The code blocks of one kind, in their order."""
    text = (DOCS / page).read_text()
    return [code for _, what, code in _BLOCK.findall(text) if what == kind]


# The blocks


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    """A block with a mark that no test looks for would be run by none."""
    found = {
        what.split(" ")[0] for page in PAGES for _, what, _ in _BLOCK.findall(page.read_text())
    }
    assert found <= set(KINDS)


def lines_to_copy(page: Path) -> Iterator[str]:
    """The lines of a page's code; what a program prints is shown as it is, and wrapped there."""
    for _, kind, code in _BLOCK.findall(page.read_text()):
        for line in textwrap.dedent(code).splitlines():
            if kind.startswith(("python", "yaml", "sh")) or not kind or line.startswith("$ "):
                yield line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_of_code_is_cut_off(page: Path) -> None:
    """At most 84 characters are seen; a command that is made for any resource may be longer."""
    made = {"kubectl patch databases.v1.mycompany.com NAME", "  kubectl get databases.v1.mycompany"}
    too_long = [line for line in lines_to_copy(page) if len(line) > 84]
    assert [line for line in too_long if not line.startswith(tuple(made))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_table_that_a_command_prints_is_cut_off(page: Path) -> None:
    """At 1400 pixels 96 characters are seen; what is not in columns is wrapped."""
    printed = "".join(
        code for _, kind, code in _BLOCK.findall(page.read_text()) if kind.startswith("console")
    )
    in_columns = [line for line in printed.splitlines() if re.search(r"\S {3,}\S", line)]
    assert [line for line in in_columns if len(line) > 96] == []


def console_blocks() -> Iterator[Any]:
    for page in PAGES:
        for block in blocks_of(page, "console"):
            for command, output in steps_of(block):
                if command.startswith(("kubectl ", "kopf ")):
                    continue  # these are typed in test_in_order.py
                yield pytest.param(command, output, id=f"{page.name}: {command}")


@pytest.mark.parametrize(("command", "output"), list(console_blocks()))
def test_a_command_prints_what_the_page_shows(
    command: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is shown after a `$` is run, in the project's folder."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("DEMO_FOLDER", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    program, *arguments = shlex.split(command)
    assert program == "kopf-finalizers"
    result = CliRunner().invoke(main, arguments, prog_name=program)
    assert result.output == output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_yaml_can_be_read(page: Path) -> None:
    """What is to be copied is YAML."""
    for block in blocks_of(page, "yaml"):
        assert yaml.safe_load(block)


@pytest.mark.parametrize("code", blocks_of("article.md", "python never existed"))
def test_what_never_existed_does_not_exist(code: str) -> None:
    """If Kopf ever takes one of these calls, the page is to be written anew."""
    with pytest.raises(TypeError, match="finalizer"):
        exec(code, {"kopf": kopf})


def test_the_page_has_all_three_calls_that_never_existed() -> None:
    """A decorator, a template, and no finalizer."""
    assert len(blocks_of("article.md", "python never existed")) == 3


def test_the_objects_of_the_example_carry_what_its_document_says(
    api_server: ApiServer, tmp_path: Path
) -> None:
    """The document was made without a cluster, and is true on one."""
    document = ["document", "--format", "json", str(ROOT / "examples" / "db_operator.py")]
    entries = json.loads(CliRunner().invoke(main, document).stdout)["finalizers"]
    api_server.define("mycompany.com", "v1", "databases", kind="Database")
    api_server.define("mycompany.com", "v1", "reports", kind="Report")
    databases = Resource("mycompany.com", "v1", "databases", "Database")
    file = ROOT / "examples" / "db_operator.py"
    with (
        OperatorProcess(file, api_server, tmp_path / "log", resource=databases) as operator,
        contextlib.closing(client_of(api_server)) as api,
        api.watching(databases.path) as seen,
    ):
        api.create(databases.path, databases.body("a")).raise_for_status()
        wait_until(lambda: "are scheduled" in operator.output(), what=operator.output())
        metadata = api.get(databases.path_to("a")).json()["metadata"]
        assert set(metadata["finalizers"]) == {entry["name"] for entry in entries}
        api.delete(databases.path_to("a")).raise_for_status()
        seen.wait_for("DELETED", "a")


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not there")
def test_the_commands_for_an_object_that_hangs_do_what_they_say(
    server: Server, api: Api, resource: Resource
) -> None:
    """The first shows who holds it; the second takes off that one finalizer, and no other."""
    show, release = blocks_of("terminating.md", "sh")
    (shown,) = blocks_of("terminating.md", "text")
    body = resource.body("a", finalizers=[*shown.split()[1:], "other.org/f"])
    api.create(resource.path, body).raise_for_status()
    api.delete(resource.path_to("a")).raise_for_status()

    def run(command: str) -> str:
        for old, new in {
            "databases.v1.mycompany.com": f"{resource.plural}.{resource.version}.{resource.group}",
            " NAME ": " a ",
            "NAMESPACE": str(resource.namespace),
        }.items():
            command = command.replace(old, new)
        process = subprocess.run(
            ["/bin/sh", "-c", command],
            env=os.environ | {"KUBECONFIG": str(server.kubeconfig)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return process.stdout

    since, *names = run(show).split()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", since)
    assert names == body["metadata"]["finalizers"]
    run(release)
    found = api.get(resource.path_to("a")).json()["metadata"]["finalizers"]
    assert found == ["mycompany.com/db-operator", "other.org/f"]


def test_the_command_on_the_page_is_the_one_of_the_document() -> None:
    """It is explained in one place, and printed for each finalizer in another."""
    (command,) = [one for one in blocks_of("terminating.md", "sh") if "patch" in one]
    assert command in blocks_of("db-operator-finalizers.md", "sh")


def test_the_role_is_enough_and_no_verb_too_many(
    real_server: KubeApiServer, real_databases: Resource
) -> None:
    """With the page's role a finalizer goes on and off; without its `patch` it does not."""
    (block,) = blocks_of("rbac.md", "yaml")
    role = yaml.safe_load(block)
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    databases = real_databases
    with contextlib.closing(client_of(real_server)) as api:
        api.create(f"{rbac}/clusterroles", role).raise_for_status()
        api.create(
            f"{rbac}/clusterrolebindings",
            {
                "metadata": {"name": "db-operator"},
                "roleRef": {"kind": "ClusterRole", "name": "db-operator"},
                "subjects": [{"kind": "User", "name": "db-operator"}],
            },
        ).raise_for_status()
        body = api.create(databases.path, databases.body("a")).raise_for_status().json()
        api.client.headers["Impersonate-User"] = "db-operator"
        add = kopf_finalizers.json_patch(body, add="mycompany.com/db-operator")
        event = {
            "metadata": {"generateName": "a-", "namespace": "default"},
            "involvedObject": {"namespace": "default"},
        }
        wait_until(lambda: api.get(databases.path).status_code == 200)  # rights take a moment
        answer = api.json_patch(databases.path_to("a"), add).raise_for_status()
        remove = kopf_finalizers.json_patch(answer.json(), remove="mycompany.com/db-operator")
        assert api.json_patch(databases.path_to("a"), remove).status_code == 200
        for path in (databases.path, "/api/v1/namespaces", CRDS):
            with api.watching(path):
                pass
        status = {"status": {"size": 1}}
        api.merge_patch(databases.path_to("a", "status"), status).raise_for_status()
        api.create("/api/v1/namespaces/default/events", event).raise_for_status()
        assert api.get(databases.path_to("a")).status_code == 403
        api.client.headers["Impersonate-User"] = "somebody-else"
        assert api.json_patch(databases.path_to("a"), add).status_code == 403


def test_the_page_has_the_rights_of_each_command() -> None:
    """Also of those that need none."""
    rows = [line for line in (DOCS / "rbac.md").read_text().splitlines() if line.startswith("|")]
    for name in main.list_commands(click.Context(main)):
        assert any(f"`kopf-finalizers {name}`" in row for row in rows), name


# The reference


def described(node: ast.AST) -> Iterator[tuple[str, str | None]]:
    """The public names of a module or a class, each with its docstring, wherever it stands."""
    body: list[ast.stmt] = getattr(node, "body", [])
    for statement, following in zip(body, [*body[1:], None], strict=True):
        match statement:
            case (
                ast.FunctionDef(name=name)
                | ast.ClassDef(name=name)
                | ast.AsyncFunctionDef(name=name)
            ):
                yield name, ast.get_docstring(statement)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                match following:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        yield name, text


def docstrings() -> dict[str, str | None]:
    """Of all modules of the package; of overloads the one that has one."""
    found: dict[str, str | None] = {}
    for path in sorted((ROOT / "kopf_finalizers").rglob("*.py")):
        for name, text in described(ast.parse(path.read_text())):
            found[name] = found.get(name) or text
    return found


@pytest.mark.parametrize("name", kopf_finalizers.__all__)
def test_every_public_name_has_a_docstring_with_an_example(name: str) -> None:
    """Whoever asks the editor for help gets something to copy."""
    text = docstrings().get(name)
    assert text, f"{name} has no docstring"
    assert ">>>" in text, f"{name} has no example"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param(module, name, id=name)
        for module in (kopf_finalizers.testing, kopf_finalizers.instrumentation)
        for name in module.__all__
    ],
)
def test_every_public_name_of_an_extra_has_a_docstring_with_an_example(
    module: ModuleType, name: str
) -> None:
    """An extra is as public as the rest."""
    text = getattr(module, name).__doc__
    assert ">>>" in (text or ""), f"{name} has no example"


PUBLIC_CLASSES = [kopf_finalizers.Finalizers, kopf_finalizers.OperatorIdentity, On, ApiServer]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        pytest.param(owner, name, id=f"{owner.__name__}.{name}")
        for owner in PUBLIC_CLASSES
        for name, member in vars(owner).items()
        if not name.startswith("_")
        and (callable(member) or isinstance(member, property | classmethod))
    ],
)
def test_every_public_method_has_a_docstring_with_an_example(owner: type, name: str) -> None:
    """Methods, properties and decorators as well."""
    member = inspect.getattr_static(owner, name)
    text = member.__doc__
    assert text, f"{owner.__name__}.{name} has no docstring"
    assert ">>>" in text, f"{owner.__name__}.{name} has no example"


def test_every_public_name_is_in_the_reference() -> None:
    """What is promised can be looked up."""
    blocks = "".join(blocks_of("reference.md", "{eval-rst}"))
    shown = {
        name.rpartition(".")[2]
        for name in re.findall(r"^\.\. auto\w+:: ([\w.]+)", blocks, re.MULTILINE)
    }
    public = {*kopf_finalizers.__all__, *kopf_finalizers.testing.__all__, "On"}
    public |= {*kopf_finalizers.instrumentation.__all__}
    assert public <= shown


@pytest.mark.parametrize("inventory", ["kopf.inv", "python.inv"])
def test_every_name_of_an_inventory_exists(inventory: str) -> None:
    """A link to a name that is gone would lead nowhere, and no build would see it."""
    first, _, _, *lines = (DOCS / "inventories" / inventory).read_text().splitlines()
    assert first == "# Sphinx inventory version 1"
    root = {"kopf.inv": kopf, "python.inv": builtins}[inventory]
    for line in lines:
        name, _, _ = line.split()
        reduce(getattr, name.removeprefix("kopf.").split("."), root)


# The check of the links


@pytest.fixture
def check_links() -> Any:
    """The script that `make docs` ends with."""
    spec = importlib.util.spec_from_file_location("check_links", DOCS / "check_links.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("link", "is_broken"),
    [
        ("b.html", False),
        ("b.html#there", False),
        ("#here", False),
        ("sub/", False),
        ("/b.html", False),
        ("/nosuch.html", True),
        ("https://example.com/nosuch", False),
        ("nosuch.html", True),
        ("b.html#nosuch", True),
        ("#nosuch", True),
    ],
)
def test_a_link_that_leads_nowhere_is_found(
    link: str, is_broken: bool, check_links: Any, tmp_path: Path
) -> None:
    """Pages, places on them and pictures are looked for; other sites are not."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(f'<p id="here"><a href="{link}">a</a></p>')
    (tmp_path / "b.html").write_text('<p id="there">b</p>')
    assert check_links.broken(tmp_path) == ([f"a.html: {link}"] if is_broken else [])


def test_the_readme_has_the_figures_of_the_benchmark() -> None:
    """Nobody has to take them on trust: `make bench` writes both."""
    results = json.loads((DOCS / "benchmarks.json").read_text())
    assert pages.table_of_the_readme(results) in (ROOT / "README.md").read_text()


def test_the_page_of_benchmarks_has_their_figures() -> None:
    """And no others: a table that was edited by hand, or is missing, is noticed."""
    results = json.loads((DOCS / "benchmarks.json").read_text())
    page, tables = (DOCS / "benchmarks.md").read_text(), pages.tables_of(results)
    assert set(re.findall(r"<!-- begin (\w+) -->", page)) == set(tables)
    assert pages.filled(page, tables) == page


def test_the_figures_of_the_document_are_json() -> None:
    """The example's document for programs has the same entries as the one for people."""
    result = CliRunner().invoke(
        main, ["document", "--format", "json", str(ROOT / "examples" / "db_operator.py")]
    )
    names = {entry["name"] for entry in json.loads(result.stdout)["finalizers"]}
    text = (DOCS / "db-operator-finalizers.md").read_text()
    assert names == set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))
