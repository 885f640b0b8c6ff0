"""What is declared of former names, of dedicated finalizers too, and where a cluster stands."""

import inspect
import logging
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers import ConfigurationError, Finalizers, configure
from kopf_finalizers._changes import MergeIntoBody, ReplaceFinalizer

from ..support.kopf_cycles import after, finalizers_of
from ..support.renamed import (
    BACKUPS,
    IDENTITY,
    KOPF,
    NEW,
    OLD_BACKUPS,
    OTHER,
    OWN_PLACE,
    ROLLOUTS,
    Operator,
    deleted,
    handled,
    info_lines,
    thing,
)

# What is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"former": KOPF}, "must be a list of names"),
        ({"former": None}, "former=None must be a list of names"),
        ({"former": 5}, "former=5 must be a list of names"),
        ({"former_dedicated": [OLD_BACKUPS]}, 'as in former_dedicated={"backups": ['),
        ({"former_dedicated": {"backups": 5}}, "former_dedicated['backups']=5 must be a list"),
        ({"former": [KOPF], "former_storage_prefix": "a.org/"}, '"a.org/" is no prefix'),
        ({"former": [KOPF], "former_storage_prefix": ""}, "what stands before the slash"),
        ({"former_is_shared": True}, "there are none"),
        ({"former": ["old.org/f"], "former_storage_prefix": 4}, "former_storage_prefix=4 must be"),
        ({"former_dedicated": {"backups": OLD_BACKUPS}}, "must be a list of names"),
        ({"former": [KOPF], "rollout": "canary"}, 'rollout="canary" is not known'),
        ({"former": [NEW]}, "is the new name too"),
        ({"former_dedicated": {"backups": [BACKUPS]}}, "is the new name too"),
        ({"former": ["no name"]}, '"no name"'),
        ({"former_dedicated": {"Backups": [OLD_BACKUPS]}}, '"Backups"'),
        ({"former_dedicated": {"backups": [NEW]}}, "belongs to another finalizer"),
        ({"former": [KOPF], "former_dedicated": {"backups": [KOPF]}}, "belongs to another"),
        (
            {"former_dedicated": {"backups": [OLD_BACKUPS], "dns": [OLD_BACKUPS]}},
            "belongs to another finalizer",
        ),
        ({"former_dedicated": {"backups": [f"{NEW}.dns"], "dns": []}}, "belongs to another"),
        ({"rollout": "recognise"}, "there is none"),
        ({"former": [BACKUPS], "rollout": "recognise"}, 'use rollout="switch"'),
        (
            {"former": [KOPF], "storages": False, "former_storage_prefix": "a.b"},
            "leave storages=False out",
        ),
        ({"former": [KOPF], "former_storage_prefix": OWN_PLACE}, "is where the records are to go"),
        (
            {"former": [KOPF], "former_storage_prefix": "a." * 95 + "b"},
            "characters, and Kopf takes 189",
        ),
        ({"former": [KOPF], "former_storage_prefix": "Not A Prefix"}, "Not A Prefix"),
        ({"former": [KOPF], "watches_only": True}, "does not go with finalizer=None"),
    ],
)
def test_wrong_use_is_refused_with_what_to_do(options: dict[str, Any], words: str) -> None:
    """When the operator is configured, not when it meets an object."""
    with pytest.raises(ConfigurationError) as caught:
        Finalizers(IDENTITY, registry=kopf.OperatorRegistry(), **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "finalizer"),
    [
        ({"former": [BACKUPS]}, "backups"),
        ({"former_dedicated": {"dns": [BACKUPS]}}, "backups"),
        ({"former": [OLD_BACKUPS]}, OLD_BACKUPS),
    ],
)
def test_a_handler_cannot_use_a_name_that_is_left(options: dict[str, Any], finalizer: str) -> None:
    """It would be taken off while its cleanup is still to be done."""
    finalizers = Finalizers(IDENTITY, registry=kopf.OperatorRegistry(), **options)
    with pytest.raises(ConfigurationError, match="is listed as a former name"):
        finalizers.on.delete("things", id="x", finalizer=finalizer)(lambda **_: None)


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"former": ["twingate.com/finalizer"]}, True),
        ({"former": ["twingate.com/finalizer"], "former_storage_prefix": "twingate.com"}, False),
        ({"former": ["twingate.com/finalizer"], "former_storage_prefix": None}, False),
        ({"former": ["twingate.com/finalizer"], "storages": False}, False),
        ({"former": [KOPF]}, False),
        ({"former": [OLD_BACKUPS, KOPF]}, False),
        ({"former": [BACKUPS]}, False),
        ({}, False),
    ],
)
def test_former_names_that_do_not_tell_where_the_records_were_are_warned_about(
    options: dict[str, Any], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Or handlers would be called again for existing objects, and nobody would know why."""
    Finalizers(IDENTITY, registry=kopf.OperatorRegistry(), **options)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.startswith("former=['twingate.com/finalizer'] tells nothing") for line in lines] \
        == [True] * warned  # fmt: skip
    assert all("add former_storage_prefix=" in line for line in lines)


@pytest.mark.parametrize(
    ("first", "again", "same"),
    [
        ({"former": [KOPF]}, {"former": (KOPF,)}, True),
        ({"former": [KOPF]}, {"former": iter([KOPF])}, True),
        (
            {"former_dedicated": {"backups": [OLD_BACKUPS]}},
            {"former_dedicated": {"backups": (OLD_BACKUPS,)}},
            True,
        ),
        ({"former": [KOPF]}, {}, False),
        ({"former": [KOPF]}, {"former": [KOPF], "rollout": "recognise"}, False),
        ({"former": [KOPF]}, {"former": [KOPF], "former_is_shared": True}, False),
        ({"former": [KOPF]}, {"former": [KOPF], "former_storage_prefix": "a.b"}, False),
        ({"former": [KOPF]}, {"former": [KOPF], "former_dedicated": {"x": ["a.b/c"]}}, False),
    ],
)
def test_configure_called_again_has_to_say_the_same(
    first: dict[str, Any], again: dict[str, Any], same: bool
) -> None:
    """Each module may call it, and none may mean another release."""
    registry = kopf.OperatorRegistry()
    finalizers = configure("mycompany.com", "db-operator", registry=registry, **first)
    if same:
        assert configure("mycompany.com", "db-operator", registry=registry, **again) is finalizers
    else:
        with pytest.raises(ConfigurationError, match="already configured with other options"):
            configure("mycompany.com", "db-operator", registry=registry, **again)


# Where a cluster stands


@pytest.mark.parametrize(
    ("carried", "own", "former", "foreign", "stuck_when_deleted"),
    [
        ([], [], [], [], False),
        ([OTHER], [], [], [OTHER], True),
        ([KOPF], [], [KOPF], [], False),
        ([NEW], [NEW], [], [], False),
        ([OTHER, NEW, KOPF], [NEW], [KOPF], [OTHER], False),
        ([BACKUPS], [BACKUPS], [], [], False),
        ([OLD_BACKUPS, OTHER], [], [OLD_BACKUPS], [OTHER], False),
        ([f"{NEW}.dropped"], [], [f"{NEW}.dropped"], [], False),
        (["mycompany.com/full"], ["mycompany.com/full"], [], [], False),
        ([f"{NEW}.by-hand"], [f"{NEW}.by-hand"], [], [], True),
        (["mycompany.com/db-operator-two"], [], [], ["mycompany.com/db-operator-two"], True),
    ],
)
def test_an_object_is_described_by_whose_its_finalizers_are(
    carried: list[str],
    own: list[str],
    former: list[str],
    foreign: list[str],
    stuck_when_deleted: bool,
) -> None:
    """In the order in which they stand on it, and stuck where this operator takes nothing off."""
    finalizers = Finalizers(
        IDENTITY,
        registry=kopf.OperatorRegistry(),
        former=[KOPF, f"{NEW}.dropped"],
        former_dedicated={"backups": [OLD_BACKUPS]},
    )
    finalizers.on.delete("things", id="y", finalizer="backups")(lambda **_: None)
    finalizers.on.delete("things", finalizer="mycompany.com/full", id="x")(lambda **_: None)
    alive = finalizers.describe(thing(*carried))
    assert [list(alive.own), list(alive.former), list(alive.foreign)] == [own, former, foreign]
    assert not alive.is_being_deleted
    assert not alive.is_stuck
    going = finalizers.describe(deleted(thing(*carried)))
    assert going.is_being_deleted
    assert going.is_stuck is stuck_when_deleted


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (thing(), "alive; no finalizers"),
        (thing(KOPF, OTHER, NEW), f"alive; own {NEW}; former {KOPF}; foreign {OTHER}"),
        (deleted(thing(OTHER, "a.b/c")), f"being deleted; foreign {OTHER}, a.b/c; stuck"),
        ({}, "alive; no finalizers"),
    ],
)
def test_a_description_is_one_line(body: dict[str, Any], line: str) -> None:
    """For logs, and for people."""
    finalizers = Finalizers(IDENTITY, registry=kopf.OperatorRegistry(), former=[KOPF])
    assert str(finalizers.describe(body)) == line


def test_what_may_be_left_out_says_so_in_signatures() -> None:
    """As an editor shows it."""
    parameters = inspect.signature(configure).parameters
    assert str(parameters["former_storage_prefix"]).endswith("= left out")


# The changes


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ([], []),
        ([OTHER], [OTHER]),
        ([KOPF], [NEW]),
        (["a.b/c", KOPF, OTHER], ["a.b/c", NEW, OTHER]),
        ([KOPF, OTHER, KOPF], [NEW, OTHER]),
        ([KOPF, OTHER, NEW], [OTHER, NEW]),
        ([NEW, OTHER, KOPF], [NEW, OTHER]),
        ([OLD_BACKUPS, KOPF], [NEW]),
        ([NEW], [NEW]),
    ],
)
def test_a_name_takes_the_place_of_the_first_of_its_former_ones(
    before: list[str], expected: list[str]
) -> None:
    """The others go, and everybody else's stay where they are."""
    change = ReplaceFinalizer(NEW, former=frozenset({KOPF, OLD_BACKUPS}))
    body = thing(*before)
    assert change.has_effect(body) is (before != expected)
    change(cast("Any", body))
    assert finalizers_of(body) == expected
    assert not change.has_effect(body)
    assert repr(change) == f"ReplaceFinalizer('{NEW}')"


def test_nothing_takes_a_place_on_an_object_being_deleted() -> None:
    """An API server would refuse it."""
    change = ReplaceFinalizer(NEW, former=frozenset({KOPF}))
    body = deleted(thing(KOPF))
    assert not change.has_effect(body)
    change(cast("Any", body))
    assert finalizers_of(body) == [KOPF]


def test_a_merge_into_a_body_is_what_a_merge_patch_would_be() -> None:
    """Values are set, None removes, and what is in the way of a mapping gives way."""
    merge = MergeIntoBody()
    merge.patch.metadata.annotations["a"] = "1"
    merge.patch.metadata.annotations["b"] = None
    merge.patch.update({"spec": {"deep": {"x": 1}}, "gone": None})
    body: Any = {"metadata": {"annotations": {"b": "2", "c": "3"}}, "spec": {"deep": "no mapping"}}
    merge(body)
    assert body == {
        "metadata": {"annotations": {"c": "3", "a": "1"}}, "spec": {"deep": {"x": 1}},
    }  # fmt: skip
    assert repr(merge).startswith("MergeIntoBody({")


def test_a_merge_into_a_body_takes_the_functions_of_a_storage_along() -> None:
    """A storage of an operator's own may write by functions on the patch that it is given."""
    merge = MergeIntoBody()
    merge.patch.fns.append(lambda raw: cast("Any", raw).update(status="seen"))
    body: Any = {}
    merge(body)
    assert body == {"status": "seen"}


# Dedicated finalizers


def with_backups(rollout: str | None, *, failing: bool = False, **options: Any) -> Operator:
    """An operator whose dedicated finalizer had another name, in one release."""
    if rollout is not None:
        options |= {"former_dedicated": {"backups": [OLD_BACKUPS]}, "rollout": rollout}
    operator = Operator(handlers="create", **({"former": ()} | options))
    assert operator.finalizers is not None
    operator.failing = kopf.TemporaryError("busy", delay=0) if failing else None
    operator.finalizers.on.delete("things", finalizer="backups", id="backups")(
        operator.noting("backups")
    )
    return operator


@pytest.mark.parametrize(
    ("rollout", "carried", "expected"),
    [
        ("recognise", [], [OLD_BACKUPS]),
        ("recognise", [OTHER, OLD_BACKUPS], [OTHER, OLD_BACKUPS]),
        ("recognise", [BACKUPS, OTHER], [OLD_BACKUPS, OTHER]),
        ("switch", [], [BACKUPS]),
        ("switch", [OTHER, OLD_BACKUPS, "a.b/c"], [OTHER, BACKUPS, "a.b/c"]),
        ("switch", [OLD_BACKUPS, OTHER, BACKUPS, OLD_BACKUPS], [OTHER, BACKUPS]),
        ("switch", [OTHER, BACKUPS], [OTHER, BACKUPS]),
        (None, [], [BACKUPS]),
    ],
)
def test_a_dedicated_finalizer_has_one_name_in_each_release(
    rollout: str | None, carried: list[str], expected: list[str]
) -> None:
    """In its place, forwards and back."""
    operator = with_backups(rollout)
    body = operator.settle(handled(*carried, NEW))
    assert [name for name in finalizers_of(body) if name != NEW] == expected
    assert operator.calls == []


@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize(
    "carried", [[OLD_BACKUPS], [BACKUPS], [OLD_BACKUPS, BACKUPS], [BACKUPS, OLD_BACKUPS] * 2]
)
def test_a_dedicated_finalizer_waits_under_whatever_name(carried: list[str], rollout: str) -> None:
    """All of its names stay until the cleanup has succeeded, and go with it."""
    operator = with_backups(rollout, failing=True)
    body = operator.step(deleted(handled(*carried, OTHER, NEW)))
    assert finalizers_of(body) == [*carried, OTHER, NEW]
    operator.failing = None
    assert finalizers_of(operator.settle(body)) == [OTHER]
    assert operator.calls == [("backups", 0), ("backups", 1)]


def test_a_renamed_dedicated_finalizer_is_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As for the operator's own."""
    caplog.set_level(logging.INFO)
    with_backups("switch").settle(handled(OTHER, OLD_BACKUPS, NEW))
    assert info_lines(caplog) == [f"Moving from {OLD_BACKUPS} to {BACKUPS}."]


def test_an_object_that_stops_matching_loses_all_names_of_a_dedicated_finalizer() -> None:
    """As it loses the one name otherwise."""
    operator = Operator(former=(), former_dedicated={"backups": [OLD_BACKUPS]})
    assert operator.finalizers is not None
    operator.finalizers.on.delete("things", finalizer="backups", labels={"backup": "yes"})(
        operator.noting("backups")
    )
    body = operator.settle(handled(OLD_BACKUPS, OTHER, BACKUPS, NEW))
    assert finalizers_of(body) == [OTHER, NEW]


def test_a_dedicated_finalizer_that_is_dropped_goes_with_the_own_one() -> None:
    """Listed in `former=`, it is taken off alive objects, and off those that are deleted."""
    alive = Operator(former=[BACKUPS]).settle(handled(BACKUPS, OTHER, NEW))
    assert finalizers_of(alive) == [OTHER, NEW]
    operator = Operator(former=[BACKUPS])
    going = operator.settle(deleted(handled(OTHER, BACKUPS)))
    assert finalizers_of(going) == [OTHER]
    assert operator.calls == [("delete", 0)]


@pytest.mark.parametrize(
    ("rollout", "carried", "added"),
    [
        ("recognise", [], [OLD_BACKUPS]),
        ("recognise", [OLD_BACKUPS], [OLD_BACKUPS]),
        ("recognise", [BACKUPS], [OLD_BACKUPS]),
        ("switch", [], [BACKUPS]),
        ("switch", [OLD_BACKUPS, OTHER], [BACKUPS, OTHER]),
        ("switch", [BACKUPS], [BACKUPS]),
    ],
)
def test_what_is_put_on_by_hand_has_one_name_in_each_release(
    rollout: Any, carried: list[str], added: list[str]
) -> None:
    """And all of its names go with it."""
    finalizers = Finalizers(
        IDENTITY,
        registry=kopf.OperatorRegistry(),
        former_dedicated={"backups": [OLD_BACKUPS]},
        rollout=rollout,
    )
    body = handled(*carried)
    patch = kopf.Patch(body=kopf.Body(cast("Any", body)))
    finalizers.add(patch, "backups")
    body = after(body, patch)
    assert finalizers_of(body) == added
    both = handled(OTHER, OLD_BACKUPS, BACKUPS)
    patch = kopf.Patch(body=kopf.Body(cast("Any", both)))
    finalizers.remove(patch, "backups")
    assert finalizers_of(after(both, patch)) == [OTHER]


@pytest.mark.parametrize(("rollout", "warned"), [("recognise", True), ("switch", False)])
def test_dedicated_finalizer_that_a_rollback_would_not_know_is_warned_about(
    rollout: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The release before release one has never heard of it; of one that had a name, it has."""
    registry = kopf.OperatorRegistry()
    options: dict[str, Any] = {"former": [KOPF], "former_dedicated": {"backups": [OLD_BACKUPS]}}
    finalizers = Finalizers(IDENTITY, registry=registry, rollout=cast("Any", rollout), **options)
    finalizers.on.delete("things", finalizer="backups", id="known")(lambda **_: None)
    finalizers.on.delete("things", finalizer="dns", id="new")(lambda **_: None)
    finalizers.apply(kopf.OperatorSettings())
    warnings = [record.getMessage() for record in caplog.records]
    assert [f"knows nothing of {NEW}.dns:" in warning for warning in warnings] == [True] * warned


def test_two_releases_side_by_side_rename_a_dedicated_finalizer_once_each() -> None:
    """Whichever of its names it has meanwhile, it waits for the cleanup."""
    both, writes = [with_backups(rollout) for rollout in ROLLOUTS], 0
    body = handled(OLD_BACKUPS, NEW)
    for _ in range(10):
        for operator in both:
            changed = operator.step(body)
            writes += changed != body
            body = changed
    assert writes <= 4
    body = both[1].settle(deleted(body))
    assert finalizers_of(body) == []
    assert [operator.called("backups") for operator in both] == [0, 1]
