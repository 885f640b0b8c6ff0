"""The commands of the page on live clusters, run with kubectl and jq as they stand there."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ..support.servers import Api, Resource, Server

PAGE = Path(__file__).parents[2] / "docs" / "adopting.md"
COMMANDS = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)

MISSING = [tool for tool in ("kubectl", "jq") if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"there is no {' and no '.join(MISSING)}")

KOPF = "kopf.zalando.org/KopfFinalizerMarker"
NEW = "mycompany.com/db-operator"
FORMER_RECORD = {"kopf.zalando.org/last-handled-configuration": "{}"}
NEW_RECORD = {"db-operator.mycompany.com/last-handled-configuration": "{}"}

OBJECTS: dict[str, dict[str, Any]] = {
    "bare": {},
    "before": {"finalizers": ["other.org/f", KOPF], "annotations": FORMER_RECORD},
    "marker": {"finalizers": [KOPF]},
    "record": {"finalizers": [NEW], "annotations": FORMER_RECORD | NEW_RECORD},
    "recognised": {"finalizers": [KOPF], "annotations": FORMER_RECORD | NEW_RECORD},
    "switched": {"finalizers": [NEW, "other.org/f"], "annotations": NEW_RECORD},
    "half-back": {"finalizers": [KOPF], "annotations": NEW_RECORD},
    "like-it": {"finalizers": [f"{NEW}-two"], "annotations": {"kopf.zalando.org.x/a": ""}},
    "going": {"finalizers": [KOPF]},
    "going-switched": {"finalizers": [NEW], "annotations": NEW_RECORD},
}


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, {"before", "marker", "record", "recognised", "half-back", "going is being deleted"}),
        (1, {"record", "switched", "half-back", "going-switched is being deleted"}),
    ],
    ids=["before release three", "before a rollback behind release one"],
)
def test_the_command_lists_what_is_in_the_way(
    number: int, expected: set[str], server: Server, api: Api, resource: Resource
) -> None:
    """Objects that the release to follow would not know, and no others."""
    for name, metadata in OBJECTS.items():
        api.create(resource.path, resource.body(name, **metadata)).raise_for_status()
        if name.startswith("going"):
            api.delete(resource.path_to(name)).raise_for_status()
    command = COMMANDS[number].replace("databases.v1.mycompany.com", "things.v1.example.com")
    command = command.replace("--output", "--chunk-size=0 --output")  # for the in-process server
    process = subprocess.run(
        ["/bin/sh", "-c", command],
        env=os.environ | {"KUBECONFIG": str(server.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not process.stderr
    inside = f"{resource.namespace}/"
    lines = [line for line in process.stdout.splitlines() if line.startswith(inside)]
    assert sorted(line.removeprefix(inside) for line in lines) == sorted(expected)


def test_the_page_has_no_other_commands() -> None:
    """Each of them is run above."""
    assert len(COMMANDS) == 2
