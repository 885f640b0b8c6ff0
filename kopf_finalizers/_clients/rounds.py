"""One change of one finalizer, round after round until it is done, refused or pointless.

Private. What the answers of an API server mean is here, and nothing about how a client is called.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from .._bodies import finalizers_of
from .._errors import ConfigurationError
from .._plain_patches import json_patch
from .calls import Steps, names_causes, returned, words_of

_Body = Mapping[str, Any]

# A conflict, an apply that is not supported, a refusal that may be of the apply only, and a list
# with duplicates, which the server cannot apply to.
_NOT_BY_APPLY = (409, 415, 422, 500)


class FinalizerOutcome(StrEnum):
    """What has become of one finalizer on one object. Each is the end: nothing is left to do.

    Attributes:
        ADDED: It is on the object now.
        ALREADY_THERE: It was on the object before.
        RELEASED: It is no longer on the object.
        NOT_THERE: It was not on the object.
        BEING_DELETED: It was not added: the object is being deleted, and Kubernetes adds none then.
        GONE: The object is not there; another one under the same name (another `uid`) may be.

    Example:
        >>> FinalizerOutcome("being deleted").name
        'BEING_DELETED'
    """

    ADDED = "added"
    ALREADY_THERE = "already there"
    RELEASED = "released"
    NOT_THERE = "not there"
    BEING_DELETED = "being deleted"
    GONE = "gone"


_Steps = Steps[FinalizerOutcome]


@dataclass(frozen=True)
class Change:
    """One finalizer that is to be on an object, or off it."""

    name: str
    body: _Body | None
    attempts: int
    backoff: float
    status: Callable[[Exception], int | None]
    adding: bool = field(kw_only=True)

    def check(self) -> None:
        """Refuse what would end in an error of Python's own, or not at all."""
        attempts: object = self.attempts
        if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
            raise ConfigurationError(
                f"attempts={attempts!r} is not how often to try: give a whole number, at least 1."
                " [client-arguments]"
            )
        backoff: object = self.backoff
        is_number = isinstance(backoff, int | float) and not isinstance(backoff, bool)
        if not is_number or not 0 <= self.backoff < math.inf:
            raise ConfigurationError(
                f"backoff={backoff!r} is not how long to wait: give a number of seconds, 0 or more."
                " [client-arguments]"
            )
        if not callable(self.status):
            raise ConfigurationError(
                "status= must be a function, which finds the HTTP status in an exception: it is of"
                f" type {type(self.status).__name__}. [client-arguments]"
            )
        finalizers_of({} if self.body is None else self.body)  # Refuses what is no body.

    def by_patch(self, read: Callable[[], Any], patch: Callable[[Any], Any]) -> _Steps:
        """Read and patch, again and again while somebody else is faster."""
        uid, version, refused = metadata_of(self.body).get("uid"), None, None
        attempt = 0
        while True:
            try:
                answer = yield read
            except Exception as error:
                if self._code(error) == 404:
                    return FinalizerOutcome.GONE
                raise
            body = returned("read", answer)
            if body is None:
                return FinalizerOutcome.GONE
            operations, found = json_patch(body, **self.wanted), metadata_of(body)
            if uid not in (None, found.get("uid")):
                return FinalizerOutcome.GONE
            if refused and version and version == found.get("resourceVersion"):
                raise refused
            uid, version = found.get("uid"), found.get("resourceVersion")
            if not operations:
                return self._nothing_done(body)
            attempt += 1
            try:
                answer = yield partial(patch, operations)
            except Exception as error:
                code = self._code(error)
                if outcome := self._outcome(code, error):
                    return outcome
                if attempt >= self.attempts or code not in (409, 422) or names_causes(error):
                    raise
                refused = error if code == 422 else None
            else:
                returned("patch", answer)
                return self._done
            yield self._pause(attempt)

    def by_apply(self, apply: Callable[[], Any], by_patch: _Steps | None) -> _Steps:
        """Apply; what an apply cannot do, patches do, if there is a way to send them."""
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = yield apply
            except Exception as error:
                code = self._code(error)
                if outcome := self._outcome(code, error):
                    return outcome
                if by_patch:
                    if code not in _NOT_BY_APPLY:
                        raise
                elif code != 409 or attempt >= self.attempts:
                    raise
            else:
                body = returned("apply", answer)
                if (self.name in finalizers_of(body)) is self.adding:
                    return self._nothing_done(body) if self._had_been(body) else self._done
                if not by_patch:
                    raise ConfigurationError(self._not_applied())
            if by_patch:
                return (yield from by_patch)
            yield self._pause(attempt)

    def _not_applied(self) -> str:
        """What an apply may have been that was taken, and has changed nothing."""
        if self.adding:
            return (
                f'The finalizer "{self.name}" is not on the object that apply= has returned: so it'
                " holds nothing back. Send the manifest as it is, as application/apply-patch+yaml,"
                " with the field manager that comes with it and force=true, not as a dry run, and"
                " return the object as the API server has sent it back. [apply-without-effect]"
            )
        return (
            f'The finalizer "{self.name}" is as it was after an apply: it came by another kind of'
            " patch, and an apply takes off only what was applied. Give read= and patch= as well,"
            " and a JSON Patch releases it. [apply-without-effect]"
        )

    def _had_been(self, body: _Body) -> bool:
        """Whether the object was so before, as far as can be told: if the given body was current.

        The version alone does not tell: it stays when the last finalizer lets an object go.
        """
        given = self.body or {}
        if "metadata" not in given or (self.name in finalizers_of(given)) is not self.adding:
            return False
        versions = {metadata_of(b).get("resourceVersion") for b in (given, body)}
        return len(versions) == 1

    def noted(self, steps: _Steps) -> _Steps:
        """The same steps, whose errors say what was being done."""
        try:
            return (yield from steps)
        except Exception as error:
            doing = "added to" if self.adding else "released from"
            error.add_note(f'While the finalizer "{self.name}" was being {doing} an object.')
            raise

    def _pause(self, attempt: int) -> float:
        """Long enough that not all who lost come back at once ("full jitter").

        It grows steeply: where 16 owners change one list without pause, pauses that only double
        cost half as many requests again, and twice the time.
        """
        return self.backoff * min(1 << 2 * (attempt - 1), 40) * random.random()  # noqa: S311

    @property
    def wanted(self) -> dict[str, str]:
        """The change, as `json_patch` and `apply_configuration` take it."""
        return {"add" if self.adding else "remove": self.name}

    @property
    def _done(self) -> FinalizerOutcome:
        return FinalizerOutcome.ADDED if self.adding else FinalizerOutcome.RELEASED

    def _nothing_done(self, body: _Body) -> FinalizerOutcome:
        if not self.adding:
            return FinalizerOutcome.NOT_THERE
        there = self.name in finalizers_of(body)
        return FinalizerOutcome.ALREADY_THERE if there else FinalizerOutcome.BEING_DELETED

    def _code(self, error: Exception) -> int | None:
        """The status in an error; not something that is like one, and equal to none."""
        code: object = self.status(error)
        if code is None or isinstance(code, int):
            return code
        raise ConfigurationError(
            f"status= has returned {code!r}: give the HTTP status as an int, or None."
            " [client-arguments]"
        ) from error

    def _outcome(self, code: int | None, error: Exception) -> FinalizerOutcome | None:
        """What a refusal means that is as good as an answer."""
        words = words_of(error)
        if (
            code == 404
            or (code == 409 and "uid mismatch" in words)
            or (code == 422 and "metadata.uid: Invalid value" in words)
        ):
            return FinalizerOutcome.GONE
        if code == 422 and self.adding and "metadata.finalizers: Forbidden" in words:
            return FinalizerOutcome.BEING_DELETED
        return None


def metadata_of(body: _Body | None) -> Mapping[str, Any]:
    """The metadata of an object, or a flat reference, which has the same keys."""
    metadata: Mapping[str, Any] = (body or {}).get("metadata") or body or {}
    return metadata
