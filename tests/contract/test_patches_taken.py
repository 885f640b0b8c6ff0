"""What API servers make of the library's patches of one finalizer."""

from typing import cast

import pytest

from kopf_finalizers import json_patch, merge_patch

from ..support.servers import Api, Body, Resource

OWN = "mycompany.com/db-operator"
OTHER = "other.org/f"
THIRD = "third.org/f"


def _create(api: Api, resource: Resource, *finalizers: str) -> Body:
    body = resource.body("t", finalizers=list(finalizers))
    return cast("Body", api.create(resource.path, body).raise_for_status().json())


def _stored(api: Api, resource: Resource) -> list[str]:
    return list(api.get(resource.path_to("t")).json()["metadata"].get("finalizers", []))


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ([], {"add": OWN}, [OWN]),
        ([OTHER], {"add": OWN}, [OTHER, OWN]),
        ([OTHER, OWN, THIRD], {"remove": OWN}, [OTHER, THIRD]),
        ([OWN, OTHER, OWN], {"remove": OWN}, [OTHER]),
        ([OWN], {"remove": OWN}, []),
        ([OWN, OTHER, OWN], {"add": THIRD, "remove": OWN}, [THIRD, OTHER]),
    ],
)
def test_patches_work_on_an_api_server(
    api: Api, resource: Resource, before: list[str], change: dict[str, str], after: list[str]
) -> None:
    """An API server takes both forms of a change, and stores the list that they mean."""
    body = _create(api, resource, *before)
    path = resource.path_to("t")
    api.json_patch(path, json_patch(body, **change)).raise_for_status()
    assert _stored(api, resource) == after
    body = api.merge_patch(path, {"metadata": {"finalizers": before or None}}).json()
    api.merge_patch(path, merge_patch(body, **change)).raise_for_status()
    assert _stored(api, resource) == after


def test_patches_work_beside_somebody_who_writes_a_status(api: Api, resource: Resource) -> None:
    """A JSON Patch does not mind a newer version of the object; a merge patch does (409)."""
    body = _create(api, resource, OTHER, OWN)
    path = resource.path_to("t")
    api.merge_patch(resource.path_to("t", "status"), {"status": {"a": 1}}).raise_for_status()
    assert api.merge_patch(path, merge_patch(body, remove=OWN)).status_code == 409
    assert _stored(api, resource) == [OTHER, OWN]
    assert api.json_patch(path, json_patch(body, remove=OWN)).status_code == 200
    assert _stored(api, resource) == [OTHER]


@pytest.mark.parametrize(
    ("read", "meanwhile", "change"),
    [
        ([OTHER, OWN], [OWN], {"remove": OWN}),
        ([OTHER, OWN], [OWN, OTHER], {"remove": OWN}),
        ([OTHER, OWN], [OTHER], {"remove": OWN}),
        ([OTHER, OWN], [OWN, OTHER], {"remove": OWN, "add": THIRD}),
        ([], [OTHER], {"add": OWN}),
        ([OTHER], [], {"add": OWN}),
    ],
)
def test_patches_fail_when_the_list_is_not_what_was_read(
    api: Api, resource: Resource, read: list[str], meanwhile: list[str], change: dict[str, str]
) -> None:
    """An entry that has moved or gone, a list made or emptied meanwhile: nothing is changed."""
    body = _create(api, resource, *read)
    path = resource.path_to("t")
    api.merge_patch(path, {"metadata": {"finalizers": meanwhile or None}}).raise_for_status()
    assert api.json_patch(path, json_patch(body, **change)).status_code == 422
    assert api.merge_patch(path, merge_patch(body, **change)).status_code == 409
    assert _stored(api, resource) == meanwhile


def test_patches_fail_on_an_object_made_again_under_the_same_name(
    api: Api, resource: Resource
) -> None:
    """A change that was meant for an object that is gone does not reach its successor."""
    body = _create(api, resource, OTHER, OWN)
    path = resource.path_to("t")
    api.merge_patch(path, {"metadata": {"finalizers": None}}).raise_for_status()
    api.delete(path).raise_for_status()
    _create(api, resource, OTHER, OWN)
    assert api.json_patch(path, json_patch(body, remove=OWN)).status_code == 422
    assert api.json_patch(path, json_patch(body, add=THIRD)).status_code == 422
    assert api.merge_patch(path, merge_patch(body, remove=OWN)).status_code in (409, 422)
    assert _stored(api, resource) == [OTHER, OWN]


def test_last_finalizer_of_an_object_being_deleted_lets_it_go(api: Api, resource: Resource) -> None:
    """On an object being deleted nothing is added, and with the last removal it is gone."""
    _create(api, resource, OWN)
    path = resource.path_to("t")
    body = api.delete(path).json()
    assert body["metadata"]["deletionTimestamp"]
    assert json_patch(body, add=OTHER) == []
    assert api.json_patch(path, json_patch(body, remove=OWN)).status_code == 200
    assert api.get(path).status_code == 404
