"""Every Kopf operator its own finalizer.

An operator says once who it is, and from then on it shares resources with any other: nobody's
finalizer is touched by anyone but its owner, no cleanup is skipped, no object is stuck.

    import kopf_finalizers

    finalizers = kopf_finalizers.configure(domain="mycompany.com", operator="db-operator")

    @finalizers.on.delete("mygroup", "v1", "myresources", finalizer="backups")
    def drop_backups(**_): ...
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._configure import configure
from ._errors import ConfigurationError
from ._finalizers import Finalizers
from ._names import FinalizerName, OperatorIdentity, OperatorName, OrganisationDomain, Purpose
from ._patches import add_finalizer, has_finalizer, json_patch, merge_patch, remove_finalizer

if TYPE_CHECKING:
    from ._clients.ensure import (
        FinalizerOutcome,
        apply_configuration,
        ensure_finalizer,
        release_finalizer,
    )
    from ._description import Description
    from ._inventory import InventoryEntry

__all__ = [
    "ConfigurationError",
    "Description",
    "FinalizerName",
    "FinalizerOutcome",
    "Finalizers",
    "InventoryEntry",
    "OperatorIdentity",
    "OperatorName",
    "OrganisationDomain",
    "Purpose",
    "add_finalizer",
    "apply_configuration",
    "configure",
    "ensure_finalizer",
    "has_finalizer",
    "json_patch",
    "merge_patch",
    "release_finalizer",
    "remove_finalizer",
]

_LATER = {
    "Description": "_description",
    "FinalizerOutcome": "_clients.ensure",
    "InventoryEntry": "_inventory",
    "apply_configuration": "_clients.ensure",
    "ensure_finalizer": "_clients.ensure",
    "release_finalizer": "_clients.ensure",
}


if not TYPE_CHECKING:  # or every misspelt name would be there to a type checker

    def __getattr__(name: str) -> Any:
        """What an operator at work does not need is imported when it is asked for."""
        if name in _LATER:
            module = importlib.import_module(f".{_LATER[name]}", __name__)
            return getattr(module, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is promised, and what Python sets: for completion in a shell."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
