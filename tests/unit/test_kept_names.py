"""A finalizer that is kept in place of the one that domain and operator make."""

import json
from typing import Any

import kopf
import pytest

from kopf_finalizers import ConfigurationError, OperatorIdentity, configure
from kopf_finalizers._unknown_states import _domains_of

KEPT = OperatorIdentity(
    domain="example.com", operator="op", keep_finalizer="example.com/op.finalizer"
)


def test_all_but_the_finalizer_follows_from_domain_and_operator() -> None:
    """What is kept is the operator's, and so is what it would have been."""
    assert KEPT.finalizer == "example.com/op.finalizer"
    assert KEPT.storage_prefix == "op.example.com"
    assert KEPT.finalizer_for("dns") == "example.com/op.dns"
    assert KEPT.owns("example.com/op.finalizer")
    assert KEPT.owns("example.com/op")
    assert KEPT.owns("example.com/op.dns")
    assert not KEPT.owns("example.com/op.finalizer.dns")
    assert OperatorIdentity.model_validate_json(KEPT.model_dump_json()) == KEPT
    assert json.loads(KEPT.model_dump_json())["keep_finalizer"] == "example.com/op.finalizer"


@pytest.mark.parametrize("purpose", ["finalizer", "example.com/op.finalizer", "example.com/op"])
def test_no_cleanup_gets_the_kept_finalizer(purpose: str) -> None:
    """Kopf manages it, and so would this library."""
    with pytest.raises(ConfigurationError, match=r"is the operator's own.*\[own-finalizer\]"):
        KEPT.finalizer_for(purpose)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ("kopf.zalando.org/KopfFinalizerMarker", "each of them takes it off"),
        ("foregroundDeletion", "is a finalizer of Kubernetes"),
        ("kubernetes", "is a finalizer of Kubernetes"),
        ("kubernetes.io/pvc-protection", "is a finalizer of Kubernetes"),
        ("apps.k8s.io/f", "is a finalizer of Kubernetes"),
        ("example.com/op", "leave it out"),
        ("no name", '"no name"'),
        (7, "must be a string"),
    ],
)
def test_what_cannot_be_kept_is_refused(kept: Any, said: str) -> None:
    """In words, when the operator is configured."""
    with pytest.raises(ConfigurationError) as caught:
        configure("example.com", "op", keep_finalizer=kept, registry=kopf.OperatorRegistry())
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("finalizer", "problem"),
    [
        ("kubernetes.dask.org", "must have one slash"),
        ("example.com/op.finalizer", '"."'),
        ("mtls-operator/finalizer", "has no dot"),
    ],
)
def test_the_error_about_a_finalizer_that_makes_no_identity_says_how_to_keep_it(
    finalizer: str, problem: str
) -> None:
    """In words about the finalizer, which is what the user wrote."""
    with pytest.raises(ConfigurationError) as caught:
        configure(finalizer=finalizer, registry=kopf.OperatorRegistry())
    message = str(caught.value)
    assert message.startswith(f'finalizer="{finalizer}" is not of the form')
    assert problem in message
    assert f'keep_finalizer="{finalizer}"' in message
    assert "template" not in message


@pytest.mark.parametrize(
    ("finalizer", "name"),
    [("a.io/op-{name}", None), ("a.io/op", "x"), ("not a finalizer", None), ("kubernetes", None)],
)
def test_no_way_is_proposed_that_would_be_refused_too(finalizer: str, name: str | None) -> None:
    """Such a finalizer cannot be kept either, or is a template."""
    with pytest.raises(ConfigurationError) as caught:
        configure(finalizer=finalizer, name=name, registry=kopf.OperatorRegistry())
    assert "keep_finalizer" not in str(caught.value)


@pytest.mark.parametrize("finalizer", ["a.io/op", None])
def test_a_kept_finalizer_stands_beside_domain_and_operator_alone(finalizer: Any) -> None:
    """One that only watches keeps none, and a whole finalizer is in its place."""
    options: Any = {"finalizer": finalizer, "keep_finalizer": "op/finalizer"}
    with pytest.raises(ConfigurationError, match=r"goes with domain= and operator="):
        configure(registry=kopf.OperatorRegistry(), **options)


def test_a_bare_name_is_its_own_domain_where_records_are_looked_for() -> None:
    """So an annotation there is no other operator's."""
    assert set(_domains_of("kubernetes.dask.org")) == {"kubernetes.dask.org"}
