"""The commands of the page on live clusters, run as they stand there."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ..support.commands import BIN
from ..support.servers import Api, Resource, Server

PAGE = Path(__file__).parents[2] / "docs" / "adopting.md"
COMMANDS = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)

pytest.importorskip("kubernetes", reason="the extra cluster is not installed")

# What the file of release two says.
OPERATOR = """
import kopf_finalizers

finalizers = kopf_finalizers.configure(
    "mycompany.com", "db-operator", former=["kopf.zalando.org/KopfFinalizerMarker"]
)

@finalizers.on.delete("example.com", "v1", "things")
def drop_thing(**_): ...
"""

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
        (0, {"before", "marker", "record", "recognised", "half-back", "going"}),
        (1, {"record", "switched", "half-back", "going-switched"}),
    ],
    ids=["before release three", "before a rollback behind release one"],
)
def test_the_command_lists_what_is_in_the_way(
    number: int, expected: set[str], server: Server, api: Api, resource: Resource, tmp_path: Path
) -> None:
    """Objects that the release to follow would not know, and no others."""
    for name, metadata in OBJECTS.items():
        api.create(resource.path, resource.body(name, **metadata)).raise_for_status()
        if name.startswith("going"):
            api.delete(resource.path_to(name)).raise_for_status()
    (tmp_path / "db_operator.py").write_text(OPERATOR)
    process = subprocess.run(
        ["/bin/sh", "-c", COMMANDS[number]],
        cwd=tmp_path,
        env=os.environ
        | {"KUBECONFIG": str(server.kubeconfig), "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (process.returncode, process.stderr) == (1, "")
    inside = f" --namespace {resource.namespace}"
    lines = [line for line in process.stdout.splitlines() if line.endswith(inside)]
    names = [line.removesuffix(inside).removeprefix("things.example.com/") for line in lines]
    assert sorted(names) == sorted(expected)


def test_the_page_has_no_other_commands() -> None:
    """Each of them is run above."""
    assert len(COMMANDS) == 2
