"""What was decided too early: on an old body, or before other handlers have run."""

import contextvars
import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers._changes import RemoveFinalizer, RemoveUnwanted

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
    deleting,
    leftover,
    messages,
    record,
    touched,
)
from ..support.kopf_cycles import RESOURCE, after
from ..support.servers import Body

KEPT = {"labels": {"keep": "1"}}


# Filters that ask the memo


def test_filter_that_asks_the_memo_is_not_known() -> None:
    """An `on.event` handler may fill the memo before the handler's own filter is asked."""
    operator = Operator()

    @kopf.on.event("things", registry=operator.registry)
    def look(memo: kopf.Memo, spec: kopf.Spec, **_: Any) -> None:
        memo.ready = spec["size"] == 1

    @operator.finalizers.on.create(
        "things", finalizer="backups", when=lambda memo, **_: memo.get("ready")
    )
    def begin(body: kopf.Body, **_: Any) -> None:
        assert BACKUPS in body["metadata"]["finalizers"]
        operator.calls.append("begin")

    body = operator.cycle(alive()).after()
    assert operator.calls == []
    assert body["metadata"]["finalizers"] == [BACKUPS]
    operator.cycle(body)
    assert operator.calls == ["begin"]


def test_cleanup_whose_filter_asks_the_memo_is_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It stays until the cleanup's turn; where Kopf does not call it, it goes without a warning."""
    operator = Operator()
    ready = [True]

    @kopf.on.event("things", registry=operator.registry)
    def look(memo: kopf.Memo, **_: Any) -> None:
        memo.ready = ready[0]

    when: Any = lambda memo, **_: memo.get("ready")  # noqa: E731
    cleanup = operator.handler("end", LATER, None)
    operator.on.delete("things", finalizer="backups", when=when)(cleanup)
    body = deleting(BACKUPS, OWN)
    assert operator.cycle(body).finalizers() == [BACKUPS, OWN]
    assert operator.cycle(body).finalizers() == []
    assert operator.calls == ["end", "end"]
    ready[0] = False
    first = operator.cycle(deleting(BACKUPS, OWN, uid="3-4"))
    assert first.finalizers() == [BACKUPS]
    assert operator.cycle(first.after()).finalizers() == []
    assert messages(caplog) == []


def test_memo_is_known_to_a_filter_of_an_event_handler() -> None:
    """Kopf asks it at the same moment."""
    operator = Operator()
    operator.on.event("things", finalizer="backups", when=lambda memo, **_: memo.get("ready"))(
        operator.handler("event")
    )
    assert operator.cycle(alive()).finalizers() == []


# Removals that are sent late


def test_removal_of_what_no_cleanup_waits_for_asks_nobody_again() -> None:
    """On an object being deleted it cannot be wanted any more, so it can be sent at any time."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    operator.on.delete("things", finalizer="buckets", **KEPT)(operator.handler("buckets"))
    fns = operator.cycle(deleting(BACKUPS, BUCKETS, OWN)).patch.fns
    assert RemoveFinalizer(BACKUPS) in fns
    assert [fn.name for fn in fns if isinstance(fn, RemoveUnwanted)] == [BUCKETS]


def test_removal_that_is_left_over_is_decided_anew_when_the_object_is_deleted() -> None:
    """An object that matches again when it is deleted waits for its cleanup."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups", **KEPT)(operator.handler("backups"))
    kopf.on.delete("things", registry=operator.registry)(operator.handler("plain", LATER))
    left = operator.cycle(alive(BACKUPS, OWN)).patch
    assert [type(fn) for fn in left.fns] == [RemoveUnwanted]
    body = deleting(BACKUPS, OWN, **KEPT)
    outcome = operator.cycle(body, leftover=leftover(*left.fns))
    assert outcome.finalizers() == [BACKUPS, OWN]
    assert touched(outcome)
    assert operator.cycle(outcome.after()).finalizers() == [OWN]
    assert operator.calls == ["backups", "plain"]


def test_kopfs_own_removal_that_is_left_over_lets_no_cleanup_go() -> None:
    """Without another cleanup Kopf takes its own finalizer off for the same reason, as late."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups", **KEPT)(operator.handler("backups"))
    left = operator.cycle(alive(BACKUPS, OWN)).patch
    assert after(alive(BACKUPS, OWN), left)["metadata"].get("finalizers") is None
    body = deleting(BACKUPS, OWN, **KEPT)
    outcome = operator.cycle(body, leftover=leftover(*left.fns))
    assert outcome.finalizers() == [BACKUPS, OWN]
    assert touched(outcome)
    assert operator.cycle(outcome.after()).finalizers() == []
    assert operator.calls == ["backups"]


@pytest.mark.parametrize("again", [alive(BACKUPS, OWN), deleting(BACKUPS, OWN)])
def test_kopfs_own_removal_that_is_left_over_goes_where_nothing_matches(again: Body) -> None:
    """A conflict alone changes nothing about it."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups", **KEPT)(operator.handler("backups"))
    left = operator.cycle(alive(BACKUPS, OWN)).patch
    assert operator.cycle(again, leftover=leftover(*left.fns)).finalizers() == []


def test_removal_asks_again_on_the_body_that_it_is_given() -> None:
    """Kopf sends a merge patch first, and makes the JSON Patch for what has come back."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups", **KEPT)(operator.handler("backups"))
    operator.on.event(
        "things", finalizer="buckets", when=lambda body, **_: "keep" in body.metadata.labels
    )(operator.handler("event"))
    patch = operator.cycle(alive(BACKUPS, OTHER, BUCKETS, OWN)).patch
    fresh = alive(BACKUPS, OTHER, BUCKETS, OWN, **KEPT)
    assert after(fresh, patch) == fresh
    assert after(alive(OTHER, OWN), patch)["metadata"]["finalizers"] == [OTHER]
    being_deleted = deleting(BACKUPS, OTHER, BUCKETS, OWN, **KEPT)
    assert after(being_deleted, patch)["metadata"]["finalizers"] == [BACKUPS, OTHER, OWN]


def test_what_users_put_on_the_patch_is_sent_beside_a_removal() -> None:
    """Only what takes Kopf's own finalizer off is held back."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups", **KEPT)(operator.handler("backups"))

    def label(raw: Any) -> None:
        raw["metadata"]["labels"] = {"a": "b"}

    @kopf.on.event("things", registry=operator.registry)
    def event(patch: kopf.Patch, **_: Any) -> None:
        patch.fns.append(label)

    for body in (alive(BACKUPS, OWN), alive(BACKUPS)):
        outcome = operator.cycle(body)
        assert label in outcome.patch.fns
        assert outcome.finalizers() == []


def test_removals_that_are_left_over_are_for_good_when_the_cleanup_has_ended() -> None:
    """What has succeeded is purged with the last release, and is not waited for once more."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    left = operator.cycle(deleting(BACKUPS, OTHER, OWN)).patch
    outcome = operator.cycle(
        deleting(BACKUPS, OTHER, OWN, labels={"a": "b"}), leftover=leftover(*left.fns)
    )
    assert outcome.finalizers() == [OTHER]
    assert operator.calls == ["backups"]


# Progress that was to go with a release


def test_progress_goes_first_after_a_conflict() -> None:
    """It goes in a merge patch, which cannot lose a race, and the release after it."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    first = operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    assert dict(first.patch) == {}
    second = operator.cycle(
        deleting(BACKUPS, BUCKETS, OWN, labels={"a": "b"}), leftover=first.patch
    )
    assert second.patch.fns == [RemoveFinalizer(BACKUPS)]
    stored = second.patch["metadata"]["annotations"]
    assert f"{PREFIX}/backups" in stored
    third = operator.cycle(second.after(), leftover=kopf.Patch(fns=second.patch.fns))
    assert operator.calls == ["backups", "buckets"]
    assert f"{PREFIX}/backups" not in (third.patch.get("metadata") or {}).get("annotations", {})


def test_progress_that_has_come_through_after_all_wakes_the_operator_up() -> None:
    """Where an answer was lost nothing is left to change, and no event would follow."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    first = operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    second = operator.cycle(first.after(), leftover=first.patch)
    assert touched(second)


def test_progress_goes_first_though_another_finalizer_is_released_after_a_conflict() -> None:
    """What lost a race once does not enter another one, whatever else is to be sent."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    operator.on.create("things", finalizer="dns")(operator.handler("created"))
    dns = f"{OWN}.dns"
    first = operator.cycle(deleting(BACKUPS, BUCKETS, dns, OWN))
    body = deleting(BACKUPS, BUCKETS, dns, OWN, labels={"a": "b"})
    second = operator.cycle(body, leftover=first.patch)
    assert f"{PREFIX}/backups" in second.patch["metadata"]["annotations"]
    assert second.finalizers() == [BUCKETS, OWN]


def test_progress_that_is_stored_first_is_an_event_of_its_own() -> None:
    """Where the release has nothing left to do, the operator comes back all the same."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    first = operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    second = operator.cycle(deleting(BUCKETS, OWN), leftover=first.patch)
    assert annotations_of(second.after()) == {"backups", "buckets"}


@pytest.mark.parametrize("written", ["status", "spec", "labels"])
def test_progress_goes_first_where_a_merge_patch_is_sent_anyway(written: str) -> None:
    """A status that is refused holds up the release, and not the record of what was done."""
    operator = Operator()

    @operator.finalizers.on.delete("things", finalizer="backups", id="backups")
    def backups(patch: kopf.Patch, **_: Any) -> None:
        where: Any = patch.metadata.labels if written == "labels" else getattr(patch, written)
        where["size"] = "2"

    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    outcome = operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    assert outcome.patch.fns == [RemoveFinalizer(BACKUPS)]
    assert set(outcome.patch["metadata"]["annotations"]) >= {
        f"{PREFIX}/backups",
        f"{PREFIX}/buckets",
    }
    assert outcome.finalizers() == [BUCKETS, OWN]


# What a cycle leaves in memory


def test_nothing_of_a_cycle_outlives_it() -> None:
    """Neither the task of Kopf's worker nor a daemon started there keeps an object or its patch."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.start()
    alive_yet = list[weakref.ref[Any]]()
    contexts = list[contextvars.Context]()

    def when(patch: kopf.Patch, body: kopf.Body, **_: Any) -> bool:
        alive_yet.extend([weakref.ref(patch), weakref.ref(body)])
        contexts.append(contextvars.copy_context())
        return False

    kopf.on.event("things", registry=operator.registry, when=when)(operator.handler("event"))
    operator.cycle(alive())
    operator.cycle(deleting(BACKUPS, OWN))
    gc.collect()
    assert len(alive_yet) == 4
    assert [ref() for ref in alive_yet] == [None] * 4
    assert len(contexts) == 2


def test_storage_that_is_asked_after_a_cycle_is_the_operators_own() -> None:
    """A daemon goes on in the context of the cycle that has started it."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.start()
    contexts = list[contextvars.Context]()

    def when(**_: Any) -> bool:
        contexts.append(contextvars.copy_context())
        return False

    kopf.on.event("things", registry=operator.registry, when=when)(operator.handler("event"))
    operator.cycle(alive())
    gc.collect()
    storage = operator.settings.persistence.progress_storage
    body = kopf.Body(
        cast("Any", deleting(annotations={f"{PREFIX}/backups": record(purpose="create")}))
    )
    fetch = functools.partial(storage.fetch, key=cast("kopf.HandlerId", "backups"), body=body)
    assert contexts[0].run(fetch) == fetch()
    found = contexts[0].run(fetch)
    assert found is not None
    assert "delayed" not in found


# One decision in a cycle


def test_resources_are_looked_up_anew_when_they_change() -> None:
    """A resource may come into a category while the operator runs."""
    import dataclasses

    from kopf_finalizers._changes import Finalizer
    from kopf_finalizers._dedicated.uses import Uses

    operator = Operator()
    operator.on.create(category="all", finalizer="backups")(operator.handler("created"))
    uses = Uses()
    uses.declare(operator.finalizers._dedicated.uses[0])
    assert uses.of(operator.registry, RESOURCE) == ()
    listed = dataclasses.replace(RESOURCE, categories=frozenset({"all"}))
    (wanted,) = uses.of(operator.registry, listed)
    assert wanted.finalizer == Finalizer(BACKUPS)
    assert uses.of(operator.registry, listed)[0] is wanted
    assert uses.of(kopf.OperatorRegistry(), listed) == ()


def test_filter_is_asked_once_in_a_cycle_however_the_resource_is_written() -> None:
    """It is decided once, whichever of the library's registrations Kopf asks first."""
    operator = Operator()
    asked = list[str]()

    def asking(name: str) -> Callable[..., bool]:
        def when(**_: Any) -> bool:
            asked.append(name)
            return False

        return when

    notations: dict[str, Any] = {"one": ["things"], "two": ["example.com", "v1", "things"]}
    for name, args in notations.items():
        when = asking(name)
        operator.on.event(*args, finalizer="backups", when=when, id=name)(operator.handler(name))
    operator.cycle(alive())
    assert sorted(asked) == ["one", "one", "two", "two"]  # by the library, and by Kopf
