"""Objects that leave what an operator watches: alive, with its finalizers, and out of its sight.

An operator may have an API server choose its objects (`settings.watching` of Kopf 1.45). One that
no longer fits is then a DELETED event of an object that is not being deleted (Kubernetes, *Watch
and label selectors*). Kopf forgets it, plain or with this library, and what is on it stays.
"""

from typing import TYPE_CHECKING, Any

import kopf

from ._bodies import is_being_deleted
from ._resources import HandledResources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._description import Description

_SELECTORS = ("label_selectors", "field_selectors", "shard_selectors")


class Selection:
    """Warns of each object that leaves it with a finalizer of this operator."""

    def __init__(self, describe: "Callable[[Mapping[str, Any]], Description]") -> None:
        self._describe = describe
        self._resources: HandledResources | None = None

    def begin(self, settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry) -> None:
        """Look at the objects of an operator that has a selection; safe to call again."""
        if self._resources is None and any(
            getattr(settings.watching, name, None) for name in _SELECTORS
        ):
            self._resources = HandledResources(self._look, purpose="selection", registry=registry)
            self._resources.ask()

    def _look(
        self,
        *,
        type: str | None,  # noqa: A002 - Kopf's name
        body: kopf.Body,
        resource: kopf.Resource,
        logger: kopf.Logger,
        **_: Any,
    ) -> bool:
        """A filter that never lets Kopf call the handler."""
        if type == "DELETED" and not is_being_deleted(body):
            known = self._describe(body)
            if names := [*known.own, *known.former]:
                logger.warning(
                    f"This object is alive and has left what the operator watches"
                    f" (settings.watching) with {', '.join(names)} on it. It will hang when it is"
                    " deleted, unless it comes back, or another shard with the same identity"
                    f" watches it. [left-selection]"
                    f" To release it: {_commands(names, resource, body)}"
                )
        return False


def _commands(names: list[str], resource: kopf.Resource, body: kopf.Body) -> str:
    """What takes the finalizers off this object, in one line of a log."""
    from ._inventory import release_command

    where = resource.plural
    if resource.group:
        where += f".{resource.version}.{resource.group}"
    namespace = body.metadata.namespace
    place = f"{body.metadata.name} --namespace {namespace}" if namespace else body.metadata.name
    return "; ".join(
        " ".join(release_command(name, where).split()).replace(
            "NAME --namespace NAMESPACE", str(place)
        )
        for name in names
    )
