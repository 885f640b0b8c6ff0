"""Changes of many objects: one after another, a few at a time, each with an outcome of its own.

An object is changed as it was shown: where another one has come under its name (another `uid`), it
is left alone. The change of a finalizer is the library's own `release_finalizer`: it touches its
own entry only, reads again where somebody else was faster, and tells that from a refusal.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .._bodies import finalizers_of, is_being_deleted
from .._clients.ensure import release_finalizer
from .access import JSON_PATCH, METADATA, Cluster, ClusterError, RefusedError
from .discovery import Resource
from .listing import Metadata, metadata_of

AT_ONCE = 4
"""How many objects are changed at the same time: more only wait for each other (`make bench`)."""


@dataclass(frozen=True)
class Target:
    """One object, as it was shown."""

    resource: Resource
    metadata: Metadata

    @property
    def name(self) -> str:
        """As it is printed."""
        inside = f" in {space}" if (space := self.metadata.get("namespace")) else ""
        return f"{self.resource.name}/{self.metadata['name']}{inside}"

    @property
    def path(self) -> str:
        return self.resource.path(self.metadata.get("namespace"), self.metadata["name"])

    @property
    def is_being_deleted(self) -> bool:
        return is_being_deleted({"metadata": self.metadata})

    @property
    def finalizers(self) -> list[str]:
        return finalizers_of({"metadata": self.metadata})


class What(StrEnum):
    """What has become of one object."""

    RELEASED = "released"
    NOT_THERE = "not there"
    GONE = "gone"
    DELETED = "being deleted"
    REFUSED = "refused"
    LEFT = "left"
    NOT_DONE = "not done"

    @property
    def is_well(self) -> bool:
        """Whether nothing is left to do about it."""
        return self not in (What.REFUSED, What.LEFT, What.NOT_DONE)


@dataclass(frozen=True)
class Outcome:
    """What has become of one object, and why."""

    what: What
    why: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" if self.why else str(self.what)


class Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """The rest is not to be done."""


class BeingDeleted(Exception):  # noqa: N818 - nothing is wrong
    """The object has begun to be deleted, and its cleanups are due."""


class Releasing:
    """Takes finalizers off objects of a cluster.

    Args:
        cluster: Where they are.
        dry_run: Have the API server answer as if, and change nothing.
        living_only: Leave objects alone that have begun to be deleted meanwhile.
    """

    def __init__(
        self, cluster: Cluster, *, dry_run: bool = False, living_only: bool = False
    ) -> None:
        self._cluster = cluster
        self._query = {"dryRun": "All"} if dry_run else {}
        self._living_only = living_only

    def release(self, target: Target, finalizer: str, stop: threading.Event) -> Outcome:
        """Take one finalizer off one object."""
        shown: Any = {"metadata": target.metadata}
        known: list[Any] = [shown]

        def read() -> Any:
            if stop.is_set():
                raise Interrupted
            body = known.pop() if known else {"metadata": self.read(target)}
            if self._living_only and is_being_deleted(body):
                raise BeingDeleted
            return body

        def patch(operations: list[dict[str, Any]]) -> Any:
            return self.patch(target, operations)

        try:
            outcome = release_finalizer(finalizer, read=read, patch=patch, body=shown)
        except Interrupted:
            return Outcome(What.NOT_DONE)
        except BeingDeleted:
            return Outcome(What.LEFT, "it is being deleted by now, and its cleanups are due")
        except RefusedError as error:
            return Outcome(What.REFUSED, f"{error.status} {error.reason}: {error.words}")
        except ClusterError as error:
            return Outcome(What.NOT_DONE, str(error))
        return Outcome(What(str(outcome)))

    def patch(self, target: Target, operations: list[dict[str, Any]]) -> Any:
        """Send a JSON Patch; of a living object only if it still is one."""
        if self._living_only:
            test = {"op": "test", "path": "/metadata/deletionTimestamp", "value": None}
            operations = [test, *operations]
        return self._cluster.request(
            "PATCH",
            target.path,
            operations,
            accept=METADATA,
            content_type=JSON_PATCH,
            query=self._query,
        )

    def read(self, target: Target) -> Metadata:
        """The object as it is now."""
        namespace = target.metadata.get("namespace")
        return metadata_of(self._cluster, target.resource, namespace, target.metadata["name"])


Change = Callable[[Target, threading.Event], Outcome]


def change_all(
    targets: Sequence[Target], change: Change, tell: Callable[[Target, Outcome], None]
) -> bool:
    """Change objects, and tell what becomes of each of them; whether it went to its end.

    After a Ctrl-C, what is under way is awaited, and the rest is told as not done; a second one
    ends it at once.
    """
    with _told_to_stop() as stop, ThreadPoolExecutor(AT_ONCE) as pool:

        def changed(target: Target) -> Outcome:
            return Outcome(What.NOT_DONE) if stop.is_set() else change(target, stop)

        under_way = {pool.submit(changed, one): one for one in targets}
        for future in as_completed(under_way):
            tell(under_way[future], future.result())
    return not stop.is_set()


@contextlib.contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets: no exception comes between a change and its outcome."""
    stop = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def note(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def kept(metadata: Metadata, *, annotations: Iterable[str] = ()) -> Metadata:
    """What is needed of an object to change it: thousands of them are kept until they are."""
    names = ("namespace", "name", "uid", "resourceVersion", "finalizers", "deletionTimestamp")
    found: dict[str, Any] = {key: metadata[key] for key in names if metadata.get(key)}
    all_of_them = metadata.get("annotations") or {}
    if some := {key: all_of_them[key] for key in annotations}:
        found["annotations"] = some
    return found
