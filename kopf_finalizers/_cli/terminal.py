"""What people see: tables in columns, a bar on a terminal, a question that wants an answer."""

import sys
import threading
import time
from collections.abc import Iterable, Sequence

import click

from .errors import CommandError


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as kubectl prints them."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


class Bar:
    """How far it has come, in one line of a terminal's stderr; nothing in a pipe."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._shown = sys.stderr.isatty()
        self._lock = threading.Lock()
        self._last = 0.0

    def show(self, done: int, of: int, objects: int) -> None:
        """Say it, a few times a second at most."""
        if self._shown and time.monotonic() - self._last > 0.1:
            self._last = time.monotonic()
            self._write(f"{self._what}: {done} of {of} resources, {objects:,} objects")

    def clear(self) -> None:
        """Leave the line as if nothing had been there."""
        if self._shown:
            self._write("")

    def _write(self, text: str) -> None:
        with self._lock:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is changed.

    Raises:
        CommandError: The answer is no; or there is nobody to ask, and `--yes` was not given.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(
            "Nothing was changed: there is no terminal to ask on. If this is what you want, run it"
            " again with --yes."
        )
    if not click.confirm(question, default=False, err=True):
        raise CommandError("Nothing was changed.")
