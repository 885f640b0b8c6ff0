"""Who an operator is, and the finalizers and the storage prefix that follow from it."""

import re
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from ._errors import ConfigurationError
from ._names import (
    MAX_NAME,
    MAX_STORAGE_PREFIX,
    OperatorName,
    OrganisationDomain,
    as_string,
    check_finalizer,
    check_kept,
    check_purpose,
)

_PLACEHOLDER = "{name}"


class OperatorIdentity(BaseModel):
    """Who an operator is: an organisation's domain and the operator's name in that organisation.

    Every name that the operator needs follows from it. Two different identities never derive the
    same finalizer nor the same storage prefix, and every derived name is one that an API server
    takes. Identities are frozen, hashable, and equal when domain and operator are.

    It assumes that the domain is the organisation's own, and that no two operators of one
    organisation have the same name. Processes of one operator that see the same objects, and divide
    them by handlers' filters, need a name each; those that divide them by `settings.watching` (Kopf
    1.45) need one name, since objects move from one to the other.

    Raises:
        pydantic.ValidationError: A `ValueError`. The domain or the operator name breaks a rule of
            Kubernetes or Kopf, or is not a string. The message names the part, the rule, and the
            name that would do where there is one.

    Example:
        >>> identity = OperatorIdentity(domain="mycompany.com", operator="db-operator")
        >>> identity.finalizer
        'mycompany.com/db-operator'
        >>> identity.finalizer_for("backups")
        'mycompany.com/db-operator.backups'
        >>> identity.storage_prefix
        'db-operator.mycompany.com'
    """

    # Built when it is first used: a third of what importing the library would take otherwise.
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    domain: OrganisationDomain
    """The organisation's domain.

    Example:
        >>> OperatorIdentity(domain="mycompany.com", operator="db-operator").domain
        'mycompany.com'
    """

    operator: OperatorName
    """The operator's name in the organisation.

    Example:
        >>> OperatorIdentity(domain="mycompany.com", operator="db-operator").operator
        'db-operator'
    """

    keep_finalizer: Annotated[str | None, BeforeValidator(check_kept)] = None
    """A finalizer that objects carry already, and that the operator keeps for good.

    It takes the place of the one that would be derived, for operators whose finalizer is no
    `<domain>/<operator>`. What that gives up: nobody can tell from it whose it is, and another
    operator may have the same, which then takes it off. Dedicated finalizers and the storage prefix
    are derived from domain and operator as ever. It must not be Kopf's default name, nor one of
    Kubernetes.

    Example:
        >>> OperatorIdentity(
        ...     domain="dask.org",
        ...     operator="kubernetes",
        ...     keep_finalizer="kubernetes.dask.org",
        ... ).finalizer
        'kubernetes.dask.org'
    """

    @model_validator(mode="after")
    def _keeps_another(self) -> Self:
        if self.keep_finalizer == self._derived:
            raise ConfigurationError(
                f'keep_finalizer="{self.keep_finalizer}" is the finalizer that domain and operator'
                " make anyway: leave it out. [keep-finalizer]"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Most identities keep nothing, and say nothing of it."""
        said: dict[str, Any] = handler(self)
        return {key: value for key, value in said.items() if value is not None}

    @model_validator(mode="after")
    def _storage_prefix_fits(self) -> Self:
        if len(self.storage_prefix) > MAX_STORAGE_PREFIX:
            raise ConfigurationError(
                f'The operator "{self.operator}" of "{self.domain}" makes a storage prefix of'
                f" {len(self.storage_prefix)} characters: Kopf's annotations need one of at most"
                f" {MAX_STORAGE_PREFIX}. Use a shorter operator name or a shorter domain."
                " [too-long]"
            )
        return self

    @classmethod
    def from_template(cls, template: str, *, name: str | None = None) -> Self:
        """An identity from a whole finalizer, or from a template of one and the name to fill in.

        Args:
            template: `<domain>/<operator>`, where `{name}` may stand in the operator part.
            name: What `{name}` stands for; left out when the template has no `{name}`.

        Raises:
            ConfigurationError: The template is not of that form, a name is missing or has no place
                to go, or what comes out breaks a rule for domains or operator names.

        Example:
            >>> OperatorIdentity.from_template(
            ...     "mycompany.com/operator-{name}", name="db"
            ... ).finalizer
            'mycompany.com/operator-db'
        """
        template = as_string("template", template)
        domain, slash, operator = template.partition("/")
        if not slash or "/" in operator:
            raise ConfigurationError(
                f'"{template}" must have one slash, between the domain and the'
                ' operator, as in "mycompany.com/operator-{name}". [template]'
            )
        if set(re.findall(r"\{[^}]*\}?|\}", operator)) - {_PLACEHOLDER} or "{" in domain:
            raise ConfigurationError(
                f'"{template}" has a placeholder that is not known: only {{name}} is,'
                ' after the slash, as in "mycompany.com/operator-{name}". [template]'
            )
        if _PLACEHOLDER in operator and name is None:
            raise ConfigurationError(
                f'"{template}" has {{name}}, but no name is given: add name="db", or'
                " what this operator is called. [template]"
            )
        if name is not None:
            name = as_string("name", name)
            if _PLACEHOLDER not in operator:
                raise ConfigurationError(
                    f'"{template}" has no {{name}} where the name "{name}" could go:'
                    ' write it as in "mycompany.com/operator-{name}", or leave the name out.'
                    " [template]"
                )
            operator = operator.replace(_PLACEHOLDER, name)
        return cls.checked(domain=domain, operator=operator)

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """The same as calling the class, with a `ConfigurationError` in pydantic's place.

        Raises:
            ConfigurationError: With one sentence for each value that will not do.

        Example:
            >>> OperatorIdentity.checked(
            ...     domain="mycompany.com", operator="db-operator"
            ... ).operator
            'db-operator'
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigurationError(" ".join(_sentences(error))) from None

    @property
    def finalizer(self) -> str:
        """The finalizer that Kopf uses for this operator: `<domain>/<operator>`, or a kept one.

        Example:
            >>> OperatorIdentity(domain="mycompany.com", operator="db-operator").finalizer
            'mycompany.com/db-operator'
        """
        return self.keep_finalizer or self._derived

    @property
    def _derived(self) -> str:
        return f"{self.domain}/{self.operator}"

    @property
    def storage_prefix(self) -> str:
        """The prefix of the annotations that Kopf keeps for this operator: `<operator>.<domain>`.

        Example:
            >>> OperatorIdentity(domain="mycompany.com", operator="db-operator").storage_prefix
            'db-operator.mycompany.com'
        """
        return f"{self.operator}.{self.domain}"

    def finalizer_for(self, purpose: str) -> str:
        """The dedicated finalizer for a purpose, or a full name when this operator may use it.

        A bare purpose is derived: `<domain>/<operator>.<purpose>`. A full name, with a slash, is
        for names that exist already; it must be in the organisation's own domain or below it.

        Raises:
            ConfigurationError: The purpose breaks a rule, is too long beside the operator's name,
                or the full name is in somebody else's domain or is the operator's own finalizer,
                which Kopf manages.

        Example:
            >>> identity = OperatorIdentity(domain="mycompany.com", operator="db-operator")
            >>> identity.finalizer_for("mycompany.com/my-finalizer")
            'mycompany.com/my-finalizer'
        """
        if "/" in as_string("finalizer", purpose):
            return self._own_full_name(check_finalizer(purpose))
        name = f"{self.operator}.{check_purpose(purpose)}"
        if len(name) > MAX_NAME:
            room = MAX_NAME - len(self.operator) - 1
            raise ConfigurationError(
                f'The purpose "{purpose}" makes a finalizer of {len(name)} characters after the'
                f' slash, "{name}": Kubernetes allows {MAX_NAME}. Use '
                + (
                    f"a purpose of at most {room} characters."
                    if room > 0
                    else "a shorter operator name, or a full name in your domain as the finalizer."
                )
                + " [too-long]"
            )
        return self._not_own(f"{self.domain}/{name}")

    def _own_full_name(self, finalizer: str) -> str:
        domain = finalizer.partition("/")[0]
        if domain != self.domain and not domain.endswith(f".{self.domain}"):
            raise ConfigurationError(
                f'The finalizer "{finalizer}" is not in the domain of this organisation,'
                f' "{self.domain}": whoever owns "{domain}" may take it off. Use'
                f' "{self.domain}/{finalizer.partition("/")[2]}", or a purpose alone, as in'
                ' "backups". [foreign-domain]'
            )
        return self._not_own(finalizer)

    def _not_own(self, finalizer: str) -> str:
        if finalizer in (self.finalizer, self._derived):
            raise ConfigurationError(
                f'The finalizer "{finalizer}" is the operator\'s own, and Kopf puts it on and takes'
                " it off: leave finalizer= out to be guarded by it, or name a purpose, as in"
                ' "backups". [own-finalizer]'
            )
        return finalizer

    def owns(self, finalizer: str) -> bool:
        """Whether this identity derives that name: its own finalizer, or one for some purpose.

        Full names that were given to a handler do not follow from the identity; the operator's
        `Finalizers.inventory()` knows those.

        Example:
            >>> identity = OperatorIdentity(domain="mycompany.com", operator="db-operator")
            >>> identity.owns("mycompany.com/db-operator.backups")
            True
            >>> identity.owns("mycompany.com/db-operator-two")
            False
        """
        if finalizer in (self.finalizer, self._derived):
            return True
        purpose = finalizer.removeprefix(f"{self._derived}.")
        try:
            return purpose != finalizer and self.finalizer_for(purpose) == finalizer
        except ConfigurationError:
            return False


def _sentences(error: ValidationError) -> list[str]:
    """What pydantic found, in our words where they are ours."""
    found = []
    for detail in error.errors(include_url=False):
        context = detail.get("ctx", {})
        if isinstance(context.get("error"), ConfigurationError):
            found.append(str(context["error"]))
        elif detail["type"] == "missing":
            found.append(f"{detail['loc'][0]}= is missing. [identity]")
        else:
            found.append(f"{detail['loc'][0]}= is not known: an identity is a domain and an"
                         " operator. [identity]")  # fmt: skip
    return found
