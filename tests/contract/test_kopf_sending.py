"""What the library needs of Kopf's own client, to send at another time than Kopf does."""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import kopf
import pytest
from kopf._cogs.clients import auth
from kopf._cogs.structs import credentials

from kopf_finalizers._kopf import RefusedError, find_resource, is_there, patch_object

from ..support.objects import create
from ..support.servers import Api, Body, Resource, Server, free_port

MERGE_PATCH = "application/merge-patch+json"


def answer_to(
    ask: Callable[..., Awaitable[Any]], *arguments: Any, url: str, token: str | None, **options: Any
) -> Any:
    """What an API server answers to one of Kopf's cycles."""

    async def run() -> Any:
        vault = credentials.Vault()
        auth.vault_var.set(vault)
        info = kopf.ConnectionInfo(server=url, token=token, insecure=True)
        await vault.populate({"tests": info})
        try:
            return await ask(
                *arguments,
                settings=kopf.OperatorSettings(),
                logger=logging.getLogger("tests"),
                **options,
            )
        finally:
            await vault.close()

    return asyncio.run(run())


def asked(
    ask: Callable[..., Awaitable[Any]],
    resource: Resource,
    metadata: Body,
    *arguments: Any,
    **options: Any,
) -> Any:
    """The same, about an object."""
    where = kopf.Resource(
        group=resource.group, version=resource.version, plural=resource.plural, namespaced=True
    )
    metadata = {"name": "one", "namespace": resource.namespace, **metadata}
    return answer_to(ask, where, metadata, *arguments, **options)


def sent(resource: Resource, payload: Any, **options: Any) -> Any:
    """What comes of a patch."""
    return asked(patch_object, resource, {}, payload, MERGE_PATCH, **options)


def test_a_patch_goes_out_as_kopfs_own(server: Server, api: Api, resource: Resource) -> None:
    """With Kopf's credentials, once, and the object comes back; a status goes where it belongs."""
    create(api, resource)
    options: dict[str, Any] = {"url": server.url, "token": getattr(server, "token", None)}
    body = sent(resource, {"metadata": {"labels": {"a": "b"}}}, **options)
    assert body["metadata"]["labels"] == {"a": "b"}
    body = sent(resource, {"status": {"a": "b"}}, subresource="status", **options)
    assert body["status"] == {"a": "b"}


def test_a_refusal_has_the_servers_words(server: Server, api: Api, resource: Resource) -> None:
    """And its status, by which a newer version is told from all else."""
    create(api, resource)
    options: dict[str, Any] = {"url": server.url, "token": getattr(server, "token", None)}
    with pytest.raises(RefusedError, match="modified") as raised:
        sent(resource, {"metadata": {"resourceVersion": "1"}}, **options)
    assert raised.value.status == 409
    with pytest.raises(RefusedError) as raised:
        sent(resource, {"metadata": {"labels": {"a": "b c"}}}, **options)
    assert raised.value.status == 422


def test_a_server_that_does_not_answer_is_asked_once(resource: Resource) -> None:
    """Kopf's own pauses are for Kopf's own patches."""
    with pytest.raises(RefusedError) as raised:
        sent(resource, {}, url=f"http://127.0.0.1:{free_port()}", token=None)
    assert raised.value.status == 0
    assert str(raised.value)


def test_an_object_is_known_by_its_uid(server: Server, api: Api, resource: Resource) -> None:
    """A later one under its name, and one under another, is not it; nor is one of no resource."""
    uid = create(api, resource)["metadata"]["uid"]
    create(api, resource, "another")
    options: dict[str, Any] = {"url": server.url, "token": getattr(server, "token", None)}
    assert asked(is_there, resource, {"uid": uid}, **options)
    assert not asked(is_there, resource, {"uid": "0-0"}, **options)
    assert not asked(is_there, resource, {"uid": uid, "name": "another"}, **options)
    assert not asked(is_there, resource, {"uid": uid, "name": "nobody"}, **options)
    unserved = dataclasses.replace(resource, plural="nothings")
    assert not asked(is_there, unserved, {"uid": uid}, **options)


def test_no_answer_does_not_say_that_an_object_has_gone(resource: Resource) -> None:
    """It may be there."""
    with pytest.raises(RefusedError):
        asked(is_there, resource, {"uid": "1"}, url=f"http://127.0.0.1:{free_port()}", token=None)


def test_the_resource_of_an_object_is_found(server: Server, api: Api, resource: Resource) -> None:
    """By its version and kind alone: with what a patch of it needs."""
    options: dict[str, Any] = {"url": server.url, "token": getattr(server, "token", None)}
    body = create(api, resource)
    found = answer_to(find_resource, body, **options)
    assert found == kopf.Resource(resource.group, resource.version, resource.plural)
    assert found.namespaced
    assert found.subresources == {"status"}
    namespace = {"apiVersion": "v1", "kind": "Namespace"}
    found = answer_to(find_resource, namespace, **options)
    assert (found.plural, found.namespaced) == ("namespaces", False)


@pytest.mark.parametrize("wrong", [{"kind": "Nothing"}, {"apiVersion": "example.com/v9"}])
def test_a_kind_that_is_gone_is_not_found(
    server: Server, api: Api, resource: Resource, wrong: dict[str, str]
) -> None:
    """As an object that is gone."""
    options: dict[str, Any] = {"url": server.url, "token": getattr(server, "token", None)}
    body = create(api, resource) | wrong
    with pytest.raises(RefusedError) as raised:
        answer_to(find_resource, body, **options)
    assert raised.value.status == 404
