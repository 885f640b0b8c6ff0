"""Changes of one finalizer through a client: what is sent, and what becomes of it."""

import functools
import random
from collections.abc import Callable
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers import FinalizerOutcome, ensure_finalizer, release_finalizer
from kopf_finalizers.testing import ApiError

from ..support.clients import MORE, OURS, THEIRS, both, change, every_way, fail
from ..support.servers import Body
from ..support.shared import SharedObject

pytestmark = pytest.mark.usefixtures("pauses")


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
