"""Progress of cleanups and the release of their finalizers: what goes in which request.

Kopf's storages and the user's own: neither a release without its progress, nor one that is lost.
"""

import json
from collections.abc import Callable
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers._changes import RemoveFinalizer

from ..support.dedicated import (
    BACKUPS,
    BUCKETS,
    LATER,
    OTHER,
    OWN,
    PREFIX,
    Operator,
    alive,
    annotations_of,
    deleted,
    deleting,
    record,
)


def kinds_of(patch: kopf.Patch) -> list[str]:
    return [repr(fn).partition("(")[0] for fn in patch.fns]


def test_release_and_progress_go_in_one_request() -> None:
    """A release writes the progress into its own JSON Patch: so neither comes without the other."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    patch = operator.cycle(deleting(BACKUPS, BUCKETS, OWN)).patch
    assert dict(patch) == {}
    assert kinds_of(patch) == ["MergeIntoBody", "RemoveFinalizer"]
    assert f"{PREFIX}/backups" in repr(patch.fns)


def test_last_touch_and_a_release_go_in_one_request() -> None:
    """What Kopf has woken itself up with for a retry is removed in the request of the release."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    touched = deleting(BACKUPS, BUCKETS, OWN, annotations={f"{PREFIX}/touch-dummy": "now"})
    outcome = operator.cycle(touched)
    assert dict(outcome.patch) == {}
    assert outcome.finalizers() == [BUCKETS, OWN]
    assert annotations_of(outcome.after()) == {"backups", "buckets"}


def sub_handlers_of(operator: Operator, *names: str) -> Callable[..., None]:
    def handle(**_: Any) -> None:
        for name in names:
            kopf.subhandler(id=name)(operator.handler(name))

    return handle


def test_progress_of_sub_handlers_and_a_release_go_in_one_request() -> None:
    """Kopf stores what sub-handlers have done while their handler runs: that goes along, too."""
    operator = Operator()
    backups = sub_handlers_of(operator, "daily", "weekly")
    operator.on.delete("things", finalizer="backups", id="backups")(backups)
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    outcome = operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    assert set(operator.calls) == {"daily", "weekly", "buckets"}
    assert dict(outcome.patch) == {}
    assert kinds_of(outcome.patch) == ["MergeIntoBody", "RemoveFinalizer"]
    stored = annotations_of(outcome.after())
    assert stored == {"backups", "backups.daily", "backups.weekly", "buckets"}


def test_nothing_is_left_of_sub_handlers_that_end_with_the_last_cleanup() -> None:
    """An object that others still hold keeps no record of a cleanup that is done."""
    operator = Operator()
    backups = sub_handlers_of(operator, "daily", "weekly")
    operator.on.delete("things", finalizer="backups", id="backups")(backups)
    outcome = operator.cycle(deleting(BACKUPS, OTHER, OWN))
    assert outcome.finalizers() == [OTHER]
    assert annotations_of(outcome.after()) == set()
    assert sorted(kinds_of(outcome.patch)) == ["RemoveFinalizer", "functools.partial"]


def test_progress_in_the_status_is_stored_before_a_release() -> None:
    """Kopf writes a status first and alone, so a storage there is left to Kopf.

    In the JSON Patch it would come after the release, and Kopf would see the object in between: a
    cleanup that was done would be called again.
    """
    operator = Operator(storages=False)
    operator.settings.persistence.progress_storage = kopf.StatusProgressStorage(name="mine")
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER, None))
    body = {**deleting(BACKUPS, BUCKETS, OWN), "status": {"mine": {"dummy": "now"}}}
    first = operator.cycle(body)
    assert first.patch.fns == [RemoveFinalizer(BACKUPS)]
    assert first.patch["status"]["mine"]["dummy"] is None
    stored = first.patch["status"]["mine"]["progress"]
    assert [stored[name]["success"] for name in ("backups", "buckets")] == [True, False]
    body = first.after()
    body["status"]["mine"]["progress"]["buckets"]["delayed"] = None
    last = operator.cycle(body)
    assert kinds_of(last.patch) == ["RemoveFinalizer", "functools.partial"]
    assert last.patch["status"] == {"mine": {"progress": {"backups": None, "buckets": None}}}
    assert operator.calls == ["backups", "buckets", "buckets"]


def test_release_that_waits_for_no_cleanup_goes_with_the_progress_of_others() -> None:
    """What an `on.create` has asked for goes in a request that is sent anyway."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    outcome = operator.cycle(deleted(operator.settle(alive())))
    assert outcome.finalizers() == [BUCKETS, OWN]
    assert dict(outcome.patch) == {}
    assert "buckets" in annotations_of(outcome.after())


@pytest.mark.parametrize("replaced", [{}, {"labels": {"a": "b"}}, {"annotations": {}}])
def test_release_survives_a_handler_that_replaces_part_of_the_patch(replaced: Any) -> None:
    """As in plain Kopf, what sub-handlers have stored before that is lost, and nothing else is."""
    operator = Operator()

    async def backups(patch: kopf.Patch, **_: Any) -> None:
        await kopf.execute(fns=cast("Any", {"daily": operator.handler("daily")}))
        patch["metadata"] = dict(replaced)

    operator.on.delete("things", finalizer="backups", id="backups")(backups)
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    outcome = operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    assert set(operator.calls) == {"daily", "buckets"}
    assert outcome.finalizers() == [BUCKETS, OWN]
    assert outcome.patch.get("metadata", {}).get("labels") == replaced.get("labels")
    assert annotations_of(outcome.after()) == {"backups", "buckets"}


class ByFunctions(kopf.AnnotationsProgressStorage):
    """A storage of a user's own that writes by functions on the patch."""

    def store(self, *, patch: kopf.Patch, **kwargs: Any) -> None:
        written = kopf.Patch()
        super().store(patch=written, **kwargs)

        def write(raw: kopf.RawBody) -> None:
            annotations = cast("Any", raw)["metadata"].setdefault("annotations", {})
            annotations.update(written["metadata"]["annotations"])

        patch.fns.append(write)


def test_storage_may_write_by_functions() -> None:
    """What it has put on the patch is sent, with a release and without."""
    operator = Operator(storages=False)
    operator.settings.persistence.progress_storage = ByFunctions(prefix=PREFIX)
    operator.on.delete("things", finalizer="backups")(operator.handler("backups", LATER, None))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    body = deleting(BACKUPS, BUCKETS, OWN)
    first = operator.cycle(body)
    assert first.finalizers() == [BACKUPS, BUCKETS, OWN]
    assert annotations_of(first.after()) == {"backups", "buckets"}
    body = first.after()
    body["metadata"]["annotations"][f"{PREFIX}/backups"] = record(purpose="delete")
    last = operator.cycle(body)
    assert last.finalizers() == [BUCKETS, OWN]
    stored = last.after()["metadata"]["annotations"][f"{PREFIX}/backups"]
    assert json.loads(stored)["success"] is True
    assert len(last.patch.fns) == 2


# What is left of it


def test_superseded_progress_is_forgotten_when_the_object_is_deleted() -> None:
    """Progress of a creation that was not over is purged, as Kopf does it, beside a release."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created", LATER))
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    body = operator.cycle(alive(BACKUPS, BUCKETS, OWN)).after()
    assert annotations_of(body) == {"created"}
    outcome = operator.cycle(deleted(body))
    assert outcome.finalizers() == [BUCKETS, OWN]
    assert annotations_of(outcome.after()) == {"backups", "buckets"}


def test_progress_of_all_cleanups_is_purged_at_the_end() -> None:
    """With the last release the records go, so that other owners see nothing of it."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER, None))
    body = operator.cycle(deleting(BACKUPS, BUCKETS, OTHER, OWN)).after()
    body["metadata"]["annotations"][f"{PREFIX}/buckets"] = record(purpose="delete")
    outcome = operator.cycle(body)
    assert outcome.finalizers() == [OTHER]
    assert "backups" not in annotations_of(outcome.after())
    assert "buckets" not in annotations_of(outcome.after())


# Storages of the user's own


def test_storage_set_after_startup_is_observed_too() -> None:
    """A startup handler that runs later may set another storage: releases go by that one."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    operator.start()
    storage = kopf.AnnotationsProgressStorage(prefix="mine.org")
    operator.settings.persistence.progress_storage = storage
    outcome = operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    assert outcome.finalizers() == [BUCKETS, OWN]
    assert dict(outcome.patch) == {}
    stored = outcome.after()["metadata"]["annotations"]
    assert json.loads(stored["mine.org/backups"])["success"] is True
    assert not json.loads(stored["mine.org/buckets"])["success"]


def test_storage_is_wrapped_once() -> None:
    """Cycle after cycle it is the same storage that Kopf asks."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    operator.cycle(alive(BACKUPS))
    first = operator.settings.persistence.progress_storage
    operator.cycle(alive(BACKUPS))
    assert operator.settings.persistence.progress_storage is first


def test_progress_in_a_json_patch_means_what_it_means_in_a_merge_patch() -> None:
    """As RFC 7386 has it: what others wrote stays, None removes, and no mapping makes way."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    body = deleting(BACKUPS, BUCKETS, OWN, annotations={"team": "a"})
    outcome = operator.cycle(body)
    assert annotations_of(outcome.after()) == {"backups", "buckets", "team"}
    (merge,) = outcome.patch.fns[:1]
    for annotations in (None, "broken"):
        raw: Any = {"metadata": {"annotations": annotations}}
        merge(raw)
        assert annotations_of(raw) == {"backups", "buckets"}


def test_storage_works_outside_of_any_cycle() -> None:
    """What Kopf or a user asks of the storage elsewhere goes to the operator's own."""
    operator = Operator(storages=False)
    inner = kopf.StatusProgressStorage(name="mine")
    operator.settings.persistence.progress_storage = inner
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    operator.cycle(alive(BACKUPS))
    storage = operator.settings.persistence.progress_storage
    assert storage is not inner
    key = cast("kopf.HandlerId", "created")
    body = kopf.Body(cast("Any", {"status": {"mine": {"progress": {"created": {"retries": 1}}}}}))
    assert storage.fetch(key=key, body=body) == {"retries": 1}
    patch = kopf.Patch(body=body)
    storage.store(key=key, record=cast("Any", {"retries": 2}), body=body, patch=patch)
    assert patch.status["mine"]["progress"] == {"created": {"retries": 2}}
    storage.purge(key=key, body=body, patch=patch)
    storage.flush()
    assert patch.status["mine"]["progress"] == {"created": None}


def test_storage_is_flushed_as_kopf_flushes_it() -> None:
    """A storage that keeps its records elsewhere is told when to write them."""

    class Elsewhere(kopf.StatusProgressStorage):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    operator = Operator(storages=False)
    operator.settings.persistence.progress_storage = inner = Elsewhere()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.cycle(deleting(BACKUPS, OWN))
    assert inner.flushed
