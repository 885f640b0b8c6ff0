"""Watches: which changes of a collection a client is told, and in which form."""

from dataclasses import dataclass
from typing import Protocol

from ._reading import Form, Selection
from ._refusals import Body, refusal
from ._requests import Resource, Target


@dataclass(frozen=True)
class Event:
    """A change: of which kind and namespace, what it is, and what the object was before."""

    version: int
    resource: str
    namespace: str
    body: Body
    before: Body | None


class _Store(Protocol):
    """What a watch looks at."""

    history: list[Event]
    oldest: int

    def select(self, resource: Resource, namespace: str = "") -> list[Body]: ...

    def definition_of(self, resource: Resource) -> Body | None: ...


class Watch:
    """What changes in one collection, from a version on: none is all that is there, and then on."""

    def __init__(
        self, store: _Store, target: Target, since: int, selected: Selection, form: Form
    ) -> None:
        self._store = store
        self._resource = target.resource
        self._namespace = target.namespace
        self._selected = selected
        self._form = form
        self._initial: list[Body] = []
        self._seen = since
        self._spec = store.definition_of(self._resource)
        self._is_too_old = 0 < since < store.oldest
        if self._is_too_old:
            message = f"too old resource version: {since} ({store.oldest})"
            expired = refusal(410, "Expired", message)
            self._initial = [{"type": "ERROR", "object": expired.body}]
        elif not since:
            present = store.select(target.resource, target.namespace)
            found = [{"type": "ADDED", "object": body} for body in present if selected.has(body)]
            self._initial = [form.of_event(event) for event in found]
            self._seen = len(store.history)

    @property
    def is_over(self) -> bool:
        """Whether clients have to look anew: the resource is defined otherwise by now, say."""
        return self._is_too_old or self._store.definition_of(self._resource) != self._spec

    def news(self) -> list[Body]:
        """What has happened since the last call."""
        news, self._initial = self._initial, []
        if self._is_too_old:
            return news
        for event in self._store.history[self._seen :]:
            self._seen = event.version
            here = self._namespace in ("", event.namespace)
            if event.resource == self._resource.stored_as and here:
                seen = self._selected.seen(event.body, event.before)
                if seen:
                    shown = {**seen, "object": self._resource.view(seen["object"])}
                    news.append(self._form.of_event(shown))
        return news
