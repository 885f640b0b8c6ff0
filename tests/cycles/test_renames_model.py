"""One object in all that may happen to it during a rename, on Kopf's own cycles.

Its operator is replaced by the next release or the one before, at any time and as often as one
likes; the object is changed, and deleted; requests of the operator are lost in part, as when it is
killed, or lose a race. Whatever happens: every handler is called once for what it is for, its
retries go on where they were, and nothing is left behind.
"""

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import hypothesis.strategies as st
import kopf
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kopf_finalizers import Finalizers, OperatorIdentity

from ..support.kopf_cycles import after, cycle, finalizers_of

IDENTITY = OperatorIdentity(domain="mycompany.com", operator="db-operator")
PREFIX = "db-operator.mycompany.com"
FOREIGN = "other.org/f"
STAGES: list[Any] = ["plain", "recognise", "switch", "done"]
KOPFS = "kopf.zalando.org/KopfFinalizerMarker"
ACME = "acme.example.com"
OLD = f"{ACME}/finalizer"


@dataclass
class Kind:
    """What an operator had before: its names, and what its first two releases say of them.

    Attributes:
        finalizer: Its finalizer.
        said: What its first two releases say.
        state: Where its last states are: the prefix of annotations, or a field of the status.
        places: All places of its records.
        progress: Its progress storage.
        diffbase: Its diff-base storage.
    """

    finalizer: str
    said: dict[str, Any]
    state: str
    places: set[str]
    progress: kopf.ProgressStorage
    diffbase: kopf.DiffBaseStorage

    @property
    def former(self) -> list[str]:
        """The names that are left."""
        return [] if self.finalizer == IDENTITY.finalizer else [self.finalizer]


def in_one_place(finalizer: str, prefix: str) -> Kind:
    return Kind(
        finalizer,
        {"former_storage_prefix": prefix},
        prefix,
        {prefix},
        kopf.SmartProgressStorage(prefix=prefix),
        kopf.AnnotationsDiffBaseStorage(prefix=prefix),
    )


KINDS = {
    "its finalizer is kept": in_one_place(IDENTITY.finalizer, "kopf.zalando.org"),
    "default names": in_one_place(KOPFS, "kopf.zalando.org"),
    "own names": in_one_place("twingate.com/finalizer", "twingate.com"),
    "two places": Kind(
        OLD,
        {"former_progress_storage": ACME},
        "kopf.zalando.org",
        {"kopf.zalando.org", ACME},
        kopf.AnnotationsProgressStorage(prefix=ACME),
        kopf.AnnotationsDiffBaseStorage(),
    ),
    "a key of its own": Kind(
        OLD,
        {
            "former_storage_prefix": ACME,
            "former_diffbase_storage": kopf.AnnotationsDiffBaseStorage(prefix=ACME, key="last"),
        },
        ACME,
        {ACME},
        kopf.AnnotationsProgressStorage(prefix=ACME),
        kopf.AnnotationsDiffBaseStorage(prefix=ACME, key="last"),
    ),
    "old progress in the status": Kind(  # as Kopf's default storage wrote it up to Kopf 1.43
        KOPFS,
        {},
        "kopf.zalando.org",
        {"kopf.zalando.org", "status.kopf"},
        kopf.MultiProgressStorage(
            [kopf.AnnotationsProgressStorage(), kopf.StatusProgressStorage(name="kopf")]
        ),
        kopf.AnnotationsDiffBaseStorage(),
    ),
    "in the status": Kind(
        OLD,
        {
            "former_progress_storage": kopf.StatusProgressStorage(name="acme"),
            "former_diffbase_storage": kopf.StatusDiffBaseStorage(name="acme"),
        },
        "status.acme",
        {"status.acme"},
        kopf.StatusProgressStorage(name="acme"),
        kopf.StatusDiffBaseStorage(name="acme"),
    ),
}
HANDLERS = ["one", "two"]
FATES = ["sent", "sent", "sent", "killed in between", "lost a race"]


class Release:
    """One process of the operator: what it does to an object in a cycle."""

    def __init__(self, stage: str, had: Kind, note: Any) -> None:
        self.registry, self.settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
        self.leftover: kopf.Patch | None = None
        self.listed = True
        self.has_seen_the_object = False
        persistence = self.settings.persistence
        if stage == "plain":
            persistence.finalizer = had.finalizer
            persistence.progress_storage = had.progress
            persistence.diffbase_storage = had.diffbase
        more: dict[str, Any] = {}
        if stage in ("recognise", "switch"):
            more = {"former": had.former, "rollout": stage, **had.said}
        for kind, name in itertools.product(["create", "update", "delete"], HANDLERS):
            decorator = getattr(kopf.on, kind)
            decorator("things", id=f"{kind}_{name}", registry=self.registry)(note(kind, name))
        if stage != "plain":
            Finalizers(IDENTITY, registry=self.registry, **more).apply(self.settings)


class Life(RuleBasedStateMachine):
    """The object, its operator of the moment, and what is to be expected of it."""

    had: Kind

    @initialize(
        stage=st.sampled_from([0, 0, 1, 2]),
        is_new=st.booleans(),
        is_born_with_it=st.booleans(),
    )
    def begin(self, stage: int, *, is_new: bool, is_born_with_it: bool) -> None:
        self.stage = stage
        self.versions = itertools.count(1)
        self.failed: dict[tuple[str, str], int] = {}
        self.succeeded: set[tuple[str, str]] = set()
        self.created = self.gone = False
        # Whether the object has changed since it was handled; whether that may count as a change.
        self.dirty = self.may_be_dirty = False
        # Whether it has in a way that the release of the moment ignores, and has not seen yet.
        self.unseen = False
        # Kopf tries again what fails, so a handler cannot fail the test itself.
        self.problems: list[str] = []
        self.body: dict[str, Any] = {
            "apiVersion": "example.com/v1",
            "kind": "Thing",
            "metadata": {
                "name": "one",
                "uid": "1-2",
                "resourceVersion": "0",
                # The operator's own code, or a chart, may write the former name.
                "finalizers": [FOREIGN, *([self.had.finalizer] if is_born_with_it else [])],
                "creationTimestamp": datetime.now(UTC).isoformat(),
            },
            "spec": {"failures": 0},
        }
        self.start()
        if is_new:  # younger than the process
            self.body["metadata"]["creationTimestamp"] = datetime.now(UTC).isoformat()

    def start(self) -> None:
        self.release = Release(STAGES[self.stage], self.had, self.handler)
        # As in plain Kopf: a new process does not know that the cleanups are done where nothing
        # but the finalizer is left.
        if self.going and self.is_guarded and self.succeeded == {("delete", n) for n in HANDLERS}:
            self.succeeded.clear()
            self.failed.clear()

    # What the operator does

    def handler(self, kind: str, name: str) -> Any:
        def handle(spec: kopf.Spec, retry: int, **_: Any) -> None:
            called = (kind, name)
            if retry != self.failed.get(called, 0):
                self.problems.append(f"{called} has lost count: {retry}")
            if called in self.succeeded or (kind == "create" and self.created):
                self.problems.append(f"{called} is called again")
            if kind == "update" and not (self.dirty or self.may_be_dirty):
                self.problems.append(f"{called} is called and nothing has changed")
            if name == "two" and retry < spec["failures"]:
                self.failed[called] = retry + 1
                raise kopf.TemporaryError("busy", delay=0)
            self.succeeded.add(called)
            if {(kind, "one"), (kind, "two")} <= self.succeeded:
                self.created = True
                self.dirty = self.may_be_dirty = False
                if kind != "delete":
                    self.succeeded.clear()
                    self.failed.clear()

        return handle

    def cycle(self, fate: str = "sent") -> bool:
        """One cycle of the operator, if there is still an object; whether it changed anything."""
        release = self.release
        if self.unseen and self.stage >= 2:
            self.unseen, self.may_be_dirty = False, True
        outcome = cycle(
            release.registry,
            release.settings,
            self.body,
            leftover=release.leftover,
            listed=release.listed,
        )
        assert not self.problems
        release.listed = False
        patch, before = outcome.patch, self.body
        if fate == "killed in between" and not (dict(patch) and patch.fns):
            fate = "killed"  # after the one request that there is
        self.body = after(self.body, kopf.Patch(dict(patch)))
        release.leftover = None
        if fate in ("sent", "killed"):
            self.body = after(self.body, kopf.Patch(fns=patch.fns))
            self.unseen, release.has_seen_the_object = False, True
        elif fate == "lost a race" and patch.fns:
            release.leftover = kopf.Patch(fns=patch.fns)
        changed = self.body != before
        if changed or fate == "lost a race":
            self.body["metadata"]["resourceVersion"] = str(next(self.versions))
        if fate.startswith("killed"):
            self.start()
        return changed or bool(outcome.delays)

    @property
    def going(self) -> bool:
        return "deletionTimestamp" in self.body["metadata"]

    @property
    def carried(self) -> set[str]:
        annotations = self.body["metadata"].get("annotations", {})
        prefixes = {key.partition("/")[0] for key in annotations if not key.endswith("/team")}
        fields = {f"status.{name}" for name, one in self.body.get("status", {}).items() if one}
        return {*finalizers_of(self.body), *prefixes, *fields}

    @precondition(lambda self: not self.gone)
    @rule(fate=st.sampled_from(FATES))
    def one_cycle(self, fate: str) -> None:
        self.cycle(fate)

    @precondition(lambda self: not self.gone)
    @rule()
    def settle(self) -> None:
        for _ in range(20):
            if not self.cycle():
                break
        else:
            raise AssertionError("it does not come to rest")
        name, former = IDENTITY.finalizer, self.had.finalizer
        if self.going:
            assert finalizers_of(self.body) == [FOREIGN], "it hangs"
            assert {kind for kind, _ in self.succeeded} >= {"delete"}
            self.gone = True
            return
        assert self.created
        assert not self.dirty, "a change was not handled"
        written = former if STAGES[self.stage] in ("plain", "recognise") else name
        assert finalizers_of(self.body) == [FOREIGN, written]
        if STAGES[self.stage] in ("switch", "done"):
            self.may_be_dirty = False
            assert self.carried == {FOREIGN, name, PREFIX}

    # What happens to it

    @precondition(lambda self: not self.gone and not self.going)
    @rule(failures=st.integers(0, 2))
    def edit(self, failures: int) -> None:
        spec = {"failures": failures, "version": next(self.versions)}
        self.body = {**self.body, "spec": spec}
        if self.created or self.succeeded or self.failed:
            self.dirty = True

    @precondition(lambda self: not self.gone and not self.going and "status" not in self.had.state)
    @rule()
    def annotate(self) -> None:
        """Users keep annotations of their own under the domain that was the operator's prefix."""
        key, value = f"{self.had.state}/team", str(next(self.versions))
        annotations = {**self.body["metadata"].get("annotations", {}), key: value}
        self.body = {**self.body, "metadata": {**self.body["metadata"], "annotations": annotations}}
        self.unseen = True

    @precondition(lambda self: not self.gone and not self.going and self.is_guarded)
    @rule()
    def delete(self) -> None:
        metadata = {**self.body["metadata"], "deletionTimestamp": "2030-01-01T00:00:00Z"}
        self.body = {**self.body, "metadata": metadata}
        self.failed.clear()
        self.succeeded.clear()

    @property
    def is_guarded(self) -> bool:
        return len(finalizers_of(self.body)) > 1

    # What happens to the operator

    @rule()
    def restart(self) -> None:
        self.start()

    @precondition(lambda self: self.may_go_on)
    @rule()
    def next_release(self) -> None:
        self.stage += 1
        self.start()

    @precondition(lambda self: self.may_go_back)
    @rule()
    def previous_release(self) -> None:
        self.stage -= 1
        self.start()

    @property
    def may_go_on(self) -> bool:
        """The last step waits until nothing of the former names is left."""
        if STAGES[self.stage] == "switch":
            return not (self.carried & {*self.had.former, *self.had.places})
        return bool(STAGES[self.stage] != "done")

    @property
    def may_go_back(self) -> bool:
        """The last step back waits until nothing that the release before does not know is left."""
        if STAGES[self.stage] == "recognise":
            known = PREFIX not in self.carried or self.had.state in self.carried
            restored = self.release.has_seen_the_object or PREFIX not in self.carried
            is_known = not self.had.former or IDENTITY.finalizer not in self.carried
            return known and restored and is_known
        return bool(STAGES[self.stage] != "plain")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_whatever_happens_nothing_is_called_twice_and_nothing_is_left_behind(kind: str) -> None:
    """Through all releases and rollbacks, wherever the operator had its records."""

    class LifeOfThatKind(Life):
        had = KINDS[kind]

    run_state_machine_as_test(
        LifeOfThatKind,
        settings=settings(max_examples=40, stateful_step_count=25, deadline=None),
    )
