"""`configure`: an operator says once who it is, and Kopf applies it when the operator starts."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias, overload

import kopf

from ._errors import ConfigurationError
from ._finalizers import Finalizers
from ._handlers import FinalizerArg
from ._identity import OperatorIdentity
from ._kopf import settings_in_force
from ._names import check_kept
from ._renames.declared import Former, FormerDiffBase, FormerProgress, Rollout
from ._unset import LEFT_OUT, LeftOut


@dataclass
class _Operator:
    """What `configure` has made for one registry, of which arguments."""

    finalizers: Finalizers
    options: dict[str, Any]
    # What it was applied to at once; else that is done when the operator starts.
    settings: kopf.OperatorSettings | None = None


# Where a registry keeps which operator it belongs to, for as long as it is there itself. An
# operator is one process with one registry and one set of settings, so a second identity in it
# would take the place of the first.
_PLACE = "_kopf_finalizers"


def _known(registry: kopf.OperatorRegistry) -> _Operator | None:
    """What `configure` has made for a registry."""
    known: _Operator | None = vars(registry).get(_PLACE)
    return known


# A list of names, and not one name, which is an iterable of strings too.
Names: TypeAlias = list[str] | tuple[str, ...] | set[str] | frozenset[str]


@overload
def configure(
    domain: str,
    operator: str,
    *,
    finalizer: LeftOut | None = LEFT_OUT,
    keep_finalizer: str | None = None,
    registry: kopf.OperatorRegistry | None = None,
    storages: bool = True,
    progress_storage: kopf.ProgressStorage | None = None,
    diffbase_storage: kopf.DiffBaseStorage | None = None,
    former: Names = (),
    former_dedicated: Mapping[str, Names] | None = None,
    rollout: Rollout = "switch",
    former_storage_prefix: str | LeftOut | None = LEFT_OUT,
    former_progress_storage: FormerProgress | None = None,
    former_diffbase_storage: FormerDiffBase | None = None,
    former_is_shared: bool = False,
    strict: bool = False,
    events: float | bool = False,
    skip_cleanup: str | None = None,
    settings: kopf.OperatorSettings | None = None,
) -> Finalizers: ...
@overload
def configure(
    *,
    finalizer: str,
    name: str | None = None,
    registry: kopf.OperatorRegistry | None = None,
    storages: bool = True,
    progress_storage: kopf.ProgressStorage | None = None,
    diffbase_storage: kopf.DiffBaseStorage | None = None,
    former: Names = (),
    former_dedicated: Mapping[str, Names] | None = None,
    rollout: Rollout = "switch",
    former_storage_prefix: str | LeftOut | None = LEFT_OUT,
    former_progress_storage: FormerProgress | None = None,
    former_diffbase_storage: FormerDiffBase | None = None,
    former_is_shared: bool = False,
    strict: bool = False,
    events: float | bool = False,
    skip_cleanup: str | None = None,
    settings: kopf.OperatorSettings | None = None,
) -> Finalizers: ...
def configure(
    domain: str | None = None,
    operator: str | None = None,
    *,
    finalizer: FinalizerArg = LEFT_OUT,
    name: str | None = None,
    keep_finalizer: str | None = None,
    registry: kopf.OperatorRegistry | None = None,
    storages: bool = True,
    progress_storage: kopf.ProgressStorage | None = None,
    diffbase_storage: kopf.DiffBaseStorage | None = None,
    former: Iterable[str] = (),
    former_dedicated: Mapping[str, Iterable[str]] | None = None,
    rollout: Rollout = "switch",
    former_storage_prefix: str | LeftOut | None = LEFT_OUT,
    former_progress_storage: FormerProgress | None = None,
    former_diffbase_storage: FormerDiffBase | None = None,
    former_is_shared: bool = False,
    strict: bool = False,
    events: float | bool = False,
    skip_cleanup: str | None = None,
    settings: kopf.OperatorSettings | None = None,
) -> Finalizers:
    """Say who this operator is; from then on its finalizers and storages are its own.

    It registers an `on.startup` handler that applies the identity to Kopf's settings. Called again
    with the same identity, as in each module of an operator, it returns the same `Finalizers`.

    Handlers come too late for that: Kopf takes up no startup handler while it runs them. In a
    startup handler hand over its `settings`, to which the identity is then applied at once.

    Args:
        domain: A domain that the organisation owns.
        operator: The operator's name, unique in the organisation.
        finalizer: In place of domain and operator: a whole finalizer, or a template of one with
            `{name}` after the slash. Or `None`, beside domain and operator, for an operator that
            only watches: it gets a unique name that it never writes, so that Kopf takes no other
            operator's finalizer off.
        name: What `{name}` in the template stands for.
        registry: Kopf's registry; its default one when left out.
        keep_finalizer: A finalizer that objects carry already, in place of the one that domain and
            operator make; for operators whose finalizer is none that could be made, and that never
            change it. Nobody can tell from such a name whose it is.
        storages: With False, the progress and the diff-base storage are left alone, for operators
            that have storages of their own.
        progress_storage: The progress storage, in place of the identity's.
        diffbase_storage: The diff-base storage, in place of the identity's: with options, say, as
            in `kopf.AnnotationsDiffBaseStorage(prefix="db-operator.mycompany.com",
            ignored_fields=["spec.replicas"])`.
        former: The finalizers that this operator had before, as its objects carry them: with
            Kopf's default name, `["kopf.zalando.org/KopfFinalizerMarker"]`. They are recognised,
            and left behind in the stages of `rollout`.
        former_dedicated: The same for dedicated finalizers, by purpose.
        rollout: `"recognise"` in the first release with former names, `"switch"` in the second; the
            third has no former names. Each can be rolled back to the one before.
        former_storage_prefix: The prefix of the annotations where this operator's records were;
            Kopf's default, where `former` has Kopf's default name. None if they do not move. Given
            without `former`, it moves the records of an operator that has had no finalizer.
        former_progress_storage: Where progress was, if not where last states were: a prefix, or
            the storage that the operator had. Left out beside the next one, it was under
            `former_storage_prefix`, or else where Kopf has it by default.
        former_diffbase_storage: The same for last states: a prefix, or the storage with its
            options, as in `kopf.AnnotationsDiffBaseStorage(prefix="mycompany.com", key="last")`.
        former_is_shared: Whether another operator with the same former names, Kopf's default ones
            say, works on the same resources. Then its records and its finalizer are left alone as
            far as that can be.
        strict: Whether handlers wait on an object that seems to have been handled by this operator,
            and whose last state is not where it looks for one. That is an object older than the
            process, with the operator's finalizer or a former one, and with an annotation in
            another place that looks like a record. Without strict, it is warned of, and `on.create`
            is called for it.
        events: Seconds from a deletion after which an event of the type Warning is posted for each
            finalizer of this operator that still holds the object, with the last error of its
            cleanup, and again each 30 minutes; True for 600. It needs what Kopf needs to post:
            `create` on `events`, and `settings.posting.enabled`.
        skip_cleanup: The name of an annotation with which a person may have cleanups of one object
            skipped: its value has their purposes, `backups,dns`, or `*` for every cleanup. On an
            object that is being deleted these are not called, and their finalizers go; that is
            logged, told to hooks, and posted. Who may set annotations may skip cleanups, then.
        settings: Kopf's settings, to apply the identity at once and to register nothing: those
            that Kopf gives to a startup handler, or those that an embedded operator is started
            with.

    Raises:
        ConfigurationError: A name breaks a rule, the arguments do not go together, the registry
            already belongs to another identity, or the operator runs already and `settings` is left
            out or not what it runs with.

    Example:
        >>> import kopf_finalizers
        >>> finalizers = kopf_finalizers.configure(
        ...     domain="mycompany.com", operator="db-operator"
        ... )
        >>> finalizers.name
        'mycompany.com/db-operator'
        >>> @kopf.on.startup()
        ... def change_settings(settings, **_):
        ...     settings.posting.enabled = False
        ...     kopf_finalizers.configure("mycompany.com", "db-operator", settings=settings)
    """
    identity = _identity(domain, operator, finalizer, name, keep_finalizer)
    in_force = settings_in_force()
    if in_force is not None and settings is not None and registry is None:
        _refuse_other(settings, in_force)
    registry = kopf.get_default_registry() if registry is None else registry
    given = Former.given(
        former=former,
        former_dedicated=former_dedicated,
        rollout=rollout,
        former_storage_prefix=former_storage_prefix,
        former_progress_storage=former_progress_storage,
        former_diffbase_storage=former_diffbase_storage,
        former_is_shared=former_is_shared,
    )
    options: dict[str, Any] = {
        "storages": storages,
        "progress_storage": progress_storage,
        "diffbase_storage": diffbase_storage,
        "watches_only": finalizer is None,
        "strict": strict,
        "events": events,
        "skip_cleanup": skip_cleanup,
        **vars(given),
    }
    known = _known(registry)
    if known is None:
        if in_force is not None and settings is None:
            _refuse_too_late(domain, operator, finalizer, name, keep_finalizer)
        known = _Operator(Finalizers(identity, registry=registry, **options), options)
        vars(registry)[_PLACE] = known
        if settings is None:
            _apply_at_startup(known.finalizers, registry)
    else:
        _refuse_otherwise(known, identity, options)
    if settings is not None and settings is not known.settings:
        known.settings = settings
        known.finalizers.apply(settings)
    return known.finalizers


def _refuse_otherwise(
    known: _Operator, identity: OperatorIdentity, options: dict[str, Any]
) -> None:
    """Refuse what would take the place of what the registry's operator is already."""
    name = known.finalizers.name
    if known.finalizers.identity != identity:
        raise ConfigurationError(
            f"This operator is already configured as {name}, so it cannot be"
            f" {identity.finalizer} too: an operator has one identity. Use one configure() call,"
            " and pass what it returns to the other modules; two operators in one process need a"
            " registry= each. [configured-twice]"
        )
    others = [key for key in options if options[key] != known.options[key]]
    if others:
        names = ", ".join("finalizer=" if key == "watches_only" else f"{key}=" for key in others)
        raise ConfigurationError(
            f"{name} is already configured with other options ({names}): call"
            " configure() with the same arguments everywhere, or once. [configured-twice]"
        )


def _refuse_too_late(*given: object) -> NoReturn:
    """Refuse a call for which no startup handler would run any more, with the one that would do."""
    names = ("domain", "operator", "finalizer", "name", "keep_finalizer")
    arguments = [
        f"{key}={json.dumps(one)}" if isinstance(one, str) else f"{key}={one!r}"
        for key, one in zip(names, given, strict=True)
        if one is not LEFT_OUT and (one is not None or key == "finalizer")
    ]
    line = f"kopf_finalizers.configure({', '.join([*arguments, 'settings=settings'])})"
    raise ConfigurationError(
        "configure() is called while the operator runs, when Kopf takes up no more startup"
        " handlers: the identity would not be applied, and the operator would go on with Kopf's"
        " default finalizer, which other operators take off. Hand over the settings that Kopf gives"
        f" to a handler of @kopf.on.startup(), as in {line}, or call configure() outside of"
        " handlers, where it is called when the operator's modules are imported. [configured-late]"
    )


def _refuse_other(settings: kopf.OperatorSettings, in_force: kopf.OperatorSettings) -> None:
    """Refuse settings that the running operator does not look at."""
    if settings is not in_force:
        raise ConfigurationError(
            "configure(settings=...) is called in a running operator with other settings than that"
            " operator has, so nothing would change for it: hand over those that Kopf gives to a"
            " handler of @kopf.on.startup(). For another operator in this process, say with"
            " registry= which one. [configured-late]"
        )


def configured_in(registry: kopf.OperatorRegistry) -> Finalizers | None:
    """What `configure` has made for this registry, if it was called."""
    known = _known(registry)
    return known.finalizers if known else None


def _identity(
    domain: str | None,
    operator: str | None,
    finalizer: FinalizerArg,
    name: str | None,
    keep_finalizer: str | None,
) -> OperatorIdentity:
    if keep_finalizer is not None and finalizer is not LEFT_OUT:
        raise ConfigurationError(
            f'keep_finalizer="{keep_finalizer}" goes with domain= and operator=, from which all'
            " other names follow: leave finalizer= out. [configure-arguments]"
        )
    if finalizer is LEFT_OUT or finalizer is None:
        if name is not None:
            raise ConfigurationError(
                f'name="{name}" fills in a template, and there is none: add'
                ' finalizer="mycompany.com/operator-{name}", or write operator= in its place.'
                " [configure-arguments]"
            )
        if domain is not None and "/" in str(domain) and operator is None:
            raise ConfigurationError(
                f'"{domain}" is a whole finalizer, where a domain is asked for: write'
                f' configure(finalizer="{domain}"). [configure-arguments]'
            )
        if domain is None or operator is None:
            missing = "domain=" if domain is None else "operator="
            raise ConfigurationError(
                f"{missing} is missing: an operator is identified by a domain and a name, as in"
                ' configure(domain="mycompany.com", operator="db-operator"). [configure-arguments]'
            )
        return OperatorIdentity.checked(
            domain=domain, operator=operator, keep_finalizer=keep_finalizer
        )
    if not isinstance(finalizer, str):
        raise ConfigurationError(
            f"finalizer={finalizer!r}: a whole finalizer or a template of one is a string, as in"
            ' finalizer="mycompany.com/operator-{name}"; for an operator that only watches it is'
            " None, beside domain= and operator=. [configure-arguments]"
        )
    if domain is not None or operator is not None:
        raise ConfigurationError(
            f'finalizer="{finalizer}" stands in place of domain= and operator=: leave these two'
            " out, or the finalizer. [configure-arguments]"
        )
    try:
        return OperatorIdentity.from_template(finalizer, name=name)
    except ConfigurationError as error:
        _refuse_underivable(finalizer, name, str(error))
        raise


def _refuse_underivable(finalizer: str, name: str | None, problem: str) -> None:
    """Refuse a finalizer that objects may carry, and from which no identity follows."""
    try:
        if name is not None or check_kept(finalizer) is None:
            return
    except ConfigurationError:
        return
    problem = problem.rpartition(" [")[0]
    raise ConfigurationError(
        f'finalizer="{finalizer}" is not of the form "<domain>/<operator>", from which the other'
        f" names follow. {problem} If objects carry it already, and you mean to keep it, say so"
        f' beside a domain and an operator: keep_finalizer="{finalizer}". [keep-finalizer]'
    ) from None


def _apply_at_startup(finalizers: Finalizers, registry: kopf.OperatorRegistry) -> None:
    @kopf.on.startup(registry=registry, id="kopf-finalizers")
    async def apply_identity_at_startup(settings: kopf.OperatorSettings, **_: Any) -> None:
        try:
            finalizers.apply(settings)
        except ConfigurationError as error:
            # Kopf tries a failed startup handler again, for ever: this one can only fail again.
            raise kopf.PermanentError(str(error)) from error
