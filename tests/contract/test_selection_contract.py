"""How Kopf reads what its decorators are given, as far as the commands for a cluster rely on it."""

from typing import Any

import kopf
import pytest

from kopf_finalizers._kopf import selected_by


def served(group: str, plural: str, kind: str, **more: Any) -> kopf.Resource:
    """A resource as Kopf sees it."""
    about: dict[str, Any] = {
        "version": "v1", "singular": kind.lower(), "shortcuts": frozenset({plural[:2]}),
        "categories": frozenset(), "subresources": frozenset(), "namespaced": True,
        "preferred": True, "verbs": frozenset({"list", "watch", "patch"}),
    }  # fmt: skip
    return kopf.Resource(group=group, plural=plural, kind=kind, **{**about, **more})


DATABASES = served("mycompany.com", "databases", "Database", categories=frozenset({"stores"}))
OLD = served("mycompany.com", "databases", "Database", version="v1beta1", preferred=False)
REPORTS = served("mycompany.com", "reports", "Report")
PODS = served("", "pods", "Pod")
METRICS = served("metrics.k8s.io", "pods", "PodMetrics")
EVENTS = served("", "events", "Event")
ALL = [DATABASES, OLD, REPORTS, PODS, METRICS, EVENTS]


@pytest.mark.parametrize(
    ("args", "options", "expected"),
    [
        (("mycompany.com", "v1", "databases"), {}, {DATABASES}),
        (("mycompany.com/v1beta1", "databases"), {}, {OLD}),
        (("databases.mycompany.com",), {}, {DATABASES}),
        (("Database",), {}, {DATABASES}),
        (("da",), {}, {DATABASES}),
        (("pods",), {}, {PODS}),
        ((), {"category": "stores"}, {DATABASES}),
        ((), {"kind": "Report"}, {REPORTS}),
        (("nosuch",), {}, set()),
        ((kopf.EVERYTHING,), {}, {DATABASES, REPORTS, PODS, METRICS}),
        ((lambda resource: resource.plural == "reports",), {}, {REPORTS}),
    ],
)
def test_kopf_says_which_resources_a_handler_has(
    args: tuple[Any, ...], options: dict[str, Any], expected: set[kopf.Resource]
) -> None:
    """In each notation: and a new Kopf that reads one otherwise is noticed here."""
    assert set(selected_by(args, options, ALL)) == expected
