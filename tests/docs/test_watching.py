"""The page about watching cleanups, typed on live clusters as it stands there."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ..support.operators import OperatorProcess
from ..support.servers import Api, Resource, Server, wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "watching.md").read_text()

CLEANUP = """
import os
import kopf


@finalizers.on.delete(os.environ["GROUP"], "v1", os.environ["PLURAL"], finalizer="backups")
def drop_backups(**_):
    raise kopf.TemporaryError("no route to the store", delay=3600)
"""


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not there")
def test_a_cleanup_is_skipped_by_the_command_of_the_page(
    server: Server, api: Api, resource: Resource, tmp_path: Path
) -> None:
    """With what the page configures: the object hangs, somebody types it, and it is gone."""
    configured = [
        code
        for code in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        if "skip_cleanup=" in code
    ]
    (command,) = re.findall(r"^```sh\n(kubectl .*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for old, new in {
        "databases.v1.mycompany.com": f"{resource.plural}.{resource.version}.{resource.group}",
        " NAME ": " a ",
        "NAMESPACE": str(resource.namespace),
    }.items():
        command = command.replace(old, new)
    file = tmp_path / "db_operator.py"
    file.write_text("".join(configured) + CLEANUP)
    operator = OperatorProcess(file, server, tmp_path / "log", resource=resource)
    with operator, api.watching(resource.path) as seen:
        api.create(resource.path, resource.body("a")).raise_for_status()
        path = resource.path_to("a")
        wait_until(lambda: len(api.get(path).json()["metadata"].get("finalizers", [])) == 2)
        api.delete(path).raise_for_status()
        wait_until(lambda: "no route to the store" in operator.output())
        subprocess.run(
            ["/bin/sh", "-c", command],
            env=os.environ | {"KUBECONFIG": str(server.kubeconfig)},
            check=True,
            capture_output=True,
            timeout=60,
        )
        seen.wait_for("DELETED", "a")
    assert "The cleanup drop_backups is skipped" in operator.output()
