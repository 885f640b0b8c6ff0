"""All cleanups of an operator, by the ids under which Kopf knows them.

Two cleanups with one id are one to Kopf (1.44 to 1.45): once one has succeeded, the other is not
called. Where one of them has a dedicated finalizer, that would go all the same.
"""

from collections.abc import Iterable

import kopf

from .._errors import ConfigurationError
from .._kopf import changing_handlers_of
from .._resources import selector_of
from .uses import Use


class Cleanups:
    """Those of `finalizers.on`, under the finalizers that they are given, or none."""

    def __init__(self) -> None:
        self._declared = list[Use]()

    def declare(self, cleanup: Use) -> None:
        """Note one, before Kopf hears of it.

        Raises:
            ConfigurationError: Kopf would take it and another one for one.
        """
        if cleanup.finalizer:
            _refuse_one_of_two(cleanup, _cleanups_of(cleanup.registry, cleanup.handler_id))
        else:
            _refuse_one_of_two(cleanup, [one for one in self._declared if one.finalizer])
        self._declared.append(cleanup)

    def check(self, registry: kopf.OperatorRegistry) -> None:
        """Look at those that Kopf's own decorators have declared since.

        Raises:
            ConfigurationError: Kopf would take one of them and one of these for one.
        """
        for cleanup in self._declared:
            if cleanup.finalizer and cleanup.registry is registry:
                _refuse_one_of_two(cleanup, _cleanups_of(registry, cleanup.handler_id))


def _cleanups_of(registry: kopf.OperatorRegistry, handler_id: str) -> list[Use]:
    """The cleanups with an id, whoever's decorators they have."""
    return [
        Use("", "delete", one.fn, selector_of(one), registry, one.id, one.param)
        for one in changing_handlers_of(registry)
        if one.id == handler_id and one.reason == "delete"
    ]


def _refuse_one_of_two(cleanup: Use, others: Iterable[Use]) -> None:
    if any(cleanup.hides(other) for other in others):
        raise ConfigurationError(
            f'Two cleanups of {cleanup.selector} have the id "{cleanup.handler_id}", by which Kopf'
            " knows how far each has come: once one has succeeded, the other would not be called,"
            " and its finalizer would go. Give one of the functions another name, or give it one:"
            ' id="...". [same-id]'
        )
