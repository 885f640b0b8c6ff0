"""Lists and watches of an API server."""

import pytest

from ..support.answers import accepted, make, refused, stored, version
from ..support.servers import Api, Resource


def test_a_list_has_a_version(api: Api, resource: Resource) -> None:
    """A list has the objects of the namespace by name, and the version to watch from."""
    for name in ("b", "a"):
        make(api, resource, name)
    body = accepted(api.get(resource.path))
    assert (body["apiVersion"], body["kind"]) == ("example.com/v1", "ThingList")
    assert body["items"] == [stored(api, resource, name) for name in ("a", "b")]
    assert int(body["metadata"]["resourceVersion"]) >= int(version(stored(api, resource, "a")))
    everywhere = api.list(resource.everywhere)
    assert [o for o in everywhere if o["metadata"]["namespace"] == resource.namespace] == (
        body["items"]
    )
    assert accepted(api.get(resource.path, watch="false"))["kind"] == "ThingList"


def test_a_watch_from_a_version(api: Api, resource: Resource) -> None:
    """A watch from a version gets all that has changed since, in order, and what changes then."""
    start = version(make(api, resource, "old"))
    first = make(api, resource, "a")
    with api.watching(resource.path, resourceVersion=start) as seen:
        second = accepted(api.merge_patch(resource.path_to("a"), {"spec": {"x": 2}}))
        accepted(api.delete(resource.path_to("a")))
        last = seen.wait_for("DELETED", "a")
        assert seen.types() == ["ADDED", "MODIFIED", "DELETED"]
        assert [body for _, body in seen.of("a")][:2] == [first, second]
        assert int(version(last)) > int(version(second))
        assert {**last, "metadata": {**last["metadata"], "resourceVersion": ""}} == {
            **second,
            "metadata": {**second["metadata"], "resourceVersion": ""},
        }


@pytest.mark.parametrize("start", ["", "0"], ids=["none", "zero"])
def test_a_watch_from_nowhere(api: Api, resource: Resource, start: str) -> None:
    """A watch without a version begins with all that is there, as if it had just been added."""
    body = make(api, resource)
    with api.watching(resource.path, resourceVersion=start) as seen:
        assert seen.wait_for("ADDED", "a") == body
        make(api, resource, "b")
        seen.wait_for("ADDED", "b")
        assert seen.types() == ["ADDED", "ADDED"]


def test_a_watch_sees_its_namespace_only(api: Api, resource: Resource) -> None:
    """A watch of one namespace sees no other; a watch of all sees all."""
    other = resource.within("default")
    with api.watching(resource.path) as here, api.watching(resource.everywhere) as everywhere:
        make(api, other, "watched-elsewhere")
        make(api, resource, "watched-here")
        here.wait_for("ADDED", "watched-here")
        everywhere.wait_for("ADDED", "watched-here")
        everywhere.wait_for("ADDED", "watched-elsewhere")
        assert here.of("watched-elsewhere") == []


def test_a_watch_ends_in_time(api: Api, resource: Resource) -> None:
    """A watch with a timeout ends by itself, in good order."""
    start = version(make(api, resource))
    query = {"watch": "true", "timeoutSeconds": 1, "allowWatchBookmarks": "true"}
    answer = api.get(resource.path, resourceVersion=start, **query)
    assert (answer.status_code, answer.text) == (200, "")
    assert answer.headers["Content-Type"].startswith("application/json")
    answer = api.get(resource.path, watch="true", timeoutSeconds="soon")
    refused(answer, 400, "invalid syntax", reason="BadRequest")


def test_only_collections_are_watched(api: Api, resource: Resource) -> None:
    """One object is not watched by its path: the answer is the object."""
    body = make(api, resource)
    assert accepted(api.get(resource.path_to("a"), watch="true")) == body
    refused(api.get(resource.path_to("b"), watch="true"), 404, reason="NotFound")
