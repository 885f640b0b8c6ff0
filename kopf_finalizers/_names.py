"""Names: who an operator is, and the finalizers and the storage prefix that follow from it.

The scheme is `<domain>/<operator>` for the operator's finalizer and `<domain>/<operator>.<purpose>`
for a dedicated one. An operator and a purpose have no dot, so a name can be read back in one way
only, and two different identities never derive the same name.

Three rules meet here, and a name that breaks one is refused, never shortened or rewritten:

* Kubernetes' rule for finalizers, `IsQualifiedName` of apimachinery (the same in Kubernetes 1.20
  and 1.36): a prefix of at most 253 characters that is a lower-case RFC 1123 subdomain, a slash,
  and a name of 1 to 63 letters, digits, `-`, `_` and `.`, with a letter or a digit at both ends.
* Kopf's rule for annotation prefixes (1.44 to 1.45): at most 189 characters, so that its longest
  key still fits, and not beginning with `kopf.`, since Kopf does not mark such a prefix as its own
  and other operators would take its annotations for changes made by a user.
* Whose name it is: a domain with at least one dot, that is not Kubernetes' or Kopf's own.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from ._errors import ConfigurationError

MAX_DOMAIN = 253
MAX_NAME = 63
MAX_STORAGE_PREFIX = 189

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_DOMAIN = re.compile(rf"{_LABEL.pattern}(?:\.{_LABEL.pattern})*")
_PURPOSE = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")

_RESERVED = {
    "kubernetes.io": "Kubernetes",
    "k8s.io": "Kubernetes",
    "kopf.zalando.org": "Kopf",
    "kopf.dev": "Kopf",
}

_PLACEHOLDER = "{name}"


def _string(what: str, value: object) -> str:
    """The plain `str` of a string; a `str` subclass (an enum, say) could format differently."""
    if not isinstance(value, str):
        raise ConfigurationError(
            f"The {what} must be a string, not {type(value).__name__} ({value!r}). [not-a-string]"
        )
    return str.__str__(value)


def _refuse(
    what: str, value: str, problem: str, rule: str, check: Callable[[str], str]
) -> ConfigurationError:
    """The error for a name that will not do, with the name that would do where there is one."""
    separators = r"[\s_]+" if what == "domain" else r"[\s_.]+"
    candidate = re.sub(separators, "-", value.strip().lower()).strip(".-")
    try:
        advice = f' Use "{check(candidate)}".' if candidate != value else ""
    except ConfigurationError:
        advice = ""
    return ConfigurationError(
        f"The {what} {_quoted(value)} {problem}: {rule}.{advice} [bad-character]"
    )


def _quoted(value: str) -> str:
    """A string as it is shown in a message: in double quotes, with control characters escaped."""
    return json.dumps(value, ensure_ascii=False)


def _problem(value: str, allowed: str) -> str:
    """What is wrong with a string that is not of the wanted form, as the end of a sentence."""
    if not value:
        return "is empty"
    for character in value:
        if not re.fullmatch(f"[{allowed}]", character):
            return f"has a character that is not allowed, {_quoted(character)}"
    return "does not begin and end with a letter or a digit"


def check_domain(value: object) -> str:
    """An organisation's domain: returned when it can be the prefix of a finalizer."""
    domain = _string("domain", value)
    rule = (
        "a domain consists of labels of lower-case letters, digits and \"-\", joined by dots, each"
        " with a letter or a digit at both ends (RFC 1123), as in \"mycompany.com\""
    )  # fmt: skip
    if not _DOMAIN.fullmatch(domain):
        problem = _problem(domain, "a-z0-9.-")
        if problem.startswith("does not") and _LABEL.fullmatch(domain[0] + domain[-1]):
            problem = "has a label that does not begin and end with a letter or a digit"
        raise _refuse("domain", domain, problem, rule, check_domain)
    if "." not in domain:
        raise ConfigurationError(
            f'The domain "{domain}" has no dot: a finalizer begins with a domain that your'
            ' organisation owns, as in "mycompany.com", so that nobody else can have the same.'
            " [no-dot]"
        )
    _check_length("domain", domain, MAX_DOMAIN, "Kubernetes allows 253 before the slash")
    for reserved, owner in _RESERVED.items():
        if domain == reserved or domain.endswith(f".{reserved}"):
            raise ConfigurationError(
                f'The domain "{domain}" belongs to {owner}: use a domain of your own organisation,'
                ' as in "mycompany.com". [foreign-domain]'
            )
    return domain


def check_operator(value: object) -> str:
    """An operator's name: returned when it can be the name part of a finalizer."""
    operator = _string("operator name", value)
    if not _LABEL.fullmatch(operator):
        rule = 'an operator name consists of lower-case letters, digits and "-" (an RFC 1123 label)'
        problem = _problem(operator, "a-z0-9-")
        raise _refuse("operator name", operator, problem, rule, check_operator)
    _check_length("operator name", operator, MAX_NAME, "Kubernetes allows 63 after the slash")
    if operator == "kopf":
        raise ConfigurationError(
            'The operator name "kopf" makes a storage prefix that begins with "kopf.", which Kopf'
            " treats as its own: other operators would take this one's annotations for changes."
            " Name the operator by what it does, as in \"db-operator\". [reserved-operator]"
        )  # fmt: skip
    return operator


def check_purpose(value: object) -> str:
    """A purpose: returned when it can follow the operator's name in a finalizer."""
    purpose = _string("purpose", value)
    if not _PURPOSE.fullmatch(purpose):
        rule = 'a purpose consists of lower-case letters, digits, "-" and "_"'
        problem = _problem(purpose, "a-z0-9_-")
        raise _refuse("purpose", purpose, problem, rule, check_purpose)
    return purpose


def check_finalizer(value: object) -> str:
    """A whole finalizer: returned when an API server takes it (`IsQualifiedName`)."""
    finalizer = _string("finalizer", value)
    prefix, slash, name = finalizer.rpartition("/")
    shown = f"The finalizer {_quoted(finalizer)}"
    example = 'as in "mycompany.com/db-operator"'
    if "/" in prefix:
        raise ConfigurationError(
            f"{shown} has more than one slash: write it {example}. [finalizer-form]"
        )
    if slash and not _DOMAIN.fullmatch(prefix):
        raise ConfigurationError(
            f'{shown} has a domain, "{prefix}", that Kubernetes does not take: before the slash'
            ' stands a domain of lower-case letters, digits, "-" and dots, with a letter or a digit'
            f" at both ends of each label (RFC 1123), {example}. [finalizer-form]"
        )
    _check_length("domain", prefix, MAX_DOMAIN, "Kubernetes allows 253 before the slash")
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f'{shown} has a name, "{name}", that Kubernetes does not take: a name consists of'
            ' letters, digits, "-", "_" and ".", with a letter or a digit at both ends,'
            f" {example}. [finalizer-form]"
        )
    _check_length("finalizer's name", name, MAX_NAME, "Kubernetes allows 63 after the slash")
    return finalizer


def _check_length(what: str, value: str, limit: int, rule: str) -> None:
    if len(value) > limit:
        raise ConfigurationError(
            f'The {what} "{value}" has {len(value)} characters: {rule}. [too-long]'
        )


OrganisationDomain = Annotated[str, BeforeValidator(check_domain)]
"""A domain that an organisation owns, for fields of users' own pydantic models.

At least one dot, lower case, at most 253 characters (RFC 1123 and `IsQualifiedName`, Kubernetes
1.20 to 1.36); not Kubernetes' (`kubernetes.io`, `k8s.io` and below) and not Kopf's
(`kopf.zalando.org`, `kopf.dev` and below).

Example:
    >>> from pydantic import BaseModel
    >>> class Settings(BaseModel):
    ...     domain: OrganisationDomain = "mycompany.com"
    >>> Settings(domain="team.mycompany.com").domain
    'team.mycompany.com'
"""

OperatorName = Annotated[str, BeforeValidator(check_operator)]
"""An operator's name, for fields of users' own pydantic models.

An RFC 1123 label of at most 63 characters; not `kopf`, whose storage prefix Kopf would not mark.

Example:
    >>> from pydantic import TypeAdapter
    >>> TypeAdapter(OperatorName).validate_python("db-operator")
    'db-operator'
"""

Purpose = Annotated[str, BeforeValidator(check_purpose)]
"""What a dedicated finalizer waits for, for fields of users' own pydantic models.

Lower-case letters, digits, `-` and `_`, with a letter or a digit at both ends, and no dot. How long
it may be depends on the operator's name: both and a dot have at most 63 characters.

Example:
    >>> from pydantic import TypeAdapter
    >>> TypeAdapter(Purpose).validate_python("backups")
    'backups'
"""

FinalizerName = Annotated[str, BeforeValidator(check_finalizer)]
"""A whole finalizer, one's own or anybody's, for fields of users' own pydantic models.

Whatever a Kubernetes API server takes (`IsQualifiedName`, Kubernetes 1.20 to 1.36). That includes
names that this library never derives: with upper-case letters after the slash, or without a domain.

Example:
    >>> from pydantic import TypeAdapter
    >>> TypeAdapter(FinalizerName).validate_python("mycompany.com/db-operator")
    'mycompany.com/db-operator'
"""


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
        template = _string("template", template)
        domain, slash, operator = template.partition("/")
        if not slash or "/" in operator:
            raise ConfigurationError(
                f'The template "{template}" must have one slash, between the domain and the'
                ' operator, as in "mycompany.com/operator-{name}". [template]'
            )
        if set(re.findall(r"\{[^}]*\}?|\}", operator)) - {_PLACEHOLDER} or "{" in domain:
            raise ConfigurationError(
                f'The template "{template}" has a placeholder that is not known: only {{name}} is,'
                ' after the slash, as in "mycompany.com/operator-{name}". [template]'
            )
        if _PLACEHOLDER in operator and name is None:
            raise ConfigurationError(
                f'The template "{template}" has {{name}}, but no name is given: add name="db", or'
                " what this operator is called. [template]"
            )
        if name is not None:
            name = _string("name", name)
            if _PLACEHOLDER not in operator:
                raise ConfigurationError(
                    f'The template "{template}" has no {{name}} where the name "{name}" could go:'
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
        """The finalizer that Kopf uses for this operator: `<domain>/<operator>`.

        Example:
            >>> OperatorIdentity(domain="mycompany.com", operator="db-operator").finalizer
            'mycompany.com/db-operator'
        """
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
        if "/" in _string("finalizer", purpose):
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
        return f"{self.domain}/{name}"

    def _own_full_name(self, finalizer: str) -> str:
        domain = finalizer.partition("/")[0]
        if domain != self.domain and not domain.endswith(f".{self.domain}"):
            raise ConfigurationError(
                f'The finalizer "{finalizer}" is not in the domain of this organisation,'
                f' "{self.domain}": whoever owns "{domain}" may take it off. Use'
                f' "{self.domain}/{finalizer.partition("/")[2]}", or a purpose alone, as in'
                ' "backups". [foreign-domain]'
            )
        if finalizer == self.finalizer:
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
        if finalizer == self.finalizer:
            return True
        purpose = finalizer.removeprefix(f"{self.finalizer}.")
        try:
            return purpose != finalizer and self.finalizer_for(purpose) == finalizer
        except ConfigurationError:
            return False


def _sentences(error: ValidationError) -> list[str]:
    """What pydantic found, in our words where they are ours."""
    found = []
    for detail in error.errors(include_url=False):
        context: Mapping[str, Any] = detail.get("ctx", {})
        if isinstance(context.get("error"), ConfigurationError):
            found.append(str(context["error"]))
        elif detail["type"] == "missing":
            found.append(f"{detail['loc'][0]}= is missing. [identity]")
        else:
            found.append(f"{detail['loc'][0]}= is not known: an identity is a domain and an"
                         " operator. [identity]")  # fmt: skip
    return found
