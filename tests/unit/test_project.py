"""What the project says of itself in several places, and that the places agree."""

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import kopf_finalizers

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = ROOT / ".github" / "workflows"

pytestmark = pytest.mark.skipif(
    not WORKFLOWS.exists(), reason="these are files of the repository, and not of a release"
)


def workflow(name: str) -> Any:
    return yaml.safe_load((WORKFLOWS / name).read_text())


def pythons_of_nox() -> list[str]:
    """What the matrix runs on."""
    for node in ast.parse((ROOT / "noxfile.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PYTHONS":
            return list(ast.literal_eval(node.value))
    raise AssertionError("there are no PYTHONS in noxfile.py")


def test_the_version_is_said_once() -> None:
    """`__version__` is what is installed."""
    assert kopf_finalizers.__version__ == importlib.metadata.version("kopf-finalizers")
    assert kopf_finalizers.__version__ == PROJECT["project"]["version"]


def test_every_python_that_is_declared_is_tested() -> None:
    """In the matrix of this machine, and in that of the workflow."""
    known = [
        match[1]
        for one in PROJECT["project"]["classifiers"]
        if (match := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", one))
    ]
    assert known == pythons_of_nox()
    assert known == workflow("ci.yml")["jobs"]["matrix"]["strategy"]["matrix"]["python"]
    assert PROJECT["project"]["requires-python"] == f">={known[0]}"
    made = re.search(r"^PYTHONS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert made is not None
    assert {f"python{one}" for one in known} <= set(made[1].split())


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_workflows_run_what_the_makefile_has(name: str) -> None:
    """Nobody's build does what nobody can do at home."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    steps = [step for job in workflow(name)["jobs"].values() for step in job["steps"]]
    made = {step["run"].split()[1] for step in steps if step.get("run", "").startswith("make ")}
    assert made
    assert made <= targets


def test_a_release_is_built_from_a_tag_that_the_changelog_knows() -> None:
    """The workflow hands the tag over, and the session compares it."""
    (job,) = workflow("release.yml")["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == ['make release ARGS="-- $GITHUB_REF_NAME"']
    assert any("attest" in step.get("uses", "") for step in job["steps"])


def test_clean_removes_all_that_git_leaves_out() -> None:
    """What the commands make is left out of the repository, and goes with `make clean`."""
    makefile = (ROOT / "Makefile").read_text()
    (recipe,) = re.findall(r"^clean:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    removed = recipe.replace("-name", " ").split()
    ignored = (ROOT / ".gitignore").read_text().split()
    assert [one for one in ignored if one.strip("/") not in removed] == []


def test_what_is_imported_is_declared() -> None:
    """No dependency comes by luck: with another one, say."""
    imported = set[str]()
    for file in (ROOT / "kopf_finalizers").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Import(names=names):
                    imported |= {alias.name.partition(".")[0] for alias in names}
                case ast.ImportFrom(module=str(module), level=0):
                    imported.add(module.partition(".")[0])
    extras = PROJECT["project"]["optional-dependencies"].values()
    declared = {
        re.split(r"[<>=;\[ ]", one)[0].replace("-", "_")
        for names in (PROJECT["project"]["dependencies"], *extras)
        for one in names
    }
    named_otherwise = {"opentelemetry": "opentelemetry_api", "yaml": "pyyaml"}
    others = imported - sys.stdlib_module_names - {"kopf_finalizers"}
    assert {named_otherwise.get(one, one) for one in others} - declared == set()


def test_every_direct_dependency_of_development_is_pinned() -> None:
    """What is pinned is what everybody has."""
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    groups = PROJECT["dependency-groups"].values()
    direct = {
        re.split(r"[<>=;\[ ]", one)[0].lower().replace("_", "-")
        for group in groups
        for one in group
        if isinstance(one, str)
    }
    assert direct - pinned == set()


def test_a_source_distribution_has_all_that_the_repository_has(tmp_path: Path) -> None:
    """The documentation can be built from it, and the tests can be run."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    listed = subprocess.run(
        ["tar", "tf", str(archive)], capture_output=True, text=True, check=True, timeout=60
    )
    found = {name.partition("/")[2] for name in listed.stdout.split()}
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    not_of_a_release = (".github/", ".ci/", ".readthedocs.yaml")
    missing = {
        name for name in tracked.stdout.split() if not name.startswith(not_of_a_release)
    } - found
    assert missing == set()


def _import_without(module: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the import of the API server for tests says where a module is missing."""
    for name in list(sys.modules):
        if name.startswith("kopf_finalizers.testing"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError) as refusal:
        importlib.import_module("kopf_finalizers.testing")
    return str(refusal.value)


@pytest.mark.parametrize("module", ["pytest", "jsonpatch", "aiohttp"])
def test_what_tests_need_is_said_where_it_is_missing(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server for tests names the extra to install."""
    assert _import_without(module, monkeypatch) == (
        f"kopf_finalizers.testing needs {module}. Install it with the extra for tests:"
        " pip install 'kopf-finalizers[testing]'."
    )


def test_what_else_is_missing_is_said_as_python_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extra would not help there."""
    said = _import_without("kopf_finalizers.testing._store", monkeypatch)
    assert "pip install" not in said


def test_forms_for_issues_can_be_read() -> None:
    """Each has what a form must have."""
    forms = list((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 3
    for file in forms:
        form = yaml.safe_load(file.read_text())
        if file.stem == "config":
            continue
        assert {"name", "description", "body"} <= set(form)
        ids = [one["id"] for one in form["body"]]
        assert len(ids) == len(set(ids))
        assert all(one["attributes"]["label"] for one in form["body"])
