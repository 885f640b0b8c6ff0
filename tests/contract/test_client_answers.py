"""What the client functions rely on, asked of both API servers."""

from typing import Any

import httpx
import pytest

from kopf_finalizers import (
    apply_configuration,
    ensure_finalizer,
    json_patch,
    release_finalizer,
)

from ..support.servers import Api, Body, Resource

OURS = "mycompany.com/db-operator"
THEIRS = "other.org/f"
LONG = f"mycompany.com.{'a' * 63}.{'b' * 63}.com/db-operator"
FORBIDDEN = "metadata.finalizers: Forbidden"


class OneObject:
    """An object on a server, with the client of the tests."""

    def __init__(self, api: Api, resource: Resource, *finalizers: str) -> None:
        self.api, self.resource, self.path = api, resource, resource.path_to("a")
        self.create(*finalizers)

    def create(self, *finalizers: str) -> None:
        body = self.resource.body("a", finalizers=list(finalizers))
        answer = self.api.create(self.resource.path, body).raise_for_status()
        self.body: Body = answer.json()

    def read(self) -> Body:
        body: Body = self.api.get(self.path).raise_for_status().json()
        return body

    def patch(self, operations: list[Body]) -> Any:
        return self.api.json_patch(self.path, operations).raise_for_status().json()

    def apply(self, manifest: Body, manager: str) -> Any:
        return self.api.apply(self.path, manifest, manager=manager).raise_for_status().json()

    def change(self, **change: str) -> httpx.Response:
        manifest, manager = apply_configuration(self.body, **change)
        return self.api.apply(self.path, manifest, manager=manager)

    @property
    def finalizers(self) -> list[str]:
        finalizers: list[str] = self.read()["metadata"].get("finalizers", [])
        return finalizers


def details(answer: httpx.Response) -> tuple[int, str, bool]:
    """The status, the message, and whether there are causes."""
    body = answer.json()
    return answer.status_code, body["message"], bool((body.get("details") or {}).get("causes"))


def test_one_entry_is_applied_and_given_up(api: Api, resource: Resource) -> None:
    """An apply adds one entry and takes it off again, and nobody else's are touched."""
    thing = OneObject(api, resource, THEIRS)
    for name in (OURS, LONG):
        assert name in thing.change(add=name).json()["metadata"]["finalizers"]
    assert set(thing.finalizers) == {OURS, LONG, THEIRS}
    assert set(thing.change(remove=OURS).json()["metadata"]["finalizers"]) == {LONG, THEIRS}
    assert thing.change(remove=LONG).json()["metadata"]["finalizers"] == [THEIRS]


def test_applied_twice_changes_nothing(api: Api, resource: Resource) -> None:
    """What is applied already keeps the version: that is how it is told."""
    thing = OneObject(api, resource)
    first, second = (thing.change(add=OURS).json()["metadata"] for _ in range(2))
    assert first["resourceVersion"] == second["resourceVersion"]


def test_version_stays_when_the_object_goes(api: Api, resource: Resource) -> None:
    """The release that lets an object go returns it with the version from before."""
    thing = OneObject(api, resource)
    thing.change(add=OURS)
    before = api.delete(thing.path).json()["metadata"]
    after = thing.change(remove=OURS).json()["metadata"]
    assert not after.get("finalizers")
    assert before["resourceVersion"] == after["resourceVersion"]
    assert api.get(thing.path).status_code == 404


def test_apply_to_an_object_that_is_gone(api: Api, resource: Resource) -> None:
    """It is not created again, and the answer says so in words only."""
    thing = OneObject(api, resource)
    api.delete(thing.path)
    status, message, causes = details(thing.change(add=OURS))
    assert (status, causes) == (409, False)
    assert "uid mismatch" in message
    assert api.get(thing.path).status_code == 404


@pytest.mark.parametrize("change", ["add", "remove"])
def test_apply_to_another_object_of_that_name(api: Api, resource: Resource, change: str) -> None:
    """An object made again is told by its uid."""
    thing = OneObject(api, resource)
    body = thing.body
    api.delete(thing.path)
    thing.create(THEIRS)
    api.delete(thing.path)
    thing.body = body
    status, message, causes = details(thing.change(**{change: OURS}))
    assert (status, causes) == (422, True)
    assert "metadata.uid: Invalid value" in message


def test_nothing_is_added_to_an_object_being_deleted(api: Api, resource: Resource) -> None:
    """An apply and a JSON Patch are refused in the same words, with causes."""
    thing = OneObject(api, resource, THEIRS)
    operations = json_patch(thing.body, add=OURS)
    api.delete(thing.path)
    for answer in (thing.change(add=OURS), api.json_patch(thing.path, operations)):
        status, message, causes = details(answer)
        assert (status, causes) == (422, True)
        assert FORBIDDEN in message


def test_entry_of_another_patch_stays(api: Api, resource: Resource) -> None:
    """An apply does not take off what it has not put on."""
    thing = OneObject(api, resource)
    thing.patch(json_patch(thing.body, add=OURS))
    assert thing.change(remove=OURS).json()["metadata"]["finalizers"] == [OURS]
    thing.change(add=OURS)
    assert thing.change(remove=OURS).json()["metadata"]["finalizers"] == [OURS]


def test_duplicates_cannot_be_applied_to(api: Api, resource: Resource) -> None:
    """A list with anybody's duplicates is an internal error for an apply, and none for a patch."""
    thing = OneObject(api, resource, THEIRS, THEIRS)
    status, message, _ = details(thing.change(add=OURS))
    assert status == 500
    assert "duplicate entries" in message
    thing.patch(json_patch(thing.body, add=OURS))
    assert thing.finalizers == [THEIRS, THEIRS, OURS]


@pytest.mark.parametrize("change", ["list", "uid"])
def test_failed_test_has_no_causes(api: Api, resource: Resource, change: str) -> None:
    """The answer to a lost race names no cause, unlike that to a change that breaks a rule."""
    thing = OneObject(api, resource)
    body = thing.body
    if change == "list":
        thing.patch(json_patch(body, add=THEIRS))
    else:
        api.delete(thing.path)
        thing.create()
    status, _, causes = details(api.json_patch(thing.path, json_patch(body, add=OURS)))
    assert (status, causes) == (422, False)


@pytest.mark.parametrize("way", ["patch", "apply", "both"])
def test_life_of_a_finalizer(api: Api, resource: Resource, way: str) -> None:
    """All outcomes, in the order in which an object meets them."""
    thing = OneObject(api, resource, THEIRS)
    ways: dict[str, dict[str, Any]] = {
        "patch": {"read": thing.read, "patch": thing.patch, "body": thing.body},
        "apply": {"apply": thing.apply, "body": thing.body},
    }
    how: dict[str, Any] = ways["patch"] | ways["apply"] if way == "both" else ways[way]
    # An apply cannot tell what was there before, unless the given body is the latest.
    already, not_there = ("already there", "not there") if way == "patch" else ("added", "released")
    assert ensure_finalizer(OURS, **how) == "added"
    assert ensure_finalizer(OURS, **how) == already
    assert thing.finalizers in ([THEIRS, OURS], [OURS, THEIRS])
    assert release_finalizer(OURS, **how) == "released"
    assert release_finalizer(OURS, **how) == not_there
    assert ensure_finalizer(OURS, **how) == "added"
    api.delete(thing.path)
    assert ensure_finalizer(LONG, **how) == "being deleted"
    assert ensure_finalizer(OURS, **how) == already
    assert release_finalizer(OURS, **how) == "released"
    api.json_patch(thing.path, json_patch(thing.read(), remove=THEIRS)).raise_for_status()
    assert ensure_finalizer(OURS, **how) == "gone"
    assert release_finalizer(OURS, **how) == "gone"
    thing.create(OURS)
    assert ensure_finalizer(OURS, **how) == "gone"
    assert release_finalizer(OURS, **how) == "gone"
    assert thing.finalizers == [OURS]
