"""What Kopf has to do for a finalizer with former names, and what is refused."""

import copy
import json
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import kopf
import pytest
from kopf._cogs.structs import finalizers as kopfs
from kopf._core.engines.activities import ActivityError

from kopf_finalizers import ConfigurationError, Finalizers, configure
from kopf_finalizers._kopf import refuse_if_kopf_compares_otherwise
from kopf_finalizers._recognised import RecognisedFinalizer
from kopf_finalizers._resources import handled_resources

from ..support.kopf_cycles import finalizers_of, start
from ..support.renamed import (
    IDENTITY,
    KOPF,
    NEW,
    OTHER,
    ROLLOUTS,
    Operator,
    deleted,
    handled_by_plain_kopf,
    info_lines,
)

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
        "from kopf_finalizers._recognised import RecognisedFinalizer\n"
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
