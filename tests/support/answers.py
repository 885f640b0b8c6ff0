"""An object on an API server, and what the server answers: for the tests of both servers.

The in-process server is only worth as much as `tests/contract/test_api_*.py`: whatever it does is
written down there, and was first seen on the real one.
"""

from typing import Any

import httpx

from .servers import CRDS, Api, Body, Resource, wait_until

A, B, C = "a.example.com/f", "b.example.com/f", "c.example.com/f"
LIST = "/metadata/finalizers"
REJECTED = "the server rejected our request due to an error in our request"
NAME_RULE = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with"
PREFIX_RULE = "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric"
DELETING = (
    "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted,"
    " found new finalizers []string"
)


def make(api: Api, resource: Resource, name: str = "a", **metadata: Any) -> Body:
    """Create an object."""
    body = resource.body(name, spec={"x": 1}, **metadata)
    created: Body = api.create(resource.path, body).raise_for_status().json()
    return created


def stored(api: Api, resource: Resource, name: str = "a") -> Body:
    """The object as it is now."""
    body: Body = api.get(resource.path_to(name)).raise_for_status().json()
    return body


def finalizers(body: Body) -> list[str]:
    return body["metadata"].get("finalizers") or []


def version(body: Body) -> str:
    return str(body["metadata"]["resourceVersion"])


def accepted(answer: httpx.Response, status: int = 200) -> Body:
    """The body of an answer that has to be a success."""
    assert answer.status_code == status, answer.text
    body: Body = answer.json()
    return body


def refused(answer: httpx.Response, status: int, *words: str, reason: str = "") -> Body:
    """The body of an answer that has to be a refusal in Kubernetes' form, with these words."""
    assert answer.status_code == status, answer.text
    body: Body = answer.json()
    assert body["kind"] == "Status"
    assert body["apiVersion"] == "v1"
    assert body["status"] == "Failure"
    assert body["code"] == status
    assert reason in ("", body.get("reason"))
    for word in words:
        assert word in body["message"]
    return body


def causes(body: Body) -> set[tuple[str, str]]:
    """What is wrong with which field: the real server names some of it more than once."""
    return {(c["field"], c["reason"]) for c in body["details"]["causes"]}


def op(name: str, path: str, value: Any = ...) -> Body:
    """An operation of a JSON Patch."""
    return {"op": name, "path": path, **({} if value is ... else {"value": value})}


def change_definition(api: Api, resource: Resource, version: Body, name: str = "") -> None:
    """Change a version in a definition that is there: its schema, say, or whether it is served.

    A real server takes a moment to go by it, and a test waits for what it expects.
    """
    path = f"{CRDS}/{resource.plural}.{resource.group}"
    spec = accepted(api.get(path))["spec"]
    for listed in spec["versions"]:
        if listed["name"] == (name or resource.version):
            listed |= version
    accepted(api.merge_patch(path, {"spec": {"versions": spec["versions"]}}))


def change_schema(api: Api, resource: Resource, schema: Body, *, refusing: str) -> None:
    """Change the schema, and wait until it counts: a bad object is refused with these words."""
    change_definition(api, resource, {"schema": {"openAPIV3Schema": schema}})
    # No watcher ever sees an object with such a name.
    bad = resource.body("Not a name")
    wait_until(lambda: refusing in api.create(resource.path, bad).text, what=refusing)
