"""Real Kopf operators for the tests: in threads, or as processes to kill."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kopf

from .servers import Resource, Server

OPERATORS = Path(__file__).parent / "operators"


@contextlib.contextmanager
def running(
    registry: kopf.OperatorRegistry,
    server: Server,
    resource: Resource,
    *,
    settings: kopf.OperatorSettings | None = None,
) -> Iterator[None]:
    """Run an operator for the objects of one namespace until the block ends.

    An operator that fails makes the test fail.
    """
    settings = settings or kopf.OperatorSettings()
    settings.posting.enabled = False
    stop, ready = threading.Event(), threading.Event()
    failures = list[BaseException]()

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(
            server=server.url, token=getattr(server, "token", None), insecure=True
        )

    def run() -> None:
        try:
            asyncio.run(
                kopf.operator(
                    registry=registry,
                    settings=settings,
                    standalone=True,
                    namespaces=[str(resource.namespace)],
                    stop_flag=stop,
                    ready_flag=ready,
                )
            )
        except BaseException as failure:
            failures.append(failure)
            ready.set()

    thread = threading.Thread(target=run, name="operator")
    thread.start()
    try:
        assert ready.wait(timeout=30), "the operator has not started"
        yield
    finally:
        stop.set()
        thread.join(timeout=60)
        assert not thread.is_alive(), "the operator has not stopped"
    if failures:
        raise failures[0]


class OperatorProcess:
    """`kopf run` of a file, as users run it, in a process of its own."""

    def __init__(
        self, file: Path | str, server: Server, log: Path, *, resource: Resource, **env: str
    ) -> None:
        self.file = OPERATORS / file
        self.log = log
        self._env = os.environ | {
            "KUBECONFIG": str(server.kubeconfig),
            "PLURAL": resource.plural,
            "GROUP": resource.group,
            **env,
        }
        self._arguments = ["--standalone", f"--namespace={resource.namespace}", "--verbose"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kopf", "run", *self._arguments, str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
            )

    def kill(self) -> None:
        """SIGKILL: nothing of the operator gets to say goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, as a rollout does it."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=30)
        self._process = None

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def __enter__(self) -> "OperatorProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
