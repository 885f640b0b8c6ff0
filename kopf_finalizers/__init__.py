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

from ._errors import ConfigurationError

if TYPE_CHECKING:
    from ._clients.ensure import (
        FinalizerOutcome,
        apply_configuration,
        ensure_finalizer,
        release_finalizer,
    )
    from ._configure import configure
    from ._description import Description
    from ._finalizers import Finalizers
    from ._identity import OperatorIdentity
    from ._inventory import InventoryEntry
    from ._names import FinalizerName, OperatorName, OrganisationDomain, Purpose
    from ._patches import add_finalizer, remove_finalizer
    from ._plain_patches import has_finalizer, json_patch, merge_patch

    __version__: str

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

# Where each name is. An operator does not wait for what it never uses, and the commands for people
# on call need neither Kopf nor what it imports.
_PLACES = {
    "Description": "_description",
    "FinalizerName": "_names",
    "FinalizerOutcome": "_clients.ensure",
    "Finalizers": "_finalizers",
    "InventoryEntry": "_inventory",
    "OperatorIdentity": "_identity",
    "OperatorName": "_names",
    "OrganisationDomain": "_names",
    "Purpose": "_names",
    "add_finalizer": "_patches",
    "apply_configuration": "_clients.ensure",
    "configure": "_configure",
    "ensure_finalizer": "_clients.ensure",
    "has_finalizer": "_plain_patches",
    "json_patch": "_plain_patches",
    "merge_patch": "_plain_patches",
    "release_finalizer": "_clients.ensure",
    "remove_finalizer": "_patches",
}


if not TYPE_CHECKING:  # or every misspelt name would be there to a type checker

    def __getattr__(name: str) -> Any:
        """What is public is imported when it is first asked for."""
        if name == "__version__":
            found = importlib.import_module("importlib.metadata").version("kopf-finalizers")
        elif name in _PLACES:
            found = getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    """What is promised, and what Python sets: for completion in a shell."""
    return sorted({*__all__, "__version__", *(name for name in globals() if name.startswith("__"))})
