"""Which resources may have objects in common, by the names that decorators give them."""

from typing import Any

import kopf
import pytest

from kopf_finalizers._resources import Selector


def selector(*args: Any, **options: Any) -> Selector:
    return Selector(args, tuple(options.items()))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (selector("g", "v1", "olds"), selector("g", "v1beta1", "olds")),
        (selector("g", "v1", "olds"), selector("g", "olds")),
        (selector("extensions", "v1beta1", "ingresses"), selector("networking.k8s.io", "ingress")),
        (selector("g", "v1", "Policy"), selector("g", "v2", "policies")),
        (selector(group="g", version="v1", kind="Older"), selector("g", "v2", "older")),
        (selector(kopf.EVERYTHING), selector("g", "v1", "olds")),
        (selector("g", "v1", "db"), selector("g", "v1", "databases")),
        (selector(group="g", category="all"), selector("g", "v1", "databases")),
    ],
)
def test_similar_names(one: Selector, other: Selector) -> None:
    """Names of one kind are similar: of versions, of groups, as plural, kind or short name."""
    assert one.is_similar(other)
    assert other.is_similar(one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (selector("g", "v1", "olds"), selector("g", "v1", "olds")),
        (selector("g", "v1", "olds"), selector("olds.v1.g")),
        (selector("g", "v1", "olds"), selector("g", "v1", "news")),
        (selector("g", "v1", "databases"), selector(group="g", version="v1", kind="Table")),
    ],
)
def test_other_names(one: Selector, other: Selector) -> None:
    """One resource has one stream, however it is written; other names are other kinds."""
    assert not one.is_similar(other)
    assert not other.is_similar(one)
