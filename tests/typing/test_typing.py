"""What type checkers say to users: right usage is taken, and each wrong usage is an error."""

import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_overloads

import pytest

from kopf_finalizers import configure

from ..support.documents import PAGES, ROOT, begins_a_file, code_of

API, LAMBDAS, CLIENTS, WRONG = (
    ROOT / "tests" / "typing" / f"{name}.py" for name in ("api", "lambdas", "clients", "wrong")
)

# What a line of wrong usage expects, and the checkers that take it for right all the same.
_IGNORE = re.compile(r"  # type: ignore\[([a-z-]+)\](?:  # taken by (\w+))?$")


@dataclass(frozen=True)
class Found:
    """One error that a type checker has found."""

    file: str
    line: int
    code: str
    text: str


@dataclass(frozen=True)
class Usage:
    """All that is checked, in one folder, so that each checker runs once."""

    folder: Path
    pages: list[Path]

    @property
    def files(self) -> list[Path]:
        return [API, LAMBDAS, self.wrong(WRONG), self.wrong(CLIENTS), *self.pages]

    def wrong(self, file: Path) -> Path:
        """The copy of a file in which no error is expected any more."""
        return self.folder / f"{file.stem}_usage.py"


@pytest.fixture(scope="module")
def usage(tmp_path_factory: pytest.TempPathFactory) -> Usage:
    folder = tmp_path_factory.mktemp("typing")
    pages = folder / "code_of_pages"
    pages.mkdir()
    (pages / "__init__.py").touch()
    code = dict[Path, list[str]]()
    for page in PAGES:
        for number, (_, block) in enumerate(code_of(page)):
            if begins_a_file(block) or not number:
                file = pages / f"{page.stem.replace('-', '_').lower()}_{number}.py"
            code.setdefault(file, []).append(block)
    for file, blocks in code.items():
        file.write_text("\n".join(blocks))
    usage = Usage(folder, list(code))
    for file in (WRONG, CLIENTS):
        lines = file.read_text().splitlines()
        usage.wrong(file).write_text("\n".join(_IGNORE.sub("", line) for line in lines))
    return usage


def run(*command: str, folder: Path) -> str:
    """What a checker prints; it may find errors, but not fail."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": programs, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def mypy(usage: Usage) -> Iterator[Found]:
    """`mypy --strict`, and the pages as somebody writes who annotates nothing."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary"]
    output = run(*command, *map(str, usage.files), folder=ROOT)
    for line in output.splitlines():
        if match := re.fullmatch(r"(.*?):(\d+): error: (.*?)(?:  \[([a-z-]+)\])?", line):
            yield Found(Path(match[1]).name, int(match[2]), match[4], line)


def pyright(usage: Usage) -> Iterator[Found]:
    """Its strict mode for what is annotated in full, its standard one for the rest."""
    config = usage.folder / "pyrightconfig.json"
    options = {
        "include": [str(file) for file in usage.files],
        "strict": [str(API)],
        "typeCheckingMode": "standard",
        "reportRedeclaration": False,
    }
    config.write_text(json.dumps(options))
    command = ["basedpyright", f"--project={config}", f"--pythonpath={sys.executable}"]
    output = run(*command, "--level=error", "--outputjson", folder=usage.folder)
    for one in json.loads(output)["generalDiagnostics"]:
        file, line = Path(one["file"]), one["range"]["start"]["line"] + 1
        yield Found(
            file.name,
            line,
            one.get("rule", ""),
            f"{file.name}:{line}: {one['rule']}: {one['message']}",
        )


def ty(usage: Usage) -> Iterator[Found]:
    """It has one mode."""
    command = ["ty", "check", f"--python={sys.prefix}", "--output-format=concise"]
    output = run(*command, *map(str, usage.files), folder=usage.folder)
    for line in output.splitlines():
        if match := re.match(r"(.*?):(\d+):\d+: error\[([a-z-]+)\]", line):
            yield Found(Path(match[1]).name, int(match[2]), match[3], line)


def _where(module: str, checker: Callable[[Usage], Iterator[Found]]) -> Any:
    reason = f"{module} is not installed, so no types were checked by it"
    missing = importlib.util.find_spec(module) is None
    return pytest.param(checker, marks=pytest.mark.skipif(missing, reason=reason), id=module)


@dataclass(frozen=True)
class Report:
    """What one checker has found in all of it."""

    checker: str
    found: list[Found]

    def of(self, *files: Path) -> list[Found]:
        names = {file.name for file in files}
        return [error for error in self.found if error.file in names]


@pytest.fixture(
    scope="module", params=[_where("mypy", mypy), _where("basedpyright", pyright), _where("ty", ty)]
)
def report(request: pytest.FixtureRequest, usage: Usage) -> Report:
    return Report(request.param.__name__, list(request.param(usage)))


def texts(errors: list[Found]) -> list[str]:
    return [error.text for error in errors]


def test_right_usage_is_taken(report: Report) -> None:
    """Decorated functions keep their types, and every type is known: also in the strictest mode."""
    assert texts(report.of(API, LAMBDAS)) == []


def test_the_code_of_the_pages_has_no_type_errors(report: Report, usage: Usage) -> None:
    """What a reader may copy is right in their editor, too."""
    assert texts(report.of(*usage.pages)) == []


@pytest.mark.parametrize("file", [WRONG, CLIENTS], ids=["wrong", "clients"])
def test_each_wrong_usage_is_an_error(report: Report, usage: Usage, file: Path) -> None:
    """Each line that expects an error has one, for its own reason, and no other line has."""
    expected, found = set[tuple[int, str]](), report.of(usage.wrong(file))
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        if (ignore := _IGNORE.search(line)) and ignore[2] != report.checker:
            # The codes of the comments are mypy's.
            expected.add((number, ignore[1] if report.checker == "mypy" else ""))
    codes = {(one.line, one.code if report.checker == "mypy" else "") for one in found}
    assert codes == expected, texts(found)


def test_nothing_else_is_found(report: Report, usage: Usage) -> None:
    """No error is in a file that no test looks at: in the package itself, say."""
    others = [error for error in report.found if error not in report.of(*usage.files)]
    assert texts(others) == []


@pytest.mark.skipif(
    importlib.util.find_spec("basedpyright") is None, reason="basedpyright is not installed"
)
def test_every_type_of_the_package_is_known(tmp_path: Path) -> None:
    """A user's checker need infer nothing: all that is exported is annotated in full."""
    command = ["basedpyright", "--verifytypes", "kopf_finalizers", "--ignoreexternal"]
    found = json.loads(run(*command, "--outputjson", folder=tmp_path))["typeCompleteness"]
    assert [one["name"] for one in found["symbols"] if not one["isTypeKnown"]] == []
    assert found["completenessScore"] == 1


def test_each_way_to_configure_takes_every_option() -> None:
    """An option that is added to the function alone would be an error to a type checker."""
    ways = {"domain", "operator", "finalizer", "name", "keep_finalizer"}
    options = inspect.signature(configure).parameters.keys() - ways
    assert len(get_overloads(configure)) == 2
    for overload in get_overloads(configure):
        assert inspect.signature(overload).parameters.keys() - ways == options
