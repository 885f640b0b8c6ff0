"""Dedicated finalizers, cycle by cycle: Kopf's own cycles, without an API server in between.

The rows of the table in `kopf_finalizers._dedicated.cycle` come first, then what a release costs,
then what is hard to bring about with real operators: leftovers of a conflict, markers taken off by
somebody, storages and filters of the user's own, handlers declared late.
"""

import dataclasses
import functools
import json
import logging
from collections.abc import Callable
from typing import Any, cast

import kopf
import pytest
from kopf._cogs.structs.finalizers import block_deletion

from kopf_finalizers import ConfigurationError, Finalizers, OperatorIdentity
from kopf_finalizers._changes import AddFinalizer, RemoveFinalizer

from ..support.kopf_cycles import Outcome, cycle
from ..support.servers import Body

OWN = "mycompany.com/db-operator"
BACKUPS = f"{OWN}.backups"
BUCKETS = f"{OWN}.buckets"
OTHER = "other.org/f"

PREFIX = "db-operator.mycompany.com"

LATER = kopf.TemporaryError("not yet", delay=30)
NEVER = kopf.PermanentError("no bucket")


class Operator:
    """An operator with the library, and what its handlers were called for."""

    def __init__(self, *, apply: bool = True, **options: Any) -> None:
        self.registry = kopf.OperatorRegistry()
        self.settings = kopf.OperatorSettings()
        self.calls = list[str]()
        self._apply = apply
        identity = OperatorIdentity(domain="mycompany.com", operator="db-operator")
        self.finalizers = Finalizers(identity, registry=self.registry, **options)

    @property
    def on(self) -> Any:
        return self.finalizers.on

    def handler(self, name: str, *failures: Exception | None) -> Callable[..., None]:
        """A handler that notes its calls, and fails as told: in the last way for ever."""
        left = list(failures)

        def handle(**_: Any) -> None:
            self.calls.append(name)
            failure = left.pop(0) if len(left) > 1 else next(iter(left), None)
            if failure is not None:
                raise failure

        handle.__qualname__ = name
        return handle

    def start(self) -> None:
        if self._apply:
            self.finalizers.apply(self.settings)
            self._apply = False

    def cycle(self, body: Body, **options: Any) -> Outcome:
        self.start()
        return cycle(self.registry, self.settings, body, **options)

    def live(self, body: Body, *, cycles: int = 10) -> Body:
        """The object after as many cycles as it takes until nothing is sent any more."""
        for _ in range(cycles):
            outcome = self.cycle(body)
            if not outcome.patch:
                return body
            body = outcome.after()
            if "deletionTimestamp" in body["metadata"] and not body["metadata"].get("finalizers"):
                return body
        raise AssertionError(f"not settled within {cycles} cycles: {outcome.patch}")


def alive(*finalizers: str, **metadata: Any) -> Body:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {
            "name": "t",
            "namespace": "default",
            "uid": "1-2",
            **({"finalizers": list(finalizers)} if finalizers else {}),
            **metadata,
        },
        "spec": {"size": 1},
    }


def deleting(*finalizers: str, **metadata: Any) -> Body:
    return alive(*finalizers, deletionTimestamp="2030-01-01T00:00:00Z", **metadata)


def deleted(body: Body) -> Body:
    """The object when somebody has asked for its deletion."""
    return {**body, "metadata": {**body["metadata"], "deletionTimestamp": "2030-01-01T00:00:00Z"}}


def record(**fields: Any) -> str:
    """A handler's progress as Kopf writes it."""
    return json.dumps({"started": "2030-01-01T00:00:00+00:00", "retries": 1, **fields})


def annotations_of(body: Body) -> set[str]:
    names = body["metadata"].get("annotations") or {}
    return {name.removeprefix(f"{PREFIX}/") for name in names} - {"kopf-managed"}


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [
        found.getMessage()
        for found in caplog.records
        if found.name == "cycle" and found.levelno == level
    ]


# Alive


@pytest.mark.parametrize("kind", ["create", "update", "resume", "field", "event"])
def test_missing_finalizer_is_added_where_a_handler_matches(kind: str) -> None:
    """An object that a handler matches gets the handler's finalizer, and keeps everybody else's."""
    operator = Operator()
    options = {"field": "spec.size"} if kind == "field" else {}
    getattr(operator.on, kind)("things", finalizer="backups", **options)(operator.handler("h"))
    assert operator.cycle(alive(OTHER)).finalizers() == [OTHER, BACKUPS]


def test_handlers_wait_until_the_finalizer_is_stored() -> None:
    """In the cycle that adds a finalizer no state-dependent handler runs, and nothing is stored."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("guarded"))
    operator.on.create("things")(operator.handler("plain"))
    operator.on.event("things")(operator.handler("event"))
    outcome = operator.cycle(alive())
    assert operator.calls == ["event"]
    assert outcome.patch.fns == [AddFinalizer(BACKUPS)]
    assert dict(outcome.patch) == {}
    operator.cycle(outcome.after())
    assert operator.calls == ["event", "event", "guarded", "plain"]


def test_dedicated_finalizers_arrive_with_kopfs_own() -> None:
    """All finalizers of an operator go out in one patch, Kopf's own among them."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets"))
    outcome = operator.cycle(alive(OTHER))
    assert outcome.finalizers() == [OTHER, BACKUPS, BUCKETS, OWN]
    assert dict(outcome.patch) == {}


def test_nothing_is_sent_when_all_finalizers_are_in_place() -> None:
    """An event of an object that has what it needs costs nothing."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.create("things", finalizer="buckets")(operator.handler("created"))
    settled = operator.live(alive())
    operator.calls.clear()
    assert settled["metadata"]["finalizers"] == [BACKUPS, BUCKETS, OWN]
    assert not operator.cycle(settled).patch
    assert operator.calls == []


def test_finished_handlers_stay_finished_while_a_finalizer_is_put_back() -> None:
    """When somebody has taken a finalizer off, it comes back before the handlers go on."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("first"))
    operator.on.create("things", finalizer="backups")(operator.handler("second", LATER, None))
    body = operator.cycle(alive(BACKUPS)).after()
    assert operator.calls == ["first", "second"]
    progress = body["metadata"]["annotations"]
    body["metadata"]["finalizers"] = []
    outcome = operator.cycle(body)
    assert operator.calls == ["first", "second"]
    assert outcome.finalizers() == [BACKUPS]
    assert outcome.after()["metadata"]["annotations"] == progress


def test_object_that_stops_matching_loses_the_finalizer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A finalizer that no handler wants any more is released, and nobody else's is."""
    caplog.set_level(logging.DEBUG)
    operator = Operator()
    operator.on.create("things", finalizer="backups", labels={"a": "b"})(operator.handler("h"))
    operator.on.create("things", finalizer="buckets")(operator.handler("other"))
    outcome = operator.cycle(alive(BACKUPS, OTHER, BUCKETS, BACKUPS, labels={"a": "c"}))
    assert outcome.finalizers() == [OTHER, BUCKETS]
    assert any(f"Releasing {BACKUPS}: no handler" in m for m in messages(caplog, logging.DEBUG))


def test_finalizer_stays_while_any_handler_matches() -> None:
    """Handlers that share a finalizer guard the object together."""
    operator = Operator()
    operator.on.create("things", finalizer="backups", labels={"a": "b"})(operator.handler("one"))
    operator.on.event("things", finalizer="backups", labels={"a": "c"})(operator.handler("two"))
    assert operator.cycle(alive(BACKUPS, labels={"a": "c"})).finalizers() == [BACKUPS]
    assert operator.cycle(alive(BACKUPS, labels={"a": "d"})).finalizers() == []


def test_handlers_of_other_notations_guard_the_object_together() -> None:
    """A handler sees what another one wants, however its decorator writes the resource."""
    operator = Operator()
    operator.on.create("example.com", "v1", "things", finalizer="backups", labels={"a": "b"})(
        operator.handler("one")
    )
    operator.on.event("things", finalizer="backups")(operator.handler("two"))
    operator.on.delete("example.com/v1", "things", finalizer="backups")(operator.handler("three"))
    assert operator.cycle(alive()).finalizers() == [BACKUPS, OWN]
    assert operator.cycle(alive(BACKUPS, OWN)).finalizers() == [BACKUPS, OWN]
    assert operator.cycle(deleting(BACKUPS, OWN)).finalizers() == []
    assert operator.calls[-1] == "three"


def test_other_resources_are_left_alone() -> None:
    """An object of a resource without a handler is not touched."""
    operator = Operator()
    operator.on.create("others", finalizer="backups")(operator.handler("other"))
    operator.on.event("things")(operator.handler("event"))
    assert not operator.cycle(alive(BACKUPS)).patch


# Being deleted


def test_finalizer_stays_while_its_cleanup_is_tried_again() -> None:
    """A cleanup that has not succeeded keeps its finalizer, and its progress goes as usual."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups", LATER))
    outcome = operator.cycle(deleting(OTHER, BACKUPS, OWN))
    assert operator.calls == ["backups"]
    assert outcome.patch.fns == []
    assert "backups" in annotations_of(cast("Body", {"metadata": dict(outcome.patch)["metadata"]}))
    assert outcome.finalizers() == [OTHER, BACKUPS, OWN]


def test_finalizer_goes_when_its_cleanup_has_succeeded() -> None:
    """The last cleanup takes its finalizer and Kopf's along; everybody else's stay."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    outcome = operator.cycle(deleting(BACKUPS, OTHER, OWN))
    assert operator.calls == ["backups"]
    assert outcome.finalizers() == [OTHER]


def test_each_finalizer_goes_as_its_own_cleanup_succeeds() -> None:
    """One cleanup that succeeds and one that does not: only the one's finalizer is released."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    outcome = operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    assert outcome.finalizers() == [BUCKETS, OWN]
    assert annotations_of(outcome.after()) == {"backups", "buckets"}


def kinds_of(patch: kopf.Patch) -> list[str]:
    return [repr(fn).partition("(")[0] for fn in patch.fns]


def test_release_and_progress_go_in_one_request() -> None:
    """A release writes the progress into its own JSON Patch: so neither comes without the other."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    patch = operator.cycle(deleting(BACKUPS, BUCKETS, OWN)).patch
    assert dict(patch) == {}
    assert kinds_of(patch) == ["RemoveFinalizer", "MergeIntoBody"]
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
    assert kinds_of(outcome.patch) == ["RemoveFinalizer", "MergeIntoBody"]
    stored = annotations_of(outcome.after())
    assert stored == {"backups", "backups.daily", "backups.weekly", "buckets"}


def test_nothing_is_left_of_sub_handlers_that_end_with_the_last_cleanup() -> None:
    """An object that others still hold keeps no record of a cleanup that is done."""
    operator = Operator()
    backups = sub_handlers_of(operator, "daily", "weekly")
    operator.on.delete("things", finalizer="backups", id="backups")(backups)
    outcome = operator.cycle(deleting(BACKUPS, OTHER, OWN))
    assert outcome.finalizers() == [OTHER]
    assert annotations_of(outcome.after()) == {"last-handled-configuration"}
    kinds = ["RemoveFinalizer", "MergeIntoBody", "functools.partial"]
    assert sorted(kinds_of(outcome.patch)) == sorted(kinds)


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
    outcome = operator.cycle(deleted(operator.live(alive())))
    assert outcome.finalizers() == [BUCKETS, OWN]
    assert dict(outcome.patch) == {}
    assert "buckets" in annotations_of(outcome.after())


@pytest.mark.parametrize("replaced", [{}, {"labels": {"a": "b"}}, {"annotations": {}}])
def test_progress_survives_a_handler_that_replaces_part_of_the_patch(replaced: Any) -> None:
    """What sub-handlers have stored before that is stored again with the release."""
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
    assert annotations_of(outcome.after()) == {"backups", "backups.daily", "buckets"}


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


def test_finished_cleanup_is_not_called_again() -> None:
    """A cleanup whose success is stored is done; its finalizer, should it be back, goes again."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    first = operator.cycle(deleting(BACKUPS, BUCKETS, OWN)).after()
    first["metadata"]["finalizers"].append(BACKUPS)
    operator.calls.clear()
    assert operator.cycle(first).finalizers() == [BUCKETS, OWN]
    assert "backups" not in operator.calls


@pytest.mark.parametrize(
    ("options", "failure", "reason"),
    [
        ({}, NEVER, "no bucket"),
        ({"retries": 1}, kopf.TemporaryError("not yet"), "not yet"),
        ({"errors": kopf.ErrorsMode.PERMANENT}, ValueError("broken"), "broken"),
    ],
)
def test_cleanup_that_is_given_up_lets_go_with_a_warning(
    options: dict[str, Any],
    failure: Exception,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No object is stuck on a cleanup that Kopf will not call again; the log says what is lost."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups", **options)(operator.handler("h", failure))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    assert operator.cycle(deleting(BACKUPS, BUCKETS, OWN)).finalizers() == [BUCKETS, OWN]
    (warning,) = [m for m in messages(caplog) if "given up" in m]
    assert warning.startswith("The cleanup h is given up and has not succeeded:")
    assert reason in warning
    assert warning.endswith(f"{BACKUPS} no longer waits for it.")


def test_cleanup_that_succeeds_does_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    """Where all is well the log says nothing."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.cycle(deleting(BACKUPS, OWN))
    assert messages(caplog) == []


@pytest.mark.parametrize("kind", ["create", "event", "update", "resume"])
def test_finalizer_without_a_cleanup_goes_as_soon_as_the_object_is_being_deleted(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A finalizer that waits for nothing is released at once, and without a warning."""
    operator = Operator()
    getattr(operator.on, kind)("things", finalizer="backups")(operator.handler("h"))
    operator.on.delete("things")(operator.handler("plain", LATER))
    assert operator.cycle(deleting(BACKUPS, OWN)).finalizers() == [OWN]
    assert messages(caplog) == []


def test_cleanup_of_another_object_is_not_waited_for() -> None:
    """An object that the cleanup's filters do not match waits for nothing."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups", labels={"a": "b"})(operator.handler("h"))
    operator.on.delete("things")(operator.handler("plain", LATER))
    assert operator.cycle(deleting(BACKUPS, OWN, labels={"a": "c"})).finalizers() == [OWN]
    assert operator.calls == ["plain"]


def test_nothing_is_added_to_an_object_being_deleted() -> None:
    """An object that was deleted before it was seen gets no finalizer: none can be added."""
    operator = Operator()
    operator.on.create("things", finalizer="buckets")(operator.handler("created"))
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    assert operator.cycle(deleting(OTHER)).finalizers() == [OTHER]
    assert operator.calls == []


def test_finalizer_goes_with_kopfs_own_gone(caplog: pytest.LogCaptureFixture) -> None:
    """Without Kopf's own finalizer no cleanup is called any more: so none is waited for."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups", id="one")(operator.handler("backups"))
    assert operator.cycle(deleting(BACKUPS, OTHER)).finalizers() == [OTHER]
    assert operator.calls == []
    (warning,) = messages(caplog)
    assert warning.startswith(f"Releasing {BACKUPS} though its cleanup has not succeeded: one.")
    assert f"Kopf's own finalizer, {OWN}, is not on the object" in warning


def test_finalizer_of_a_finished_cleanup_goes_without_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Kopf's own finalizer may be gone because all is done."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    done = {f"{PREFIX}/backups": record(success=True, purpose="delete")}
    assert operator.cycle(deleting(BACKUPS, annotations=done)).finalizers() == []
    assert messages(caplog) == []


def test_finalizer_that_a_handler_has_released_is_not_released_twice() -> None:
    """What a handler has put on the patch by hand is seen."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))

    @operator.finalizers.on.event("things")
    def release(patch: kopf.Patch, **_: Any) -> None:
        operator.finalizers.remove(patch, "backups")

    patch = operator.cycle(deleting(BACKUPS, OWN)).patch
    assert patch.fns.count(RemoveFinalizer(BACKUPS)) == 1
    again = operator.cycle(deleting(BACKUPS, OWN), leftover=patch).patch
    assert again.fns.count(RemoveFinalizer(BACKUPS)) == 1


def test_finalizer_waits_for_each_id_of_one_cleanup() -> None:
    """One function that is two cleanups under one finalizer is waited for twice."""
    operator = Operator()
    cleanup = operator.handler("cleanup", None, LATER, None)
    operator.on.delete("things", finalizer="backups", id="one")(cleanup)
    operator.on.delete("things", finalizer="backups", id="two")(cleanup)
    first = operator.cycle(deleting(BACKUPS, OWN))
    assert first.finalizers() == [BACKUPS, OWN]
    assert operator.calls == ["cleanup", "cleanup"]
    body = first.after()
    key = f"{PREFIX}/two"
    body["metadata"]["annotations"][key] = record(purpose="delete")  # its time has come
    assert operator.cycle(body).finalizers() == []
    assert operator.calls == ["cleanup"] * 3


def test_event_of_an_object_that_is_gone_does_nothing() -> None:
    """The last event shows the finalizers that were removed last: nothing is done about them."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("deleted"))
    for body in (deleting(BACKUPS, OWN), deleting(), alive(BACKUPS, OWN)):
        assert operator.cycle(body, type="DELETED").patch.fns == []
    assert operator.calls == []


# A whole life


@pytest.mark.parametrize("storages", [True, False])
def test_object_lives_and_goes(storages: bool) -> None:
    """From creation to the end, every handler is called as often as it has to be."""
    operator = Operator(storages=storages)
    again = kopf.TemporaryError("not yet", delay=0)
    operator.on.create("things", finalizer="backups")(operator.handler("created", again, None))
    operator.on.delete("things", finalizer="backups")(operator.handler("backups", again, None))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets"))
    operator.on.delete("things")(operator.handler("plain", again, again, None))
    body = operator.live(alive(OTHER))
    assert operator.calls == ["created", "created"]
    assert body["metadata"]["finalizers"] == [OTHER, BACKUPS, BUCKETS, OWN]
    operator.calls.clear()
    body = operator.live(deleted(body))
    assert sorted(operator.calls) == sorted(["backups"] * 2 + ["buckets"] + ["plain"] * 3)
    assert body["metadata"]["finalizers"] == [OTHER]


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


def test_finished_sub_handlers_of_a_creation_are_none_of_a_cleanup() -> None:
    """A function that handles both, and its sub-handlers, begin anew when the object goes."""
    operator = Operator()

    def both(reason: str, **_: Any) -> None:
        failures = {"dns": [LATER]} if reason == "create" else {}
        for name in ("bucket", "dns"):
            handler = operator.handler(f"{name} {reason}", *failures.get(name, []))
            kopf.subhandler(id=name)(handler)

    operator.on.create("things", id="both")(both)
    operator.on.delete("things", id="both", finalizer="backups")(both)
    body = operator.cycle(operator.cycle(alive()).after()).after()
    assert operator.calls == ["bucket create", "dns create"]
    operator.live(deleted(body))
    assert operator.calls[2:] == ["bucket delete", "dns delete"]


# Leftovers: what Kopf could not send in the cycle before


def leftover(*fns: Any) -> kopf.Patch:
    return kopf.Patch(fns=fns)


def touched(outcome: Outcome) -> bool:
    return "touch-dummy" in annotations_of(outcome.after())


def test_addition_left_over_is_dropped_when_no_handler_wants_it_any_more() -> None:
    """An object that stopped matching before the addition was sent does not get it."""
    operator = Operator()
    operator.on.create("things", finalizer="backups", labels={"a": "b"})(operator.handler("h"))
    outcome = operator.cycle(alive(OTHER), leftover=leftover(AddFinalizer(BACKUPS)))
    assert outcome.patch.fns == []
    assert outcome.finalizers() == [OTHER]


def test_removal_left_over_is_dropped_when_a_handler_wants_it_again() -> None:
    """An object that matches again before the removal was sent keeps its finalizer."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("h"))
    outcome = operator.cycle(alive(BACKUPS), leftover=leftover(RemoveFinalizer(BACKUPS)))
    assert outcome.finalizers() == [BACKUPS]


@pytest.mark.parametrize("decorators", ["ours", "Kopf's"])
@pytest.mark.parametrize("change", ["add", "remove"])
def test_change_by_hand_that_is_left_over_keeps_no_cleanup_from_its_call(
    decorators: str, change: str
) -> None:
    """Somebody deleted the object, or was faster: Kopf would wait for an event that never comes."""
    operator = Operator()

    @(
        operator.finalizers.on.event("things")
        if decorators == "ours"
        else kopf.on.event("things", registry=operator.registry)
    )
    def by_hand(patch: kopf.Patch, **_: Any) -> None:
        getattr(operator.finalizers, change)(patch, "backups")

    kopf.on.delete("things", registry=operator.registry)(operator.handler("delete"))
    body = alive(BACKUPS, OWN) if change == "remove" else alive(OWN)
    left = operator.cycle(body).patch
    assert left.fns
    outcome = operator.cycle(deleting(OWN), leftover=leftover(*left.fns))
    assert touched(outcome)
    assert operator.calls == []
    operator.cycle(outcome.after())
    assert operator.calls == ["delete"]


def test_addition_left_over_is_not_made_twice() -> None:
    """After a conflict the addition is there once."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("h"))
    first = operator.cycle(alive(OTHER))
    outcome = operator.cycle(alive("third.org/f", OTHER), leftover=first.patch)
    assert outcome.patch.fns == [AddFinalizer(BACKUPS)]
    assert not touched(outcome)


@pytest.mark.parametrize(
    ("body", "fn"),
    [
        (alive(BACKUPS), AddFinalizer(BACKUPS)),
        (alive(BACKUPS), lambda raw: None),
        (deleting(BACKUPS, OWN), AddFinalizer(BACKUPS)),
        (deleting(BACKUPS, OWN), lambda raw: None),
    ],
)
def test_leftovers_that_change_nothing_make_kopf_come_back(body: Body, fn: Any) -> None:
    """Kopf calls no handler in a cycle with leftovers: where nothing is sent, no other follows."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.start()
    if "deletionTimestamp" not in body["metadata"]:
        body = alive(BACKUPS, OWN)
    outcome = operator.cycle(body, leftover=leftover(fn))
    assert operator.calls == []
    assert touched(outcome)
    next_one = operator.cycle(outcome.after())
    assert operator.calls == ["backups" if body["metadata"].get("deletionTimestamp") else "created"]
    assert next_one.patch


def test_each_wake_up_is_a_change_of_the_object() -> None:
    """A second wake-up is a change too, so that an event follows it."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    first = operator.cycle(alive(BACKUPS), leftover=leftover(lambda raw: None)).after()
    second = operator.cycle(first, leftover=leftover(lambda raw: None)).after()
    assert first["metadata"]["annotations"] != second["metadata"]["annotations"]


def test_leftovers_with_an_effect_need_no_wake_up() -> None:
    """Where a leftover changes something, the event of that change brings Kopf back."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    fn = functools.partial(_label, "a")
    outcome = operator.cycle(alive(BACKUPS), leftover=leftover(fn))
    assert not touched(outcome)
    assert outcome.after()["metadata"]["labels"] == {"a": "yes"}


def _label(name: str, raw: Any) -> None:
    raw["metadata"].setdefault("labels", {})[name] = "yes"


def _finalize(name: str, raw: Any) -> None:
    raw["metadata"].setdefault("finalizers", []).append(name)


def test_no_wake_up_without_leftovers() -> None:
    """A cycle that begins with nothing left over is not touched."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created", LATER))
    assert not touched(operator.cycle(alive(BACKUPS)))


def test_leftovers_that_an_api_server_would_refuse_are_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On an object being deleted an addition would make the whole patch fail, for ever."""
    caplog.set_level(logging.DEBUG)
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups", LATER))
    users, kopfs = (
        functools.partial(_finalize, "mine.org/f"),
        functools.partial(block_deletion, finalizer=OWN),
    )
    kept = functools.partial(_label, "a")
    fns = [AddFinalizer(BACKUPS), AddFinalizer(BUCKETS), users, kopfs, kept]
    outcome = operator.cycle(deleting(BACKUPS), leftover=leftover(*fns))
    assert outcome.patch.fns == [kept, RemoveFinalizer(BACKUPS)]
    dropped = [m for m in messages(caplog, logging.DEBUG) if m.startswith("Dropping")]
    assert len(dropped) == 2
    assert "mine.org/f" in dropped[0]
    assert OWN in dropped[1]


def test_leftovers_are_not_tried_out_on_the_body_itself() -> None:
    """What a leftover would do is found out on a copy: the body that handlers see stays."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups", LATER))
    body = deleting(BACKUPS, OWN)
    operator.cycle(body, leftover=leftover(functools.partial(_finalize, "mine.org/f")))
    assert body["metadata"]["finalizers"] == [BACKUPS, OWN]


def test_functions_of_this_cycle_are_kept_on_an_object_being_deleted() -> None:
    """Only leftovers are looked through: what a handler has just put there is its own affair."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups", LATER))
    fn = functools.partial(_finalize, "mine.org/f")

    @operator.finalizers.on.event("things")
    def event(patch: kopf.Patch, **_: Any) -> None:
        patch.fns.append(fn)

    assert fn in operator.cycle(deleting(BACKUPS, OWN)).patch.fns


def test_release_left_over_is_sent_with_its_progress() -> None:
    """After a conflict the release and the progress go again, together, and nothing runs twice."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    first = operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    fresh = deleting(OTHER, BACKUPS, BUCKETS, OWN, labels={"a": "b"})
    second = operator.cycle(fresh, leftover=first.patch)
    assert operator.calls == ["backups", "buckets"]
    assert second.finalizers() == [OTHER, BUCKETS, OWN]
    assert annotations_of(second.after()) == {"backups", "buckets"}
    operator.cycle(second.after())
    assert operator.calls.count("backups") == 1


def test_additions_by_hand_are_left_alone_while_the_object_lives() -> None:
    """A finalizer that no handler has declared is the user's: left over or not, it is sent."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    fn = AddFinalizer(f"{OWN}.by-hand")
    outcome = operator.cycle(alive(BACKUPS), leftover=leftover(fn))
    assert outcome.patch.fns == [fn]


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
    assert annotations_of(operator.cycle(body).after()) == {"backups", "buckets", "team"}
    (merge,) = operator.cycle(body).patch.fns[1:]
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


# Filters of the user's own


# Kopf's own, whose types ask for more than a lambda has.
combined: Any = kopf


def seen_by(when: Callable[..., bool], body: Body | None = None) -> list[str]:
    operator = Operator()
    operator.on.create("things", finalizer="backups", when=when)(operator.handler("created"))
    return operator.cycle(body or alive()).finalizers()


def asks_by_name_old(old: Any, **_: Any) -> bool:
    return old is not None


def asks_by_name_new(new: Any, **_: Any) -> bool:
    return bool(new)


def asks_by_name_diff(diff: Any, **_: Any) -> bool:
    return len(diff) > 100


def asks_by_name_reason(reason: Any, **_: Any) -> bool:
    return bool(reason == "update")


ASKING: dict[str, Any] = {
    "old by name": asks_by_name_old,
    "new by name": asks_by_name_new,
    "diff by name": asks_by_name_diff,
    "reason by name": asks_by_name_reason,
    "type by name": lambda old, **_: isinstance(old, dict),
    "keyword-only": lambda *, reason, **_: bool(reason == "update"),
    "with a default": lambda old=None, **_: old is not None,
    "truth": lambda **kwargs: not kwargs["diff"],
    "length": lambda **kwargs: len(kwargs["diff"]) > 100,
    "item": lambda **kwargs: kwargs["new"]["spec"]["size"] == 7,
    "attribute": lambda **kwargs: kwargs["reason"].value == "update",
    "method": lambda **kwargs: kwargs["new"].get("spec") == 7,
    "equality": lambda **kwargs: kwargs["reason"] == "update",
    "inequality": lambda **kwargs: kwargs["reason"] != "update" and False,
    "equality reversed": lambda **kwargs: bool("update" == kwargs["reason"]),  # noqa: SIM300
    "in a tuple": lambda **kwargs: kwargs["reason"] in ("update", "resume"),
    "in a set": lambda **kwargs: kwargs["reason"] in {"update", "resume"},
    "as a key": lambda **kwargs: bool({"update": True}.get(kwargs["reason"])),
    "as text": lambda **kwargs: str(kwargs["reason"]) == "update",
    "in a text": lambda **kwargs: f"{kwargs['reason']}" == "update",
    "membership": lambda **kwargs: "spec" in kwargs["new"],
    "iteration": lambda **kwargs: any(True for _ in kwargs["diff"]),
    "is None": lambda **kwargs: kwargs["old"] is None,
    "is not None": lambda **kwargs: kwargs["old"] is not None,
    "is None, and more": lambda **kwargs: kwargs["old"] is None or kwargs["old"]["spec"] == 7,
    "in all_": combined.all_([lambda **_: True, asks_by_name_diff]),
    "in any_": combined.any_([lambda **_: False, asks_by_name_reason]),
    "in not_": combined.not_(lambda **kwargs: bool(kwargs["new"])),
    "in none_": combined.none_([lambda **_: False, lambda **kwargs: bool(kwargs["new"])]),
    "in a partial": functools.partial(asks_by_name_old),
    "in a partial with keywords": functools.partial(lambda x, **kw: kw["old"] == x, x=7),
}


@pytest.mark.parametrize("when", ASKING.values(), ids=ASKING)
def test_filter_that_asks_for_the_change_is_taken_to_hold(when: Callable[..., bool]) -> None:
    """What an event does not tell cannot be decided: an object is guarded rather than not."""
    assert seen_by(when) == [BACKUPS]


KNOWN: dict[str, tuple[Any, bool]] = {
    "true": (lambda **_: True, True),
    "false": (lambda **_: False, False),
    "spec": (lambda spec, **_: spec["size"] == 1, True),
    "no spec": (lambda spec, **_: spec["size"] == 2, False),
    "by keywords": (lambda **kwargs: kwargs["name"] == "t", True),
    "decided before it asks": (lambda **kwargs: kwargs["name"] == "x" and kwargs["old"], False),
    "in all_": (combined.all_([lambda **_: True, lambda name, **_: name == "x"]), False),
    "in all_ before it asks": (combined.all_([lambda **_: False, asks_by_name_old]), False),
    "in any_ before it asks": (combined.any_([lambda **_: True, asks_by_name_old]), True),
    "in not_": (combined.not_(lambda **_: True), False),
}


@pytest.mark.parametrize(("when", "holds"), KNOWN.values(), ids=KNOWN)
def test_filter_that_asks_for_the_object_is_answered(
    when: Callable[..., bool], holds: bool
) -> None:
    """A filter on what an event tells is asked, and its answer counts."""
    assert seen_by(when) == ([BACKUPS] if holds else [])
    assert seen_by(when, alive(BACKUPS)) == ([BACKUPS] if holds else [])


def test_filter_is_asked_with_what_kopf_tells_of_an_event() -> None:
    """A filter gets Kopf's own keyword arguments, unchanged."""
    seen = dict[str, Any]()

    def when(**kwargs: Any) -> bool:
        seen.update(kwargs)
        return True

    seen_by(when)
    assert {"old", "new", "diff", "reason", "body", "patch", "memo", "resource", "uid"} <= set(seen)
    assert seen["name"] == "t"
    assert isinstance(seen["body"], kopf.Body)


@dataclasses.dataclass
class Bigger:
    """A filter that is an object, and not hashable."""

    size: int

    def __call__(self, spec: kopf.Spec, **_: Any) -> bool:
        return bool(spec["size"] > self.size)


def test_filter_may_be_any_callable() -> None:
    """What Kopf takes for a filter is a filter for the finalizer too."""
    assert seen_by(Bigger(0)) == [BACKUPS]
    assert seen_by(Bigger(1)) == []
    assert seen_by(functools.partial(lambda spec, size, **_: spec["size"] == size, size=2)) == []


def test_kopf_never_calls_what_only_notes(caplog: pytest.LogCaptureFixture) -> None:
    """The library's own registrations are filters alone: no handler of its own ever runs."""
    caplog.set_level(logging.DEBUG)
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.event("things", finalizer="buckets", id="seen")(operator.handler("event"))
    operator.cycle(alive())
    operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    called = [m for m in messages(caplog, logging.INFO) if m.startswith("Handler ")]
    assert {m.split()[1] for m in called} == {"'seen'", "'backups'"}


@pytest.mark.parametrize("error", [KeyError("size"), TypeError("no"), ValueError("no")])
def test_filter_that_fails_is_not_swallowed(error: Exception) -> None:
    """An error in a user's filter is the user's to see, as it is in Kopf."""

    def when(**_: Any) -> bool:
        raise error

    with pytest.raises(type(error)) as raised:
        seen_by(when)
    assert raised.value is error


def test_filters_without_a_callback_are_kopfs_own() -> None:
    """Labels, annotations, fields and values are compared by Kopf, for the finalizer too."""
    filters = {
        "labels": {"a": kopf.PRESENT},
        "annotations": {"b": "c"},
        "field": "spec.size",
        "value": lambda value, **_: value == 1,
    }
    operator = Operator()
    operator.on.create("things", finalizer="backups", **filters)(operator.handler("created"))
    matching = alive(labels={"a": "x"}, annotations={"b": "c"})
    assert operator.cycle(matching).finalizers() == [BACKUPS]
    for other in (
        alive(annotations={"b": "c"}),
        alive(labels={"a": "x"}, annotations={"b": "d"}),
        {**matching, "spec": {"size": 2}},
        {**matching, "spec": {}},
    ):
        assert operator.cycle(other).finalizers() == []


# Declared late, or never applied


def test_handler_declared_after_startup_is_guarded_too() -> None:
    """A handler that a startup handler declares has its finalizer like any other."""
    operator = Operator()
    operator.on.create("things", finalizer="buckets")(operator.handler("early"))
    operator.start()
    operator.on.delete("things", finalizer="backups")(operator.handler("late", LATER, None))
    body = operator.cycle(alive()).after()
    assert body["metadata"]["finalizers"] == [BUCKETS, BACKUPS, OWN]
    body = operator.cycle(deleted(body)).after()
    assert body["metadata"]["finalizers"] == [BACKUPS, OWN]
    assert operator.calls == ["late"]


def test_cleanup_declared_late_may_share_a_finalizer() -> None:
    """A finalizer that is in use already waits for a cleanup that is declared later."""
    operator = Operator()
    operator.on.create("things", finalizer="backups", labels={"a": "b"})(operator.handler("early"))
    operator.start()
    operator.on.delete("things", finalizer="backups")(operator.handler("late", LATER))
    assert operator.cycle(alive()).finalizers() == [BACKUPS, OWN]
    assert operator.cycle(alive(BACKUPS, OWN)).finalizers() == [BACKUPS, OWN]
    assert operator.cycle(deleting(BACKUPS, OWN)).finalizers() == [BACKUPS, OWN]
    assert operator.calls[-1] == "late"


def test_operator_with_dedicated_finalizers_that_was_not_applied_is_told() -> None:
    """Without settings nothing would be put on or taken off: the first event says so."""
    operator = Operator(apply=False)
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    with pytest.raises(ConfigurationError, match=r"call finalizers\.apply\(settings\) before"):
        operator.cycle(alive())
    assert operator.calls == []
    operator.finalizers.apply(operator.settings)
    assert operator.cycle(alive()).finalizers() == [BACKUPS]


def test_operator_without_dedicated_finalizers_need_not_be_applied() -> None:
    """Handlers as Kopf has them work without any settings of the library's."""
    operator = Operator(apply=False)
    operator.on.create("things")(operator.handler("created"))
    operator.cycle(alive())
    assert operator.calls == ["created"]


def test_handlers_declared_late_may_share_a_finalizer() -> None:
    """A startup handler may declare all the handlers of an operator, as a module would."""
    operator = Operator()
    operator.start()
    operator.on.create("things", finalizer="backups", labels={"a": "b"})(operator.handler("one"))
    operator.on.create("others", finalizer="backups")(operator.handler("two"))
    operator.on.delete("example.com", "things", finalizer="backups")(operator.handler("x", LATER))
    assert operator.cycle(alive(labels={"a": "b"})).finalizers() == [BACKUPS, OWN]
    assert operator.cycle(deleting(BACKUPS, OWN, labels={"a": "b"})).finalizers() == [BACKUPS, OWN]
    assert operator.calls == ["x"]
    assert operator.cycle(deleting(BACKUPS)).finalizers() == []


def test_operator_applied_twice_acts_once_and_on_the_later_settings() -> None:
    """Settings applied again take the place of the first, without a second of everything."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    operator.start()
    before = len(operator.registry._watching.get_all_handlers())
    operator.settings = kopf.OperatorSettings()
    operator.finalizers.apply(operator.settings)
    assert len(operator.registry._watching.get_all_handlers()) == before
    assert operator.cycle(alive()).patch.fns == [AddFinalizer(BACKUPS)]
    assert operator.calls == []


@pytest.mark.parametrize("late", [False, True])
def test_two_operators_in_one_process_do_not_meet(late: bool) -> None:
    """Each operator keeps to its own registry, settings and cycles."""
    one, other = Operator(), Operator()
    one.on.create("things", finalizer="backups")(one.handler("one"))
    if late:
        other.start()
    other.on.delete("things", finalizer="buckets")(other.handler("other"))
    body = one.cycle(alive()).after()
    body = other.cycle(body).after()
    assert body["metadata"]["finalizers"] == [BACKUPS, BUCKETS, OWN]
    assert one.calls == other.calls == []


@pytest.mark.parametrize(
    ("kind", "wanted", "size", "changed"),
    [
        ("create", kopf.ABSENT, 1, None),
        ("create", lambda size, **_: size != 1, 1, None),
        ("update", 1, 1, 2),
        ("update", kopf.PRESENT, 1, None),
        ("update", lambda size, **_: size == 1, 1, 2),
        ("update", 2, 1, 2),
    ],
)
def test_finalizer_is_there_for_what_a_field_was_when_it_was_last_handled(
    kind: str, wanted: Any, size: int, changed: int | None
) -> None:
    """Kopf compares both, what a field is and what it was: a handler never runs unguarded."""
    operator = Operator()
    seen = list[list[str]]()

    def handler(body: kopf.Body, retry: int, **_: Any) -> None:
        seen.append(list(body["metadata"]["finalizers"]))
        if retry == 0:
            raise kopf.TemporaryError("busy", delay=0)

    operator.on.delete("things")(operator.handler("delete"))
    on: Any = getattr(operator.on, kind)
    on("things", field="spec.size", value=wanted, finalizer="backups")(handler)
    body = {**alive(), "spec": {"size": size}}
    if kind == "update":
        body = {**operator.live(body), "spec": {"size": changed} if changed else {}}
    for _ in range(4):
        body = operator.cycle(body).after()
    assert len(seen) == 2
    assert all(BACKUPS in finalizers for finalizers in seen)


def test_field_that_cannot_be_there_is_absent() -> None:
    """An object without a spec has no field in it."""
    operator = Operator()
    on: Any = operator.on.delete
    on("things", field=("spec", "size"), finalizer="backups")(operator.handler("one"))
    on("things", field=["spec", "size"], value=kopf.ABSENT, finalizer="buckets")(
        operator.handler("two")
    )
    body = alive(BACKUPS)
    del body["spec"]
    assert operator.cycle(body).finalizers() == [BUCKETS, OWN]


def test_cleanup_of_a_field_that_has_changed_keeps_its_finalizer() -> None:
    """Kopf calls a cleanup for what a field was when the object was last handled, too."""
    operator = Operator()
    cleanup = operator.handler("backups", kopf.TemporaryError("busy", delay=0), None)
    operator.on.delete("things", field="spec.size", value=1, finalizer="backups")(cleanup)
    settled = operator.live(alive())
    assert settled["metadata"]["finalizers"] == [BACKUPS, OWN]
    body = deleted({**settled, "spec": {"size": 2}})
    first = operator.cycle(body)
    assert operator.calls == ["backups"]
    assert first.finalizers() == [BACKUPS, OWN]
    assert "finalizers" not in operator.live(first.after())["metadata"]


@pytest.mark.parametrize("asked", ["old", "new", "diff", "reason"])
@pytest.mark.parametrize("filtered", ["labels", "annotations", "value"])
def test_filter_of_one_field_may_ask_for_the_change(asked: str, filtered: str) -> None:
    """A callback for a label, an annotation or a value may ask for what an event does not tell."""

    def callback(value: Any, **kwargs: Any) -> bool:
        return value is not None and bool(kwargs[asked])

    filters: dict[str, dict[str, Any]] = {
        "labels": {"labels": {"a": callback}},
        "annotations": {"annotations": {"a": callback}},
        "value": {"field": "spec.size", "value": callback},
    }
    operator = Operator()
    operator.on.create("things", finalizer="backups", **filters[filtered])(operator.handler("h"))
    wanted = alive(labels={"a": "b"}, annotations={"a": "b"})
    assert operator.cycle(wanted).finalizers() == [BACKUPS]
    if filtered != "value":
        assert operator.cycle(alive()).finalizers() == []


def test_success_of_a_creation_is_no_end_of_a_cleanup() -> None:
    """A function that handles creations too has one id for both, and is called for the deletion."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("both"))
    done = {f"{PREFIX}/both": record(success=True, purpose="create")}
    outcome = operator.cycle(deleting(BACKUPS, OWN, annotations=done))
    assert operator.calls == ["both"]
    assert outcome.finalizers() == []


# More than one `Finalizers`, and other settings


def test_two_finalizers_of_one_operator_both_observe_its_storage() -> None:
    """Each module of a program may make one: whatever the number of cycles, each looks on once."""
    operator, other = Operator(), Operator()
    other.registry, other.settings = operator.registry, operator.settings
    other.finalizers = Finalizers(operator.finalizers.identity, registry=operator.registry)
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    other.on.delete("things", finalizer="buckets")(operator.handler("buckets"))
    operator.start()
    other.start()
    body = operator.live(alive())
    storages = set[int]()
    for _ in range(5):
        operator.cycle(body)
        storages.add(id(operator.settings.persistence.progress_storage))
    assert len(storages) == 1
    assert not operator.live(deleted(body))["metadata"].get("finalizers")
    assert sorted(operator.calls) == ["backups", "buckets"]


def test_settings_that_kopf_does_not_run_with_are_noticed() -> None:
    """Without them Kopf would tell nobody that a cleanup has ended, or whose finalizer is whose."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.start()
    with pytest.raises(ConfigurationError, match="runs with other settings"):
        cycle(operator.registry, kopf.OperatorSettings(), alive())
    assert operator.cycle(alive()).finalizers() == [BACKUPS, OWN]
    with pytest.raises(ConfigurationError, match=r"kopf\.run\(settings=settings\)"):
        cycle(operator.registry, kopf.OperatorSettings(), alive())
