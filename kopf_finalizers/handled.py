"""The resources that an operator handles, whether with this library's decorators or with Kopf's."""

from collections.abc import Callable
from typing import Any

import kopf

from .selectors import ask_of_events


class HandledResources:
    """Has a filter asked about each event of each resource that an operator handles.

    Kopf watches nothing for it that it would not watch anyway.
    """

    def __init__(
        self, when: Callable[..., bool], *, purpose: str, registry: kopf.OperatorRegistry
    ) -> None:
        self._when = when
        self._purpose = purpose
        self._registry = registry
        self._asked = list[Any]()
        # An operator that is embedded may declare handlers after it has applied its identity.
        kopf.on.startup(registry=registry, id=f"kopf-finalizers/{purpose}")(self.ask)

    def ask(self, **_: Any) -> None:
        """Begin with what is declared by now; safe to call again."""
        for args, options in handled_resources(self._registry):
            if (args, options) not in self._asked:
                name = f"{self._purpose}:{len(self._asked)}"
                self._asked.append((args, options))
                ask_of_events(self._when, args, id=name, registry=self._registry, **options)


def handled_resources(
    registry: kopf.OperatorRegistry,
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The resources of an operator's handlers, as Kopf's decorators take them."""
    found = list[tuple[tuple[Any, ...], dict[str, Any]]]()
    for handler in _handlers(registry):
        given = {key: one for key, one in vars(handler.selector).items() if one is not None}
        args = tuple(given.pop(name) for name in ("any_name", "fn") if name in given)
        if (args, given) not in found:
            found.append((args, given))
    return found


def handler_ids(registry: kopf.OperatorRegistry) -> list[str]:
    """The names under which progress is kept."""
    return [handler.id for handler in _handlers(registry)]


def _handlers(registry: kopf.OperatorRegistry) -> list[Any]:
    """The handlers of an operator that may need its finalizer, or have progress.

    One of the three places where this library reads what Kopf does not publish: handlers may be
    registered with Kopf's own decorators, and there is no public way to ask which there are. A test
    fails when Kopf changes it.
    """
    changing, spawning = registry._changing, registry._spawning  # noqa: SLF001
    return [*changing.get_all_handlers(), *spawning.get_all_handlers()]
