"""What is seen on a terminal, and what is not seen in a pipe."""

import io
import sys

import pytest

from kopf_finalizers._cli import plugin
from kopf_finalizers._cli.errors import CommandError
from kopf_finalizers._cli.terminal import Bar, confirm, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_shown_on_a_terminal_and_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is written again, a few times a second at most."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = Bar("Looking")
    for done in range(3):
        bar.show(done, 3, 1000 * done)
    bar.clear()
    assert terminal.getvalue() == "\r\x1b[KLooking: 0 of 3 resources, 0 objects\r\x1b[K"


def test_a_bar_is_not_shown_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log would be full of it."""
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    bar = Bar("Looking")
    bar.show(1, 3, 5)
    bar.clear()
    assert pipe.getvalue() == ""


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    """And nothing is left at the end of a line."""
    assert table(("A", "LONG"), [("word", "b")]) == "A      LONG\nword   b\n"


def test_a_question_wants_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything else changes nothing."""
    monkeypatch.setattr(sys, "stdin", Terminal("y\nn\n\n"))
    confirm("Do it?", yes=False)
    for _ in range(2):
        with pytest.raises(CommandError, match=r"^Nothing was changed\.$"):
            confirm("Do it?", yes=False)
    confirm("Do it?", yes=True)


def test_a_plugin_is_named_as_it_is_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under kubectl, which runs it by another name."""
    monkeypatch.setattr(sys, "argv", ["kubectl-kopf_finalizers", "--help"])
    with pytest.raises(SystemExit) as end:
        plugin()
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("Usage: kubectl kopf-finalizers ")
