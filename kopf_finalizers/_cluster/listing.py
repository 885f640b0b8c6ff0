"""All objects of a resource, by their metadata alone and a page at a time.

A page is gone when the next one comes, so that memory does not grow with the cluster. Where a token
for the next page is too old (410, Kubernetes 1.20 to 1.36), the API server may give a new one, with
which the list goes on from where it was; else it begins again, and what was counted is forgotten.
"""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from .access import METADATA, METADATA_LIST, Cluster, ClusterError, RefusedError
from .discovery import Resource, Unseen

Metadata = Mapping[str, Any]

PAGE = 500
AT_ONCE = 4
"""How many resources are listed at the same time: a few, so that a busy cluster stays usable."""

_RESTARTS = 5


@dataclass(frozen=True)
class Scope:
    """Which objects of a resource are meant."""

    namespace: str | None = None
    selector: str | None = None

    def holds(self, resource: Resource) -> bool:
        """Whether the resource has objects there at all."""
        return self.namespace is None or resource.namespaced


def pages_of(cluster: Cluster, resource: Resource, scope: Scope) -> Iterator[list[Metadata] | None]:
    """The metadata of the objects, a page at a time; None where the list begins again.

    Raises:
        ClusterError: They cannot be listed, or the list never comes to its end.
    """
    token: str | None = None
    restarts = 0
    while True:
        try:
            answer = cluster.get(
                resource.path(scope.namespace),
                accept=METADATA_LIST,
                limit=PAGE,
                labelSelector=scope.selector,
                **{"continue": token},
            )
        except RefusedError as error:
            if error.status != 410 or token is None or restarts == _RESTARTS:
                raise
            restarts += 1
            told = error.body if isinstance(error.body, Mapping) else {}
            token = (told.get("metadata") or {}).get("continue")
            if not token:
                yield None
            continue
        # `items` may be null, and an item of an API that is none of Kubernetes' own may be odd.
        yield [one["metadata"] for one in answer.get("items") or [] if one.get("metadata")]
        token = (answer.get("metadata") or {}).get("continue")
        if not token:
            return


def metadata_of(cluster: Cluster, resource: Resource, namespace: str | None, name: str) -> Metadata:
    """The metadata of one object.

    Raises:
        ClusterError: It cannot be read; with status 404 it is not there.
    """
    metadata: Metadata = cluster.get(resource.path(namespace, name), accept=METADATA)["metadata"]
    return metadata


class Account(Protocol):
    """What is made of the objects of one resource, page by page."""

    def look(self, items: Sequence[Metadata]) -> None: ...


AccountT = TypeVar("AccountT", bound=Account)


class Progress:
    """How far it has come, for a bar; any thread may say so."""

    def __init__(self, show: Callable[[int, int, int], None] = lambda *_: None) -> None:
        self._show = show
        self._lock = threading.Lock()
        self._resources = self._of = self._objects = 0

    def began(self, resources: int) -> None:
        """So many resources are to be listed."""
        self._said(of=resources)

    def page(self, objects: int) -> None:
        """One more page was read."""
        self._said(objects=objects)

    def ended(self) -> None:
        """One resource is done."""
        self._said(resources=1)

    def _said(self, *, resources: int = 0, of: int = 0, objects: int = 0) -> None:
        with self._lock:
            self._resources += resources
            self._of += of
            self._objects += objects
            self._show(self._resources, self._of, self._objects)


def look_at_all(
    cluster: Cluster,
    resources: Iterable[Resource],
    scope: Scope,
    new: Callable[[Resource], AccountT],
    progress: Progress | None = None,
) -> Generator[tuple[Resource, AccountT | Unseen], None, None]:
    """Look at all objects of these resources, a few resources at a time, in the order they end.

    What cannot be listed is given as unseen. Interrupted, no further page is asked for.
    """
    progress = progress or Progress()
    meant = [one for one in resources if scope.holds(one)]
    progress.began(len(meant))
    stop = threading.Event()

    def look(resource: Resource) -> AccountT | Unseen:
        try:
            account = new(resource)
            for items in pages_of(cluster, resource, scope):
                if stop.is_set():
                    break
                if items is None:
                    account = new(resource)
                else:
                    account.look(items)
                    progress.page(len(items))
        except ClusterError as error:
            return _unseen(resource, error)
        return account

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        under_way = {pool.submit(look, one): one for one in meant}
        for future in as_completed(under_way):
            progress.ended()
            yield under_way[future], future.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _unseen(resource: Resource, error: ClusterError) -> Unseen:
    unseen = Unseen.of(resource.name, error)
    if unseen.status == 404:
        return replace(unseen, why="it went away meanwhile (404)")
    return unseen
