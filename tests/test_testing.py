"""Operators on the API servers, and the API server of `kopf_finalizers.testing` as users see it."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .servers import Api, Resource, Server, wait_until

OPERATOR = """
import kopf

@kopf.on.create("{group}", "v1", "{plural}")
def created(patch, **_):
    patch.status["created"] = True

@kopf.on.delete("{group}", "v1", "{plural}")
def deleted(patch, **_):
    patch.status["deleted"] = True
"""


@contextlib.contextmanager
def operator(server: Server, file: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """An operator in a process of its own, as users run it."""
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig)}
    command = [sys.executable, "-m", "kopf", "run", "--standalone", "--verbose", *arguments]
    log = file.with_suffix(".log")
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*command, str(file)], env=environment, stdout=output, stderr=output, text=True
        ) as process,
    ):
        try:
            yield process
        finally:
            print(log.read_text())  # noqa: T201 - pytest shows it when the test fails
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            finally:
                process.kill()


@pytest.mark.parametrize("where", ["--all-namespaces", "--namespace=default"])
def test_operator_handles_creation_and_deletion(
    server: Server, api: Api, tmp_path: Path, where: str
) -> None:
    """An unmodified operator handles the creation and the deletion of an object."""
    plural = "everywheres" if where == "--all-namespaces" else "somewheres"
    server.define("operators.example.com", "v1", plural, kind=plural.title())
    resource = Resource("operators.example.com", "v1", plural, plural.title())
    file = tmp_path / "operator.py"
    file.write_text(OPERATOR.format(group=resource.group, plural=plural))
    with api.watching(resource.path) as seen, operator(server, file, where):
        api.create(resource.path, resource.body("a")).raise_for_status()
        path = resource.path_to("a")
        wait_until(lambda: api.get(path).json().get("status", {}).get("created"))
        assert api.get(path).json()["metadata"]["finalizers"]
        api.delete(path).raise_for_status()
        last = seen.wait_for("DELETED", "a")
        assert last["status"]["deleted"]
