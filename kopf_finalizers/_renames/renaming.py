"""A rename as Kopf sees it: a finalizer that is recognised, two storages, and a filter.

Kopf (1.44 to 1.45) asks of its finalizer only whether it is in an object's list, and removes it
from there. So a `str` that also equals the former names is recognised, by public means. That rests
on how Kopf compares, so it is tried at every start, and an operator whose Kopf compares otherwise
refuses to start.
"""

import functools
from typing import Any

import kopf

from .._kopf import refuse_if_kopf_compares_otherwise
from .._moves import Moves
from .._recognised import RecognisedFinalizer
from .._resources import HandledResources, handler_ids
from .._settings import Unchanged
from .declared import Rename
from .moving import Mover
from .places import Place
from .records import HomeDiffBase, HomeProgress, Records


class Renaming:
    """What a rename does in an operator, each time that its identity is applied."""

    def __init__(self, rename: Rename, registry: kopf.OperatorRegistry) -> None:
        self._rename = rename
        self._registry = registry
        self.resources: HandledResources | None = None
        self._movers = list[Mover]()

    def set(self, settings: kopf.OperatorSettings, moves: Moves) -> Records | None:
        """Have Kopf recognise the former names, and keep records in this release's place.

        Raises:
            ConfigurationError: This Kopf compares finalizers in a way that makes it impossible.
        """
        rename = self._rename
        if rename.former:
            finalizer = RecognisedFinalizer(rename.finalizer.written, {rename.name, *rename.former})
            refuse_if_kopf_compares_otherwise(finalizer, finalizer.names)
            settings.persistence.finalizer = finalizer
        if rename.former_places is None:
            return None
        persistence = settings.persistence
        records = Records(
            Place(persistence.progress_storage, persistence.diffbase_storage),
            Place(*rename.former_places),
            is_back=rename.is_back,
            shared=rename.former_is_shared,
            moves=moves,
            handler_ids=functools.partial(handler_ids, self._registry),
        )
        persistence.progress_storage = HomeProgress(records)
        persistence.diffbase_storage = HomeDiffBase(records)
        return records

    def begin(
        self,
        settings: kopf.OperatorSettings,
        records: Records | None,
        moves: Moves,
        unchanged: Unchanged,
    ) -> None:
        """Move the objects of an operator that is about to start; safe to call again."""
        self._movers[:] = [Mover(self._rename, settings, records, moves, unchanged)]
        if self.resources is None:
            self.resources = HandledResources(self._look, purpose="move", registry=self._registry)
        self.resources.ask()

    def _look(self, **kwargs: Any) -> bool:
        """A filter that never lets Kopf call the handler."""
        return any(mover.look(**kwargs) for mover in self._movers)
