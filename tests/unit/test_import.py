"""What importing the library brings along."""

import subprocess
import sys

import kopf
import pytest

import kopf_finalizers


@pytest.mark.parametrize(
    "module",
    [
        "kopf_finalizers._clients.ensure",
        "kopf_finalizers._renames.renaming",
        "kopf_finalizers._cli",
        "prometheus_client",
        "opentelemetry",
        "pytest",
    ],
)
def test_what_few_operators_need_is_not_imported(module: str) -> None:
    """An operator that starts does not wait for what it never uses."""
    code = f"import sys, kopf_finalizers; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_name_that_is_not_public_is_not_made_up() -> None:
    """What is imported when it is asked for is what is promised, and nothing else."""
    with pytest.raises(AttributeError, match=r"no attribute 'unknown'"):
        getattr(kopf_finalizers, "unknown")  # noqa: B009 - type checkers refuse it


def test_a_shell_completes_what_is_promised_and_nothing_else() -> None:
    """`dir()` has all public names, those that are imported later too, and no private one."""
    names = set(dir(kopf_finalizers))
    assert names >= set(kopf_finalizers.__all__)
    assert all(name.startswith("__") for name in names.difference(kopf_finalizers.__all__))


def test_attributes_of_public_objects_are_documented_or_private() -> None:
    """What looks public is promised: nothing else of an operator's `Finalizers` and its `on`."""
    finalizers = kopf_finalizers.configure("a.io", "b", registry=kopf.OperatorRegistry())
    assert {name for name in vars(finalizers) if not name.startswith("_")} == {
        "identity",
        "storages",
        "watches_only",
        "on",
    }
    decorators = {"create", "resume", "update", "delete", "field", "event", "daemon", "timer"}
    assert {name for name in dir(finalizers.on) if not name.startswith("_")} == decorators
