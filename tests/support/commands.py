"""The commands for a cluster, called in this process, and an API server that answers as it is told.

The second is for answers that a real one cannot be brought to give.
"""

import contextlib
import http.server
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml
from click.testing import CliRunner, Result

from kopf_finalizers._cli import main

from .servers import Server


def run(*arguments: str, on: Server | Path | None = None, **options: Any) -> Result:
    """The command in this process, on the cluster of a server or of a kubeconfig."""
    kubeconfig = on if isinstance(on, Path) or on is None else on.kubeconfig
    where = ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
    result = CliRunner().invoke(main, [*arguments, *where], **options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


BIN = Path(sys.executable).parent


def on_terminal(*arguments: str, answer: str = "") -> tuple[int, str]:
    """The command on a terminal of its own, with what somebody types."""
    main, side = pty.openpty()
    os.write(main, answer.encode())
    process = subprocess.Popen(
        [BIN / "kopf-finalizers", *arguments], stdin=side, stdout=side, stderr=side
    )
    os.close(side)
    seen = b""
    while True:
        try:
            more = os.read(main, 4096)
        except OSError:
            more = b""
        if not more:
            break
        seen += more
    os.close(main)
    return process.wait(timeout=60), seen.decode()


def told(result: Result) -> Any:
    """What a command has printed as JSON."""
    return json.loads(result.stdout)


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any = None


@dataclass
class Scripted:
    """An API server of a few fixed answers: a list of them for a path is given one by one."""

    url: str
    answers: dict[str, Any]
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> tuple[int, Any]:
        self.asked.append(asked)
        found = self.answers.get(asked.path, (404, {"reason": "NotFound", "message": "not here"}))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        status, body = found if isinstance(found, tuple) else (200, found)
        return status, body

    def kubeconfig(self, folder: Path, **user: Any) -> Path:
        """A file that leads here."""
        return kubeconfig(folder / "scripted", self.url, user)


def kubeconfig(file: Path, url: str, user: dict[str, Any], **cluster: Any) -> Path:
    """A kubeconfig with one context."""
    context = {"cluster": "test", "user": "test", "namespace": "shop"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url, **cluster}}],
        "contexts": [{"name": "test", "context": context}],
        "users": [{"name": "test", "user": user}],
    }
    file.write_text(yaml.safe_dump(config))
    return file


@contextlib.contextmanager
def scripted(**answers: Any) -> Iterator[Scripted]:
    """Such a server: the answers are by path, which begins with a slash."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(
                self.command,
                parts.path,
                dict(parse_qsl(parts.query)),
                {key.lower(): value for key, value in self.headers.items()},
                json.loads(content) if content else None,
            )
            status, body = server.answer(asked)
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if status == 429:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PATCH = do_DELETE = do_POST = _answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        server = Scripted(f"http://127.0.0.1:{httpd.server_port}", answers)
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            httpd.shutdown()
            thread.join()


THINGS = {
    "name": "things",
    "singularName": "thing",
    "namespaced": True,
    "kind": "Thing",
    "verbs": ["list", "get", "patch", "delete"],
    "shortNames": ["th"],
}
GROUP = {
    "name": "example.com",
    "versions": [{"groupVersion": "example.com/v1", "version": "v1"}],
    "preferredVersion": {"groupVersion": "example.com/v1", "version": "v1"},
}
DISCOVERY = {
    "/apis": {"groups": [GROUP]},
    "/api/v1": {"resources": []},
    "/apis/example.com/v1": {"resources": [THINGS]},
}
