"""A rename in its parts: names that are recognised, what is refused, and single cycles of Kopf."""

import copy
import inspect
import itertools
import json
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import kopf
import pytest
from kopf._cogs.structs import finalizers as kopfs
from kopf._core.engines.activities import ActivityError

from kopf_finalizers import ConfigurationError, Finalizers, OperatorIdentity, configure
from kopf_finalizers._changes import MergeIntoBody, ReplaceFinalizer
from kopf_finalizers._kopf import refuse_if_kopf_compares_otherwise
from kopf_finalizers._renames.recognised import RecognisedFinalizer
from kopf_finalizers._resources import handled_resources

from ..support.kopf_cycles import Outcome, after, cycle, finalizers_of, start

IDENTITY = OperatorIdentity(domain="mycompany.com", operator="db-operator")
NEW = "mycompany.com/db-operator"
KOPF = "kopf.zalando.org/KopfFinalizerMarker"
OTHER = "other.org/f"
BACKUPS = f"{NEW}.backups"
OLD_BACKUPS = "mycompany.com/old-backups"
OWN_PLACE = "db-operator.mycompany.com"
KOPFS_PLACE = "kopf.zalando.org"

LONG_AGO = "2020-01-01T00:00:00Z"
ROLLOUTS = ["recognise", "switch"]


class Operator:
    """An operator in one release, and what its handlers were called for."""

    def __init__(self, *, handlers: str = "create update delete", **options: Any) -> None:
        self.registry, self.settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
        self.calls = list[tuple[str, int]]()
        self.failing: Exception | None = None
        for kind in handlers.split():
            getattr(kopf.on, kind)("things", id=kind, registry=self.registry)(self.noting(kind))
        self.finalizers: Finalizers | None = None
        if options:
            self.finalizers = Finalizers(IDENTITY, registry=self.registry, **options)
            self.finalizers.apply(self.settings)

    def noting(self, kind: str) -> Callable[..., None]:
        def handler(retry: int, **_: Any) -> None:
            self.calls.append((kind, retry))
            if self.failing is not None:
                raise self.failing

        return handler

    def called(self, kind: str) -> int:
        return sum(1 for what, _ in self.calls if what == kind)

    def cycle(self, body: dict[str, Any], **options: Any) -> Outcome:
        return cycle(self.registry, self.settings, body, **options)

    def settle(self, body: dict[str, Any]) -> dict[str, Any]:
        """The object when the operator has no more to do with it."""
        for _ in range(10):
            if (changed := self.step(body)) == body:
                return body
            body = changed
        raise AssertionError("it does not come to rest")

    def step(self, body: dict[str, Any]) -> dict[str, Any]:
        """The object after one cycle, with a new version if anything has changed."""
        changed = self.cycle(body).after()
        if changed == body:
            return body
        version = int(body["metadata"]["resourceVersion"]) + 1
        return {**changed, "metadata": {**changed["metadata"], "resourceVersion": str(version)}}


def thing(
    *finalizers: str, annotations: Mapping[str, str] | None = None, **metadata: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {
            "name": "one",
            "namespace": "default",
            "uid": "1-2",
            "resourceVersion": "1",
            "creationTimestamp": LONG_AGO,
            **({"finalizers": list(finalizers)} if finalizers else {}),
            **({"annotations": dict(annotations)} if annotations else {}),
            **metadata,
        },
        "spec": {"size": 1},
    }


def handled_by_plain_kopf(*finalizers: str, size: int = 1) -> dict[str, Any]:
    """An object as an operator with Kopf's default names leaves it."""
    state = json.dumps({"spec": {"size": size}})
    return thing(*finalizers, annotations={f"{KOPFS_PLACE}/last-handled-configuration": state})


def annotations_of(body: dict[str, Any]) -> dict[str, str]:
    return dict(body["metadata"].get("annotations", {}))


def places_of(body: dict[str, Any]) -> set[str]:
    return {key.partition("/")[0] for key in annotations_of(body)}


def deleted(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "metadata": {**body["metadata"], "deletionTimestamp": LONG_AGO}}


def edited(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "spec": {"size": body["spec"]["size"] + 1}}


def unchanged(body: dict[str, Any]) -> dict[str, Any]:
    return body


def info_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    return [line for line in lines if line.startswith("Moving")]


# The name that is recognised


@pytest.fixture
def recognised() -> RecognisedFinalizer:
    return RecognisedFinalizer(NEW, {NEW, KOPF})


def test_a_recognised_finalizer_equals_its_former_names_and_nothing_else(
    recognised: RecognisedFinalizer,
) -> None:
    """From both sides, and never anything that is no name."""
    for name in (NEW, KOPF):
        assert recognised == name
        assert name == recognised
        assert (recognised != name) is False
    for other in (OTHER, "", None, 1, [NEW]):
        assert recognised != other
        assert (recognised == other) is False


def test_a_recognised_finalizer_is_found_in_a_list_and_removed_from_it(
    recognised: RecognisedFinalizer,
) -> None:
    """All that Kopf asks of it."""
    finalizers = [OTHER, KOPF]
    assert recognised in finalizers
    finalizers.remove(recognised)
    assert finalizers == [OTHER]
    assert recognised not in finalizers


@pytest.mark.parametrize(
    "written",
    [copy.deepcopy, copy.copy, lambda it: pickle.loads(pickle.dumps(it)),
     lambda it: json.loads(json.dumps([it]))[0], str, "{}".format],
    ids=["deepcopy", "copy", "pickle", "json", "str", "format"],
)  # fmt: skip
def test_a_recognised_finalizer_is_written_as_one_plain_name(
    recognised: RecognisedFinalizer, written: Callable[[Any], Any]
) -> None:
    """What leaves the process, or is copied into a patch, equals itself alone."""
    plain = written(recognised)
    assert type(plain) is str
    assert plain == NEW
    assert plain != KOPF
    assert hash(recognised) == hash(NEW)


# What Kopf has to do for it


def is_anywhere(*_: Any, **__: Any) -> bool:
    return True


def always_add(body: Any, finalizer: str) -> None:
    body["metadata"]["finalizers"].append(finalizer)


def remove_nothing(body: Any, finalizer: str) -> None: ...


def remove_the_first(body: Any, finalizer: str) -> None:
    body["metadata"]["finalizers"].remove(finalizer)


def find_the_written_name(body: Any, finalizer: str) -> bool:
    return any(str.__eq__(name, finalizer) for name in body["metadata"]["finalizers"])


def add_upper_case(body: Any, finalizer: str) -> None:
    if finalizer not in body["metadata"]["finalizers"]:
        body["metadata"]["finalizers"].append(finalizer.upper())


def take_no_body(finalizer: str) -> bool:
    return True


def find_by_hash(body: Any, finalizer: str) -> bool:
    return finalizer in set(body["metadata"]["finalizers"])


OTHERWISE = [
    ("is_deletion_blocked", is_anywhere),
    ("is_deletion_blocked", find_the_written_name),
    ("is_deletion_blocked", find_by_hash),
    ("is_deletion_blocked", take_no_body),
    ("block_deletion", always_add),
    ("block_deletion", add_upper_case),
    ("allow_deletion", remove_nothing),
    ("allow_deletion", remove_the_first),
]


@pytest.mark.parametrize(("function", "replacement"), OTHERWISE)
def test_an_operator_whose_kopf_compares_otherwise_does_not_start(
    monkeypatch: pytest.MonkeyPatch, function: str, replacement: Any
) -> None:
    """It says why, and what to do, and Kopf does not try again."""
    registry = kopf.OperatorRegistry()
    configure("mycompany.com", "db-operator", registry=registry, former=[KOPF])
    monkeypatch.setattr(kopfs, function, replacement)
    with pytest.raises(ActivityError) as caught:
        start(registry)
    assert isinstance(caught.value.__cause__, kopf.PermanentError)
    message = str(caught.value.__cause__)
    assert message.startswith("This version of Kopf (1.")
    assert "would hang when they are deleted" in message
    assert "Go back to the version of Kopf" in message


@pytest.mark.parametrize("function", ["is_deletion_blocked", "block_deletion", "allow_deletion"])
def test_an_operator_whose_kopf_cannot_be_asked_does_not_start(
    monkeypatch: pytest.MonkeyPatch, recognised: RecognisedFinalizer, function: str
) -> None:
    """A Kopf that has its functions elsewhere may do anything."""
    monkeypatch.delattr(kopfs, function)
    with pytest.raises(ConfigurationError, match="AttributeError"):
        refuse_if_kopf_compares_otherwise(recognised, recognised.names)


def test_an_operator_whose_kopf_has_moved_its_module_does_not_start(
    monkeypatch: pytest.MonkeyPatch, recognised: RecognisedFinalizer
) -> None:
    """As before, where the whole module is gone."""
    monkeypatch.setitem(sys.modules, "kopf._cogs.structs.finalizers", None)
    with pytest.raises(ConfigurationError, match="ModuleNotFoundError"):
        refuse_if_kopf_compares_otherwise(recognised, recognised.names)


def test_the_check_is_made_in_optimised_python_too() -> None:
    """`python -O` takes assertions out, and must not take this out."""
    code = (
        "from kopf._cogs.structs import finalizers as kopfs\n"
        "from kopf_finalizers._kopf import *\n"
        "from kopf_finalizers._renames.recognised import RecognisedFinalizer\n"
        "kopfs.allow_deletion = lambda *_, **__: None\n"
        "names = {'a.b/c', 'd.e/f'}\n"
        "refuse_if_kopf_compares_otherwise(RecognisedFinalizer('a.b/c', names), names)\n"
    )
    process = subprocess.run(
        [sys.executable, "-O", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert "ConfigurationError: This version of Kopf" in process.stderr


def test_this_kopf_is_one_that_recognises(recognised: RecognisedFinalizer) -> None:
    """Otherwise no operator with former names would start with it."""
    refuse_if_kopf_compares_otherwise(recognised, recognised.names)


@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize(
    "carried",
    [[KOPF], [NEW], [KOPF, NEW], [NEW, KOPF], [KOPF, KOPF], [KOPF, NEW, KOPF, NEW]],
)
def test_kopfs_own_cycle_recognises_every_mix_of_names(carried: list[str], rollout: str) -> None:
    """Its cleanup is called once, both names go with all their duplicates, and nothing else."""
    operator = Operator(former=[KOPF], rollout=rollout)
    with_foreign = [carried[0], OTHER, *carried[1:]]
    body = operator.settle(deleted(handled_by_plain_kopf(*with_foreign)))
    assert operator.calls == [("delete", 0)]
    assert finalizers_of(body) == [OTHER]


# Which resources and handlers there are


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (("things",), {}),
        (("example.com", "things"), {}),
        (("example.com", "v1", "things"), {}),
        (("example.com/v1", "things"), {}),
        (("things.v1.example.com",), {}),
        (("things.example.com",), {}),
        (("v1", "pods"), {}),
        ((), {"kind": "Thing"}),
        ((), {"group": "example.com", "plural": "things"}),
        ((), {"singular": "thing"}),
        ((), {"shortcut": "th"}),
        ((), {"category": "all"}),
        (("example.com", kopf.EVERYTHING), {}),
        ((kopf.EVERYTHING,), {}),
        ((lambda resource: resource.group == "example.com",), {}),
    ],
)
def test_resources_are_known_in_every_notation(
    args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    """Objects are moved on exactly the resources that the handlers are for."""
    operator = Operator(handlers="")
    on: Any = kopf.on.delete
    on(*args, **options, registry=operator.registry)(lambda **_: None)
    Finalizers(IDENTITY, registry=operator.registry, former=[KOPF]).apply(operator.settings)
    (handler,) = operator.registry._changing.get_all_handlers()
    (watcher,) = operator.registry._watching.get_all_handlers()
    assert watcher.selector == handler.selector


def test_only_resources_that_may_carry_the_finalizer_are_looked_at() -> None:
    """Kopf watches nothing that it would not watch anyway; each is looked at once."""
    registry = kopf.OperatorRegistry()
    on: Any = kopf.on
    on.event("events", registry=registry)(lambda **_: None)
    on.index("indexed", registry=registry)(lambda **_: None)
    on.validate("validated", registry=registry)(lambda **_: None)
    assert handled_resources(registry) == []
    for kind in ("create", "resume", "update", "delete", "daemon"):
        on_kind = getattr(on, kind)
        on_kind(f"{kind}s", registry=registry, id="one")(lambda **_: None)
        on_kind(f"{kind}s", registry=registry, id="two")(lambda **_: None)
    on.timer("timers", registry=registry, interval=1)(lambda **_: None)
    on.field("fields", registry=registry, field="spec.size")(lambda **_: None)
    names = {args[0] for args, _ in handled_resources(registry)}
    assert names == {"creates", "resumes", "updates", "deletes", "daemons", "timers", "fields"}
    assert len(handled_resources(registry)) == len(names)


def test_handlers_that_are_declared_after_the_identity_is_applied_are_seen() -> None:
    """An embedded operator may do it in that order; what counts is what it starts with."""
    operator = Operator(handlers="", former=[KOPF])
    kopf.on.delete("things", registry=operator.registry)(operator.noting("delete"))
    start(operator.registry)
    body = operator.settle(handled_by_plain_kopf(KOPF))
    assert finalizers_of(body) == [NEW]


def test_an_identity_that_is_applied_again_does_everything_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As in tests that run an operator several times in one process."""
    caplog.set_level(logging.INFO)
    operator = Operator(former=[KOPF])
    assert operator.finalizers is not None
    watchers = len(operator.registry._watching.get_all_handlers())
    for run in (1, 2):
        operator.settings = kopf.OperatorSettings()
        operator.finalizers.apply(operator.settings)
        start(operator.registry)
        operator.settle(handled_by_plain_kopf(KOPF))
        assert len(info_lines(caplog)) == run
    assert len(operator.registry._watching.get_all_handlers()) == watchers


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
        finalizers.on.delete("things", finalizer=finalizer)(lambda **_: None)


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
    finalizers.on.delete("things", finalizer="backups")(lambda **_: None)
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
    [("recognise", KOPF, {KOPFS_PLACE, OWN_PLACE}), ("switch", NEW, {OWN_PLACE})],
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


def test_progress_that_a_rollback_has_left_in_the_own_place_is_not_taken_up() -> None:
    """Or a handler that has succeeded then would be taken to have succeeded for a later change."""

    def operator(**options: Any) -> Operator:
        made = Operator(**options)

        @kopf.on.update("things", id="another", registry=made.registry)
        def another(retry: int, **_: Any) -> None:
            made.calls.append(("another", retry))
            if made.failing:
                raise made.failing

        return made

    recognising = operator(former=[KOPF], rollout="recognise")
    body = edited(handled_by_plain_kopf(KOPF))
    recognising.failing = kopf.TemporaryError("busy", delay=0)
    body = recognising.step(body)
    assert f"{OWN_PLACE}/another" in annotations_of(body)
    body = operator().settle(body)
    for rollout, meanwhile in itertools.product(ROLLOUTS, [edited, unchanged]):
        again = operator(former=[KOPF], rollout=rollout)
        settled = again.settle(meanwhile(body))
        again.calls.clear()
        again.failing = kopf.TemporaryError("busy", delay=0)
        settled = again.step(again.step(edited(settled)))
        assert sorted(again.calls) == [(h, n) for h in ("another", "update") for n in (0, 1)]


class Busy(Operator):
    """An operator with two handlers of each kind, of which the second is busy for a while."""

    def __init__(self, busy: str = "", **options: Any) -> None:
        super().__init__(handlers="", **options)
        for kind, name in itertools.product(["create", "update", "delete"], ["one", "two"]):
            is_busy = name == "two" and kind in busy.split()
            handler = self.noting_unless(f"{kind} {name}", is_busy=is_busy)
            getattr(kopf.on, kind)("things", id=f"{kind}_{name}", registry=self.registry)(handler)

    def noting_unless(self, what: str, *, is_busy: bool) -> Callable[..., None]:
        def handler(retry: int, **_: Any) -> None:
            self.calls.append((what, retry))
            if is_busy:
                raise kopf.TemporaryError("busy", delay=0)

        return handler


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize("kind", ["create", "update", "delete"])
def test_what_is_in_flight_goes_on_and_what_is_done_stays_done(
    kind: str, rollout: str, shared: bool
) -> None:
    """Whether or not another operator keeps records in the former place."""
    body = thing(KOPF) if kind == "create" else handled_by_plain_kopf(KOPF)
    body = {"update": edited, "delete": deleted}.get(kind, dict)(body)
    plain = Busy(busy=kind)
    body = plain.step(body)
    assert plain.calls == [(f"{kind} one", 0), (f"{kind} two", 0)]
    options: dict[str, Any] = {"former": [KOPF], "rollout": rollout, "former_is_shared": shared}
    busy, ready = Busy(busy=kind, **options), Busy(**options)
    body = busy.step(busy.step(body))
    ready.settle(body)
    calls = busy.calls + ready.calls
    assert calls == [(f"{kind} two", number) for number in range(1, len(calls) + 1)]
    assert len(ready.calls) == 1


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize("kind", ["create", "update"])
@pytest.mark.parametrize("met", [False, True])
def test_a_deletion_in_the_middle_of_something_else_is_handled_once(
    kind: str, rollout: str, shared: bool, met: bool
) -> None:
    """Deleted while the operator was down, or after this release has gone on with the other."""
    body = thing(KOPF) if kind == "create" else edited(handled_by_plain_kopf(KOPF))
    body = Busy(busy=kind).step(body)
    options: dict[str, Any] = {"former": [KOPF], "rollout": rollout, "former_is_shared": shared}
    busy, ready = Busy(busy=f"{kind} delete", **options), Busy(**options)
    if met:
        body = busy.step(body)
        busy.calls.clear()
    body = deleted(body)
    for _ in range(3):
        body = busy.step(body)
    assert finalizers_of(ready.settle(body)) == []
    calls = busy.calls + ready.calls
    assert [number for what, number in calls if what == "delete one"] == [0]
    numbers = [number for what, number in calls if what == "delete two"]
    assert numbers == list(range(len(numbers)))
    assert not [what for what, _ in calls if not what.startswith("delete")]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize("kind", ["create", "update"])
def test_a_cleanup_that_waits_is_not_called_before_its_time(
    kind: str, rollout: str, shared: bool
) -> None:
    """Also where what it has cut short is still in the former place, since that is shared."""
    body = thing(KOPF) if kind == "create" else edited(handled_by_plain_kopf(KOPF))
    plain = Operator()
    plain.failing = kopf.TemporaryError("busy", delay=0)
    body = deleted(plain.step(body))
    operator = Operator(former=[KOPF], rollout=cast("Any", rollout), former_is_shared=shared)
    operator.failing = kopf.TemporaryError("not yet", delay=3600)
    for _ in range(5):
        body = operator.step(body)
    assert operator.calls == [("delete", 0)]


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_a_creation_cut_short_does_not_undo_the_deletion_that_a_rollback_has_begun(
    rollout: str,
) -> None:
    """The release before knew the former place alone: it is what it left there that goes on."""
    calls = list[tuple[str, int]]()

    def operator(**options: Any) -> Operator:
        made = Operator(**options)
        made.calls = calls
        made.failing = kopf.TemporaryError("busy", delay=0)

        @kopf.on.delete("things", id="done-at-once", registry=made.registry)
        def done_at_once(retry: int, **_: Any) -> None:
            made.calls.append(("done-at-once", retry))

        return made

    creating = operator(former=[KOPF], rollout="recognise").step(thing(KOPF))
    assert {f"{KOPFS_PLACE}/create", f"{OWN_PLACE}/create"} <= annotations_of(creating).keys()
    deleting = operator().step(deleted(creating))
    again = operator(former=[KOPF], rollout=rollout)
    again.step(again.step(deleting))
    assert sorted(calls) == [("create", 0), *(("delete", n) for n in range(3)), ("done-at-once", 0)]


def test_progress_that_is_written_in_the_cycle_that_moves_is_kept() -> None:
    """Also where an old record of the same handler stood in the own place."""
    body = edited(handled_by_plain_kopf(KOPF))
    record = json.dumps({"started": LONG_AGO, "purpose": "update", "retries": 7})
    ids = [f"handler-{number}" for number in range(3)]
    body["metadata"]["annotations"] |= {f"{OWN_PLACE}/{one}": record for one in ids}
    operator = Operator(handlers="delete", former=[KOPF])
    for one in ids:
        kopf.on.update("things", id=one, registry=operator.registry)(operator.noting(one))
    operator.failing = kopf.TemporaryError("busy", delay=0)
    body = operator.step(operator.step(body))
    assert sorted(operator.calls) == [(one, number) for one in ids for number in (0, 1)]


@pytest.mark.parametrize("kind", ["create", "update", "delete"])
@pytest.mark.parametrize(
    "path",
    [
        ["recognise", "switch", None],
        ["switch", "recognise", "plain"],
        ["recognise", "plain", "recognise", "plain", "switch"],
    ],
)
def test_retries_go_on_where_they_were(kind: str, path: list[str | None]) -> None:
    """Through every release, forwards and back, the number of the attempt goes up by one."""
    body = thing(KOPF) if kind == "create" else handled_by_plain_kopf(KOPF)
    body = {"update": edited, "delete": deleted}.get(kind, dict)(body)
    expected = 0
    for rollout in ["plain", *path]:
        options: dict[str, Any] = {"former": [KOPF], "rollout": rollout}
        if rollout is None:
            options = {"former": ()}
        operator = Operator(**(options if rollout != "plain" else {}))
        if kind == "delete" and rollout is None:
            continue  # it still carries the former name: see the page on adopting it
        operator.failing = kopf.TemporaryError("busy", delay=0)
        for _ in range(2):
            body = operator.step(body)
        assert operator.calls[0] == (kind, expected), rollout
        expected += len(operator.calls)


def test_a_handler_that_waits_is_moved_while_it_waits() -> None:
    """A retry in an hour is still that retry in the last release, which knows no other place."""
    plain = Operator()
    plain.failing = kopf.TemporaryError("busy", delay=3600)
    body = plain.settle(thing(KOPF))
    assert f"{KOPFS_PLACE}/create" in annotations_of(body)
    body = Operator(former=[KOPF]).settle(body)
    assert places_of(body) == {OWN_PLACE}
    last = Operator(former=())
    assert last.cycle(body).delays[0] > 3000
    back = Operator(former=[KOPF], rollout="recognise")
    body = back.settle(body)
    assert plain.cycle(body).delays[0] > 3000
    assert last.calls == back.calls == []
    assert plain.calls == [("create", 0)]


def test_a_cleanup_that_waits_is_given_back_on_the_way_back() -> None:
    """What release two has begun waits for the same time in the release before release one."""
    switching = Operator(former=[KOPF])
    switching.failing = kopf.TemporaryError("busy", delay=3600)
    body = switching.step(deleted(handled_by_plain_kopf(KOPF)))
    assert places_of(body) == {OWN_PLACE}
    back, plain = Operator(former=[KOPF], rollout="recognise"), Operator()
    body = back.settle(body)
    assert finalizers_of(body) == [KOPF]
    assert plain.cycle(body).delays[0] > 3000
    assert switching.calls == [("delete", 0)]
    assert back.calls == plain.calls == []


def test_nothing_is_left_of_sub_handlers_that_a_rollback_has_replaced() -> None:
    """One that is taken away and comes back is called, whatever was done of it before."""
    calls = list[str]()

    def release(busy: str = "", **options: Any) -> Operator:
        made = Operator(handlers="delete", **options)

        def items(spec: kopf.Spec, **_: Any) -> None:
            for item in spec["items"]:

                def handle(item: str = item, **_: Any) -> None:
                    calls.append(item)
                    if item == busy:
                        raise kopf.TemporaryError("busy", delay=0)

                kopf.subhandler(id=item)(handle)

        kopf.on.update("things", id="items", registry=made.registry)(items)
        return made

    def with_items(body: dict[str, Any], *items: str) -> dict[str, Any]:
        return {**body, "spec": {"items": list(items)}}

    one: dict[str, Any] = {"former": [KOPF], "rollout": "recognise"}
    body = with_items(handled_by_plain_kopf(KOPF), "gone", "busy")
    body = release(busy="busy", **one).step(body)
    assert calls == ["gone", "busy"]
    body = release().settle(body)
    body = release(**one).settle(with_items(body, "busy"))
    body = release(former=[KOPF]).settle(body)
    assert not [key for key in annotations_of(body) if "items" in key]
    calls.clear()
    release(former=()).settle(with_items(body, "gone", "busy"))
    assert sorted(calls) == ["busy", "gone"]


def test_sub_handlers_go_on_where_they_were() -> None:
    """What is done is not done again, of all levels."""
    calls = list[str]()

    def operator(*, fails: bool, **options: Any) -> Operator:
        made = Operator(handlers="", **options)

        @kopf.on.create("things", registry=made.registry, id="create")
        def create(**_: Any) -> None:
            @kopf.subhandler(id="done")
            def done(**_: Any) -> None:
                calls.append("done")

            @kopf.subhandler(id="again")
            def again(**_: Any) -> None:
                calls.append("again")
                if fails:
                    raise kopf.TemporaryError("busy", delay=0)

        start(made.registry)
        return made

    body = operator(fails=True).step(thing())
    assert {key for key in annotations_of(body) if "done" in key} == {
        f"{KOPFS_PLACE}/create.done",
    }
    moving = operator(fails=True, former=[KOPF])
    body = moving.step(body)
    assert places_of(body) == {OWN_PLACE}
    operator(fails=False, former=()).settle(body)
    assert calls == ["done", "again", "again", "again"]


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


def last_state(body: dict[str, Any], place: str = OWN_PLACE) -> dict[str, Any]:
    return dict(json.loads(annotations_of(body)[f"{place}/last-handled-configuration"]))


def annotated(body: dict[str, Any], team: str) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    changed["metadata"].setdefault("annotations", {})["twingate.com/team"] = team
    return changed


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


def test_annotations_under_the_former_prefix_count_as_changes_in_the_last_release(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Until then they do not, and the last release is told so with each change of them."""
    caplog.set_level(logging.INFO)
    body = with_own_prefix().settle(annotated(thing(), "a"))
    switched, last = Operator(**TWINGATE), Operator(former=())
    body = switched.settle(body)
    body = switched.settle(annotated(body, "b"))
    body = last.settle(body)
    assert switched.calls == last.calls == []
    body = switched.step(edited(annotated(body, "c")))
    assert last_state(body)["metadata"]["annotations"] == {"twingate.com/team": "c"}
    assert len(info_lines(caplog)) == 1
    last.settle(annotated(switched.settle(body), "d"))
    assert switched.calls == last.calls == [("update", 0)]


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
    assert not dict(again.patch)


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


# Whose record it is


@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize(("age", "believed"), [(-1, False), (60, True), (None, True)])
def test_a_record_of_an_object_younger_than_the_process_is_not_believed(
    age: int | None, believed: bool, rollout: str
) -> None:
    """The process would have written its own place too: that one is somebody else's."""
    operator = Operator(former=[KOPF], rollout=rollout)
    body = handled_by_plain_kopf(KOPF)
    created = datetime.now(UTC) - timedelta(seconds=age or 0)
    body["metadata"]["creationTimestamp"] = created.isoformat() if age else None
    if age is None:
        del body["metadata"]["creationTimestamp"]
    operator.settle(body)
    assert operator.calls == ([] if believed else [("create", 0)])


def test_what_comes_back_after_a_move_is_somebody_elses() -> None:
    """It is left where it is, and hides no change from this operator."""
    operator = Operator(former=[KOPF])
    body = operator.settle(handled_by_plain_kopf(KOPF))
    body = edited(body)
    state = {f"{KOPFS_PLACE}/last-handled-configuration": json.dumps({"spec": body["spec"]})}
    body["metadata"]["annotations"] |= state
    body["metadata"]["finalizers"].append(KOPF)
    body = operator.settle(body)
    assert operator.calls == [("update", 0)]
    assert finalizers_of(body) == [NEW, KOPF]
    assert annotations_of(body).items() >= state.items()


def test_progress_of_another_operator_on_a_young_object_is_left_alone() -> None:
    """A handler of the same name in Kopf's default place: it is not this operator's."""
    record = {f"{KOPFS_PLACE}/create": json.dumps({"started": LONG_AGO, "retries": 7})}
    operator = Operator(former=[KOPF])
    new = thing(creationTimestamp="2999-01-01T00:00:00Z", annotations=record)
    body = operator.settle(new)
    assert operator.calls == [("create", 0)]
    assert annotations_of(body).items() >= record.items()


def test_progress_of_a_young_object_is_cleared_in_both_places() -> None:
    """Where the first release has written it."""
    operator = Operator(former=[KOPF], rollout="recognise")
    operator.failing = kopf.TemporaryError("busy", delay=0)
    body = operator.step(thing(KOPF, creationTimestamp="2999-01-01T00:00:00Z"))
    assert {f"{KOPFS_PLACE}/create", f"{OWN_PLACE}/create"} <= annotations_of(body).keys()
    operator.failing = None
    body = operator.settle(body)
    assert operator.calls == [("create", 0), ("create", 1)]
    assert not [key for key in annotations_of(body) if key.endswith("/create")]


@pytest.mark.parametrize("way", ["deletionTimestamp", "DELETED"])
def test_an_object_that_goes_is_forgotten(way: str) -> None:
    """An operator that runs for months remembers only what is there."""
    operator = Operator(former=[KOPF])
    assert operator.finalizers is not None
    mover = cast("Any", operator.finalizers._rename)._movers[0]
    body = operator.settle(handled_by_plain_kopf(KOPF))
    assert list(mover._sightings._moved) == [body["metadata"]["uid"]]
    if way == "DELETED":
        operator.cycle(body, type="DELETED")
    else:
        operator.settle(deleted(body))
    assert mover._sightings._moved == {}


# Another operator with Kopf's default names on the same objects


class Both:
    """This operator and one with Kopf's default names, in turns on one object."""

    def __init__(self, **options: Any) -> None:
        self.ours, self.theirs = Operator(**options), Operator()

    def settle(self, body: dict[str, Any]) -> dict[str, Any]:
        self.versions = 0
        for _ in range(20):
            before = body
            for operator in (self.theirs, self.ours):
                changed = operator.step(body)
                self.versions += changed != body
                body = changed
            if body == before:
                return body
        raise AssertionError("they do not come to rest")


SHARED: list[dict[str, Any]] = [
    {"former": [KOPF], "former_is_shared": True, "rollout": "recognise"},
    {"former": [KOPF], "former_is_shared": True},
    {"former": ()},
]


@pytest.mark.parametrize("options", SHARED)
def test_on_a_new_object_both_operators_are_called_once(options: dict[str, Any]) -> None:
    """In every release, and with few requests."""
    both = Both(**options)
    body = both.settle(thing(creationTimestamp="2999-01-01T00:00:00Z"))
    assert both.ours.calls == both.theirs.calls == [("create", 0)]
    assert places_of(body) == {KOPFS_PLACE, OWN_PLACE}
    assert KOPF in finalizers_of(body)
    assert both.versions <= 8
    both.settle(edited(body))
    assert both.ours.calls == both.theirs.calls == [("create", 0), ("update", 0)]


def test_records_and_marker_of_the_other_operator_stay_through_all_releases() -> None:
    """Nothing of either operator fires again, and the last release does not touch the marker."""
    body = handled_by_plain_kopf(KOPF)
    theirs = annotations_of(body)
    for options in SHARED:
        both = Both(**options)
        body = both.settle(body)
        assert both.versions <= 4
        assert both.ours.calls == both.theirs.calls == []
        assert annotations_of(body).items() >= theirs.items()
    assert sorted(finalizers_of(body)) == [KOPF, NEW]
    body = Operator(former=()).settle(deleted(body))
    assert finalizers_of(body) == [KOPF]


def test_the_marker_of_a_shared_object_is_taken_off_with_a_deletion_as_before() -> None:
    """Not promised, and no worse than it was: until the last release it is this operator's too."""
    for options in SHARED[:2]:
        ours = Operator(**options)
        body = ours.settle(deleted(handled_by_plain_kopf(KOPF)))
        assert finalizers_of(body) == []
        assert ours.calls == [("delete", 0)]


def test_the_marker_of_a_young_shared_object_is_the_other_operators() -> None:
    """This operator has never written it there, so it puts its own beside it."""
    ours = Operator(former=[KOPF], former_is_shared=True)
    body = ours.cycle(thing(OTHER, KOPF, creationTimestamp="2999-01-01T00:00:00Z")).after()
    assert finalizers_of(body) == [OTHER, KOPF, NEW]


def test_a_shared_object_comes_back_from_a_release_that_has_switched() -> None:
    """The new name is nobody else's, so the release before never meets it."""
    body = handled_by_plain_kopf(KOPF, NEW)
    ours = Operator(former=[KOPF], former_is_shared=True, rollout="recognise")
    body = ours.settle(body)
    assert finalizers_of(body) == [KOPF]
    # Nothing is written where the other operator would take it for its own.
    body["metadata"]["annotations"] = annotations_of(handled(KOPF))
    assert places_of(ours.settle(body)) == {OWN_PLACE}


def test_a_shared_handler_in_flight_goes_on_and_its_old_record_is_not_met_again() -> None:
    """It stays in the former place, whoever it belongs to, and no later change takes it up."""
    plain = Operator(handlers="create update")
    plain.failing = kopf.TemporaryError("busy", delay=0)
    body = plain.step(edited(handled_by_plain_kopf()))
    assert plain.calls == [("update", 0)]
    for rollout in ROLLOUTS:
        ours = Operator(
            handlers="create update", former=[KOPF], former_is_shared=True, rollout=rollout
        )
        settled = ours.settle(body)
        assert ours.calls == [("update", 1)]
        assert f"{KOPFS_PLACE}/update" in annotations_of(settled)
        ours.settle(edited(settled))
        assert ours.calls == [("update", 1), ("update", 0)]


@pytest.mark.parametrize("rollout", ROLLOUTS)
def test_an_operator_that_nobody_has_declared_is_not_fought(rollout: str) -> None:
    """Both come to rest, on new objects and on old ones, at each start and after each change."""
    for body in (thing(creationTimestamp="2999-01-01T00:00:00Z"), handled_by_plain_kopf(KOPF)):
        shared = body
        for _ in range(2):
            both = Both(former=[KOPF], rollout=rollout)
            shared = both.settle(shared)
            assert both.versions <= 12
            shared = both.settle(edited(shared))
            assert both.versions <= 12


def test_a_shared_handler_in_flight_goes_on_from_its_own_record() -> None:
    """The one in the former place stays there, and is older."""
    plain = Operator()
    plain.failing = kopf.TemporaryError("busy", delay=0)
    body = plain.step(edited(handled_by_plain_kopf(KOPF)))
    ours = Operator(former=[KOPF], former_is_shared=True, rollout="recognise")
    ours.failing = plain.failing
    for _ in range(3):
        body = ours.step(body)
    assert ours.calls == [("update", 1), ("update", 2), ("update", 3)]


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


def handled(*finalizers: str) -> dict[str, Any]:
    state = json.dumps({"spec": {"size": 1}})
    return thing(*finalizers, annotations={f"{OWN_PLACE}/last-handled-configuration": state})


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
