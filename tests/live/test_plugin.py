"""`kubectl kopf-finalizers …`, with the real kubectl, and what is seen on a terminal."""

import os
import shutil
import subprocess

import pytest

pytest.importorskip("kubernetes", reason="the extra cluster is not installed")

from ..support.commands import BIN, on_terminal, run
from ..support.servers import Api, Resource, Server

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not there")


def kubectl(*arguments: str, server: Server | None = None) -> subprocess.CompletedProcess[str]:
    """Kubectl, as it finds its plugins."""
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    if server:
        environment["KUBECONFIG"] = str(server.kubeconfig)
    return subprocess.run(
        ["kubectl", *arguments], env=environment, capture_output=True, text=True, timeout=60
    )


@needs_kubectl
def test_it_is_a_plugin_of_kubectl(server: Server, api: Api, resource: Resource) -> None:
    """The same program, with what kubectl knows of the cluster, and its exit code."""
    body = resource.body("a", finalizers=["other.org/f"])
    api.create(resource.path, body).raise_for_status()
    api.delete(resource.path_to("a")).raise_for_status()
    done = kubectl(
        "kopf-finalizers", "holders", "thing/a", "-n", str(resource.namespace), server=server
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(f"things.example.com/a in {resource.namespace} is being deleted")


@needs_kubectl
def test_the_help_of_a_plugin_names_the_command_as_it_was_called() -> None:
    """So that what it shows can be typed."""
    done = kubectl("kopf-finalizers", "holders", "--help")
    assert done.stdout.startswith("Usage: kubectl kopf-finalizers holders [OPTIONS] [TARGET]...")
    wrong = kubectl("kopf-finalizers", "holders", "--nosuch")
    assert "Try 'kubectl kopf-finalizers holders --help' for help." in wrong.stderr


def test_all_commands_are_named_in_the_help() -> None:
    """They are imported when they are asked for, and here all are."""
    text = run("--help").output
    for name in ("document", "holders", "name"):
        assert f"\n  {name} " in text
    assert "No such command 'nosuch'" in run("nosuch").output


def test_a_terminal_shows_how_far_it_has_come(server: Server, resource: Resource) -> None:
    """And leaves nothing of it behind; in a pipe there is nothing of it."""
    arguments = ["holders", "-n", str(resource.namespace), "--kubeconfig", str(server.kubeconfig)]
    code, seen = on_terminal(*arguments)
    assert (code, "Looking: " in seen) == (0, True)
    assert seen.rpartition("\x1b[K")[2] == "Nothing is held.\r\n"
    assert run(*arguments).output == "Nothing is held.\n"
