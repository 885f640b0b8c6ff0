"""How calls of the client functions are typed: plain, asynchronous, and wrong. Never run."""

from typing import Any, assert_type

from kopf_finalizers import FinalizerOutcome, ensure_finalizer, release_finalizer

Body = dict[str, Any]


def read() -> Body | None:
    return None


def patch(operations: list[Body]) -> object:
    return operations


def apply(manifest: Body, manager: str) -> Body:
    return manifest


async def read_later() -> Body | None:
    return None


async def patch_later(operations: list[Body]) -> None: ...
async def apply_later(manifest: Body, manager: str) -> Body:
    return manifest


def plain(body: Body) -> None:
    assert_type(ensure_finalizer("a.b/c", read=read, patch=patch), FinalizerOutcome)
    assert_type(ensure_finalizer("a.b/c", body=body, apply=apply), FinalizerOutcome)
    assert_type(
        release_finalizer("a.b/c", body=body, apply=apply, read=read, patch=patch),
        FinalizerOutcome,
    )
    assert_type(
        release_finalizer("a.b/c", read=lambda: body, patch=lambda _: None, attempts=3),
        FinalizerOutcome,
    )


async def asynchronous(body: Body) -> None:
    assert_type(
        await ensure_finalizer("a.b/c", read=read_later, patch=patch_later), FinalizerOutcome
    )
    assert_type(await ensure_finalizer("a.b/c", body=body, apply=apply_later), FinalizerOutcome)
    assert_type(
        await release_finalizer(
            "a.b/c", body=body, apply=apply_later, read=read_later, patch=patch_later
        ),
        FinalizerOutcome,
    )
    assert_type(
        await release_finalizer("a.b/c", read=lambda: read_later(), patch=lambda o: patch_later(o)),
        FinalizerOutcome,
    )


async def wrong() -> None:
    ensure_finalizer("a.b/c")  # type: ignore[call-overload]
    ensure_finalizer("a.b/c", apply=apply)  # type: ignore[call-overload]
    ensure_finalizer("a.b/c", read=read)  # type: ignore[call-overload]
    await ensure_finalizer("a.b/c", read=read_later, patch=patch)  # type: ignore[arg-type]
    await ensure_finalizer("a.b/c", read=read, patch=patch)  # type: ignore[misc]
