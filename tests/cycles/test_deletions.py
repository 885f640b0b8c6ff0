"""The objects being deleted that an operator holds, cycle by cycle: what hooks are told of them."""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import kopf
import pytest
from kopf._core.intents.causes import Activity

from kopf_finalizers import ConfigurationError, instrumentation
from kopf_finalizers._changes import RemoveFinalizer

from ..support.dedicated import (
    BACKUPS,
    BUCKETS,
    LATER,
    NEVER,
    OTHER,
    OWN,
    PREFIX,
    Operator,
    alive,
    deleting,
    record,
)
from ..support.hooks import Told, telling
from ..support.kopf_cycles import start
from ..support.servers import Body


@pytest.fixture
def told() -> Iterator[Told]:
    with telling(Told()) as hook:
        yield hook


def operator_with(**cleanups: list[Exception | None]) -> Operator:
    """One with a dedicated finalizer for each, and how its calls end."""
    operator = Operator()
    for name, failures in cleanups.items():
        operator.on.delete("things", finalizer=name)(operator.handler(name, *failures))
    return operator


def test_a_finalizer_is_held_tried_and_gone(told: Told) -> None:
    """Once each, in this order, with what is known by then; the operator's own one too."""
    operator = operator_with(backups=[LATER, None])
    body = operator.cycle(deleting(BACKUPS, OTHER, OWN)).after()
    body["metadata"]["annotations"][f"{PREFIX}/backups"] = record(purpose="delete", retries=1)
    body = operator.cycle(body).after()
    operator.cycle(body)
    operator.cycle(body, type="DELETED")
    assert told.of(BACKUPS) == ["held", "attempt failed", "attempt succeeded", "gone succeeded"]
    assert told.of(OWN) == ["held", "gone no_cleanup"]
    assert told.of(OTHER) == []
    first, *_, last = [one for one in told.details if one.finalizer == BACKUPS]
    assert (first.operator, first.resource, first.namespace) == (
        OWN,
        "things.v1.example.com",
        "default",
    )
    assert (first.name, first.uid, first.attempts, first.error) == ("t", "1-2", 0, None)
    assert first.deleted_at == datetime(2030, 1, 1, tzinfo=UTC)
    assert (last.attempts, last.error) == (2, "not yet")
    attempt = next(one for one in told.details if one.event == "attempt")
    assert (attempt.handler, attempt.attempts, attempt.error) == ("backups", 1, "not yet")


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [(None, "succeeded"), (NEVER, "given_up")],
    ids=["succeeded", "given up"],
)
def test_the_operators_own_finalizer_tells_of_all_other_cleanups(
    told: Told, failure: Exception | None, outcome: str
) -> None:
    """Whichever decorators they have; those with a finalizer of their own are told of there."""
    operator = Operator()
    for name, decorator in {"one": kopf.on.delete, "two": operator.on.delete}.items():
        handler = operator.handler(name, failure if name == "two" else None)
        decorator("things", registry=operator.registry)(handler)
    operator.on.delete("things", finalizer="backups")(operator.handler("backups", failure))
    operator.cycle(deleting(BACKUPS, OWN))
    operator.cycle(deleting(), type="DELETED")
    assert told.of(OWN) == [
        "held",
        "attempt succeeded",
        f"attempt {outcome}",
        f"gone {outcome}",
    ]
    assert told.of(BACKUPS) == ["held", f"attempt {outcome}", f"gone {outcome}"]


def test_a_finalizer_that_the_operator_has_not_taken_off_was_removed(told: Told) -> None:
    """By hand, say: also where Kopf's own was, so that no cleanup is called any more."""
    operator = operator_with(backups=[LATER], buckets=[LATER])
    operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    operator.cycle(deleting(BUCKETS, OWN))
    operator.cycle(deleting(BUCKETS))
    operator.cycle(deleting(), type="DELETED")
    assert told.of(BACKUPS)[-1] == told.of(OWN)[-1] == told.of(BUCKETS)[-1] == "gone removed"


def test_a_daemon_leaves_nothing_to_clean_up(told: Told) -> None:
    """Its finalizer goes when it has stopped, and no cleanup was called."""
    operator = Operator()
    operator.on.daemon("things")(operator.handler("watch"))
    operator.cycle(deleting(OWN))
    operator.cycle(deleting(), type="DELETED")
    assert told.of(OWN) == ["held", "gone no_cleanup"]


def test_sub_handlers_are_attempts_and_waiting_for_them_is_none(told: Told) -> None:
    """They count for the finalizer of the cleanup that they belong to."""
    operator = Operator()

    def drop(**_: Any) -> None:
        for name, failure in {"a": None, "b": LATER}.items():
            kopf.subhandler(id=name)(operator.handler(name, failure))

    operator.on.delete("things", finalizer="backups", id="drop")(drop)
    operator.cycle(deleting(BACKUPS, OWN))
    attempts = [(one.handler, str(one.outcome)) for one in told.details if one.event == "attempt"]
    assert attempts == [("drop/a", "succeeded"), ("drop/b", "failed")]
    assert told.last("attempt").finalizer == BACKUPS


def test_an_operator_that_starts_anew_goes_on_counting(told: Told) -> None:
    """What is stored of attempts is known, so none is told again, and errors are not forgotten."""
    operator = operator_with(backups=[LATER, NEVER])
    body = operator.cycle(deleting(BACKUPS, OWN)).after()
    operator = operator_with(backups=[NEVER])
    body["metadata"]["annotations"][f"{PREFIX}/backups"] = record(
        purpose="delete", retries=4, message="no route"
    )
    told.details.clear()
    operator.cycle(body, type=None)
    assert told.of(BACKUPS) == ["held", "attempt given_up"]
    assert [(one.attempts, one.error) for one in told.details if one.finalizer == BACKUPS] == [
        (4, "no route"),
        (5, "no bucket"),
    ]


def test_an_attempt_of_which_the_progress_is_lost_is_told_all_the_same(told: Told) -> None:
    """Kopf calls the cleanup again, and counts anew."""
    operator = operator_with(backups=[LATER])
    for _ in range(2):
        operator.cycle(deleting(BACKUPS, OWN))
    assert told.of(BACKUPS) == ["held", "attempt failed", "attempt failed"]


def test_records_of_a_creation_are_no_attempts(told: Told) -> None:
    """A function that handles creations too has one id for both."""
    operator = Operator()
    both = operator.handler("both", LATER)
    operator.on.delete("things", finalizer="backups")(operator.on.create("things")(both))
    left = record(purpose="create", retries=7, message="of the creation")
    operator.cycle(deleting(BACKUPS, OWN, annotations={f"{PREFIX}/both": left}))
    assert told.details[0].attempts == 0
    assert told.last("attempt").attempts == 1


def test_living_objects_and_those_of_others_are_not_told_of(told: Told) -> None:
    """Nothing is kept of them either."""
    operator = operator_with(backups=[None])
    operator.cycle(alive(BACKUPS, OWN))
    operator.cycle(alive(BACKUPS, OWN), type="DELETED")
    operator.cycle(deleting(OTHER))
    operator.cycle(deleting(OTHER), type="DELETED")
    assert told.details == []


def test_an_object_made_again_under_the_name_is_another_one(told: Told) -> None:
    """It is known by its uid."""
    operator = operator_with(backups=[LATER])
    operator.cycle(deleting(BACKUPS, OWN))
    operator.cycle(deleting(BACKUPS, OWN), type="DELETED")
    operator.cycle(deleting(BACKUPS, OWN, uid="2-3"))
    assert [one.uid for one in told.details if one.event == "held"] == ["1-2"] * 2 + ["2-3"] * 2


def test_a_watch_that_is_late_makes_nothing_be_told_twice(told: Told) -> None:
    """Kopf has one for each served version, and one may still tell of what the other saw go."""
    operator = operator_with(backups=[None], buckets=[LATER])
    operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    operator.cycle(deleting(BUCKETS, OWN))
    operator.cycle(deleting(BACKUPS, BUCKETS, OWN))
    assert told.of(BACKUPS).count("held") == 1
    operator.cycle(deleting(BUCKETS, OWN), type="DELETED")
    operator.cycle(deleting(BUCKETS, OWN))
    operator.cycle(deleting(BUCKETS, OWN), type="DELETED")
    assert [told.of(BUCKETS).count(what) for what in ("held", "gone removed")] == [1, 1]
    operator.cycle(deleting(BUCKETS, OWN), type="ADDED")
    assert told.of(BUCKETS).count("held") == 2  # it had left a selection, and is back


def test_an_operator_that_is_applied_again_forgets_what_it_held(told: Told) -> None:
    """No series goes on counting what another run of it has seen."""
    operator = operator_with(backups=[LATER])
    operator.cycle(deleting(BACKUPS, OWN))
    assert "gone unseen" not in told.of(BACKUPS)
    operator.finalizers.apply(kopf.OperatorSettings())
    assert told.of(BACKUPS)[-1] == told.of(OWN)[-1] == "gone unseen"


def test_an_operator_that_has_stopped_holds_nothing(told: Told) -> None:
    """One that is embedded in a process that goes on."""
    operator = operator_with(backups=[LATER])
    operator.cycle(deleting(BACKUPS, OWN))
    start(operator.registry, operator.settings, activity=Activity.CLEANUP)
    assert told.of(BACKUPS)[-1] == "gone unseen"


def test_no_hook_is_told_late_what_was_there_before_it() -> None:
    """It hears of an object when the operator sees that next."""
    operator = operator_with(backups=[LATER])
    body = operator.cycle(deleting(BACKUPS, OWN)).after()
    with telling(Told()) as told:
        operator.cycle(body)
    assert told.of(BACKUPS) == ["held"]


def test_a_hook_added_at_startup_hears_of_handlers_without_dedicated_finalizers() -> None:
    """Of all resources that the operator handles, and of none twice."""
    operator = Operator()
    operator.on.delete("things")(operator.handler("drop", LATER))
    asked = operator.registry._watching._handlers
    operator.start()
    assert not asked
    with telling(Told()) as told:
        instrumentation.add_hook(told)
        start(operator.registry, operator.settings)
        operator.cycle(alive(OWN), type="MODIFIED")
        assert told.of(OWN) == []
        operator.cycle(deleting(OWN))
        assert len(asked) == 1
    assert told.of(OWN) == ["held", "attempt failed"]


def test_a_resource_with_dedicated_finalizers_is_asked_about_once(told: Told) -> None:
    """The filter that looks after these looks for deletions, too."""
    operator = operator_with(backups=[LATER])
    operator.on.delete("things")(operator.handler("drop"))
    operator.cycle(deleting(BACKUPS, OWN))
    assert len(operator.registry._watching._handlers) == 1
    assert told.of(OWN)[0] == "held"


def test_names_put_on_by_hand_are_told_of(told: Told) -> None:
    """They are the operator's, too; its former names as well, and nobody else's."""
    operator = Operator(former=["mycompany.com/old"], former_storage_prefix=None)
    operator.on.delete("things")(operator.handler("drop", LATER))
    operator.cycle(deleting(f"{OWN}.snapshots", "mycompany.com/old", OTHER))
    held = [one.finalizer for one in told.details if one.event == "held"]
    assert held == [f"{OWN}.snapshots", "mycompany.com/old"]
    assert told.of("mycompany.com/old") == ["held", "attempt failed"]


def test_a_patch_that_is_lost_is_no_release(told: Told) -> None:
    """Only what is seen to be gone is told to be."""
    operator = operator_with(backups=[None])
    patch = operator.cycle(deleting(BACKUPS, OWN)).patch
    assert RemoveFinalizer(BACKUPS) in patch.fns
    assert "gone succeeded" not in told.of(BACKUPS)


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is posted, where there is nobody to post it."""
    found = list[tuple[str, str]]()

    def event(body: kopf.Body, *, reason: str, message: str, **kwargs: str) -> None:
        assert (kwargs["type"], body.metadata.name, body.metadata.uid) == ("Warning", "t", "1-2")
        found.append((reason, message))

    monkeypatch.setattr(kopf, "event", event)
    return found


SKIP = "mycompany.com/skip-cleanup"


def skipping(value: str, *finalizers: str) -> Body:
    return deleting(*finalizers, annotations={SKIP: value})


def operator_that_skips() -> Operator:
    operator = Operator(skip_cleanup=SKIP)
    for name in ("backups", "buckets"):
        handler = operator.handler(name, LATER)
        operator.on.delete("things", finalizer=name, leaves=f"the {name}")(handler)
    operator.on.delete("things")(operator.handler("drop", LATER))
    return operator


def test_a_skipped_cleanup_is_not_called_and_its_finalizer_goes(
    told: Told, posted: list[tuple[str, str]]
) -> None:
    """Only the one that is named; it is told to hooks, and posted with what stays behind."""
    operator = operator_that_skips()
    body = operator.cycle(skipping("backups", BACKUPS, BUCKETS, OWN)).after()
    assert operator.calls == ["buckets", "drop"]
    assert body["metadata"]["finalizers"] == [BUCKETS, OWN]
    operator.cycle(body)
    assert told.of(BACKUPS) == ["held", "gone skipped"]
    assert told.of(BUCKETS) == ["held", "attempt failed"]
    assert operator.calls == ["buckets", "drop"]
    ((reason, message),) = posted
    assert reason == "CleanupSkipped"
    assert message == (
        f"The cleanup backups is skipped, as {SKIP} asks for, and {BACKUPS} is released."
        " It was not tried. Left behind: the backups. [skipped]"
    )


def test_what_is_skipped_is_told_once_though_the_patch_is_lost(
    told: Told, posted: list[tuple[str, str]]
) -> None:
    """The release is sent again, and people are not told again."""
    operator = operator_that_skips()
    for _ in range(2):
        outcome = operator.cycle(skipping("backups", BACKUPS, BUCKETS, OWN))
        assert outcome.finalizers() == [BUCKETS, OWN]
    assert len(posted) == 1


def test_all_cleanups_are_skipped_by_an_asterisk(told: Told, posted: list[tuple[str, str]]) -> None:
    """Those without a purpose, too; nobody else's finalizer goes."""
    operator = operator_that_skips()
    outcome = operator.cycle(skipping("*", BACKUPS, OTHER, BUCKETS, OWN))
    assert operator.calls == []
    assert outcome.finalizers() == [OTHER]
    operator.cycle(outcome.after())
    assert operator.calls == []
    for name in (BACKUPS, BUCKETS, OWN):
        assert told.of(name) == ["held", "gone skipped"]
    assert sorted(message.split()[2] for _, message in posted) == ["backups", "buckets", "drop"]


def test_what_is_done_is_not_skipped(told: Told, posted: list[tuple[str, str]]) -> None:
    """A cleanup that has succeeded before somebody wanted it skipped has succeeded."""
    operator = operator_that_skips()
    done = record(purpose="delete", success=True)
    body = skipping("*", BACKUPS, OWN)
    body["metadata"]["annotations"] |= {f"{PREFIX}/{one}": done for one in ("backups", "drop")}
    operator.cycle(body)
    operator.cycle(deleting(), type="DELETED")
    assert told.of(BACKUPS) == ["held", "gone succeeded"]
    assert told.of(OWN) == ["held", "gone succeeded"]
    assert posted == []


def test_a_living_object_is_not_changed_by_the_annotation() -> None:
    """It is for whoever waits for a deletion."""
    operator = operator_that_skips()
    outcome = operator.cycle(alive(BACKUPS, BUCKETS, OWN, annotations={SKIP: "*"}))
    assert outcome.finalizers() == [BACKUPS, BUCKETS, OWN]


def test_unknown_purposes_are_named_once(
    caplog: pytest.LogCaptureFixture, posted: list[tuple[str, str]]
) -> None:
    """With those that there are; the others that are named are skipped."""
    operator = operator_that_skips()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            outcome = operator.cycle(skipping("dns, backups,Not.One", BACKUPS, BUCKETS, OWN))
    (told,) = [one.getMessage() for one in caplog.records if "no cleanup here" in one.getMessage()]
    assert "Not.One, dns." in told
    assert f"It has: {BACKUPS}, {BUCKETS}." in told
    assert outcome.finalizers() == [BUCKETS, OWN]


def test_an_operator_may_have_no_purposes_at_all(
    caplog: pytest.LogCaptureFixture, posted: list[tuple[str, str]]
) -> None:
    """Then there is only the asterisk."""
    operator = Operator(skip_cleanup=SKIP)
    operator.on.delete("things")(operator.handler("drop", LATER))
    with caplog.at_level(logging.WARNING):
        assert operator.cycle(skipping("backups", OWN)).finalizers() == [OWN]
    assert any("It has: none." in one.getMessage() for one in caplog.records)
    assert operator.cycle(skipping("*", OWN)).finalizers() == []
    assert operator.calls == ["drop"]


def overdue_operator(on_timeout: Any, *failures: Exception | None) -> Operator:
    """One whose objects are deleted long ago, and whose cleanup has an hour."""
    operator = Operator()
    operator.on.delete(
        "things", finalizer="backups", release_after=3600, on_timeout=on_timeout, leaves="files"
    )(operator.handler("backups", *failures))
    operator.on.delete("things", finalizer="buckets")(operator.handler("buckets", LATER))
    return operator


def long_deleted(*finalizers: str, **metadata: Any) -> Body:
    return alive(*finalizers, deletionTimestamp="2020-01-01T00:00:00Z", **metadata)


def test_an_overdue_cleanup_is_called_no_more_and_its_finalizer_goes(
    told: Told, posted: list[tuple[str, str]]
) -> None:
    """Also where the operator was down for all that time; others are called as ever."""
    operator = overdue_operator("release", LATER)
    body = operator.cycle(long_deleted(BACKUPS, BUCKETS, OWN)).after()
    assert body["metadata"]["finalizers"] == [BUCKETS, OWN]
    operator.cycle(body)
    assert operator.calls == ["buckets"]
    assert told.of(BACKUPS) == ["held", "overdue", "gone overdue"]
    ((reason, message),) = posted
    assert reason == "CleanupOverdue"
    assert message == (
        f"The cleanup backups was not done within 3600 seconds of the deletion, and {BACKUPS} is"
        " released. It was not tried. Left behind: files. [overdue]"
    )


def test_an_overdue_cleanup_stays_so_for_an_operator_that_starts_anew(
    posted: list[tuple[str, str]],
) -> None:
    """Its finalizer has gone already, and Kopf would call it once more."""
    operator = overdue_operator("release", LATER)
    operator.cycle(long_deleted(BUCKETS, OWN))
    assert operator.calls == ["buckets"]
    assert posted == []


def test_an_overdue_cleanup_may_be_kept(told: Told, posted: list[tuple[str, str]]) -> None:
    """It is told once, and the cleanup is called as before."""
    operator = overdue_operator("keep", LATER)
    body = long_deleted(BACKUPS, BUCKETS, OWN)
    for _ in range(2):
        assert operator.cycle(body).finalizers() == [BACKUPS, BUCKETS, OWN]
    assert told.of(BACKUPS) == ["held", "overdue", "attempt failed", "attempt failed"]
    ((_, message),) = posted
    assert f"{BACKUPS} stays. It was not tried." in message
    assert "Left behind" not in message


@pytest.mark.parametrize("on_timeout", ["release", "keep"])
def test_a_cleanup_that_is_done_is_not_overdue(
    told: Told, posted: list[tuple[str, str]], on_timeout: str
) -> None:
    """Whenever the operator learns of that."""
    operator = overdue_operator(on_timeout)
    done = {f"{PREFIX}/backups": record(purpose="delete", success=True)}
    operator.cycle(long_deleted(BACKUPS, BUCKETS, OWN, annotations=done))
    assert told.of(BACKUPS) == ["held"]
    assert posted == []


@pytest.mark.parametrize(
    ("release_after", "delayed", "at_most"),
    [(3600, 7200, 3600), (7200, 3600, 3600)],
    ids=["the deadline is first", "the next try is first"],
)
def test_a_wait_ends_with_the_deadline(
    release_after: float, delayed: float, at_most: float
) -> None:
    """Kopf looks at the object then, without an event; a try that is due before is not put off."""
    operator = Operator()
    operator.on.delete(
        "things", finalizer="backups", release_after=release_after, on_timeout="release"
    )(operator.handler("backups", kopf.TemporaryError("later", delay=delayed)))
    now = datetime.now(UTC)
    body = alive(BACKUPS, OWN, deletionTimestamp=now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    body = operator.cycle(body).after()
    outcome = operator.cycle(body)
    assert operator.calls == ["backups"]
    assert at_most - 10 < min(outcome.delays) <= at_most
    assert not outcome.patch


def declared(**options: Any) -> Callable[[], object]:
    return lambda: Operator().on.delete("things", **options)(lambda **_: None)


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (declared(release_after=1, on_timeout="release"), "dedicated finalizer"),
        (declared(release_after=1, on_timeout="keep", finalizer=None), "dedicated finalizer"),
        (declared(release_after=1, finalizer="a"), "go together"),
        (declared(on_timeout="keep", finalizer="a"), "go together"),
        (declared(release_after=1, on_timeout="drop", finalizer="a"), "go together"),
        (declared(release_after=0, on_timeout="keep", finalizer="a"), "number of seconds"),
        (declared(release_after="1h", on_timeout="keep", finalizer="a"), "number of seconds"),
        (declared(release_after=True, on_timeout="keep", finalizer="a"), "number of seconds"),
        (lambda: Operator(events=0), "events=0"),
        (lambda: Operator(events="1h"), "events='1h'"),
        (lambda: Operator(skip_cleanup="skip"), "skip_cleanup='skip'"),
        (lambda: Operator(skip_cleanup=7), "skip_cleanup=7"),
    ],
)
def test_what_cannot_be_meant_is_refused(refused: Callable[[], object], why: str) -> None:
    """When the operator's file is loaded, with what to write instead."""
    with pytest.raises(ConfigurationError, match=why):
        refused()
