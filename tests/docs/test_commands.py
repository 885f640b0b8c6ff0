"""The pages of the commands for a cluster: what is shown after a `$` is what they print."""

import contextlib
import itertools
import json
import re
import shlex
import types
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from kopf_finalizers._cli import main
from kopf_finalizers.testing import ApiServer

from ..support.reader import steps_of
from .test_pages import ROOT, blocks_of

pytest.importorskip("kubernetes", reason="the extra cluster is not installed")

OURS = "mycompany.com/db-operator"
PREFIX = "db-operator.mycompany.com"
PAGES = ["terminating.md", "uninstalling.md", "holders.md", "release.md", "uninstall.md"]


def made(server: ApiServer, path: str, name: str, *finalizers: str, **metadata: Any) -> None:
    kinds = {"databases": "Database", "reports": "Report"}
    body = {
        "apiVersion": "mycompany.com/v1",
        "kind": kinds[path.rpartition("/")[2]],
        "metadata": {"name": name, "finalizers": list(finalizers), **metadata},
    }
    server.call("POST", path, body)


@contextlib.contextmanager
def a_cluster() -> Iterator[ApiServer]:
    """The cluster of these pages: some objects of the example operator's, and one of another's."""
    base = "/apis/mycompany.com/v1/namespaces/shop"
    soon = (datetime.now(UTC) + timedelta(seconds=42)).isoformat()
    record = {
        "started": "2026-01-01T00:00:00.000000",
        "delayed": soon,
        "purpose": "delete",
        "retries": 3,
        "success": False,
        "failure": False,
        "message": "the object store does not answer",
    }
    with ApiServer() as server:
        server.define("mycompany.com", "v1", "databases", kind="Database")
        server.define("mycompany.com", "v1", "reports", kind="Report")
        server.call("POST", "/api/v1/namespaces", {"metadata": {"name": "shop"}})
        both = (f"{OURS}.backups", OURS)
        databases = f"{base}/databases"
        made(server, databases, "orders", *both,
             annotations={f"{PREFIX}/drop_backups": json.dumps(record)})  # fmt: skip
        made(server, databases, "customers", *both)
        made(server, databases, "invoices", *both)
        made(server, databases, "archive", f"{OURS}.dns")
        made(server, f"{base}/reports", "march", "other.org/export")
        for path in ("databases/customers", "databases/orders", "reports/march"):  # as listed
            server.call("DELETE", f"{base}/{path}")
        config = json.loads(server.kubeconfig.read_text())
        config["contexts"][0]["name"] = config["current-context"] = "production"
        server.kubeconfig.write_text(json.dumps(config))
        yield server


def comparable(text: str) -> list[str]:
    """The lines, without what is another time each time."""
    text = re.sub(r"\b\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)", "TIME", text)
    # Before ages, which a part of it may look like.
    text = re.sub(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UID", text)
    text = re.sub(r"\b(?:\d+[dhms]){1,2}\b", "AGE", text)
    return sorted(" ".join(line.split()) for line in text.strip().splitlines())


def test_what_is_another_time_each_time_is_left_out_whole() -> None:
    """A UID of which a part could be an age is a UID still."""
    uid = "11d2e0f4-95d7-955d-0042-0123456789ab"
    assert comparable(f"orders  {uid}  since 3m10s") == ["orders UID since AGE"]


def printed(command: str, server: ApiServer) -> str:
    """What a command prints."""
    words = shlex.split(command)
    program = "kopf-finalizers"
    if words[0] == "kubectl":
        words, program = words[1:], "kubectl kopf-finalizers"
    assert words[0] == "kopf-finalizers"
    environment = {"KUBECONFIG": str(server.kubeconfig), "COLUMNS": "84"}
    return CliRunner().invoke(main, words[1:], prog_name=program, env=environment).output


@pytest.mark.parametrize("page", PAGES)
def test_a_command_prints_what_its_page_shows(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block on the same cluster: but for times, and for which object is done first."""
    monkeypatch.chdir(ROOT)
    # Nobody wants to read, or to wait, for as long as the commands wait for a cluster.
    times = itertools.count(0, 3600)
    clock = types.SimpleNamespace(monotonic=lambda: next(times), sleep=lambda _: None)
    monkeypatch.setattr("kopf_finalizers._cli.uninstall.time", clock)
    blocks = blocks_of(page, "console cluster")
    assert blocks
    for block in blocks:
        with a_cluster() as cluster:
            for command, output in steps_of(block):
                assert comparable(printed(command, cluster)) == comparable(output), command
