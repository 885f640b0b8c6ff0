"""What people see: tables in columns, and a bar on a terminal."""

import sys
import threading
import time
from collections.abc import Iterable, Sequence


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
