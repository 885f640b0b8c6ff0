"""A reader of the documentation, who saves its files and types its commands in their order."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from .servers import Server

_BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w.-]+\.(?:py|yaml))`")
PATIENCE = 30.0


def blocks_of(text: str) -> Iterator[tuple[str, str, str]]:
    """Each code block of a page with its kind, and the paragraph before it."""
    end = 0
    for block in _BLOCK.finditer(text):
        yield block[1], block[2], text[end : block.start()]
        end = block.end()


def steps_of(block: str) -> Iterator[tuple[str, str]]:
    """Each command after a `$`, with the lines that it goes on for, and what it prints."""
    for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = re.sub(r"\\\n *", "", step).partition("\n")
        yield command, output


@dataclass
class Reader:
    """Somebody at two terminals, in an empty folder, with a cluster and with what is to be put in.

    A file is saved where the sentence before a block names it and ends with a colon. A command is
    what comes after a `$`. YAML that is not to be saved is part of what the command before has
    printed, and `text` is part of the operator's log. `kopf run` goes on until the page says
    Ctrl-C.
    """

    server: Server
    folder: Path
    values: dict[str, str] = field(default_factory=dict)
    _operator: subprocess.Popen[bytes] | None = None
    _last: str = ""

    def read(self, text: str) -> None:
        """Do what the page says."""
        for kind, block, before in blocks_of(text):
            if "Ctrl-C" in before:
                self.interrupt()
            code = self._filled(block)
            said = before.strip().rpartition("\n\n")[2]
            name = _FILE.findall(said)[-1:] if said.endswith(":") else []
            match kind:
                case "python" | "yaml" if name:
                    (self.folder / name[0]).write_text(code)
                case "console":
                    for command, shown in steps_of(code):
                        self.type(command, shown)
                case "yaml":
                    self._see_in_output(yaml.safe_load(code))
                case "text":
                    self._see_in_log(code)
                case "sh":
                    self.type(code, "")
                case _:
                    pass

    def type(self, command: str, shown: str) -> None:
        """Type a command, and see that it prints what is shown."""
        if shlex.split(command, comments=True)[:2] == ["kopf", "run"]:
            assert self._operator is None, "the page has not said to stop the operator before"
            with self._log.open("ab") as log:
                self._operator = subprocess.Popen(
                    [sys.executable, "-m", *shlex.split(command)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env=self._env,
                )
            return
        self._last = command
        output = self.output(command)
        for line, found in zip(shown.splitlines(), output.splitlines(), strict=False):
            assert found.startswith(line), f"$ {command}\n{output}\nthe page has:\n{shown}"
        assert len(output.splitlines()) >= len(shown.splitlines()), output

    def interrupt(self) -> None:
        """Ctrl-C in the terminal of the operator."""
        if self._operator is not None:
            self._operator.send_signal(signal.SIGINT)
            try:
                self._operator.wait(timeout=30)
            finally:
                self._operator.kill()
                self._operator = None

    @property
    def log(self) -> str:
        """What all operators have printed."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def _log(self) -> Path:
        return self.folder / "operator.log"

    @property
    def _env(self) -> dict[str, str]:
        here = Path(sys.executable).parent
        return os.environ | {
            "KUBECONFIG": str(self.server.kubeconfig),
            "KUBECACHEDIR": str(self.folder / "cache"),
            "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
        }

    def output(self, command: str) -> str:
        """What a command prints, which has to succeed."""
        process = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert process.returncode == 0, f"$ {command}\n{process.stderr}\n{self.log}"
        return process.stdout

    def _filled(self, code: str) -> str:
        for name, value in self.values.items():
            code = code.replace(name, value)
        return code

    def _see_in_output(self, expected: Any) -> None:
        """The last command prints this, at the latest when it is typed again and again."""
        deadline = time.monotonic() + PATIENCE
        while not _within(expected, found := yaml.safe_load(self.output(self._last))):
            assert time.monotonic() < deadline, f"$ {self._last}\n{found}\n{expected}\n{self.log}"
            time.sleep(0.1)

    def _see_in_log(self, lines: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while missing := [line for line in lines.splitlines() if line not in self.log]:
            assert time.monotonic() < deadline, f"{missing}\n{self.log}"
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.interrupt()


def _within(expected: Any, found: Any) -> bool:
    """Whether all that is expected is there: lists and values as they are, but for an ellipsis."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            name in found and _within(value, found[name]) for name, value in expected.items()
        )
    if isinstance(expected, str) and "…" in expected:
        pattern = ".*".join(map(re.escape, expected.split("…")))
        return isinstance(found, str) and re.fullmatch(pattern, found) is not None
    return bool(expected == found)
