"""Many owners of one object, beside a writer that never pauses: four ways to change a finalizer."""

import contextlib
import statistics
import threading
import time
from collections import Counter
from typing import Any, Protocol

import httpx

from kopf_finalizers import ensure_finalizer, release_finalizer
from tests.support.servers import Api, Body, KubeApiServer, Resource, client_of


class Bring(Protocol):
    """A way to bring an owner's finalizer on or off the object."""

    def __call__(self, owner: "Owner", *, adding: bool) -> None:
        """Bring it on, or off."""


class Owner:
    """One owner: adds its own finalizer and takes it off again, and counts what that takes."""

    def __init__(self, api: Api, path: str, name: str, body: Body) -> None:
        self.api = api
        self.path = path
        self.name = name
        self.body = body
        self.counts = Counter[str]()

    def read(self) -> Body:
        """The object as it is stored."""
        self.counts["reads"] += 1
        return dict(self.api.get(self.path).raise_for_status().json())

    def json_patch(self, operations: list[Body]) -> Body:
        """Send a JSON Patch."""
        self.counts["patches"] += 1
        return dict(self.api.json_patch(self.path, operations).raise_for_status().json())

    def merge_patch(self, patch: Body) -> httpx.Response:
        """Send a merge patch; the answer may be a refusal."""
        self.counts["patches"] += 1
        return self.api.merge_patch(self.path, patch)

    def apply(self, manifest: Body, manager: str) -> Body:
        """Send a server-side apply."""
        self.counts["patches"] += 1
        answer = self.api.apply(self.path, manifest, manager=manager)
        return dict(answer.raise_for_status().json())

    def rounds(self, bring: Bring, number: int) -> None:
        """Add the finalizer and take it off, so many times."""
        for _ in range(number):
            for adding in (True, False):
                bring(self, adding=adding)
                self.counts["changes"] += 1
                self.counts["lost"] += self._is_there() is not adding

    def _is_there(self) -> bool:
        """A look at the object that is part of the measurement, and no request of the way."""
        body = self.api.get(self.path).raise_for_status().json()
        return self.name in body["metadata"].get("finalizers", [])


def by_json_patch(owner: Owner, *, adding: bool) -> None:
    change = ensure_finalizer if adding else release_finalizer
    change(owner.name, read=owner.read, patch=owner.json_patch)


def by_apply(owner: Owner, *, adding: bool) -> None:
    change = ensure_finalizer if adding else release_finalizer
    change(owner.name, body=owner.body, apply=owner.apply)


def by_locked_merge_patch(owner: Owner, *, adding: bool) -> None:
    """What `MergeFromWithOptimisticLock` of controller-runtime does."""
    while True:
        body = owner.read()
        patch = _whole_list(owner, body, adding=adding)
        patch["metadata"]["resourceVersion"] = body["metadata"]["resourceVersion"]
        answer = owner.merge_patch(patch)
        if answer.status_code != 409:
            answer.raise_for_status()
            return


def by_unlocked_merge_patch(owner: Owner, *, adding: bool) -> None:
    """What hand-written code does: read the list, and write it back whole."""
    body = owner.read()
    owner.merge_patch(_whole_list(owner, body, adding=adding)).raise_for_status()


def _whole_list(owner: Owner, body: Body, *, adding: bool) -> Body:
    others = [name for name in body["metadata"].get("finalizers", []) if name != owner.name]
    return {"metadata": {"finalizers": [*others, owner.name] if adding else others}}


WAYS: dict[str, Bring] = {
    "server-side apply (ours)": by_apply,
    "JSON Patch (ours)": by_json_patch,
    "merge patch, locked": by_locked_merge_patch,
    "merge patch, unlocked": by_unlocked_merge_patch,
}


def measure(server: KubeApiServer, *, owners: int, rounds: int, repeat: int) -> dict[str, Any]:
    """Medians for each way; each was tried in every turn."""
    server.define("example.com", "v1", "shareds", kind="Shared")
    resource = Resource("example.com", "v1", "shareds", "Shared")
    taken: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for turn in range(repeat):
        order = list(WAYS)
        for way in order[turn % len(order) :] + order[: turn % len(order)]:
            name = f"object-{turn}-{order.index(way)}"
            taken[way].append(_turn(server, resource, name, WAYS[way], owners, rounds))
    return {
        way: {key: statistics.median(one[key] for one in turns) for key in turns[0]}
        for way, turns in taken.items()
    }


def _turn(
    server: KubeApiServer, resource: Resource, name: str, bring: Bring, owners: int, rounds: int
) -> dict[str, float]:
    with contextlib.ExitStack() as stack:
        apis = [
            stack.enter_context(contextlib.closing(client_of(server))) for _ in range(owners + 1)
        ]
        body = apis[0].create(resource.path, resource.body(name)).raise_for_status().json()
        path = resource.path_to(name)
        everyone = [
            Owner(api, path, f"owner-{number}.example.com/f", body)
            for number, api in enumerate(apis[1:])
        ]
        stop, failures = threading.Event(), list[BaseException]()

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                apis[0].merge_patch(f"{path}/status", {"status": {"number": number}})

        def work(owner: Owner) -> None:
            try:
                owner.rounds(bring, rounds)
            except BaseException as failure:
                failures.append(failure)

        writer = threading.Thread(target=write)
        threads = [threading.Thread(target=work, args=(owner,)) for owner in everyone]
        began = time.perf_counter()
        for thread in (writer, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - began
        stop.set()
        writer.join()
        if failures:
            raise failures[0]
        changes = sum(owner.counts["changes"] for owner in everyone)
        patches = sum(owner.counts["patches"] for owner in everyone)
        reads = sum(owner.counts["reads"] for owner in everyone)
        return {
            "PATCH requests per change": patches / changes,
            "reads per change": reads / changes,
            "changes": changes,
            "lost": sum(owner.counts["lost"] for owner in everyone),
            "seconds": seconds,
        }
