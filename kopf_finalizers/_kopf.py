"""All that is not Kopf's public API: each with the reason, and with a test that fails with Kopf.

The tests are in `tests/contract/`. A new release of Kopf is this file's work.
"""

import asyncio
import dataclasses
import functools
import importlib
import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar, cast

import kopf

from ._errors import ConfigurationError

Answer = TypeVar("Answer")


def body_of(patch: kopf.Patch) -> Mapping[str, Any] | None:
    """The body that Kopf made a patch for; None for a patch that a test made.

    A handler's patch knows its body, and there is no public way to ask for it.
    """
    body: Mapping[str, Any] | None = getattr(patch, "_original", None)
    return body


def handlers_of(registry: kopf.OperatorRegistry) -> list[Any]:
    """The handlers of an operator that may need its finalizer, or have progress.

    Handlers may be registered with Kopf's own decorators, and there is no public way to ask which
    there are.
    """
    return [*changing_handlers_of(registry), *registry._spawning.get_all_handlers()]  # noqa: SLF001


def changing_handlers_of(registry: kopf.OperatorRegistry) -> list[Any]:
    """Those of them that Kopf calls for a change, and whose progress it stores."""
    return list(registry._changing.get_all_handlers())  # noqa: SLF001


def cleanup_ids(registry: kopf.OperatorRegistry, resource: kopf.Resource) -> frozenset[str]:
    """The ids of the `on.delete` handlers of a resource, whoever's decorators they have.

    There is no public way to ask which handlers there are.
    """
    handlers = registry._changing.get_resource_handlers(resource)  # noqa: SLF001
    return frozenset(handler.id for handler in handlers if handler.reason == "delete")


def runs_daemons(registry: kopf.OperatorRegistry, resource: kopf.Resource) -> bool:
    """Whether the objects of a resource may have daemons or timers.

    There is no public way to ask which handlers there are.
    """
    return bool(registry._spawning.has_handlers(resource))  # noqa: SLF001


def is_kopfs_release(fn: kopf.PatchFn) -> bool:
    """Whether Kopf takes its own finalizer off with this function of a patch.

    There is no public way to ask whether Kopf does so in a cycle: this knows its function by name.
    """
    return isinstance(fn, functools.partial) and fn.func.__name__ == "allow_deletion"


def is_kopfs_addition(fn: kopf.PatchFn) -> bool:
    """Whether Kopf puts its own finalizer on with this function: as `is_kopfs_release`."""
    return isinstance(fn, functools.partial) and fn.func.__name__ == "block_deletion"


def all_handlers_of(registry: kopf.OperatorRegistry) -> list[Any]:
    """All handlers of an operator for which Kopf watches objects, this library's own included."""
    watching, indexing = registry._watching, registry._indexing  # noqa: SLF001
    more = [*watching.get_all_handlers(), *indexing.get_all_handlers()]
    return [*handlers_of(registry), *more]


def guarding_handlers_of(
    registry: kopf.OperatorRegistry, resource: kopf.Resource | None = None
) -> list[Any]:
    """The handlers for which Kopf needs its finalizer: of a resource, or all.

    Kopf decides that in its cycle, and there is no public way to ask.
    """
    return [
        handler
        for handler in handlers_of(registry)
        if handler.requires_finalizer and (resource is None or handler.selector.check(resource))
    ]


def kind_of(handler: Any) -> str:
    """The decorator of a handler for which Kopf needs its finalizer."""
    if hasattr(handler, "reason"):
        return "on.delete"
    return "timer" if hasattr(handler, "interval") else "daemon"


def handles_changes(registry: kopf.OperatorRegistry, resource: kopf.Resource) -> bool:
    """Whether there are handlers of creations or changes, for which Kopf keeps a last state."""
    changing: Iterable[Any] = registry._changing.get_all_handlers()  # noqa: SLF001
    return any(one.reason != "delete" and one.selector.check(resource) for one in changing)


def is_watched(resource: kopf.Resource) -> bool:
    """Whether Kopf has a stream of events of a resource.

    It ends the stream of a version that is served no more, and tells nobody. Its tasks have names,
    and where one has another name than expected, all of them have: then this is not known, and the
    stream is taken to be there.
    """
    watched = _watched()
    return not watched or str(resource) in watched


def other_versions(resource: kopf.Resource) -> list[kopf.Resource]:
    """The other versions of a resource of which Kopf has a stream of events.

    There is no public way to ask which there are; see `is_watched` for what this goes by. They have
    the same objects, so only the version, and what follows from it, is another one.
    """
    found = list[kopf.Resource]()
    for name in _watched():
        plural, _, rest = name.partition(".")
        version, _, group = rest.partition(".")
        if (plural, group) == (resource.plural, resource.group) and version != resource.version:
            # One of the versions is preferred: which handlers are about it depends on that.
            preferred = not resource.preferred
            found.append(dataclasses.replace(resource, version=version, preferred=preferred))
    return found


def _watched() -> set[str]:
    """The resources of which Kopf has streams, by the names of their tasks."""
    start = "watcher for "
    names = [task.get_name() for task in asyncio.all_tasks() if not task.cancelling()]
    return {one.removeprefix(start).partition("@")[0] for one in names if one.startswith(start)}


def settings_in_force() -> kopf.OperatorSettings | None:
    """The settings of the operator in whose handler this is called; None outside of operators.

    Kopf hands the settings to startup handlers, and there is no public way to ask whether one is
    running. It keeps them in a context variable, which handlers in threads have, too. A Kopf that
    has none is no reason for an operator not to start: then nobody is told of a call too late.
    """
    try:
        variable = importlib.import_module("kopf._core.engines.posting").settings_var
    except (AttributeError, ImportError):
        return None
    settings: kopf.OperatorSettings | None = variable.get(None)
    return settings


def selects(args: tuple[Any, ...], options: Mapping[str, Any], resource: kopf.Resource) -> bool:
    """Whether a decorator with these arguments is about a resource.

    Only Kopf knows what each notation means, and there is no public way to ask it.
    """
    return bool(_asking(args, options)._watching.has_handlers(resource))  # noqa: SLF001


def selected_by(
    args: tuple[Any, ...], options: Mapping[str, Any], resources: Collection[kopf.Resource]
) -> Collection[kopf.Resource]:
    """The resources that a decorator with these arguments is about, of those of a cluster.

    Of several with one name, that of Kubernetes' core goes first; so one alone does not tell.
    """
    (handler,) = _asking(args, options)._watching.get_all_handlers()  # noqa: SLF001
    selected: Collection[kopf.Resource] = handler.selector.select(resources)
    return selected


def _asking(args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    registry = kopf.OperatorRegistry()
    event: Any = kopf.on.event
    event(*args, **options, registry=registry, id="selects")(_nothing)
    return registry


def _nothing(**_: Any) -> None:  # pragma: no cover - never called
    """A handler of a registry that is only asked."""


def refuse_if_kopf_compares_otherwise(finalizer: str, names: Iterable[str]) -> None:
    """Try how Kopf finds, adds and removes its finalizer.

    There is no public way to ask Kopf whether it recognises a finalizer that equals its former
    names, short of running it on an object.

    Raises:
        ConfigurationError: Kopf does not recognise a former name, or cannot be asked.
    """
    try:
        problem = _unexpected_of(
            finalizer, names, importlib.import_module("kopf._cogs.structs.finalizers")
        )
    except (AttributeError, ImportError, TypeError, ValueError) as error:
        problem = repr(error)
    if problem:
        metadata = importlib.import_module("importlib.metadata")  # slow to import
        raise ConfigurationError(
            f"This version of Kopf ({metadata.version('kopf')}) compares finalizers in a way that"
            " kopf-finalizers does not know, so former names would not be recognised, and objects"
            " that carry them would hang when they are deleted. Go back to the version of Kopf that"
            f" the last release used, and look for a newer kopf-finalizers. ({problem})"
            " [kopf-changed]"
        )


def _unexpected_of(finalizer: str, names: Iterable[str], functions: Any) -> str:
    """What Kopf does otherwise than is expected of it; empty where there is nothing."""
    other, expected = "other.org/f", str.__str__(finalizer)
    bare: dict[str, Any] = {"metadata": {"finalizers": [other]}}
    operations = kopf.Patch(
        fns=[functools.partial(functions.block_deletion, finalizer=finalizer)]
    ).as_json_patch(cast("kopf.RawBody", bare))
    if functions.is_deletion_blocked(bare, finalizer) or operations != [
        {"op": "add", "path": "/metadata/finalizers/1", "value": expected}
    ]:
        return f"an object without it gets {operations}"
    for name in names:
        body: dict[str, Any] = {"metadata": {"finalizers": [name, other, name]}}
        if not functions.is_deletion_blocked(body, finalizer):
            return f"{name} is not found"
        functions.block_deletion(body, finalizer)
        if body["metadata"]["finalizers"] != [name, other, name]:
            return f"{expected} is added to {name}"
        functions.allow_deletion(body, finalizer)
        if body["metadata"]["finalizers"] != [other]:
            return f"{name} is not removed"
    return ""


_ON_OBJECT = (
    kopf.AnnotationsProgressStorage,
    kopf.StatusProgressStorage,
    kopf.AnnotationsDiffBaseStorage,
    kopf.StatusDiffBaseStorage,
)


def parts_on_object(storage: Any) -> list[Any]:
    """The parts of a storage, itself for one that has none, that keep their records on the object.

    Only these may be asked what they would write: others might write it, to a file say.
    """
    if isinstance(storage, kopf.MultiProgressStorage | kopf.MultiDiffBaseStorage):
        return [part for one in storage.storages for part in parts_on_object(one)]
    return [storage] if isinstance(storage, _ON_OBJECT) else []


def answered(answer: Answer) -> Answer:
    """What a storage has answered, which must not have to be waited for.

    In Kopf up to 1.45 a storage answers at once; in a branch of Kopf its methods may be coroutine
    functions. The library asks storages where it cannot wait, in filters, and would take a
    coroutine for a record.

    Raises:
        ConfigurationError: It has to be waited for.
    """
    # Mostly it is one of these, and Python's own question takes as long as the storage does.
    if answer is None or type(answer) is dict or not inspect.isawaitable(answer):
        return answer
    if inspect.iscoroutine(answer):
        answer.close()  # or Python would warn that it was never awaited
    raise ConfigurationError(
        f"A storage of this operator is asynchronous ({answer!r}), and kopf-finalizers needs its"
        " answers at once, for dedicated finalizers and for records that move: use storages whose"
        " methods are plain functions, as Kopf's own are up to 1.45. If these are Kopf's own, go"
        " back to the version of Kopf that the last release used, and look for a newer"
        " kopf-finalizers. [asynchronous-storage]"
    )


class RefusedError(Exception):
    """An API server has refused what it was asked.

    Attributes:
        status: Its answer; 0 where there was none.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


async def patch_object(
    resource: kopf.Resource,
    metadata: Mapping[str, Any],
    payload: object,
    content_type: str,
    *,
    subresource: str | None = None,
    settings: kopf.OperatorSettings,
    logger: kopf.Logger,
) -> Mapping[str, Any]:
    """Send a patch of one object through Kopf's own client, once, and return the object.

    Kopf gives a patch up that is refused, and waits for an event that does not come. There is no
    public way to send one at any other time than at the end of a cycle, or as whom Kopf does.

    Raises:
        RefusedError: The API server has not taken it, or has not answered.
    """
    return await _asked(
        "patch",
        resource.get_url(
            namespace=metadata.get("namespace"), name=metadata["name"], subresource=subresource
        ),
        headers={"Content-Type": content_type},
        payload=payload,
        settings=settings,
        logger=logger,
    )


async def is_there(
    resource: kopf.Resource,
    metadata: Mapping[str, Any],
    *,
    settings: kopf.OperatorSettings,
    logger: kopf.Logger,
) -> bool:
    """Ask an API server whether this object, and no later one of its name, is there.

    It is a list of objects with this name, since Kopf's operators have the right to list, and need
    none to get. Kopf tells nothing of an object that went while no watch was open, and there is no
    public way to ask the API server as whom Kopf does.

    Raises:
        RefusedError: The API server has not answered; that a resource is not served is an answer.
    """
    selector = {"fieldSelector": f"metadata.name={metadata['name']}"}
    url = resource.get_url(namespace=metadata.get("namespace"), params=selector)
    headers = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    try:
        found = await _asked("get", url, headers=headers, settings=settings, logger=logger)
    except RefusedError as refusal:
        if refusal.status == 404:
            return False
        raise
    uids = [one["metadata"].get("uid") for one in found.get("items") or ()]
    return metadata["uid"] in uids


async def find_resource(
    body: Mapping[str, Any], *, settings: kopf.OperatorSettings, logger: kopf.Logger
) -> kopf.Resource:
    """The resource of an object, by what the API server says of its version.

    Kopf tells the resource to handlers and their filters, and there is no public way to ask for it
    from a storage, where no filter is asked about the object.

    Raises:
        RefusedError: The API server has not answered, or no longer serves that kind.
    """
    group, _, version = body["apiVersion"].rpartition("/")
    url = f"/apis/{group}/{version}" if group else f"/api/{version}"
    served = (await _asked("get", url, settings=settings, logger=logger))["resources"]
    names = [one["name"] for one in served]
    for one in served:
        # Another one of the kind may be there to be created alone, or below a resource.
        if one["kind"] == body["kind"] and "/" not in one["name"] and "patch" in one["verbs"]:
            below = f"{one['name']}/"
            return kopf.Resource(
                group=group,
                version=version,
                plural=one["name"],
                kind=one["kind"],
                namespaced=one["namespaced"],
                subresources=frozenset(
                    name.removeprefix(below) for name in names if name.startswith(below)
                ),
            )
    raise RefusedError(404, f"{body['apiVersion']} has no {body['kind']} any more")


async def _asked(
    method: str,
    url: str,
    *,
    settings: kopf.OperatorSettings,
    **request: Any,
) -> Mapping[str, Any]:
    """Ask an API server through Kopf's own client, once.

    Raises:
        RefusedError: It has refused, or has not answered.
    """
    api = importlib.import_module("kopf._cogs.clients.api")
    errors = importlib.import_module("kopf._cogs.clients.errors")
    once = dataclasses.replace(settings.networking, error_backoffs=())
    once_settings = dataclasses.replace(settings, networking=once)
    try:
        answer: Mapping[str, Any] = await getattr(api, method)(
            url=url, settings=once_settings, **request
        )
    except errors.APIError as error:
        raise RefusedError(error.status, error.message or str(error) or repr(error)) from error
    except Exception as error:
        raise RefusedError(0, str(error) or repr(error)) from error
    return answer
