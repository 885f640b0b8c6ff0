"""Changes of one finalizer through a client: what is sent, and what becomes of it."""

import asyncio
import functools
import hashlib
import json
import random
import time
from collections.abc import Callable
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers import ConfigurationError
from kopf_finalizers._clients.calls import status_of
from kopf_finalizers._clients.ensure import (
    FinalizerOutcome,
    apply_configuration,
    ensure_finalizer,
    release_finalizer,
)
from kopf_finalizers.testing._refusals import ApiError, refusal

from ..support.servers import Body
from ..support.shared import LostAnswerError, SharedObject

OURS = "mycompany.com/db-operator"
THEIRS = "other.org/f"
MORE = "third.net/g"

WAYS = ["patch", "apply", "apply or patch"]


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made: in no time, and as long as they can be."""
    made: list[float] = []

    async def sleep(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(time, "sleep", made.append)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(random, "random", lambda: 1.0)
    return made


def change(
    function: Callable[..., Any], thing: SharedObject, way: str = "patch", **options: Any
) -> FinalizerOutcome:
    """Call it with a plain client, in one of the ways."""
    if "patch" in way:
        options = {"read": thing.read, "patch": thing.patch, **options}
    if "apply" in way:
        options = {"apply": thing.apply, "body": thing.body, **options}
    outcome: FinalizerOutcome = function(OURS, **options)
    return outcome


def change_later(
    function: Callable[..., Any], thing: SharedObject, way: str = "patch", **options: Any
) -> FinalizerOutcome:
    """The same with an asynchronous client."""
    if "patch" in way:
        options = {"read": thing.read_later, "patch": thing.patch_later, **options}
    if "apply" in way:
        options = {"apply": thing.apply_later, "body": thing.body, **options}

    async def wait() -> FinalizerOutcome:
        outcome: FinalizerOutcome = await function(OURS, **options)
        return outcome

    return asyncio.run(wait())


both = pytest.mark.parametrize("call", [change, change_later], ids=["plain", "async"])
every_way = pytest.mark.parametrize("way", WAYS)


class TestOutcomes:
    """Where there is nobody else."""

    @both
    @every_way
    def test_added_and_released(self, call: Callable[..., Any], way: str) -> None:
        """A finalizer comes after everybody else's and goes again, and they stay as they were."""
        thing = SharedObject([THEIRS, MORE])
        assert call(ensure_finalizer, thing, way) == "added"
        assert thing.finalizers == [THEIRS, MORE, OURS]
        assert call(release_finalizer, thing, way) == "released"
        assert thing.finalizers == [THEIRS, MORE]

    @both
    @every_way
    def test_first_and_only(self, call: Callable[..., Any], way: str) -> None:
        """An object without finalizers gets its first one, and loses it again."""
        thing = SharedObject()
        assert call(ensure_finalizer, thing, way) == "added"
        assert thing.finalizers == [OURS]
        assert call(release_finalizer, thing, way) == "released"
        assert thing.finalizers == []

    @both
    @every_way
    def test_already_there(self, call: Callable[..., Any], way: str) -> None:
        """What is there is not added again."""
        thing = SharedObject()
        call(ensure_finalizer, thing, way)
        assert call(ensure_finalizer, thing, way) == "already there"
        assert thing.finalizers == [OURS]

    @both
    @every_way
    def test_not_there(self, call: Callable[..., Any], way: str) -> None:
        """What is not there is not released, and nobody else's is."""
        thing = SharedObject([THEIRS])
        assert call(release_finalizer, thing, way) == "not there"
        assert thing.finalizers == [THEIRS]

    @both
    @every_way
    def test_being_deleted(self, call: Callable[..., Any], way: str) -> None:
        """Nothing is added to an object that is being deleted."""
        thing = SharedObject([THEIRS])
        thing.delete()
        assert call(ensure_finalizer, thing, way) == "being deleted"
        assert thing.finalizers == [THEIRS]

    @every_way
    def test_there_on_a_deleting_object(self, way: str) -> None:
        """A finalizer that holds an object being deleted is there, and is released."""
        thing = SharedObject()
        change(ensure_finalizer, thing, way)
        thing.delete()
        assert change(ensure_finalizer, thing, way) == "already there"
        assert change(release_finalizer, thing, way) == "released"
        assert thing.body is None

    @both
    @every_way
    @pytest.mark.parametrize("function", [ensure_finalizer, release_finalizer])
    def test_gone(self, call: Callable[..., Any], way: str, function: Callable[..., Any]) -> None:
        """An object that is not there is gone, and does not come back."""
        thing = SharedObject()
        body = thing.body
        thing.delete()
        assert call(function, thing, way, body=body) == "gone"
        assert thing.body is None

    @pytest.mark.parametrize("function", [ensure_finalizer, release_finalizer])
    def test_read_returns_none(self, function: Callable[..., Any]) -> None:
        """A client that returns None for an object that is not there is understood, too."""
        outcome = function(OURS, read=lambda: None, patch=pytest.fail)
        assert outcome is FinalizerOutcome.GONE

    @every_way
    @pytest.mark.parametrize("function", [ensure_finalizer, release_finalizer])
    def test_another_object_of_that_name(self, way: str, function: Callable[..., Any]) -> None:
        """An object that was made again is not the one that is meant, and stays as it is."""
        thing = SharedObject()
        body = thing.body
        thing.make_again(OURS, THEIRS)
        assert change(function, thing, way, body=body) == "gone"
        assert thing.finalizers == [OURS, THEIRS]

    @every_way
    def test_reference_in_place_of_a_body(self, way: str) -> None:
        """A flat reference says as well which object is meant."""
        thing = SharedObject()
        reference = kopf.build_object_reference(kopf.Body(cast("kopf.RawBody", thing.body)))
        assert change(ensure_finalizer, thing, way, body=reference) == "added"
        thing.make_again()
        assert change(ensure_finalizer, thing, way, body=reference) == "gone"

    @every_way
    def test_duplicates(self, way: str) -> None:
        """All entries of one's own go, if there is a way: an apply alone cannot."""
        thing = SharedObject([OURS, THEIRS, OURS])
        if way == "apply":
            with pytest.raises(ApiError, match="duplicate entries"):
                change(release_finalizer, thing, way)
        else:
            assert change(release_finalizer, thing, way) == "released"
            assert thing.finalizers == [THEIRS]


class TestRequests:
    """What is sent."""

    @pytest.mark.parametrize(
        ("function", "finalizers"), [(ensure_finalizer, [OURS]), (release_finalizer, [THEIRS])]
    )
    def test_nothing_to_do(self, function: Callable[..., Any], finalizers: list[str]) -> None:
        """Where there is nothing to do, nothing is sent."""
        thing = SharedObject(finalizers)
        change(function, thing)
        assert thing.sent == ["read"]

    def test_apply_does_not_read(self) -> None:
        """An apply is one request, however many others write."""
        thing = SharedObject([THEIRS])
        thing.meanwhile = [lambda: thing.write(MORE), lambda: thing.write(MORE, OURS, THEIRS)]
        assert change(ensure_finalizer, thing, "apply") == "added"
        assert change(release_finalizer, thing, "apply") == "released"
        assert thing.sent == ["apply", "apply"]
        assert thing.finalizers == [MORE, THEIRS]

    def test_status_written_meanwhile(self) -> None:
        """A write to something else does not make us try again."""
        thing = SharedObject([THEIRS])
        thing.meanwhile = [thing.write_status, thing.write_status]
        assert change(ensure_finalizer, thing) == "added"
        assert change(release_finalizer, thing) == "released"
        assert thing.sent == ["read", "patch"] * 2


class TestLostRaces:
    """Where somebody else is faster."""

    @both
    def test_tried_again(self, call: Callable[..., Any], pauses: list[float]) -> None:
        """A lost race is read again and tried again, after a pause that grows."""
        thing = SharedObject([THEIRS, OURS])
        thing.meanwhile = [lambda: thing.write(OURS), lambda: thing.write(THEIRS, MORE, OURS)]
        assert call(release_finalizer, thing) == "released"
        assert thing.sent == ["read", "patch"] * 3
        assert thing.finalizers == [THEIRS, MORE]
        assert pauses == [0.1, 0.4]

    def test_list_that_comes_back(self) -> None:
        """That the list looks the same again does not make a lost race a refusal."""
        thing = SharedObject([OURS])

        def read() -> Body:
            thing.write(OURS)
            return thing.read()

        thing.meanwhile = [lambda: thing.write(THEIRS, OURS)] * 2
        assert change(release_finalizer, thing, read=read) == "released"
        assert thing.sent == ["read", "patch"] * 3

    def test_first_finalizer_of_all(self) -> None:
        """Two that add the first finalizer both get theirs."""
        thing = SharedObject()
        thing.meanwhile = [lambda: thing.write(THEIRS)]
        assert change(ensure_finalizer, thing) == "added"
        assert thing.finalizers == [THEIRS, OURS]

    def test_released_meanwhile(self) -> None:
        """What somebody else takes off in between is not there."""
        thing = SharedObject([OURS, THEIRS])
        thing.meanwhile = [lambda: thing.write(THEIRS)]
        assert change(release_finalizer, thing) == "not there"

    @pytest.mark.parametrize("finalizers", [[THEIRS], [THEIRS, MORE]])
    def test_deleted_meanwhile(self, finalizers: list[str]) -> None:
        """An object whose deletion begins in between gets no finalizer, and that is no error."""
        thing = SharedObject(finalizers)
        thing.meanwhile = [thing.delete]
        assert change(ensure_finalizer, thing) == "being deleted"
        assert thing.sent == ["read", "patch"]

    @pytest.mark.parametrize("function", [ensure_finalizer, release_finalizer])
    def test_gone_meanwhile(self, function: Callable[..., Any]) -> None:
        """An object that goes in between is gone."""
        thing = SharedObject([OURS] if function is release_finalizer else [])
        thing.meanwhile = [thing.finish]
        assert change(function, thing) == "gone"

    @pytest.mark.parametrize("function", [ensure_finalizer, release_finalizer])
    def test_made_again_meanwhile(self, function: Callable[..., Any]) -> None:
        """An object that is made again in between is another one, and stays as it is."""
        thing = SharedObject([OURS] if function is release_finalizer else [])
        thing.meanwhile = [lambda: thing.make_again(OURS, THEIRS)]
        assert change(function, thing) == "gone"
        assert thing.finalizers == [OURS, THEIRS]

    @both
    @pytest.mark.parametrize("way", ["patch", "apply"])
    def test_conflict(self, call: Callable[..., Any], way: str) -> None:
        """A conflict inside the server (409) is a lost race, even if nothing else has changed."""
        thing = SharedObject()
        thing.meanwhile = [functools.partial(fail, 409, "the object has been modified")] * 2
        assert call(ensure_finalizer, thing, way) == "added"
        assert thing.sent == (["read", "patch"] * 3 if way == "patch" else ["apply"] * 3)

    def test_jitter(self, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
        """Pauses are random, so that not all who have lost come back at once."""
        monkeypatch.setattr(random, "random", iter([0.25, 0.75]).__next__)
        thing = SharedObject()
        thing.meanwhile = [functools.partial(fail, 409, "")] * 2
        change(ensure_finalizer, thing, backoff=4)
        assert pauses == [1, 12]

    @both
    @pytest.mark.parametrize("way", ["patch", "apply"])
    def test_bound(self, call: Callable[..., Any], way: str, pauses: list[float]) -> None:
        """After so many attempts the last error is raised, with a note of what was being done."""
        thing = SharedObject()
        thing.meanwhile = [functools.partial(fail, 409, f"number {n}") for n in range(9)]
        with pytest.raises(ApiError, match="number 7") as caught:
            call(ensure_finalizer, thing, way, attempts=8, backoff=1)
        assert caught.value.__notes__ == [
            f'While the finalizer "{OURS}" was being added to an object.'
        ]
        assert pauses == [1, 4, 16, 40, 40, 40, 40]

    def test_bound_of_failed_tests(self) -> None:
        """A test that fails again and again ends the same way."""
        thing = SharedObject([OURS])
        thing.meanwhile = [functools.partial(thing.write, *[THEIRS] * n, OURS) for n in range(1, 9)]
        with pytest.raises(ApiError, match=r"^422") as caught:
            change(release_finalizer, thing, attempts=5)
        assert thing.sent == ["read", "patch"] * 5
        assert caught.value.__notes__ == [
            f'While the finalizer "{OURS}" was being released from an object.'
        ]


def fail(status: int, message: str, **details: Any) -> None:
    raise refusal(status, None, message, details)


class TestRefusals:
    """Where trying again would not help."""

    @both
    @every_way
    @pytest.mark.parametrize("status", [400, 401, 403, 405, 413, 429, 503])
    def test_refused(self, call: Callable[..., Any], way: str, status: int) -> None:
        """What is no lost race is raised at once, in the server's words."""
        thing = SharedObject()
        thing.meanwhile = [functools.partial(fail, status, "because it is so")]
        with pytest.raises(ApiError, match="because it is so"):
            call(ensure_finalizer, thing, way)
        assert len(thing.sent) == (2 if way == "patch" else 1)

    def test_same_version(self) -> None:
        """A 422 is a refusal, if the object read again has the same version."""
        thing = SharedObject()
        thing.meanwhile = [functools.partial(fail, 422, "never")] * 9
        with pytest.raises(ApiError, match="never"):
            change(ensure_finalizer, thing)
        assert thing.sent == ["read", "patch", "read"]

    def test_body_without_a_version(self) -> None:
        """Where a client does not keep the version, it cannot be told: all attempts are made."""
        thing = SharedObject()
        thing.meanwhile = [functools.partial(fail, 422, "never")] * 3

        def read() -> Body:
            body = thing.read()
            del body["metadata"]["resourceVersion"]
            return body

        with pytest.raises(ApiError, match="never"):
            change(ensure_finalizer, thing, read=read, attempts=3)
        assert thing.sent == ["read", "patch"] * 3

    def test_named_causes(self) -> None:
        """A 422 that says which field is wrong is a refusal, whatever the version."""
        thing = SharedObject()
        causes = [{"field": "spec.size", "reason": "FieldValueInvalid"}]

        def refuse() -> None:
            thing.write_status()
            fail(422, "spec.size: Invalid value", causes=causes)

        thing.meanwhile = [refuse] * 2
        with pytest.raises(ApiError, match=r"spec\.size"):
            change(ensure_finalizer, thing)
        assert thing.sent == ["read", "patch"]

    def test_release_refused_with_the_words_of_an_addition(self) -> None:
        """That nothing can be added says nothing of a finalizer that is to be released."""
        thing = SharedObject([OURS])
        words = "metadata.finalizers: Forbidden: no new finalizers can be added"
        causes = [{"field": "metadata.finalizers"}]
        thing.meanwhile = [functools.partial(fail, 422, words, causes=causes)]
        with pytest.raises(ApiError, match="no new finalizers"):
            change(release_finalizer, thing)

    def test_refused_by_apply(self) -> None:
        """A 422 to an apply is a refusal, unless there is another way to find out."""
        thing = SharedObject()
        thing.meanwhile = [functools.partial(fail, 422, "not so")] * 2
        with pytest.raises(ApiError, match="not so"):
            change(ensure_finalizer, thing, "apply")
        assert change(ensure_finalizer, thing, "apply or patch") == "added"
        assert thing.sent == ["apply", "apply", "read", "patch"]

    @both
    def test_read_refused(self, call: Callable[..., Any]) -> None:
        """An object that may not be read is not gone."""
        with pytest.raises(ApiError, match=r"^403"):
            call(ensure_finalizer, SharedObject(), read=lambda: fail(403, "no"))


class TestLostAnswers:
    """Where it is unknown whether the server has done it."""

    @both
    @every_way
    def test_called_again(self, call: Callable[..., Any], way: str) -> None:
        """A lost answer is the caller's to hear of; to call again is safe."""
        thing = SharedObject([THEIRS])
        thing.lossy = True
        with pytest.raises(LostAnswerError):
            call(ensure_finalizer, thing, way)
        thing.lossy = False
        assert call(ensure_finalizer, thing, way) == "already there"
        assert thing.finalizers == [THEIRS, OURS]
        thing.lossy = True
        with pytest.raises(LostAnswerError):
            call(release_finalizer, thing, way)
        thing.lossy = False
        assert call(release_finalizer, thing, way) == "not there"
        assert thing.finalizers == [THEIRS]

    @every_way
    def test_last_one_released(self, way: str) -> None:
        """Where the answer was lost that let an object go, it is gone."""
        thing = SharedObject()
        change(ensure_finalizer, thing, way)
        body, thing.lossy = thing.body, True
        thing.delete()
        with pytest.raises(LostAnswerError):
            change(release_finalizer, thing, way)
        assert change(release_finalizer, thing, way, body=body) == "gone"


class TestApplyWithPatches:
    """What a server-side apply cannot do."""

    def test_entry_of_another_patch(self) -> None:
        """A finalizer that came by another kind of patch is released by a patch."""
        thing = SharedObject([OURS, THEIRS])
        assert change(release_finalizer, thing, "apply or patch") == "released"
        assert thing.finalizers == [THEIRS]
        assert thing.sent == ["apply", "read", "patch"]

    @both
    def test_no_way_to_patch(self, call: Callable[..., Any]) -> None:
        """Without a way to patch that is an error, which says what to give."""
        thing = SharedObject([OURS, THEIRS])
        with pytest.raises(ConfigurationError, match=r"another kind of patch.*read= and patch="):
            call(release_finalizer, thing, "apply")
        assert thing.finalizers == [OURS, THEIRS]

    def test_applied_and_patched(self) -> None:
        """A finalizer that came both ways is released, too."""
        thing = SharedObject([OURS])
        change(ensure_finalizer, thing, "apply")
        assert change(release_finalizer, thing, "apply or patch") == "released"
        assert thing.finalizers == []

    def test_duplicates_of_others(self) -> None:
        """A list with others' duplicates, which cannot be applied to, is patched."""
        thing = SharedObject([THEIRS, THEIRS])
        assert change(ensure_finalizer, thing, "apply or patch") == "added"
        assert change(release_finalizer, thing, "apply or patch") == "released"
        assert thing.finalizers == [THEIRS, THEIRS]

    def test_apply_not_supported(self) -> None:
        """An API server without server-side apply gets a patch."""
        thing = SharedObject()
        thing.meanwhile = [functools.partial(fail, 415, "unsupported media type")]
        assert change(ensure_finalizer, thing, "apply or patch") == "added"
        assert thing.sent == ["apply", "read", "patch"]

    @pytest.mark.parametrize("status", [409, 422])
    def test_no_words(self, status: int) -> None:
        """Where a client keeps no words, it is found out by reading."""

        class WordlessError(Exception):
            def __init__(self) -> None:
                self.status = status

        def apply(*_: object) -> None:
            raise WordlessError

        thing = SharedObject([THEIRS])
        body = thing.body
        thing.delete()
        options: dict[str, Any] = {"apply": apply, "body": body}
        assert change(ensure_finalizer, thing, **options) == "being deleted"
        thing.write()
        assert change(ensure_finalizer, thing, **options) == "gone"

    def test_reference_tells_nothing_of_the_version(self) -> None:
        """With a reference it is not known what was there before: it is added and released."""
        thing = SharedObject()
        reference = {"apiVersion": "example.com/v1", "kind": "Thing", "name": "a"}
        reference["uid"] = (thing.body or {})["metadata"]["uid"]
        for _ in range(2):
            assert change(ensure_finalizer, thing, "apply", body=reference) == "added"
        for _ in range(2):
            assert change(release_finalizer, thing, "apply", body=reference) == "released"

    def test_reference_with_a_version(self) -> None:
        """A reference may have a version, and still tells nothing of the finalizers."""
        thing = SharedObject()
        change(ensure_finalizer, thing, "apply")
        thing.delete()
        body = thing.body or {}
        reference = {"apiVersion": "example.com/v1", "kind": "Thing", **body["metadata"]}
        assert change(release_finalizer, thing, "apply", body=reference) == "released"

    def test_old_body(self) -> None:
        """That a body from before had the finalizer does not say that it was there."""
        thing = SharedObject()
        change(ensure_finalizer, thing, "apply")
        body = thing.body
        thing.write(THEIRS)
        assert change(ensure_finalizer, thing, "apply", body=body) == "added"


class TestApplyConfiguration:
    """The manifest and the field manager."""

    BODY: Body = {  # noqa: RUF012 - never changed
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {"name": "a", "namespace": "b", "uid": "1-2", "finalizers": [THEIRS]},
        "spec": {"size": 1},
    }

    def test_add(self) -> None:
        """It has what says which object it is, and one finalizer: nothing else is applied."""
        manifest, manager = apply_configuration(self.BODY, add=OURS)
        assert manifest == {
            "apiVersion": "example.com/v1",
            "kind": "Thing",
            "metadata": {"name": "a", "namespace": "b", "uid": "1-2", "finalizers": [OURS]},
        }
        assert manager == f"finalizer:{OURS}"

    def test_remove(self) -> None:
        """To remove is to apply nothing in the same name."""
        manifest, manager = apply_configuration(self.BODY, remove=OURS)
        assert manifest["metadata"] == {"name": "a", "namespace": "b", "uid": "1-2"}
        assert manager == apply_configuration(self.BODY, add=OURS)[1]

    def test_cluster_scoped(self) -> None:
        """An object without a namespace gets none."""
        reference = {"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "1-2"}
        manifest, _ = apply_configuration(reference, remove=OURS)
        assert manifest["metadata"] == {"name": "a", "uid": "1-2"}

    def test_longest_names(self) -> None:
        """Names that differ anywhere have different managers, all of at most 128 characters."""
        domains = ["a.com", f"{'a' * 60}.{'b' * 40}.com", f"{'a' * 60}.{'b' * 40}.{'c' * 63}.com"]
        names = [
            f"{domain}/{'x' * length}{end}"
            for domain in domains
            for length in (1, 11, 12, 13, 62)
            for end in "yz"
        ]
        managers = {apply_configuration(self.BODY, add=name)[1] for name in names}
        assert len(managers) == len(names)
        assert max(map(len, managers)) == 128

    def test_longest_readable_name(self) -> None:
        """As long as it fits, the manager is the whole finalizer."""
        name = f"mycompany.com.{'a' * 63}.com/{'b' * 36}"
        assert apply_configuration(self.BODY, add=name)[1] == f"finalizer:{name}"
        assert apply_configuration(self.BODY, add=f"{name}b")[1] != f"finalizer:{name}b"

    def test_hashed_name(self) -> None:
        """What is too long keeps its beginning, and a sign that no finalizer can have."""
        name = f"mycompany.com.{'a' * 63}.{'b' * 63}.com/db-operator"
        digest = hashlib.sha256(name.encode()).hexdigest()
        manager = apply_configuration(self.BODY, add=name)[1]
        assert manager == f"finalizer:mycompany.com.{'a' * 39}~{digest}"

    @pytest.mark.parametrize("key", ["apiVersion", "kind", "name", "uid"])
    def test_incomplete_reference(self, key: str) -> None:
        """Without any of these, it could be another object; without uid it could be created."""
        metadata = {k: v for k, v in self.BODY["metadata"].items() if k != key}
        body = {k: v for k, v in self.BODY.items() if k != key} | {"metadata": metadata}
        with pytest.raises(ConfigurationError, match=f"no {key}: .*build_object_reference"):
            apply_configuration(body, add=OURS)

    @pytest.mark.parametrize("names", [{}, {"add": OURS, "remove": THEIRS}])
    def test_one_change(self, names: dict[str, str]) -> None:
        """Each manager owns one finalizer, so there is one change for each."""
        with pytest.raises(ConfigurationError, match="one apply changes one finalizer"):
            apply_configuration(self.BODY, **names)

    def test_bad_name(self) -> None:
        """A name that the server would not take is refused."""
        with pytest.raises(ConfigurationError, match="does not take"):
            apply_configuration(self.BODY, add="my company.com/f")


class TestCallables:
    """Plain and asynchronous clients, and what they may not be."""

    def test_functions_that_return_awaitables(self) -> None:
        """What only returns an awaitable, as some clients' methods do, is awaited as well."""
        thing = SharedObject()

        async def main() -> FinalizerOutcome:
            return await ensure_finalizer(
                OURS,
                read=lambda: thing.read_later(),
                patch=lambda operations: asyncio.ensure_future(thing.patch_later(operations)),
            )

        assert asyncio.run(main()) == "added"

    def test_asynchronous_objects(self) -> None:
        """An object that is called asynchronously is seen to be one."""
        thing = SharedObject()

        class Patch:
            async def __call__(self, operations: list[Body]) -> object:
                return thing.patch(operations)

        assert asyncio.run(ensure_finalizer(OURS, read=thing.read, patch=Patch())) == "added"

    def test_only_one_is_asynchronous(self) -> None:
        """One `async def` makes the call asynchronous, whatever comes to be called."""
        thing = SharedObject([OURS])
        waiting: Any = ensure_finalizer(OURS, read=thing.read, patch=thing.patch_later)
        assert asyncio.run(waiting) == "already there"
        patch: Any = thing.patch
        waiting = release_finalizer(OURS, read=thing.read_later, patch=patch)
        assert asyncio.run(waiting) == "released"

    def test_awaitable_that_comes_late(self) -> None:
        """A plain first function and an awaitable later is an error: nothing awaits it."""
        thing = SharedObject()
        with pytest.raises(ConfigurationError, match="all of them asynchronous, or none"):
            change(ensure_finalizer, thing, patch=lambda o: thing.patch_later(o))
        assert thing.finalizers == []

        async def main() -> None:
            later: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            with pytest.raises(ConfigurationError, match="all of them asynchronous, or none"):
                change(ensure_finalizer, thing, patch=lambda _: later)

        asyncio.run(main())

    def test_cancelled(self) -> None:
        """What is cancelled ends at once, and is not tried again."""
        thing = SharedObject()

        async def patch(_: object) -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            change_later(ensure_finalizer, thing, patch=patch)
        assert thing.sent == ["read"]

    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"read"},
            {"patch"},
            {"apply"},
            {"body"},
            {"read", "body"},
            {"read", "patch", "apply"},
            {"read", "apply", "body"},
            {"patch", "apply", "body"},
        ],
    )
    def test_callables_that_do_not_fit(self, given: set[str]) -> None:
        """There have to be read and patch, or apply and body, or all."""
        thing = SharedObject()
        options = {"read": thing.read, "patch": thing.patch, "apply": thing.apply, "body": {}}
        with pytest.raises(ConfigurationError, match="Give read= and patch="):
            change(ensure_finalizer, thing, "", **{key: options[key] for key in given})

    def test_no_attempts(self) -> None:
        """At least one attempt has to be allowed."""
        with pytest.raises(ConfigurationError, match="at least 1"):
            change(ensure_finalizer, SharedObject(), attempts=0)

    @pytest.mark.parametrize("function", [ensure_finalizer, release_finalizer])
    def test_bad_name(self, function: Callable[..., Any]) -> None:
        """A name that the server would not take is refused before anything is asked."""
        thing = SharedObject()
        with pytest.raises(ConfigurationError, match="does not take"):
            function("my company.com/f", read=thing.read, patch=thing.patch)
        assert thing.sent == []

    @pytest.mark.parametrize("options", [{"body": "a"}, {"read": lambda: "a"}])
    def test_no_body(self, options: dict[str, Any]) -> None:
        """A client's own object is not a body: the error says what is."""
        with pytest.raises(ConfigurationError, match="must be a mapping"):
            change(ensure_finalizer, SharedObject(), **options)


class Kept:
    """Something with these attributes: a client's exception, or a part of it."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__ |= attributes


class ClientError(Kept, Exception):
    pass


class TestErrors:
    """What clients' exceptions look like, and what is no exception but should be."""

    STATUS: Body = {"kind": "Status", "status": "Failure", "code": 422, "message": "no"}  # noqa: RUF012

    @pytest.mark.parametrize(
        "error",
        [
            ClientError(status=404),
            ClientError(code=404),
            ClientError(status_code=404),
            ClientError(response=Kept(status_code=404)),
            ClientError(response=Kept(status=404)),
            ClientError(status={"code": 404}, response=Kept(status_code=404)),
            ClientError(status="404", response=Kept(status_code=404)),
        ],
    )
    def test_status(self, error: Exception) -> None:
        """The status is found where clients keep it."""
        assert status_of(error) == 404

    @pytest.mark.parametrize(
        "error", [ClientError(), ClientError(status=None), ClientError(code=1006), OSError(2, "no")]
    )
    def test_no_status(self, error: Exception) -> None:
        """What is no answer has no status."""
        assert status_of(error) is None

    def test_status_of_the_cause(self) -> None:
        """An error that was raised from another has its status."""
        error = ValueError("in other words")
        error.__cause__ = ClientError(status=409)
        assert status_of(error) == 409

    @pytest.mark.parametrize(
        "name", [("kr8s._exceptions", "NotFoundError"), ("pykube.exceptions", "ObjectDoesNotExist")]
    )
    def test_missing_object_without_a_status(self, name: tuple[str, str]) -> None:
        """Two clients have an exception of its own for it, with no status."""
        error = type(name[1], (Exception,), {"__module__": name[0]})()
        assert status_of(error) == 404

    def test_error_in_the_handling_of_another(self) -> None:
        """An error that came up while another was handled has nothing to do with it."""
        thing = SharedObject([THEIRS])
        thing.lossy = True
        try:
            fail(404, "something else")
        except ApiError:
            with pytest.raises(LostAnswerError) as caught:
                change(ensure_finalizer, thing)
        assert isinstance(caught.value.__context__, ApiError)

    def test_own_status(self) -> None:
        """A client that is unlike all others is understood with `status=`."""

        def read() -> None:
            raise LookupError("no such object")

        def status(error: Exception) -> int | None:
            return 404 if isinstance(error, LookupError) else None

        thing = SharedObject()
        assert change(ensure_finalizer, thing, read=read, status=status) == "gone"
        with pytest.raises(LookupError):
            change(ensure_finalizer, thing, read=read)

    @pytest.mark.parametrize(
        "kept",
        [
            lambda body: {"body": body},
            lambda body: {"body": json.dumps(body)},
            lambda body: {"body": json.dumps(body).encode()},
            lambda body: {"response": Kept(content=json.dumps(body).encode())},
        ],
        ids=["body", "text", "bytes", "response"],
    )
    def test_causes(self, kept: Callable[[Body], Body]) -> None:
        """The server's words are found where clients keep them."""
        thing = SharedObject()
        details = {"causes": [{"field": "spec"}]}

        def patch(_: object) -> None:
            thing.write_status()
            raise ClientError(status=422, **kept({**self.STATUS, "details": details}))

        with pytest.raises(ClientError):
            change(ensure_finalizer, thing, patch=patch)
        assert thing.sent == ["read"]

    @pytest.mark.parametrize("body", ["<html>", "[]", None, b"\xff"])
    def test_no_words(self, body: object) -> None:
        """An answer that is not the API server's (a proxy's, say) is no obstacle."""

        def patch(_: object) -> None:
            raise ClientError(status=422, body=body)

        with pytest.raises(ClientError):
            change(ensure_finalizer, SharedObject(), patch=patch)

    @pytest.mark.parametrize("answer", [STATUS, Kept(status_code=422), Kept(status=422)])
    @pytest.mark.parametrize("name", ["read", "patch", "apply"])
    def test_refusal_returned(self, name: str, answer: object) -> None:
        """A refusal that is returned in place of being raised does not pass for success."""
        way = "apply" if name == "apply" else "patch"
        with pytest.raises(ConfigurationError, match=rf"{name}= has returned .* \(422\)"):
            change(ensure_finalizer, SharedObject(), way, **{name: lambda *_: answer})

    @pytest.mark.parametrize("answer", [None, Kept(status_code=200), Kept(status="ok"), {}])
    def test_anything_else_returned(self, answer: object) -> None:
        """What a patch returns otherwise is not needed."""
        thing = SharedObject()
        assert change(ensure_finalizer, thing, patch=lambda _: answer) == "added"
