"""Real Kopf operators for the tests: in threads, or as processes to kill."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import kopf

from kopf_finalizers import Finalizers, configure

from .loops import until_disconnected
from .servers import Resource, Server

MAIN = "mycompany.com/db-operator"
KOPF_DEFAULT = "kopf.zalando.org/KopfFinalizerMarker"

OPERATOR_FILES = Path(__file__).parent / "operator_files"


class Operator:
    """An operator under test: its registry, its decorators, and what its handlers have noted."""

    def __init__(self, resource: Resource, name: str = "db-operator", **options: Any) -> None:
        self.registry = kopf.OperatorRegistry()
        self.resource = (resource.group, resource.version, resource.plural)
        self.finalizers: Finalizers = configure(
            "mycompany.com", name, registry=self.registry, **options
        )
        self.on = self.finalizers.on
        self.calls = list[Any]()

    def noting(self, what: str) -> Callable[..., None]:
        """A handler that notes that it was called, and the finalizers that it saw."""

        def handler(body: kopf.Body, **_: Any) -> None:
            self.calls.append((what, sorted(body["metadata"].get("finalizers", []))))

        handler.__qualname__ = handler.__name__ = what
        return handler

    def called(self, what: str) -> int:
        return sum(1 for call in self.calls if call[0] == what)


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

    async def operate() -> None:
        try:
            await kopf.operator(
                registry=registry,
                settings=settings,
                standalone=True,
                namespaces=[str(resource.namespace)],
                stop_flag=stop,
                ready_flag=ready,
            )
        finally:
            await until_disconnected()

    def run() -> None:
        try:
            asyncio.run(operate())
        except BaseException as failure:
            failures.append(failure)
            ready.set()

    thread = threading.Thread(target=run, name="operator")
    # Kopf ends no threads of its handlers: an executor is its user's.
    with ThreadPoolExecutor() as settings.execution.executor:
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
        self.file = OPERATOR_FILES / file
        self.log = log
        self._env = os.environ | {
            "KUBECONFIG": str(server.kubeconfig),
            "PLURAL": resource.plural,
            "GROUP": resource.group,
            **env,
        }
        self.arguments = ["--standalone", f"--namespace={resource.namespace}", "--verbose"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kopf", "run", *self.arguments, str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
            )

    def wait(self) -> int:
        """Wait until it has ended by itself, and return its exit code."""
        assert self._process is not None
        return self._process.wait(timeout=60)

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
