"""Several owners of finalizers on one object, and others who do with it what they like.

Owners bring their finalizers on and off in every way there is. Between any two of their requests
others add, take, reorder and duplicate entries, delete the object and make it again; and answers
are lost, or the requests themselves are late: they arrive when nobody waits for them any more.
"""

from collections.abc import Callable, Coroutine
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kopf_finalizers import ConfigurationError, ensure_finalizer, release_finalizer
from kopf_finalizers.testing import ApiError

from ..support.servers import Body
from ..support.shared import PATH, LostAnswerError, SharedObject

OWNERS = ["a.com/one", "a.com/one.part", "b.org/two"]
OTHERS = ["other.org/f", "third.net/g"]
ATTEMPTS = 3

# What may happen to a request: it is answered, its answer is lost, or it is late.
FATES = ["answered", "answered", "answered", "lost", "late"]


class Contested(SharedObject):
    """A shared object that others change before any request arrives, and a record of ours."""

    def __init__(self) -> None:
        super().__init__(OTHERS)
        self.owner = ""
        # The object that the call is about: the one given, or else the one that is read first.
        self.meant: str | None = None
        # Whose finalizer others have put on the object since it was last read.
        self.put_back: set[str] = set()
        self.fates: list[str] = []
        self.late: list[tuple[str, Callable[[], Any]]] = []

    def read(self) -> Body:
        self.interfere()
        self.put_back.clear()
        body = super().read()
        self.meant = self.meant or uid(body)
        return body

    def _write(self, body: object, content_type: str, manager: str = "") -> Any:
        self.interfere()
        owner, meant = self.owner, self.meant

        def arrive() -> Any:
            before = self.body
            answer = self.call("PATCH", PATH, body, content_type=content_type, manager=manager)
            check_write(owner, meant, before, self.body)
            return answer

        fate = self.fates.pop(0) if self.fates else "answered"
        if fate == "late":
            self.late.append((owner, arrive))
            raise LostAnswerError
        answer = arrive()
        if fate == "lost":
            raise LostAnswerError
        return answer


def check_write(owner: str, meant: str | None, before: Body | None, after: Body | None) -> None:
    """What holds for every write of ours that the server has accepted."""
    assert before, "something was made of nothing"
    assert uid(before) == meant, "it was another object"
    was, now = listed(before), listed(after)
    assert [f for f in was if f != owner] == [f for f in now if f != owner], "others' changed"
    if after is None:
        assert is_being_deleted(before)
        return
    assert uid(before) == uid(after)
    if is_being_deleted(before):
        # A late request may repeat an entry: that adds none, to Kubernetes, and for the object.
        assert set(now) <= set(was), "something was added to an object being deleted"


def listed(body: Body | None) -> list[str]:
    return list(body["metadata"].get("finalizers", [])) if body else []


def uid(body: Body | None) -> str | None:
    return body["metadata"]["uid"] if body else None


def is_being_deleted(body: Body | None) -> bool:
    return bool(body and "deletionTimestamp" in body["metadata"])


def awaited(waiting: Coroutine[Any, Any, Any]) -> Any:
    """What comes of a coroutine that waits for nothing: without an event loop, so in no time."""
    while True:
        try:
            waiting.send(None)
        except StopIteration as end:
            return end.value


def others(thing: Contested) -> dict[str, Callable[[], None]]:
    """What others do: by patches of the whole list, as the worst of them do."""

    def write(change: Callable[[list[str]], list[str]]) -> Callable[[], None]:
        def act() -> None:
            now = change(thing.finalizers)
            if thing.body and not (
                is_being_deleted(thing.body) and set(now) - set(thing.finalizers)
            ):
                thing.write(*now)

        return act

    def when_there(act: Callable[[], None]) -> Callable[[], None]:
        return lambda: act() if thing.body else None

    return {
        "status": when_there(thing.write_status),
        "add at the end": write(lambda was: [*was, OTHERS[0]]),
        "add at the front": write(lambda was: [OTHERS[1], *was]),
        "remove their own": write(lambda was: [f for f in was if f not in OTHERS]),
        "remove the first": write(lambda was: was[1:]),
        "remove all": write(lambda _: []),
        "reorder": write(lambda was: was[::-1]),
        "duplicate": write(lambda was: [*was, *was[:2]]),
        "add an owner's": write(lambda was: [*was, OWNERS[0]]),
        "delete": when_there(thing.delete),
        "make again": lambda: thing.make_again(*thing.finalizers) if thing.body else thing.create(),
        "make again bare": lambda: thing.make_again() if thing.body else thing.create(),
    }


ACTIONS = sorted(others(Contested()))
# Nothing in particular, or a storm: before every request our entry has moved.
INTERFERENCE = st.one_of(
    st.lists(st.sampled_from(ACTIONS), max_size=8),
    st.lists(st.sampled_from(["add at the front", "remove the first", "reorder"]), max_size=12),
)


class Sharing(RuleBasedStateMachine):
    """The owners, the others, and what has to hold all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.thing = Contested()
        # The object as the owners have heard of it.
        self.known = self.thing.body or {}
        self.others = {name: self.acted(act) for name, act in others(self.thing).items()}
        # Whose finalizer is on which object, as far as its owner was told and nobody took it.
        self.held: dict[str, str | None] = {}

    def acted(self, act: Callable[[], None]) -> Callable[[], None]:
        """The same act of the others, after which an owner has what they have left it."""

        def remember() -> None:
            before = self.thing.finalizers
            act()
            body = self.thing.body
            after = listed(body)
            self.thing.put_back |= {o for o in OWNERS if after.count(o) > before.count(o)}
            self.held = {o: u for o, u in self.held.items() if u == uid(body) and o in listed(body)}

        return remember

    @rule(name=st.sampled_from(ACTIONS))
    def interfere(self, name: str) -> None:
        self.others[name]()

    @rule()
    def arrive(self) -> None:
        """A request that is late arrives after all."""
        if self.thing.late:
            owner, request = self.thing.late.pop(0)
            try:
                request()
            except ApiError:
                return
            if owner not in self.thing.finalizers:
                # It was a release: nobody can tell an owner that takes back what it said.
                self.held.pop(owner, None)

    @rule(
        owner=st.sampled_from(OWNERS),
        adding=st.booleans(),
        way=st.sampled_from(["patch", "apply", "apply or patch"]),
        later=st.booleans(),
        anchored=st.booleans(),
        stale=st.sampled_from([False, False, False, True]),
        names=INTERFERENCE,
        fates=st.lists(st.sampled_from(FATES), max_size=4),
    )
    def change(
        self,
        *,
        owner: str,
        adding: bool,
        way: str,
        later: bool,
        anchored: bool,
        stale: bool,
        names: list[str],
        fates: list[str],
    ) -> None:
        thing = self.thing
        thing.owner, thing.meant, thing.fates, thing.sent = owner, None, list(fates), []
        thing.meanwhile = [self.others[name] for name in names]
        if not adding:
            # From here on it may go.
            self.held.pop(owner, None)
        if not stale:
            self.known = thing.body or self.known
        options: dict[str, Any] = {"attempts": ATTEMPTS, "backoff": 0}
        if anchored or "apply" in way:
            options["body"] = self.known
            thing.meant = uid(self.known)
        if "apply" in way:
            options["apply"] = thing.apply_later if later else thing.apply
        if "patch" in way:
            options["read"] = thing.read_later if later else thing.read
            options["patch"] = thing.patch_later if later else thing.patch
        function: Callable[..., Any] = ensure_finalizer if adding else release_finalizer
        try:
            outcome = function(owner, **options)
            self.check_outcome(owner, awaited(outcome) if later else outcome, options.get("body"))
        except LostAnswerError:
            assert "lost" in fates or "late" in fates
        except ApiError as error:
            self.check_error(error, way)
        except ConfigurationError:
            assert way == "apply"
            assert owner in thing.finalizers
        thing.meanwhile = []
        assert len(thing.sent) <= 2 * ATTEMPTS + 1, "it did not end"

    def check_outcome(self, owner: str, outcome: str, meant: Body | None) -> None:
        """What it says is so at that moment."""
        body = self.thing.body
        there, deleting = owner in listed(body), is_being_deleted(body)
        if meant is not None and outcome != "gone" and body:
            assert uid(body) == uid(meant)
        if outcome in ("added", "already there"):
            assert there
            self.held[owner] = uid(body)
        elif outcome in ("released", "not there"):
            # A patch takes off what was read, and its answer may be lost: it is not looked at.
            assert not there or owner in self.thing.put_back
        elif outcome == "being deleted":
            assert not there
            assert deleting
        else:
            assert outcome == "gone"
            assert meant is None or uid(body) != uid(meant)

    def check_error(self, error: ApiError, way: str) -> None:
        """There is a reason for every error."""
        if error.status == 500:
            assert way == "apply"
            assert len(set(self.thing.finalizers)) < len(self.thing.finalizers)
        else:
            # Lost as often as is allowed, and never a refusal.
            assert error.status == 422
            assert self.thing.sent.count("patch") == ATTEMPTS

    @invariant()
    def nobody_lost_what_it_holds(self) -> None:
        for owner, where in self.held.items():
            assert uid(self.thing.body) == where
            assert owner in self.thing.finalizers


# Whatever happens, nobody loses what is its own, and every call ends.
TestSharing = Sharing.TestCase
TestSharing.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
