"""The rules for names, and the types with which they are checked.

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
from collections.abc import Callable
from typing import Annotated

from pydantic import BeforeValidator

from ._errors import ConfigurationError

KOPF_FINALIZER = "kopf.zalando.org/KopfFinalizerMarker"
"""The finalizer of every Kopf operator that does not choose one (Kopf 1.44 to 1.45)."""

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

_KUBERNETES = {"kubernetes", "orphan", "foregroundDeletion"}
"""Finalizers without a domain that Kubernetes puts on objects itself (1.20 to 1.36)."""


def as_string(what: str, value: object) -> str:
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
    domain = as_string("domain", value)
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
    operator = as_string("operator name", value)
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
    purpose = as_string("purpose", value)
    if not _PURPOSE.fullmatch(purpose):
        rule = 'a purpose consists of lower-case letters, digits, "-" and "_"'
        problem = _problem(purpose, "a-z0-9_-")
        raise _refuse("purpose", purpose, problem, rule, check_purpose)
    return purpose


def check_finalizer(value: object) -> str:
    """A whole finalizer: returned when an API server takes it (`IsQualifiedName`)."""
    finalizer = as_string("finalizer", value)
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


def check_kept(value: object) -> str | None:
    """A finalizer that objects carry already, and that an operator keeps as its own for good."""
    if value is None:
        return None
    finalizer = check_finalizer(value)
    domain = finalizer.rpartition("/")[0]
    is_kubernetes = any(
        domain == one or domain.endswith(f".{one}")
        for one, owner in _RESERVED.items()
        if owner == "Kubernetes"
    )
    if is_kubernetes or finalizer in _KUBERNETES:
        raise ConfigurationError(
            f'keep_finalizer="{finalizer}" is a finalizer of Kubernetes, which takes it off when it'
            " likes: an operator cannot keep it as its own. [keep-finalizer]"
        )
    if finalizer == KOPF_FINALIZER:
        raise ConfigurationError(
            f'keep_finalizer="{finalizer}" is the finalizer of every Kopf operator that does not'
            " choose one, and each of them takes it off: it cannot be kept. Move to a name of this"
            f' operator, with former=["{finalizer}"]. [keep-finalizer]'
        )
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
