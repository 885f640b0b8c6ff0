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

from .errors import ConfigurationError
from .finalizers import Finalizers, configure
from .names import FinalizerName, OperatorIdentity, OperatorName, OrganisationDomain, Purpose
from .patches import add_finalizer, has_finalizer, json_patch, merge_patch, remove_finalizer

if TYPE_CHECKING:
    from .clients import (
        FinalizerOutcome,
        apply_configuration,
        ensure_finalizer,
        release_finalizer,
    )
    from .description import Description
    from .inventory import InventoryEntry

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
    "Description": "description",
    "FinalizerOutcome": "clients",
    "InventoryEntry": "inventory",
    "apply_configuration": "clients",
    "ensure_finalizer": "clients",
    "release_finalizer": "clients",
}


def __getattr__(name: str) -> Any:
    """What an operator at work does not need is imported when it is asked for: most never do."""
    if name in _LATER:
        module = importlib.import_module(f".{_LATER[name]}", __name__)
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
