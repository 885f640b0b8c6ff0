"""What importing the library brings along."""

import subprocess
import sys

import pytest

import kopf_finalizers


@pytest.mark.parametrize(
    "module",
    [
        "kopf_finalizers._clients.ensure",
        "kopf_finalizers._renames.rename",
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
        kopf_finalizers.unknown  # noqa: B018
