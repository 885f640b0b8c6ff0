"""Calls of `ensure_finalizer` and `release_finalizer` with a client that is a plain object."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kopf_finalizers import FinalizerOutcome
from kopf_finalizers.testing._refusals import refusal

from .shared import SharedObject

OURS = "mycompany.com/db-operator"
THEIRS = "other.org/f"
MORE = "third.net/g"
WAYS = ["patch", "apply", "apply or patch"]


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


def fail(status: int, message: str, **details: Any) -> None:
    raise refusal(status, None, message, details)
