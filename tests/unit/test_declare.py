"""Finalizers that handlers put on by hand, and that the operator has declared."""

import pytest

from kopf_finalizers import ConfigurationError, Finalizers, OperatorIdentity

OURS = "mycompany.com/db-operator"


@pytest.fixture
def finalizers() -> Finalizers:
    """Those of an operator without handlers."""
    return Finalizers(
        OperatorIdentity(domain="mycompany.com", operator="db-operator"),
        former_dedicated={"snapshots": ["mycompany.com/old-snapshots"]},
    )


def test_what_is_declared_is_in_the_inventory(finalizers: Finalizers) -> None:
    """With what it waits for, and under its former names."""
    for _ in range(2):  # as when a module is imported again
        name = finalizers.declare(
            "snapshots", "mycompany.com", "v1", "databases",
            waits_for="the snapshot to end", why="Snapshots.", leaves="half a snapshot",
        )  # fmt: skip
    assert name == f"{OURS}.snapshots"
    entry, former = finalizers.inventory()
    assert entry.name == name
    assert entry.resource == "databases.v1.mycompany.com"
    assert (entry.handler, entry.decorator) == ("", "declare")
    assert (entry.waits_for, entry.purpose, entry.leaves) == (
        "the snapshot to end",
        "Snapshots.",
        "half a snapshot",
    )
    assert entry.release.startswith("kubectl patch databases.v1.mycompany.com NAME ")
    assert (former.name, former.former_of) == ("mycompany.com/old-snapshots", name)


def test_without_a_resource_it_may_be_on_any(finalizers: Finalizers) -> None:
    """And the command has a place for it."""
    finalizers.declare("snapshots")
    entry, _ = finalizers.inventory()
    assert entry.resource == "all resources"
    assert entry.release.startswith("kubectl patch RESOURCE NAME ")


def test_a_full_name_is_described_as_own(finalizers: Finalizers) -> None:
    """It does not follow from the identity, and is declared to be one."""
    body = {"metadata": {"finalizers": ["mycompany.com/export"]}}
    assert finalizers.describe(body).foreign == ("mycompany.com/export",)
    finalizers.declare("mycompany.com/export")
    assert finalizers.describe(body).own == ("mycompany.com/export",)


def test_a_name_of_somebody_else_is_refused(finalizers: Finalizers) -> None:
    """As everywhere."""
    with pytest.raises(ConfigurationError, match="not in the domain of this organisation"):
        finalizers.declare("other.org/export")
