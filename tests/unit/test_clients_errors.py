"""What clients' errors say, what is tried again, and which callables are refused."""

import asyncio
import functools
import json
from collections.abc import Callable
from typing import Any

import pytest

from kopf_finalizers import (
    ConfigurationError,
    FinalizerOutcome,
    ensure_finalizer,
    release_finalizer,
)
from kopf_finalizers._clients.calls import status_of
from kopf_finalizers.testing import ApiError

from ..support.clients import OURS, THEIRS, both, change, change_later, every_way, fail
from ..support.servers import Body
from ..support.shared import LostAnswerError, SharedObject

pytestmark = pytest.mark.usefixtures("pauses")


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

    @pytest.mark.parametrize("attempts", [0, -1, 2.5, "3", None, True, float("inf")])
    def test_attempts_that_are_no_number(self, attempts: Any) -> None:
        """At least one attempt has to be allowed, and their number has to be one."""
        thing = SharedObject()
        with pytest.raises(ConfigurationError, match="give a whole number, at least 1") as caught:
            change(ensure_finalizer, thing, attempts=attempts)
        assert f"attempts={attempts!r}" in str(caught.value)
        assert thing.sent == []

    @pytest.mark.parametrize("backoff", [-1, "1", None, False, float("nan"), float("inf")])
    def test_backoff_that_is_no_time(self, backoff: Any) -> None:
        """A pause cannot be negative, and it has to end."""
        with pytest.raises(ConfigurationError, match="a number of seconds, 0 or more") as caught:
            change(ensure_finalizer, SharedObject(), backoff=backoff)
        assert f"backoff={backoff!r}" in str(caught.value)

    @pytest.mark.parametrize("given", [{}, {"metadata": {}}, "read", 7, []])
    @pytest.mark.parametrize("name", ["read", "patch", "apply", "status"])
    def test_callables_that_are_none(self, name: str, given: Any) -> None:
        """What is read already, say, is given in place of what reads it: the error says so."""
        thing = SharedObject()
        with pytest.raises(ConfigurationError, match=f"^{name}= must be a function") as caught:
            change(ensure_finalizer, thing, "apply or patch", **{name: given})
        assert str(caught.value).endswith(f"of type {type(given).__name__}. [client-arguments]")
        assert thing.sent == []

    def test_callable_that_is_empty(self) -> None:
        """A client that has a length, and it is 0, is a client all the same."""
        thing = SharedObject()

        class Calls(list[Any]):
            def __call__(self, operations: list[Body]) -> object:
                return thing.patch(operations)

        assert change(ensure_finalizer, thing, patch=Calls()) == "added"

    @pytest.mark.parametrize("function", [ensure_finalizer, release_finalizer])
    def test_bad_name(self, function: Callable[..., Any]) -> None:
        """A name that the server would not take is refused before anything is asked."""
        thing = SharedObject()
        with pytest.raises(ConfigurationError, match="does not take"):
            function("my company.com/f", read=thing.read, patch=thing.patch)
        assert thing.sent == []

    @pytest.mark.parametrize("options", [{"body": "a"}, {"body": []}, {"read": lambda: "a"}])
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

    @pytest.mark.parametrize("length", [1, 2, 5])
    def test_error_that_is_its_own_cause(self, length: int) -> None:
        """A cycle of causes ends, and is raised as what it is: an answer in plain text, say."""
        errors = [
            ClientError(response=Kept(status_code=429, content=b"busy")) for _ in range(length)
        ]
        for error, cause in zip(errors, [*errors[1:], errors[0]], strict=True):
            error.__cause__ = cause

        def patch(_: object) -> None:
            raise errors[0]

        with pytest.raises(ClientError) as caught:
            change(ensure_finalizer, SharedObject(), patch=patch)
        assert caught.value is errors[0]
        assert status_of(errors[-1]) == 429

    def test_cycle_of_causes_without_a_status(self) -> None:
        """There is none to be found in it, however often one goes round."""
        error = ValueError("no")
        error.__cause__ = error
        assert status_of(error) is None

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

    @pytest.mark.parametrize("code", ["404", 404.0, {"code": 404}])
    def test_own_status_that_is_none(self, code: Any) -> None:
        """A status that only looks like one would be taken for no answer."""
        thing = SharedObject()
        thing.meanwhile = [functools.partial(fail, 404, "gone")]
        with pytest.raises(ConfigurationError, match="give the HTTP status as an int, or None"):
            change(ensure_finalizer, thing, status=lambda _: code)

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
