"""`configure`: an operator says once who it is, and Kopf applies it when the operator starts."""

from collections.abc import Iterable, Mapping
from typing import Any

import kopf

from ._errors import ConfigurationError
from ._finalizers import Finalizers, dedicated_names, listed
from ._names import OperatorIdentity, Rollout
from ._on import FinalizerArg
from ._unset import LEFT_OUT, LeftOut

# Which operator a registry belongs to. An operator is one process with one registry and one set of
# settings, so a second identity in it would take the place of the first.
_configured: dict[kopf.OperatorRegistry, tuple[Finalizers, dict[str, Any]]] = {}


def configure(
    domain: str | None = None,
    operator: str | None = None,
    *,
    finalizer: FinalizerArg = LEFT_OUT,
    name: str | None = None,
    registry: kopf.OperatorRegistry | None = None,
    storages: bool = True,
    former: Iterable[str] = (),
    former_dedicated: Mapping[str, Iterable[str]] | None = None,
    rollout: Rollout = "switch",
    former_storage_prefix: str | LeftOut | None = LEFT_OUT,
    former_is_shared: bool = False,
) -> Finalizers:
    """Say who this operator is; from then on its finalizers and storages are its own.

    It registers an `on.startup` handler that applies the identity to Kopf's settings. Called again
    with the same identity, as in each module of an operator, it returns the same `Finalizers`.

    Args:
        domain: A domain that the organisation owns.
        operator: The operator's name, unique in the organisation.
        finalizer: In place of domain and operator: a whole finalizer, or a template of one with
            `{name}` after the slash. Or `None`, beside domain and operator, for an operator that
            only watches: it gets a unique name that it never writes, so that Kopf takes no other
            operator's finalizer off.
        name: What `{name}` in the template stands for.
        registry: Kopf's registry; its default one when left out.
        storages: With False, the progress and the diff-base storage are left alone, for operators
            that have storages of their own.
        former: The finalizers that this operator had before, as its objects carry them: with
            Kopf's default name, `["kopf.zalando.org/KopfFinalizerMarker"]`. They are recognised,
            and left behind in the stages of `rollout`.
        former_dedicated: The same for dedicated finalizers, by purpose.
        rollout: `"recognise"` in the first release with former names, `"switch"` in the second; the
            third has no former names. Each can be rolled back to the one before.
        former_storage_prefix: The prefix of the annotations where this operator's records were;
            Kopf's default, where `former` has Kopf's default name. None if they do not move. Given
            without `former`, it moves the records of an operator that has had no finalizer.
        former_is_shared: Whether another operator with the same former names, Kopf's default ones
            say, works on the same resources. Then its records and its finalizer are left alone as
            far as that can be.

    Raises:
        ConfigurationError: A name breaks a rule, the arguments do not go together, or the registry
            already belongs to another identity.

    Example:
        >>> import kopf_finalizers
        >>> finalizers = kopf_finalizers.configure(domain="mycompany.com", operator="db-operator")
        >>> finalizers.name
        'mycompany.com/db-operator'
    """
    identity = _identity(domain, operator, finalizer, name)
    watches_only = finalizer is None
    registry = kopf.get_default_registry() if registry is None else registry
    known = _configured.get(registry)
    options: dict[str, Any] = {
        "storages": storages,
        "watches_only": watches_only,
        "former": listed("former", former),
        "former_dedicated": dedicated_names(former_dedicated),
        "rollout": rollout,
        "former_storage_prefix": former_storage_prefix,
        "former_is_shared": former_is_shared,
    }
    if known is None:
        finalizers = Finalizers(identity, registry=registry, **options)
        _configured[registry] = (finalizers, options)
        _apply_at_startup(finalizers, registry)
        return finalizers
    finalizers, known_options = known
    if finalizers.identity != identity:
        raise ConfigurationError(
            f"This operator is already configured as {finalizers.name}, so it cannot be"
            f" {identity.finalizer} too: an operator has one identity. Use one configure() call,"
            " and pass what it returns to the other modules; two operators in one process need a"
            " registry= each."
        )
    others = [key for key in options if options[key] != known_options[key]]
    if others:
        names = ", ".join("finalizer=" if key == "watches_only" else f"{key}=" for key in others)
        raise ConfigurationError(
            f"{finalizers.name} is already configured with other options ({names}): call"
            " configure() with the same arguments everywhere, or once."
        )
    return finalizers


def configured_in(registry: kopf.OperatorRegistry) -> Finalizers | None:
    """What `configure` has made for this registry, if it was called."""
    finalizers, _ = _configured.get(registry, (None, None))
    return finalizers


def _identity(
    domain: str | None, operator: str | None, finalizer: FinalizerArg, name: str | None
) -> OperatorIdentity:
    if finalizer is LEFT_OUT or finalizer is None:
        if name is not None:
            raise ConfigurationError(
                f'name="{name}" fills in a template, and there is none: add'
                ' finalizer="mycompany.com/operator-{name}", or write operator= in its place.'
            )
        if domain is not None and "/" in str(domain) and operator is None:
            raise ConfigurationError(
                f'"{domain}" is a whole finalizer, where a domain is asked for: write'
                f' configure(finalizer="{domain}").'
            )
        if domain is None or operator is None:
            missing = "domain=" if domain is None else "operator="
            raise ConfigurationError(
                f"{missing} is missing: an operator is identified by a domain and a name, as in"
                ' configure(domain="mycompany.com", operator="db-operator").'
            )
        return OperatorIdentity.checked(domain=domain, operator=operator)
    if not isinstance(finalizer, str):
        raise ConfigurationError(
            f"finalizer={finalizer!r}: a whole finalizer or a template of one is a string, as in"
            ' finalizer="mycompany.com/operator-{name}"; for an operator that only watches it is'
            " None, beside domain= and operator=."
        )
    if domain is not None or operator is not None:
        raise ConfigurationError(
            f'finalizer="{finalizer}" stands in place of domain= and operator=: leave these two'
            " out, or the finalizer."
        )
    return OperatorIdentity.from_template(finalizer, name=name)


def _apply_at_startup(finalizers: Finalizers, registry: kopf.OperatorRegistry) -> None:
    @kopf.on.startup(registry=registry, id="kopf-finalizers")
    async def apply_identity_at_startup(settings: kopf.OperatorSettings, **_: Any) -> None:
        try:
            finalizers.apply(settings)
        except ConfigurationError as error:
            # Kopf tries a failed startup handler again, for ever: this one can only fail again.
            raise kopf.PermanentError(str(error)) from error
