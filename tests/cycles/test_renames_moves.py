"""How an object is moved from its former names to those of today: its finalizer and its records."""

import copy
import json
import logging
from typing import Any

import kopf
import pytest

from kopf_finalizers import Finalizers
from kopf_finalizers._changes import ReplaceFinalizer

from ..support.kopf_cycles import after, finalizers_of
from ..support.renamed import (
    IDENTITY,
    KOPF,
    KOPFS_PLACE,
    LONG_AGO,
    NEW,
    OTHER,
    OWN_PLACE,
    ROLLOUTS,
    Operator,
    annotations_of,
    deleted,
    edited,
    handled_by_plain_kopf,
    info_lines,
    places_of,
    thing,
)


def last_state(body: dict[str, Any], place: str = OWN_PLACE) -> dict[str, Any]:
    return dict(json.loads(annotations_of(body)[f"{place}/last-handled-configuration"]))


def annotated(body: dict[str, Any], team: str) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    changed["metadata"].setdefault("annotations", {})["twingate.com/team"] = team
    return changed


# What happens to an object that is alive


@pytest.mark.parametrize(
    "carried",
    [[KOPF], [OTHER, KOPF, "a.b/c"], [KOPF, OTHER, KOPF], [NEW, KOPF], [KOPF, NEW], [NEW]],
)
def test_switching_moves_name_and_records_in_one_request(carried: list[str]) -> None:
    """An object that was handled under the former names is under the new, and nothing fires."""
    operator = Operator(former=[KOPF])
    outcome = operator.cycle(handled_by_plain_kopf(*carried))
    assert not dict(outcome.patch)  # functions only: Kopf makes one JSON Patch of these
    body = operator.settle(outcome.after())
    assert [name for name in finalizers_of(body) if name not in (OTHER, "a.b/c")] == [NEW]
    assert places_of(body) == {OWN_PLACE}
    assert operator.calls == []


@pytest.mark.parametrize("carried", [[KOPF], [OTHER, KOPF], [KOPF, OTHER]])
def test_recognising_changes_nothing_on_existing_objects(carried: list[str]) -> None:
    """The first release can be rolled back as if it had never been."""
    operator = Operator(former=[KOPF], rollout="recognise")
    body = handled_by_plain_kopf(*carried)
    assert operator.settle(body) == body
    assert operator.calls == []


def test_recognising_brings_an_object_back_from_a_release_that_has_switched() -> None:
    """After that rollback the release before can follow: it finds its name and its records."""
    body = Operator(former=[KOPF]).settle(handled_by_plain_kopf(OTHER, KOPF))
    assert finalizers_of(body) == [OTHER, NEW]
    operator = Operator(former=[KOPF], rollout="recognise")
    outcome = operator.cycle(body)
    assert not dict(outcome.patch)
    body = operator.settle(outcome.after())
    assert finalizers_of(body) == [OTHER, KOPF]
    plain = Operator()
    assert plain.settle(body) == body
    assert operator.calls == plain.calls == []


@pytest.mark.parametrize(
    ("rollout", "name", "places"),
    [("recognise", KOPF, {KOPFS_PLACE}), ("switch", NEW, {OWN_PLACE})],
)
def test_new_objects_get_one_name_and_one_call(rollout: str, name: str, places: set[str]) -> None:
    """Which name, and where its records are, is what the release is about."""
    operator = Operator(former=[KOPF], rollout=rollout)
    body = operator.settle(thing(creationTimestamp="2999-01-01T00:00:00Z"))
    assert finalizers_of(body) == [name]
    assert places_of(body) == places
    assert operator.calls == [("create", 0)]


def test_a_change_that_is_handled_in_the_cycle_that_moves_is_handled_once() -> None:
    """An object that was edited while nothing ran: what is moved does not undo what is stored."""
    operator = Operator(former=[KOPF])
    operator.settle(edited(handled_by_plain_kopf(KOPF)))
    assert operator.calls == [("update", 0)]


def test_a_record_that_a_rollback_has_left_in_the_own_place_is_not_believed() -> None:
    """What the release before has handled meanwhile is not handled again."""
    recognising = Operator(former=[KOPF], rollout="recognise")
    body = recognising.settle(edited(handled_by_plain_kopf(KOPF)))
    body = Operator().settle(edited(body))
    for rollout in ROLLOUTS:
        operator = Operator(former=[KOPF], rollout=rollout)
        assert finalizers_of(operator.settle(body))
        assert operator.calls == []
        body = operator.settle(edited(body))
        assert operator.calls == [("update", 0)]


TWINGATE: dict[str, Any] = {
    "former": ["twingate.com/finalizer"],
    "former_storage_prefix": "twingate.com",
}


def with_own_prefix() -> Operator:
    """An operator without the library, with a prefix and a finalizer of its own."""
    plain = Operator()
    persistence = plain.settings.persistence
    persistence.finalizer = "twingate.com/finalizer"
    persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="twingate.com")
    persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="twingate.com")
    return plain


def test_annotations_that_users_keep_under_the_former_prefix_are_no_change() -> None:
    """Kopf took none of them for one, and they do not become one when the prefix is left."""
    body = with_own_prefix().settle(annotated(thing(), "a"))
    assert finalizers_of(body) == ["twingate.com/finalizer"]
    stages: list[dict[str, Any]] = [
        TWINGATE | {"rollout": "recognise"},
        TWINGATE,
        {"former": ()},
        TWINGATE,
    ]
    for options in stages:
        operator = Operator(**options)
        body = operator.settle(body)
        assert operator.calls == []
    kept = {key for key in annotations_of(body) if key.startswith("twingate.com/")}
    assert kept == {"twingate.com/team"}


def test_annotations_under_the_former_prefix_are_moved_with_the_records() -> None:
    """In the same request: the last release may begin after any of them."""
    busy = with_own_prefix()
    busy.failing = kopf.TemporaryError("busy", delay=3600)
    body = busy.step(edited(with_own_prefix().settle(annotated(thing(), "a"))))
    assert "twingate.com/update" in annotations_of(body)
    body = Operator(**TWINGATE).step(body)
    state = {"metadata": {"annotations": {"twingate.com/team": "a"}}, "spec": {"size": 1}}
    assert last_state(body) == state


def test_annotations_under_the_former_prefix_count_as_changes_once_it_is_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """From the release on that leaves it; those that are there by then are no change."""
    caplog.set_level(logging.INFO)
    body = with_own_prefix().settle(annotated(thing(), "a"))
    recognising = Operator(**TWINGATE, rollout="recognise")
    body = recognising.settle(annotated(body, "b"))
    switched, last = Operator(**TWINGATE), Operator(former=())
    body = switched.settle(body)
    assert recognising.calls == switched.calls == []
    body = switched.settle(annotated(body, "c"))
    assert switched.calls == [("update", 0)]
    assert last_state(body)["metadata"]["annotations"] == {"twingate.com/team": "c"}
    assert len(info_lines(caplog)) == 1
    body = last.settle(body)
    assert last.calls == []
    body = Operator(**TWINGATE, rollout="recognise").settle(annotated(body, "d"))
    assert places_of(body) == {"twingate.com"}
    body = Operator(**TWINGATE).settle(annotated(body, "e"))
    assert places_of(body) == {"twingate.com", OWN_PLACE}
    last.settle(annotated(body, "f"))
    assert last.calls == [("update", 0)]


def test_what_kopf_has_written_to_wake_itself_up_goes_too() -> None:
    """It may be left where an operator was killed."""
    body = handled_by_plain_kopf(KOPF)
    body["metadata"]["annotations"][f"{KOPFS_PLACE}/touch-dummy"] = LONG_AGO
    assert places_of(Operator(former=[KOPF]).settle(body)) == {OWN_PLACE}


def test_a_change_that_no_handler_is_for_is_recorded_once() -> None:
    """In the cycle that moves too."""
    operator = Operator(handlers="create delete", former=[KOPF])
    body = operator.step(edited(handled_by_plain_kopf(KOPF)))
    assert last_state(body) == {"spec": {"size": 2}}


def test_records_can_move_without_a_finalizer() -> None:
    """An operator that has never had one has records all the same."""
    for rollout in ROLLOUTS:
        operator = Operator(
            handlers="create update",
            watches_only=True,
            former_storage_prefix=KOPFS_PLACE,
            rollout=rollout,
        )
        body = operator.settle(handled_by_plain_kopf(KOPF, OTHER))
        assert finalizers_of(body) == [KOPF, OTHER]
        assert operator.calls == []
    assert places_of(body) == {OWN_PLACE}


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_a_name_that_does_not_move_is_left_where_it_is(rollout: str) -> None:
    """Where only the records do."""
    operator = Operator(former_storage_prefix=KOPFS_PLACE, rollout=rollout)
    body = operator.settle(handled_by_plain_kopf(OTHER, NEW))
    assert finalizers_of(body) == [OTHER, NEW]
    assert not operator.cycle(body).patch


def test_names_can_move_without_records() -> None:
    """An operator with storages of its own keeps these."""
    for options in ({"storages": False}, {"former_storage_prefix": None}):
        operator = Operator(former=[KOPF], **options)
        storages = (kopf.StatusProgressStorage(), kopf.StatusDiffBaseStorage())
        operator.settings.persistence.progress_storage = storages[0]
        operator.settings.persistence.diffbase_storage = storages[1]
        body = Operator().settle(thing())
        body = {**body, "status": {"kopf": {"last-handled-configuration": '{"spec":{"size":1}}'}}}
        before = annotations_of(body)
        body = operator.settle(body)
        assert finalizers_of(body) == [NEW]
        assert annotations_of(body) == before
        assert operator.calls == []


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_storages_of_the_operator_are_left_as_they_are(rollout: str) -> None:
    """`storages=False` holds with former names too."""
    settings = kopf.OperatorSettings()
    progress, diffbase = kopf.StatusProgressStorage(), kopf.StatusDiffBaseStorage()
    settings.persistence.progress_storage = progress
    settings.persistence.diffbase_storage = diffbase
    registry = kopf.OperatorRegistry()
    options: dict[str, Any] = {"former": [KOPF], "rollout": rollout, "storages": False}
    Finalizers(IDENTITY, registry=registry, **options).apply(settings)
    assert settings.persistence.progress_storage is progress
    assert settings.persistence.diffbase_storage is diffbase
    assert settings.persistence.finalizer == KOPF


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_nothing_is_put_on_an_object_being_deleted(rollout: str) -> None:
    """Whatever it carries, each of its versions has only what it had, and less."""
    operator = Operator(former=[KOPF], rollout=rollout)
    for carried in ([OTHER], [OTHER, KOPF], [NEW, OTHER], []):
        body = deleted(handled_by_plain_kopf(*carried))
        for _ in range(4):
            before, body = body, operator.step(body)
            assert set(finalizers_of(body)) <= set(finalizers_of(before))


# Log lines


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_a_move_is_one_line_in_the_log(rollout: str, caplog: pytest.LogCaptureFixture) -> None:
    """Once for each object, at INFO, with all that it carries."""
    caplog.set_level(logging.INFO)
    back = rollout == "recognise"
    body = handled_by_plain_kopf(OTHER, KOPF)
    body = Operator(former=[KOPF]).settle(body) if back else body
    caplog.clear()
    operator = Operator(former=[KOPF], rollout=rollout)
    for _ in range(2):
        body = operator.settle(edited(body))
    carried = f"own {NEW}" if back else f"former {KOPF}"
    written = KOPF if back else NEW
    (line,) = info_lines(caplog)
    assert line.startswith(f"Moving finalizer and records to those of {written}: alive; ")
    assert line.endswith(f"; {carried}; foreign {OTHER}.")


def test_a_move_of_records_alone_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """An object that carries the new name already."""
    caplog.set_level(logging.INFO)
    Operator(former=[KOPF]).settle(handled_by_plain_kopf(NEW))
    assert info_lines(caplog) == [f"Moving records to those of {NEW}: alive; own {NEW}."]


def test_an_object_with_nothing_to_move_is_not_mentioned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Thousands of objects that have been moved make no noise at the next start."""
    caplog.set_level(logging.INFO)
    body = Operator(former=[KOPF]).settle(handled_by_plain_kopf(KOPF))
    caplog.clear()
    Operator(former=[KOPF]).settle(body)
    assert info_lines(caplog) == []


# Lost races


def test_a_move_that_lost_a_race_is_made_on_the_next_version() -> None:
    """And once, however the object has changed meanwhile."""
    operator = Operator(former=[KOPF])
    outcome = operator.cycle(handled_by_plain_kopf(KOPF))
    leftover = kopf.Patch(fns=outcome.patch.fns)
    meanwhile = handled_by_plain_kopf(OTHER, KOPF)
    meanwhile["metadata"]["resourceVersion"] = "2"
    again = operator.cycle(meanwhile, leftover=leftover)
    assert len(again.patch.fns) == len(leftover.fns)
    body = operator.settle(again.after())
    assert finalizers_of(body) == [OTHER, NEW]
    assert places_of(body) == {OWN_PLACE}
    assert operator.calls == []


def test_a_move_that_lost_its_object_to_a_deletion_wakes_kopf_up() -> None:
    """Its functions change nothing any more, and no event would follow: the cleanup would wait."""
    operator = Operator(former=[KOPF])
    outcome = operator.cycle(thing(KOPF))
    leftover = kopf.Patch(fns=[fn for fn in outcome.patch.fns if isinstance(fn, ReplaceFinalizer)])
    assert leftover
    body = deleted(thing(KOPF))
    again = operator.cycle(body, leftover=leftover)
    assert operator.called("delete") == 0
    assert f"{OWN_PLACE}/touch-dummy" in annotations_of(again.after())
    body = operator.settle(again.after())
    assert operator.called("delete") == 1
    assert finalizers_of(body) == []


def test_a_move_that_is_still_to_be_made_needs_no_waking() -> None:
    """Something is sent anyway."""
    operator = Operator(former=[KOPF])
    leftover = kopf.Patch(fns=operator.cycle(handled_by_plain_kopf(KOPF)).patch.fns)
    again = operator.cycle(handled_by_plain_kopf(KOPF), leftover=leftover)
    assert f"{OWN_PLACE}/touch-dummy" not in again.patch.metadata.annotations


def test_records_that_have_lost_a_race_go_before_the_name() -> None:
    """Beside somebody who writes without pause, a JSON Patch of Kopf's hardly ever gets through."""
    operator = Operator(former=[KOPF])
    leftover = kopf.Patch(fns=operator.cycle(handled_by_plain_kopf(KOPF)).patch.fns)
    lost = operator.cycle(handled_by_plain_kopf(KOPF, OTHER), leftover=leftover)
    body = after(lost.body, kopf.Patch(dict(lost.patch)))
    assert finalizers_of(body) == [KOPF, OTHER]
    assert places_of(body) == {OWN_PLACE}
    leftover, body["metadata"]["resourceVersion"] = kopf.Patch(fns=lost.patch.fns), "2"
    again = operator.cycle(body, leftover=leftover)
    assert not dict(again.patch)
    assert finalizers_of(operator.settle(again.after())) == [NEW, OTHER]
    assert operator.calls == []


def test_what_a_handler_has_come_to_does_not_wait_for_the_name() -> None:
    """A request for the name that loses its race, and a kill after it, would lose that."""
    operator = Operator(former=[KOPF])
    patch = operator.cycle(edited(handled_by_plain_kopf(KOPF))).patch
    body = after(edited(handled_by_plain_kopf(KOPF)), kopf.Patch(dict(patch)))
    assert last_state(body) == {"spec": {"size": 2}}
    assert places_of(body) == {OWN_PLACE}
    assert operator.calls == [("update", 0)]


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_a_deletion_moves_nothing_that_it_does_not_need(rollout: str) -> None:
    """A cleanup that succeeds at once is one request, as in plain Kopf."""
    body = deleted(handled_by_plain_kopf(KOPF))
    if rollout == "recognise":
        body = deleted(Operator(former=[KOPF]).settle(handled_by_plain_kopf(KOPF)))
    operator = Operator(former=[KOPF], rollout=rollout)
    outcome = operator.cycle(body)
    assert operator.calls == [("delete", 0)]
    assert not dict(outcome.patch)
    assert finalizers_of(outcome.after()) == []


def test_a_move_is_one_request_where_an_operator_resumes() -> None:
    """What its handler writes and removes again is no reason for another one."""
    operator = Operator(handlers="create resume update delete", former=[KOPF])
    outcome = operator.cycle(handled_by_plain_kopf(KOPF), listed=True)
    assert operator.calls == [("resume", 0)]
    assert not dict(outcome.patch)
    body = operator.settle(outcome.after())
    assert finalizers_of(body) == [NEW]
    assert {key.partition("/")[2] for key in annotations_of(body)} == {
        "kopf-managed",
        "last-handled-configuration",
        "records-of",
    }


@pytest.mark.parametrize("carried", [[KOPF], [KOPF, NEW]])
def test_a_move_whose_request_never_arrived_is_made_again(carried: list[str]) -> None:
    """The object is still the version that was to be moved."""
    operator = Operator(former=[KOPF])
    body = handled_by_plain_kopf(*carried)
    for _ in range(2):
        outcome = operator.cycle(body)
    assert finalizers_of(outcome.after()) == [NEW]
    assert places_of(outcome.after()) == {OWN_PLACE}


def test_an_object_whose_move_got_lost_is_still_taken_for_handled() -> None:
    """Somebody else's change came first, and the request of the move never arrived."""
    operator = Operator(former=[KOPF])
    operator.cycle(handled_by_plain_kopf(KOPF))
    body = handled_by_plain_kopf(KOPF)
    body["metadata"]["resourceVersion"] = "2"
    body = operator.settle(body)
    assert operator.calls == []
    assert finalizers_of(body) == [NEW]
    assert places_of(body) == {OWN_PLACE}
