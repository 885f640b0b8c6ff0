"""How commands end: what the exit code says, what is written, and how help looks."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from kopf_finalizers._cli import main
from kopf_finalizers._cli.commands import Commands

COMMAND = str(Path(sys.executable).with_name("kopf-finalizers"))
OPERATOR = """
import kopf_finalizers

finalizers = kopf_finalizers.configure("mycompany.com", "db-operator")


@finalizers.on.delete("mycompany.com", "v1", "databases", finalizer="backups")
def drop_backups(**_): ...
"""

DEV_FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with an operator."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "db_operator.py").write_text(OPERATOR)
    return tmp_path


def run(*arguments: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(main, arguments)


COMMANDS = [[], ["document"], ["name"], ["holders"]]


# Exit codes


@pytest.fixture
def group() -> Commands:
    """A command that does what a test wants."""

    @click.group(cls=Commands)
    def group() -> None: ...

    return group


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "Error: No space left on device.\n"),
        (OSError("it is broken"), "Error: it is broken.\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
        (click.ClickException("It cannot be done."), "Error: It cannot be done.\n"),
        (KeyboardInterrupt(), "\nInterrupted.\n"),
        (SystemExit(2), ""),
    ],
)
def test_what_could_not_be_done_is_said_in_one_line_and_ends_with_2(
    group: Commands, failure: BaseException, said: str
) -> None:
    """Exit code 1 is an answer, so nothing else ends with it; a pipe that is closed is no news."""

    @group.command()
    def fail() -> None:
        raise failure

    result = CliRunner().invoke(group, ["fail"])
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", said)


def test_a_fault_of_the_command_shows_where_it_is_and_ends_with_2(group: Commands) -> None:
    """A traceback is for whoever mends it; Python alone would exit with 1."""

    @group.command()
    def fail() -> None:
        raise RuntimeError("a fault")

    result = CliRunner().invoke(group, ["fail"])
    assert result.exit_code == 2
    assert result.stderr.endswith("RuntimeError: a fault\n")


@DEV_FULL
@pytest.mark.parametrize("is_full", ["stdout", "both"])
def test_a_full_disk_ends_with_2(is_full: str) -> None:
    """One line, if there is room for it, and nothing more when Python ends."""
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [COMMAND, "document", "db_operator.py"],
            stdout=full,
            stderr=full if is_full == "both" else subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert is_full == "both" or done.stderr == "Error: No space left on device.\n"


@DEV_FULL
def test_what_cannot_be_written_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is left in Python's buffer goes nowhere, or its end would fail with another code."""
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as end:
            main.main(["--help"])
        assert end.value.code == 2
        full.flush()
    assert "Error: No space left on device." in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [["document", "db_operator.py"], ["--help"]])
def test_a_reader_that_has_seen_enough_is_no_answer(arguments: list[str]) -> None:
    """As `| head` is: the exit code is 2, and nothing is said about it."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(
            [COMMAND, *arguments], stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert (done.returncode, done.stderr) == (2, "")


def test_ctrl_c_ends_with_2(folder: Path) -> None:
    """Whoever interrupts a command has no answer."""
    (folder / "slow.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [COMMAND, "document", "slow.py"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.strip()) == (2, "", "Interrupted.")


# Files


def test_a_document_is_written_to_a_file(folder: Path) -> None:
    """With `--output`, nothing is printed, and the file is what `--check` wants."""
    result = run("document", "db_operator.py", "-o", "doc.md")
    assert (result.exit_code, result.output) == (0, "")
    assert (folder / "doc.md").read_text() == run("document", "db_operator.py").stdout
    assert run("document", "db_operator.py", "--check", "doc.md").exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["db_operator.py", "doc.md"]


def test_the_command_that_renews_a_document_does_so(folder: Path) -> None:
    """What the error says can be pasted into a shell."""
    (folder / "my doc.json").write_text("{}")
    arguments = ["document", "db_operator.py", "--format", "json", "--check", "my doc.json"]
    failed = run(*arguments)
    assert failed.exit_code == 1
    _, _, command = failed.stderr.strip().partition("To write it: kopf-finalizers ")
    subprocess.run(f"{COMMAND} {command}", shell=True, check=True, timeout=60)
    assert run(*arguments).exit_code == 0


def test_a_good_file_stays_where_an_operator_fails(folder: Path) -> None:
    """Nothing is emptied before there is something to write."""
    (folder / "doc.md").write_text("good")
    (folder / "broken.py").write_text("1 / 0")
    assert run("document", "broken.py", "--output", "doc.md").exit_code == 2
    assert (folder / "doc.md").read_text() == "good"


def test_a_good_file_stays_where_the_disk_is_full(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one is written beside it, and nothing of it is left."""
    (folder / "doc.md").write_text("good")

    def full(self: Path, text: str, **_: Any) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    result = run("document", "db_operator.py", "--output", "doc.md")
    monkeypatch.undo()
    assert result.exit_code == 2
    assert result.stderr.endswith("doc.md cannot be written: No space left on device.\n")
    assert (folder / "doc.md").read_text() == "good"
    assert len(list(folder.iterdir())) == 2


def test_a_written_file_keeps_its_mode_and_its_links(folder: Path) -> None:
    """It is the same file to everybody else."""
    (folder / "there").mkdir()
    target = folder / "there" / "doc.md"
    target.touch(mode=0o640)
    (folder / "doc.md").symlink_to(target)
    assert run("document", "db_operator.py", "--output", "doc.md").exit_code == 0
    assert (folder / "doc.md").is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert target.read_text().startswith("# Finalizers of ")


def test_what_is_no_file_is_written_to_and_not_replaced() -> None:
    """A device, say."""
    assert run("document", "db_operator.py", "--output", os.devnull).exit_code == 0
    assert not Path(os.devnull).is_file()


def test_a_file_is_written_or_compared_and_not_both() -> None:
    """There is no telling which of the two was meant."""
    result = run("document", "db_operator.py", "--output", "a", "--check", "b")
    assert result.exit_code == 2
    assert "leave one of them out" in result.stderr


def test_the_keys_of_json_are_in_one_style() -> None:
    """As Kubernetes writes its own: `storagePrefix`, and never `storage_prefix`."""
    texts = [
        run("document", "db_operator.py", "--format", "json").stdout,
        run("name", "--domain", "a.io", "--operator", "b", "--format", "json").stdout,
    ]

    def keys(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from value
        for one in value.values() if isinstance(value, dict) else value:
            if isinstance(one, dict | list):
                yield from keys(one)

    assert all(
        key.isidentifier() and "_" not in key for text in texts for key in keys(json.loads(text))
    )


# Help


@pytest.mark.parametrize("command", COMMANDS, ids=str)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_whole(command: list[str], option: str) -> None:
    """Each command has both options for it, says what all others are for, and cuts nothing off."""
    result = run(*command, option)
    assert result.exit_code == 0
    assert "..." not in result.stdout.replace("]...", "").replace("ARGS...", "")
    context = click.Context(main)
    found = main.get_command(context, command[0]) if command else main
    assert found is not None
    options = [one for one in found.params if isinstance(one, click.Option)]
    assert [one.name for one in options if not one.help] == []


def test_files_are_completed_by_a_shell() -> None:
    """Where a file is asked for, the shell is told to look for one."""
    for arguments, typed in ((["document"], "db"), (["document", "--output"], "d")):
        complete = ShellComplete(main, {}, "kopf-finalizers", "_KOPF_FINALIZERS_COMPLETE")
        assert [one.type for one in complete.get_completions(arguments, typed)] == ["file"]
