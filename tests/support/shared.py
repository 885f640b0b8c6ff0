"""One object that several write, without a network: for tests of what happens in between."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from kopf_finalizers.testing._definitions import custom_resource_definition
from kopf_finalizers.testing._requests import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, Request
from kopf_finalizers.testing._store import Store

from .servers import CRDS, Body, Resource

RESOURCE = Resource("example.com", "v1", "things", "Thing")
PATH = RESOURCE.path_to("a")


class LostAnswerError(ConnectionError):
    """The connection broke after the request was done: a client cannot tell."""


class SharedObject:
    """An object, the three calls that a client gives us, and what others do to it.

    `sent` is what came over our client. What is in `meanwhile` happens one by one, each just before
    one of our writes arrives. While `lossy`, what we write is done, and its answer lost.
    """

    def __init__(self, finalizers: Iterable[str] = ()) -> None:
        self.store = Store()
        self.sent: list[str] = []
        self.meanwhile: list[Callable[[], object]] = []
        self.lossy = False
        definition = custom_resource_definition("example.com", "v1", "things", kind="Thing")
        self.call("POST", CRDS, definition)
        self.create(*finalizers)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        manager: str = "",
    ) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        query = {"fieldManager": manager, "force": "true"} if manager else {}
        request = Request(method, path, content, content_type, query, "others")
        # Through JSON and back, as over a network: nobody shares what is stored.
        return json.loads(json.dumps(self.store.handle(request)[1]))

    # Our client.

    def read(self) -> Body:
        self.sent.append("read")
        body: Body = self.call("GET", PATH)
        return body

    def patch(self, operations: list[Body]) -> Any:
        self.sent.append("patch")
        return self._write(operations, JSON_PATCH)

    def apply(self, manifest: Body, manager: str) -> Any:
        self.sent.append("apply")
        return self._write(manifest, APPLY_PATCH, manager)

    async def read_later(self) -> Body:
        return self.read()

    async def patch_later(self, operations: list[Body]) -> Any:
        return self.patch(operations)

    async def apply_later(self, manifest: Body, manager: str) -> Any:
        return self.apply(manifest, manager)

    def _write(self, body: object, content_type: str, manager: str = "") -> Any:
        self.interfere()
        answer = self.call("PATCH", PATH, body, content_type=content_type, manager=manager)
        if self.lossy:
            raise LostAnswerError
        return answer

    def interfere(self) -> None:
        if self.meanwhile:
            self.meanwhile.pop(0)()

    # The others, and a look at the object.

    @property
    def body(self) -> Body | None:
        found: list[Body] = self.call("GET", RESOURCE.path)["items"]
        return found[0] if found else None

    @property
    def finalizers(self) -> list[str]:
        body = self.body
        return body["metadata"].get("finalizers", []) if body else []

    def create(self, *finalizers: str) -> None:
        self.call("POST", RESOURCE.path, RESOURCE.body("a", finalizers=list(finalizers)))

    def write(self, *finalizers: str) -> None:
        """Somebody else replaces the whole list."""
        patch = {"metadata": {"finalizers": list(finalizers)}}
        self.call("PATCH", PATH, patch, content_type=MERGE_PATCH)

    def write_status(self) -> None:
        """Somebody else changes what has nothing to do with finalizers."""
        patch = {"status": {"written": len(self.store.history)}}
        self.call("PATCH", f"{PATH}/status", patch, content_type=MERGE_PATCH)

    def delete(self) -> None:
        self.call("DELETE", PATH)

    def finish(self) -> None:
        """The object goes, whatever holds it."""
        self.delete()
        if self.body:
            self.write()

    def make_again(self, *finalizers: str) -> None:
        """The object goes, whatever holds it, and another one gets its name."""
        self.finish()
        self.create(*finalizers)
