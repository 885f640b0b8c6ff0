"""What the demo itself asks of an API server: a custom resource, an object, and a watch on it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import aiohttp
import kopf

Body = dict[str, Any]

GROUP, VERSION, PLURAL, KIND = "demo.example.com", "v1", "gadgets", "Gadget"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OBJECTS = f"/apis/{GROUP}/{VERSION}/namespaces/default/{PLURAL}"

_SCHEMA = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_VERSION = {
    "name": VERSION,
    "served": True,
    "storage": True,
    "schema": {"openAPIV3Schema": _SCHEMA},
}
_DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"{PLURAL}.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": PLURAL, "singular": KIND.lower(), "kind": KIND},
        "versions": [_VERSION],
    },
}


class Cluster:
    """A client for one API server, which leaves nothing behind there when it is closed."""

    def __init__(self) -> None:
        # The same credentials, from the same file, that the operators use.
        login = kopf.login_with_kubeconfig(settings=kopf.OperatorSettings())
        if login is None:
            raise RuntimeError("There is no kubeconfig.")
        self._session = aiohttp.ClientSession(
            login.server,
            headers=login.as_http_headers(),
            connector=aiohttp.TCPConnector(ssl=login.as_ssl_context()),
        )

    async def __aenter__(self) -> Self:
        try:
            await self._request("POST", CRDS, _DEFINITION, accepted={409})
            await until(self._is_served, "the custom resource is served")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._request("DELETE", f"{CRDS}/{PLURAL}.{GROUP}", accepted={404})
        finally:
            await self._session.close()

    async def _is_served(self) -> bool:
        return "items" in await self._request("GET", OBJECTS, accepted={404})

    async def create(self, name: str) -> None:
        """Create an object."""
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": name}}
        await self._request("POST", OBJECTS, body)

    async def delete(self, name: str) -> None:
        """Delete an object, as a user does; it may be gone already."""
        await self._request("DELETE", f"{OBJECTS}/{name}", accepted={404})

    async def purge(self, name: str) -> None:
        """Delete an object whatever still holds it: when all its operators have stopped."""
        await self.delete(name)
        free = {"metadata": {"finalizers": None}}
        await self._request("PATCH", f"{OBJECTS}/{name}", free, accepted={404})

    @contextlib.asynccontextmanager
    async def watching(self, see: Callable[[str, Body], None]) -> AsyncIterator[None]:
        """Have a function called with every change of every object from now on."""
        listed = await self._request("GET", OBJECTS)
        query = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.get(OBJECTS, params=query, timeout=timeout) as stream:
            stream.raise_for_status()
            reading = asyncio.create_task(_read(stream, see))
            try:
                yield
            finally:
                reading.cancel()
                await asyncio.wait([reading])

    async def _request(
        self, method: str, path: str, body: Body | None = None, accepted: set[int] | None = None
    ) -> Body:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        data = json.dumps(body) if body else None
        headers = {"Content-Type": kind}
        async with self._session.request(method, path, data=data, headers=headers) as response:
            text = await response.text()
            if response.ok:
                answer: Body = json.loads(text)
                return answer
            if response.status not in (accepted or ()):
                raise RuntimeError(f"{method} {path}: {response.status} {text}")
            return {}


async def _read(stream: aiohttp.ClientResponse, see: Callable[[str, Body], None]) -> None:
    async for line in stream.content:
        event = json.loads(line)
        see(event["type"], event["object"])


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until a condition holds, and say which one if it never does."""
    try:
        async with asyncio.timeout(60):
            while True:
                holds = condition()
                if await holds if asyncio.iscoroutine(holds) else holds:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise RuntimeError(f"Waited a minute in vain until {what}.") from None
