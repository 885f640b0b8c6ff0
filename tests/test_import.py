"""What importing the library brings along."""

import subprocess
import sys

import pytest

import kopf_finalizers


@pytest.mark.parametrize("module", ["kopf_finalizers.clients", "kopf_finalizers.cli", "pytest"])
def test_what_few_operators_need_is_not_imported(module: str) -> None:
    """An operator that starts does not wait for what it never uses."""
    code = f"import sys, kopf_finalizers; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_there_when_it_is_asked_for() -> None:
    """All of `__all__` can be imported from the package, and nothing else is made up."""
    for name in kopf_finalizers.__all__:
        assert getattr(kopf_finalizers, name) is not None
    with pytest.raises(AttributeError, match=r"no attribute 'unknown'"):
        kopf_finalizers.unknown  # noqa: B018
