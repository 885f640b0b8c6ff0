"""kubectl on both API servers: what people type when they look after an operator's objects."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ..support.answers import A, finalizers, stored
from ..support.servers import Api, Resource, Server

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not there")

MANIFEST = """
apiVersion: kubectl.example.com/v1
kind: Database
metadata:
  name: a
  labels: {{size: small}}
  finalizers: [a.example.com/f]
spec:
  replicas: {replicas}
"""


@pytest.fixture(scope="module")
def databases(server: Server, api: Api) -> Resource:
    names: Any = {"short_names": ["dbs"], "categories": ["stores"]}
    server.define("kubectl.example.com", "v1", "databases", kind="Database", **names)
    return Resource("kubectl.example.com", "v1", "databases", "Database")


class Kubectl:
    """kubectl in one namespace of a server, with a home of its own."""

    def __init__(self, server: Server, namespace: str, home: Path) -> None:
        self._env = {**os.environ, "KUBECONFIG": str(server.kubeconfig), "HOME": str(home)}
        self._namespace = f"--namespace={namespace}"

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """What it prints; it must not fail."""
        done = subprocess.run(
            ["kubectl", *arguments, self._namespace],
            input=stdin,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def test_the_life_of_an_object(
    server: Server, api: Api, databases: Resource, resource: Resource, tmp_path: Path
) -> None:
    """An object is applied, applied again, found by all its names, changed and deleted."""
    databases = databases.within(resource.namespace)
    kubectl = Kubectl(server, str(resource.namespace), tmp_path)
    assert "created" in kubectl("apply", "-f", "-", stdin=MANIFEST.format(replicas=1))
    assert "configured" in kubectl("apply", "-f", "-", stdin=MANIFEST.format(replicas=2))
    assert stored(api, databases)["spec"] == {"replicas": 2}
    for name in ("databases", "database", "dbs", "stores", "databases.kubectl.example.com"):
        assert kubectl("get", name).splitlines()[1].split()[0] == "a"
    assert kubectl("get", "dbs", "-l", "size=small", "-o", "name").endswith("/a\n")
    assert "No resources" not in kubectl("describe", "dbs", "a")
    kubectl("label", "dbs", "a", "more=1")
    kubectl("annotate", "dbs", "a", "note=1")
    kubectl("patch", "dbs", "a", "--type=merge", "--patch", '{"spec": {"replicas": 3}}')
    body = stored(api, databases)
    assert (body["spec"], body["metadata"]["labels"]["more"]) == ({"replicas": 3}, "1")
    kubectl("delete", "dbs", "a", "--wait=false")
    assert finalizers(stored(api, databases)) == [A]
    operations = '[{"op": "remove", "path": "/metadata/finalizers/0"}]'
    kubectl("patch", "dbs", "a", "--type=json", "--patch", operations)
    kubectl("wait", "--for=delete", "dbs/a", "--timeout=30s")


def test_plain_objects(
    server: Server, databases: Resource, resource: Resource, tmp_path: Path
) -> None:
    """Kinds that are built in are made and deleted, too."""
    kubectl = Kubectl(server, str(resource.namespace), tmp_path)
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: b}\n"
    kubectl("apply", "-f", "-", stdin=config)
    assert kubectl("get", "cm", "settings", "-o", "jsonpath={.data.a}") == "b"
    kubectl("delete", "cm", "settings")
    assert "settings" not in kubectl("get", "cm")
