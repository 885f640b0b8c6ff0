"""`kopf-finalizers`, as it is called: what it prints, and how it fails."""

import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kopf
import pytest
import yaml
from click.testing import CliRunner, Result

from kopf_finalizers._cli import main

ROOT = Path(__file__).parents[2]
EXAMPLE = "examples/db_operator.py"
DOCUMENT = "docs/db-operator-finalizers.md"
COMMANDS = {
    "kopf-finalizers": [str(Path(sys.executable).with_name("kopf-finalizers"))],
    "python -m kopf_finalizers": [sys.executable, "-m", "kopf_finalizers"],
}

CONFIGURED = """
import kopf
import kopf_finalizers

finalizers = kopf_finalizers.configure("mycompany.com", "db-operator")
"""
CLEANUP = """

@finalizers.on.delete("mycompany.com", "v1", "databases", finalizer="backups")
def drop_backups(**_): ...
"""
OPERATOR = CONFIGURED + CLEANUP


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be in, with an operator; what is imported from it goes with the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "db_operator.py").write_text(OPERATOR)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def run(*arguments: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(main, arguments)


def documented(*arguments: str) -> Any:
    """What `document --format json` has to say."""
    result = run("document", "--format", "json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def called(command: str, *arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command as users call it, in a process of its own."""
    return subprocess.run(
        [*COMMANDS[command], *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )


# Its entry points


@pytest.mark.parametrize("command", COMMANDS)
def test_each_entry_point_prints_the_names(command: str) -> None:
    """The script and the module do the same."""
    done = called(command, "name", "--domain", "mycompany.com", "--operator", "db-operator")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "finalizer: mycompany.com/db-operator\nstoragePrefix: db-operator.mycompany.com\n"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_each_entry_point_finds_the_documentation_of_the_example_up_to_date(command: str) -> None:
    """The page in the documentation is what the example operator says of itself."""
    done = called(command, "document", EXAMPLE, "--check", DOCUMENT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_entry_point_fails_with_one_line(command: str, folder: Path) -> None:
    """An error is one line, and exits with 2."""
    done = called(command, "document", "nosuch.py", folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: nosuch.py does not exist, or is no file.\n"


def test_the_module_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m kopf_finalizers` is the command, under its name."""
    monkeypatch.setattr(sys, "argv", ["kopf_finalizers", "--version"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("kopf_finalizers", run_name="__main__")
    assert end.value.code == 0


def test_an_import_of_the_library_imports_no_click() -> None:
    """Operators pay nothing for a command that they do not run."""
    code = "import kopf_finalizers, sys; sys.exit('click' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# How an operator is loaded


FILES = {
    "one.py": "import kopf\nfrom helper import KIND\n@kopf.on.delete(KIND)\ndef one(**_): ...\n",
    "sub/two.py": "import kopf, beside\n@kopf.on.delete(beside.KIND)\ndef two(**_): ...\n",
    "sub/beside.py": "KIND = 'twos'\n",
    "helper.py": "KIND = 'ones'\n",
    "pkg/__init__.py": "",
    "pkg/three.py": "import kopf\n@kopf.on.delete('threes')\ndef three(**_): ...\n",
}


LOAD = """
import json, sys
import kopf
from kopf._cogs.helpers.loaders import preload
from kopf_finalizers._cli.loading import load as own_load

load = preload if sys.argv[1] == "kopf" else lambda *what: own_load(*what, verbose=False)
load(["one.py", "sub/two.py"], ["pkg.three"])
handlers = kopf.get_default_registry()._changing.get_all_handlers()
files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
print(json.dumps({
    "handlers": [handler.id for handler in handlers],
    "modules": {name: file for name, file in files.items() if file and sys.argv[2] in file},
    "path": sys.path,
}))
"""


def test_it_loads_what_kopf_run_loads(folder: Path) -> None:
    """The same files and modules, in the same order, with the same imports beside them."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    ours, kopfs = (
        json.loads(
            subprocess.run(
                [sys.executable, "-c", LOAD, which, str(folder)],
                cwd=folder,
                stdout=subprocess.PIPE,
                check=True,
                timeout=60,
            ).stdout
        )
        for which in ("ours", "kopf")
    )
    assert ours == kopfs
    assert ours["handlers"] == ["one", "two", "three"]
    assert len(ours["modules"]) == 6


def test_files_and_modules_make_one_operator(folder: Path) -> None:
    """As with `kopf run`, handlers of all of them belong to the one identity."""
    (folder / "more").mkdir()
    (folder / "more" / "dns.py").write_text(CONFIGURED + CLEANUP.replace("backups", "dns"))
    entries = documented("db_operator.py", "-m", "more.dns")["finalizers"]
    assert [entry["handler"] for entry in entries] == [
        "drop_backups",
        "drop_dns",
        "drop_backups",
        "drop_dns",
    ]


def test_nothing_of_an_operator_is_left_behind() -> None:
    """Kopf's registry and the import path are what they were, and a second call says the same."""
    before = kopf.get_default_registry(), sys.path[:]
    assert documented("db_operator.py") == documented("db_operator.py")
    assert (kopf.get_default_registry(), sys.path) == before


def test_what_an_operator_prints_is_not_in_the_document(folder: Path) -> None:
    """An operator that prints while it is imported does not spoil what is printed here."""
    (folder / "db_operator.py").write_text("print('hello')" + OPERATOR)
    result = run("document", "db_operator.py")
    assert "hello" not in result.stdout
    assert "hello" in result.stderr


# What is printed


def test_the_json_has_every_entry_with_every_field() -> None:
    """A program gets what `Finalizers.inventory()` knows."""
    found = documented("db_operator.py")
    assert found["operator"] == "mycompany.com/db-operator"
    own, dedicated = found["finalizers"]
    assert own["name"] == "mycompany.com/db-operator"
    release = dedicated.pop("release")
    assert release.startswith("kubectl patch databases.v1.mycompany.com NAME ")
    assert dedicated == {
        "name": "mycompany.com/db-operator.backups",
        "resource": "databases.v1.mycompany.com",
        "handler": "drop_backups",
        "decorator": "on.delete",
        "waitsFor": "drop_backups to succeed, or to be given up",
        "formerOf": None,
        "purpose": None,
        "leaves": None,
    }


def test_the_markdown_has_a_row_for_each_entry_and_a_command_for_each_finalizer() -> None:
    """People get a table, and what to do by hand."""
    text = run("document", "db_operator.py").stdout
    assert (
        "| `mycompany.com/db-operator.backups` | databases.v1.mycompany.com | not said"
        " | drop_backups to succeed, or to be given up | `drop_backups` (on.delete) | not said |\n"
    ) in text
    assert text.count("```sh\nkubectl patch databases.v1.mycompany.com ") == 2
    assert text.endswith("```\n")


def test_the_markdown_says_what_a_finalizer_is_for_and_what_it_leaves(folder: Path) -> None:
    """In the author's words, which cannot break the table."""
    (folder / "db_operator.py").write_text(
        CONFIGURED + "@finalizers.on.delete('databases', finalizer='a', leaves='rows | files')\n"
        "def drop(**_):\n    'Drops\\n    it.\\n\\n    More.'\n"
    )
    text = run("document", "db_operator.py").stdout
    assert "| databases | Drops it. | drop to succeed" in text
    assert text.count(r"(on.delete) | rows \| files |") == 2


def test_handlers_of_kopfs_own_decorators_are_in_the_document(folder: Path) -> None:
    """An operator that only calls `configure` has all its finalizers there, too."""
    (folder / "db_operator.py").write_text(
        CONFIGURED + "@kopf.on.create('databases')\n@kopf.on.delete('databases')\n"
        "def drop(**_):\n    'Drops it.'\n"
    )
    text = run("document", "db_operator.py").stdout
    assert (
        "| `mycompany.com/db-operator` | databases | Drops it. | drop to succeed, or to be given up"
        " | `drop` (kopf.on.delete) | not said |\n"
    ) in text
    assert "`mycompany.com/db-operator` is the operator's own: Kopf puts it on and takes" in text
    assert text.count("```sh\nkubectl patch databases NAME ") == 1
    assert "RESOURCE" not in text


def test_an_operator_whose_own_finalizer_is_on_nothing_says_so(folder: Path) -> None:
    """How it is released is there all the same: former releases may have put it on."""
    (folder / "db_operator.py").write_text(
        CONFIGURED + "@kopf.on.create('databases')\ndef create(**_): ...\n"
    )
    text = run("document", "db_operator.py").stdout
    assert text.startswith(
        "# Finalizers of mycompany.com/db-operator\n\n"
        "`mycompany.com/db-operator` is the operator's own: Kopf puts it on and takes it off."
        " No handler has it put on any object.\n"
    )
    assert "`mycompany.com/db-operator`, with the resource in place of RESOURCE:\n" in text
    assert text.count("```sh\nkubectl patch RESOURCE NAME ") == 1


def test_an_operator_that_only_watches_says_so(folder: Path) -> None:
    """It has a name, and puts it on nothing."""
    (folder / "viewer.py").write_text(
        'import kopf_finalizers\nkopf_finalizers.configure("a.org", "viewer", finalizer=None)\n'
    )
    assert run("document", "viewer.py").stdout == (
        "# Finalizers of a.org/viewer\n\n"
        "This operator only watches: no handler has a finalizer put on any object.\n"
    )


def test_former_names_are_in_the_document(folder: Path) -> None:
    """Objects may carry them still, so whoever is on call has to know them."""
    former = "kopf.zalando.org/KopfFinalizerMarker"
    (folder / "db_operator.py").write_text(
        OPERATOR.replace('"db-operator")', f'"db-operator", former=["{former}"])')
    )
    text = run("document", "db_operator.py").stdout
    assert f"`{former}`, the former name of `mycompany.com/db-operator` |" in text
    assert f"It has had other names before, which objects may still carry: `{former}`." in text
    assert f'{{{{- if eq $f "{former}" -}}}}' in text


# --check


def test_a_file_that_is_up_to_date_is_silence(folder: Path) -> None:
    """In CI and before a commit nothing is said where there is nothing to do."""
    (folder / "doc.md").write_text(run("document", "db_operator.py").stdout)
    result = run("document", "db_operator.py", "--check", "doc.md")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize("format_", ["markdown", "json"])
def test_a_file_that_is_out_of_date_is_shown_with_the_difference(
    folder: Path, format_: str
) -> None:
    """The exit code is 1, and the difference says what is new."""
    written = run("document", "--format", format_, "db_operator.py").stdout
    (folder / "doc.md").write_text(written)
    (folder / "db_operator.py").write_text(OPERATOR + CLEANUP.replace("backups", "dns"))
    result = run("document", "--format", format_, "db_operator.py", "--check", "doc.md")
    assert result.exit_code == 1
    assert result.stdout.startswith("--- doc.md\n+++ the operator\n")
    assert "mycompany.com/db-operator.dns" in result.stdout
    how = "" if format_ == "markdown" else "--format json "
    assert result.stderr == (
        "doc.md is out of date. To write it: kopf-finalizers document"
        f" {how}db_operator.py --output doc.md\n"
    )
    assert (folder / "doc.md").read_text() == written


def test_a_file_to_check_that_is_not_there_is_an_error(folder: Path) -> None:
    """It is not the same as a file that is out of date."""
    result = run("document", "db_operator.py", "--check", "nosuch.md")
    assert result.exit_code == 2
    assert result.output == (
        "Error: nosuch.md does not exist. To write it: kopf-finalizers document db_operator.py"
        " --output nosuch.md\n"
    )


def test_a_file_to_check_that_cannot_be_read_is_an_error(folder: Path) -> None:
    """Nor is one that is no text."""
    (folder / "doc.md").write_bytes(b"\xff\xfe")
    for file in ("doc.md", "."):
        result = run("document", "db_operator.py", "--check", file)
        assert result.exit_code == 2
        assert result.output.startswith(f"Error: {file} cannot be read: ")
        assert result.output.count("\n") == 1


# Errors


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nosuch", "ModuleNotFoundError: No module named 'nosuch'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise RuntimeError", "RuntimeError"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("import sys; sys.exit('no settings')", "SystemExit: no settings"),
        ("def", "SyntaxError: invalid syntax (broken.py, line 1)"),
    ],
)
@pytest.mark.parametrize("arguments", [["broken.py"], ["-m", "broken"]])
def test_an_operator_that_cannot_be_loaded_is_one_line(
    folder: Path, code: str, said: str, arguments: list[str]
) -> None:
    """The line says which file, and what went wrong; how to see more is said too."""
    (folder / "broken.py").write_text(code)
    result = run("document", *arguments)
    assert result.exit_code == 2
    assert result.output == (
        f"Error: {arguments[-1]} cannot be loaded: {said} (the traceback: --verbose)\n"
    )


def test_the_traceback_is_the_operators_own(folder: Path) -> None:
    """With --verbose it begins where the operator's code does, and not in how it was loaded."""
    (folder / "broken.py").write_text("def inner():\n    1 / 0\n\ninner()\n")
    for arguments in (["broken.py"], ["-m", "broken"]):
        result = run("document", "--verbose", *arguments)
        first, file, *_ = result.stderr.splitlines()
        assert first == "Traceback (most recent call last):"
        assert file == f'  File "{folder / "broken.py"}", line 4, in <module>'
        assert result.stderr.endswith(
            f"Error: {arguments[-1]} cannot be loaded: ZeroDivisionError: division by zero\n"
        )


def test_a_module_that_is_not_there_is_one_line() -> None:
    """As for a file."""
    result = run("document", "-m", "nosuch.module")
    assert result.exit_code == 2
    assert result.output.startswith("Error: nosuch.module cannot be loaded: ModuleNotFoundError: ")


def test_a_file_that_is_no_python_is_an_error(folder: Path) -> None:
    """As for Kopf, which loads what Python knows how to load."""
    (folder / "notes.txt").write_text("")
    result = run("document", "notes.txt")
    assert result.exit_code == 2
    assert "notes.txt cannot be loaded: ImportError: it is no Python file" in result.output


def test_wrong_use_of_the_library_is_said_in_its_own_words(folder: Path) -> None:
    """A `ConfigurationError` already says what to do, so that its name adds nothing."""
    (folder / "db_operator.py").write_text(OPERATOR + CLEANUP.replace("drop_", "again_"))
    result = run("document", "db_operator.py")
    assert result.exit_code == 2
    assert result.output.startswith(
        'Error: db_operator.py cannot be loaded: The finalizer "mycompany.com/db-operator.backups"'
    )


def test_an_operator_that_never_calls_configure_is_an_error(folder: Path) -> None:
    """It is not an operator without finalizers: it has Kopf's default one."""
    (folder / "plain.py").write_text("import kopf\n")
    result = run("document", "plain.py")
    assert result.exit_code == 2
    assert result.output == (
        "Error: plain.py: kopf_finalizers.configure() is never called, so this operator has no"
        " finalizers of its own that could be documented. One that makes its Finalizers itself can"
        " print what their inventory() returns.\n"
    )


def test_a_file_that_is_not_there_is_one_line() -> None:
    """Nothing is loaded from it, and no traceback is shown."""
    result = run("document", "--verbose", "nosuch.py")
    assert result.exit_code == 2
    assert result.output == "Error: nosuch.py does not exist, or is no file.\n"


def test_an_operator_must_be_named() -> None:
    """Without files and modules there is nothing to load."""
    result = run("document")
    assert result.exit_code == 2
    said = "Error: Name the operator's files, or its modules with -m, as in kopf run.\n"
    assert result.output == said


# Names


def names(*arguments: str) -> Result:
    return run("name", "--domain", "mycompany.com", "--operator", "db-operator", *arguments)


def test_the_names_are_yaml() -> None:
    """For Helm charts, each name under its key."""
    result = names("--purpose", "backups", "--purpose", "mycompany.com/my-finalizer")
    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout) == {
        "finalizer": "mycompany.com/db-operator",
        "storagePrefix": "db-operator.mycompany.com",
        "dedicatedFinalizers": {
            "backups": "mycompany.com/db-operator.backups",
            "mycompany.com/my-finalizer": "mycompany.com/my-finalizer",
        },
    }


def test_the_names_are_json_if_asked() -> None:
    """For scripts, with the same keys."""
    result = names("--purpose", "1", "--format", "json")
    assert json.loads(result.stdout) == {
        "finalizer": "mycompany.com/db-operator",
        "storagePrefix": "db-operator.mycompany.com",
        "dedicatedFinalizers": {"1": "mycompany.com/db-operator.1"},
    }


@pytest.mark.parametrize(
    ("domain", "operator", "purpose", "said"),
    [
        ("mycompany", "db-operator", None, 'The domain "mycompany"'),
        ("mycompany.com", "DB", None, 'Use "db".'),
        ("mycompany.com", "db-operator", "a.b", 'The purpose "a.b"'),
        ("mycompany.com", "db-operator", "other.org/f", "not in the domain of this organisation"),
    ],
)
def test_a_name_that_will_not_do_says_why(
    domain: str, operator: str, purpose: str | None, said: str
) -> None:
    """One line with the rule, nothing on the standard output, and exit code 1."""
    purposes = ["--purpose", purpose] if purpose else []
    result = run("name", "--domain", domain, "--operator", operator, *purposes)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_a_purpose_there_is_no_dedicated_name() -> None:
    """Only what was asked for is printed."""
    assert yaml.safe_load(names().stdout) == {
        "finalizer": "mycompany.com/db-operator",
        "storagePrefix": "db-operator.mycompany.com",
    }


@pytest.mark.parametrize(
    ("finalizer", "filled_in", "found"),
    [
        ("mycompany.com/operator-{name}", "db", "mycompany.com/operator-db"),
        ("mycompany.com/my-finalizer", None, "mycompany.com/my-finalizer"),
    ],
)
def test_a_template_or_a_finalizer_in_use_will_do(
    finalizer: str, filled_in: str | None, found: str
) -> None:
    """As `configure(finalizer=...)` takes them, with what follows from them."""
    filling = ["--name", filled_in] if filled_in else []
    printed = yaml.safe_load(run("name", "--finalizer", finalizer, *filling).stdout)
    assert printed["finalizer"] == found
    assert printed["storagePrefix"] == f"{found.partition('/')[2]}.mycompany.com"


@pytest.mark.parametrize(
    "finalizer",
    ["kopf.zalando.org/KopfFinalizerMarker", "my-finalizer", "a.io/b.c", "a.io/{what}"],
)
def test_a_finalizer_that_cannot_be_an_operators_is_no(finalizer: str) -> None:
    """The exit code is 1, and the rule is said."""
    result = run("name", "--finalizer", finalizer)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "--domain and --operator is missing: give --domain and --operator, or --finalizer."),
        ("--domain a.io", "--operator is missing: give"),
        ("--operator db", "--domain is missing: give"),
        ("--finalizer a.io/b --operator b", "--finalizer stands in place of --domain and"),
        ("--finalizer a.io/b --domain a.io", "--finalizer stands in place of --domain and"),
        ("--finalizer a.io/b --name b", "--name b fills in a template, and there is none"),
        ("--domain a.io --operator b --name b", "--name b fills in a template, and there is none"),
        ("--finalizer a.io/{name}", "a.io/{name} has {name}: say with --name what it stands for."),
    ],
)
def test_options_that_do_not_go_together_are_wrong_use(arguments: str, said: str) -> None:
    """The exit code is 2, as of any command, and the options are named as they are written."""
    result = run("name", *arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Error: {said}" in result.stderr


def test_the_operators_own_finalizer_is_no_dedicated_one() -> None:
    """The rule is said in words that fit a command."""
    result = names("--purpose", "mycompany.com/db-operator")
    assert result.exit_code == 1
    assert "is the operator's own finalizer, and is printed without --purpose too" in result.stderr


# pre-commit


def test_the_hook_checks_the_document(folder: Path) -> None:
    """What pre-commit runs, with the arguments of the documentation, fails when it has to."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert not hook["pass_filenames"]
    program, *arguments = hook["entry"].split()
    arguments += ["--check", "doc.md", "db_operator.py"]
    (folder / "doc.md").write_text(run("document", "db_operator.py").stdout)
    assert called(program, *arguments, folder=folder).returncode == 0
    (folder / "db_operator.py").write_text(OPERATOR + CLEANUP.replace("backups", "dns"))
    assert called(program, *arguments, folder=folder).returncode == 1
