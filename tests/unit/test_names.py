"""Names: what an identity derives, what is refused and why, and that nothing derives the same."""

import contextlib
import enum
from collections.abc import Callable

import pydantic
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kopf_finalizers import (
    ConfigurationError,
    FinalizerName,
    OperatorIdentity,
    OperatorName,
    OrganisationDomain,
    Purpose,
)
from kopf_finalizers._names import check_domain, check_finalizer, check_operator, check_purpose

from ..support.names import ALPHANUMERIC, FINALIZER_REFUSALS, is_qualified_name

Check = Callable[[object], str]
IDENTITY = OperatorIdentity(domain="mycompany.com", operator="db-operator")
PROPERTY = settings(deadline=None)


# What is derived


def test_identity_derives_every_name_from_domain_and_operator() -> None:
    """An identity derives the finalizer, dedicated finalizers and the storage prefix."""
    assert IDENTITY.finalizer == "mycompany.com/db-operator"
    assert IDENTITY.finalizer_for("backups") == "mycompany.com/db-operator.backups"
    assert IDENTITY.storage_prefix == "db-operator.mycompany.com"


@pytest.mark.parametrize(
    "domain",
    [
        "mycompany.com",
        "my--company.com",
        "a.b",
        "1.2",
        "a" * 100 + ".com",
        "xn--bcher-kva.example",
        "notk8s.io",
        "kopf.development",
        "kopf.zalando.org.example.com",
    ],
)
def test_domains_that_an_organisation_can_own_are_taken(domain: str) -> None:
    """A domain of the organisation's own is taken as it is, whatever it resembles."""
    assert OperatorIdentity(domain=domain, operator="db").finalizer == f"{domain}/db"


@pytest.mark.parametrize("operator", ["db", "0", "kopf-operator", "my--op", "a" * 63, "kopfs"])
def test_operator_names_that_are_labels_are_taken(operator: str) -> None:
    """An operator name that is a DNS label is taken as it is."""
    assert OperatorIdentity(domain="a.io", operator=operator).finalizer == f"a.io/{operator}"


@pytest.mark.parametrize("purpose", ["backups", "b", "0", "s3_buckets", "my-backups", "a-_-b"])
def test_purposes_are_taken_as_they_are(purpose: str) -> None:
    """A purpose may have dashes and underscores inside."""
    assert IDENTITY.finalizer_for(purpose) == f"mycompany.com/db-operator.{purpose}"


@pytest.mark.parametrize(
    "finalizer",
    ["mycompany.com/my-finalizer", "team.mycompany.com/Backups", "mycompany.com/db-operator.Old"],
)
def test_full_name_in_the_own_domain_is_taken_as_it_is(finalizer: str) -> None:
    """A full name in the organisation's domain, or below it, is nothing to derive."""
    assert IDENTITY.finalizer_for(finalizer) == finalizer


def test_longest_names_fit() -> None:
    """The limits are reached exactly: 63 after the slash, 189 in the storage prefix."""
    identity = OperatorIdentity(domain="d" * 121 + ".com", operator="o" * 63)
    assert len(identity.storage_prefix) == 189
    assert is_qualified_name(identity.finalizer)
    assert len(IDENTITY.finalizer_for("p" * 51).partition("/")[2]) == 63


# Refusals, each with its reason and the name that would do

DOMAIN_REFUSALS = {
    "": ["is empty", "RFC 1123"],
    "MyCompany.com": ['character that is not allowed, "M"', "lower-case", 'Use "mycompany.com".'],
    "my_company.com": ['character that is not allowed, "_"', 'Use "my-company.com".'],
    "my company.com": ['character that is not allowed, " "', 'Use "my-company.com".'],
    " mycompany.com": ['character that is not allowed, " "', 'Use "mycompany.com".'],
    "mycompany.com\n": ['character that is not allowed, "\\n"', 'Use "mycompany.com".'],
    "mycompany.com\x00": ['character that is not allowed, "\\u0000"'],
    "https://mycompany.com": ['character that is not allowed, ":"'],
    "mycompany.com/db": ['character that is not allowed, "/"'],
    "bücher.example": ['character that is not allowed, "ü"'],
    "kelvin\u212a.example": ['character that is not allowed, "\u212a"', 'Use "kelvink.example".'],
    "٣.example": ['character that is not allowed, "٣"'],
    ".mycompany.com": ['com" does not begin and end with', 'Use "mycompany.com".'],
    "mycompany.com.": ['com." does not begin and end with', 'Use "mycompany.com".'],
    "-mycompany.com": ['com" does not begin and end with', 'Use "mycompany.com".'],
    "my..company.com": ["has a label that does not begin and end with a letter or a digit"],
    "my-.company.com": ["has a label that does not begin and end with a letter or a digit"],
    "my.-company.com": ["has a label that does not begin and end with a letter or a digit"],
    "mycompany": ["has no dot", '"mycompany.com"'],
    "mtls-operator": ["has no dot"],
    "d" * 250 + ".com": ["has 254 characters", "Kubernetes allows 253"],
    "kubernetes.io": ["belongs to Kubernetes", "your own organisation"],
    "db.kubernetes.io": ["belongs to Kubernetes"],
    "k8s.io": ["belongs to Kubernetes"],
    "foregroundDeletion.k8s.io": ['not allowed, "D"'],
    "x-k8s.k8s.io": ["belongs to Kubernetes"],
    "kopf.zalando.org": ["belongs to Kopf"],
    "mine.kopf.zalando.org": ["belongs to Kopf"],
    "kopf.dev": ["belongs to Kopf"],
    "mine.kopf.dev": ["belongs to Kopf"],
}
OPERATOR_REFUSALS = {
    "": ["is empty", "RFC 1123 label"],
    "DB-Operator": ['character that is not allowed, "D"', 'Use "db-operator".'],
    "db.operator": ['character that is not allowed, "."', 'Use "db-operator".'],
    "db_operator": ['character that is not allowed, "_"', 'Use "db-operator".'],
    "db operator": ['character that is not allowed, " "', 'Use "db-operator".'],
    "db-operator\n": ['character that is not allowed, "\\n"', 'Use "db-operator".'],
    "db/operator": ['character that is not allowed, "/"'],
    "dß": ['character that is not allowed, "ß"'],
    "-db": ["does not begin and end with a letter or a digit", 'Use "db".'],
    "db-": ["does not begin and end with a letter or a digit", 'Use "db".'],
    "---": ["does not begin and end with a letter or a digit"],
    "o" * 64: ["has 64 characters", "Kubernetes allows 63"],
    "kopf": ['begins with "kopf."', "annotations", '"db-operator"'],
    "KOPF": ['not allowed, "K"'],
}
PURPOSE_REFUSALS = {
    "": ["is empty", "a purpose consists of"],
    "Backups": ['character that is not allowed, "B"', 'Use "backups".'],
    "my.backups": ['character that is not allowed, "."', 'Use "my-backups".'],
    "my backups": ['character that is not allowed, " "', 'Use "my-backups".'],
    "backups\n": ['character that is not allowed, "\\n"', 'Use "backups".'],
    "_backups": ["does not begin and end with a letter or a digit", 'Use "backups".'],
    "backups-": ["does not begin and end with a letter or a digit", 'Use "backups".'],
    "été": ['character that is not allowed, "é"'],
}


def _rows(
    *tables: tuple[Check, dict[str, list[str]]],
) -> list[tuple[Check, str, list[str]]]:
    return [(check, name, said) for check, table in tables for name, said in table.items()]


@pytest.mark.parametrize(
    ("check", "name", "said"),
    _rows(
        (check_domain, DOMAIN_REFUSALS),
        (check_operator, OPERATOR_REFUSALS),
        (check_purpose, PURPOSE_REFUSALS),
        (check_finalizer, FINALIZER_REFUSALS),
    ),
)
def test_name_that_will_not_do_is_refused_with_the_reason(
    check: Check, name: str, said: list[str]
) -> None:
    """A name that breaks a rule is refused with the rule, and the name that would do if any."""
    with pytest.raises(ConfigurationError) as refusal:
        check(name)
    message = str(refusal.value)
    for words in said:
        assert words in message
    assert ("Use " in message) == any("Use " in words for words in said)
    assert "\n" not in message or check is check_finalizer


@pytest.mark.parametrize("value", [None, 1, b"mycompany.com", ["a"], object(), True])
@pytest.mark.parametrize(
    ("check", "what"),
    [
        (check_domain, "domain"),
        (check_operator, "operator name"),
        (check_purpose, "purpose"),
        (check_finalizer, "finalizer"),
        (IDENTITY.finalizer_for, "finalizer"),
    ],
)
def test_what_is_not_a_string_is_refused_by_its_type(
    check: Check, what: str, value: object
) -> None:
    """A value that is not a string is refused, with its type."""
    with pytest.raises(ConfigurationError) as refusal:
        check(value)
    assert f"The {what} must be a string, not {type(value).__name__}" in str(refusal.value)


class Names(str, enum.Enum):  # noqa: UP042 - not a StrEnum: its format() may differ from its value
    """Names as operator authors may keep them."""

    DOMAIN = "mycompany.com"
    OPERATOR = "db-operator"
    PURPOSE = "backups"
    FULL = "mycompany.com/my-finalizer"

    def __str__(self) -> str:
        return "an enum's own idea of its name"


class Loud(str):
    """A string that shows itself differently."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()

    def __format__(self, spec: str) -> str:
        return self.upper()


def test_str_subclasses_count_as_their_value_and_leave_as_plain_strings() -> None:
    """An enum or another `str` subclass is its value, however it formats itself."""
    for wrapped in (Names, Loud):
        identity = OperatorIdentity(
            domain=wrapped("mycompany.com"), operator=wrapped("db-operator")
        )
        assert identity == IDENTITY
        assert identity.finalizer_for(wrapped("backups")) == "mycompany.com/db-operator.backups"
        full = identity.finalizer_for(wrapped("mycompany.com/my-finalizer"))
        assert full == "mycompany.com/my-finalizer"
        for name in (identity.domain, identity.operator, identity.finalizer, full):
            assert type(name) is str


def test_operator_name_that_leaves_no_room_for_a_purpose_is_told_so() -> None:
    """No purpose would do, so it is no help to ask for a shorter one."""
    identity = OperatorIdentity(domain="mycompany.com", operator="o" * 63)
    with pytest.raises(ConfigurationError, match="Use a shorter operator name, or a full name"):
        identity.finalizer_for("p")


@pytest.mark.parametrize(
    ("purpose", "said"),
    [
        ("p" * 52, ["64 characters after the slash", "Kubernetes allows 63", "at most 51"]),
        ("other.org/backups", ['not in the domain of this organisation, "mycompany.com"',
                               'whoever owns "other.org"', '"mycompany.com/backups"']),
        ("notmycompany.com/backups", ["not in the domain of this organisation"]),
        ("com/backups", ["not in the domain of this organisation"]),
        ("kopf.zalando.org/KopfFinalizerMarker", ['whoever owns "kopf.zalando.org"']),
        ("kubernetes.io/pvc-protection", ['whoever owns "kubernetes.io"']),
        ("/backups", ['has a domain, ""']),
        ("mycompany.com/", ['has a name, ""']),
        ("mycompany.com/a/b", ["more than one slash"]),
        ("mycompany.com/db-operator", ["the operator's own", "leave finalizer= out"]),
    ],
)  # fmt: skip
def test_purpose_that_will_not_do_beside_this_operator_is_refused(
    purpose: str, said: list[str]
) -> None:
    """A purpose too long for this operator, somebody else's name or Kopf's own job is refused."""
    with pytest.raises(ConfigurationError) as refusal:
        IDENTITY.finalizer_for(purpose)
    for words in said:
        assert words in str(refusal.value)


def test_storage_prefix_that_is_too_long_is_refused() -> None:
    """Domain and operator may each be fine and still make too long a storage prefix."""
    with pytest.raises(pydantic.ValidationError) as refusal:
        OperatorIdentity(domain="d" * 122 + ".com", operator="o" * 63)
    for words in ("a storage prefix of 190 characters", "at most 189", "shorter operator name"):
        assert words in str(refusal.value)


def test_every_value_that_will_not_do_is_reported_at_once() -> None:
    """An identity is refused with a sentence for each of its values."""
    with pytest.raises(ConfigurationError) as refusal:
        OperatorIdentity.checked(domain="MyCompany.com", operator=7)
    assert str(refusal.value).startswith('The domain "MyCompany.com" has a character')
    assert str(refusal.value).endswith(
        "The operator name must be a string, not int (7). [not-a-string]"
    )
    assert refusal.value.__suppress_context__


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "domain= is missing. [identity] operator= is missing. [identity]"),
        ({"domain": "mycompany.com"}, "operator= is missing. [identity]"),
        (
            {"domain": "mycompany.com", "operator": "db", "purpose": "x"},
            "purpose= is not known: an identity is a domain and an operator. [identity]",
        ),
    ],
)
def test_values_that_are_missing_or_unknown_are_named(
    values: dict[str, object], message: str
) -> None:
    """An identity that lacks a value, or has one too many, is refused by the value's name."""
    with pytest.raises(ConfigurationError) as refusal:
        OperatorIdentity.checked(**values)
    assert str(refusal.value) == message


# Templates


@pytest.mark.parametrize(
    ("template", "name", "finalizer"),
    [
        ("mycompany.com/db-operator", None, "mycompany.com/db-operator"),
        ("mycompany.com/operator-{name}", "db", "mycompany.com/operator-db"),
        ("mycompany.com/{name}", "db", "mycompany.com/db"),
        ("mycompany.com/{name}-{name}", "db", "mycompany.com/db-db"),
        ("mycompany.com/operator-{name}", Names.PURPOSE, "mycompany.com/operator-backups"),
        (Names.FULL, None, "mycompany.com/my-finalizer"),
    ],
)
def test_template_makes_an_identity(template: str, name: str | None, finalizer: str) -> None:
    """A whole finalizer, or a template with the name filled in, is an identity."""
    assert OperatorIdentity.from_template(template, name=name).finalizer == finalizer


@pytest.mark.parametrize(
    ("template", "name", "said"),
    [
        ("mycompany.com", None, "must have one slash"),
        ("", None, "must have one slash"),
        ("mycompany.com/a/b", None, "must have one slash"),
        ("mycompany.com/op-{name}", None, 'no name is given: add name="db"'),
        ("mycompany.com/op", "db", 'no {name} where the name "db" could go'),
        ("mycompany.com/op-{kind}", "db", "a placeholder that is not known: only {name} is"),
        ("mycompany.com/op-{name", "db", "a placeholder that is not known"),
        ("mycompany.com/op-name}", "db", "a placeholder that is not known"),
        ("mycompany.com/{{name}}", "db", "a placeholder that is not known"),
        ("{name}.com/op", "db", "a placeholder that is not known"),
        ("mycompany.com/op-{name}", "D B", 'The operator name "op-D B" has a character'),
        ("mycompany.com/op-{name}", "{name}", 'The operator name "op-{name}" has a character'),
        ("mycompany.com/op-{name}", 7, "The name must be a string, not int"),
        (7, None, "The template must be a string, not int"),
        ("mycompany/op", None, "has no dot"),
        ("mycompany.com/db.backups", None, 'Use "db-backups".'),
    ],
)
def test_template_that_makes_no_identity_is_refused(
    template: str, name: str | None, said: str
) -> None:
    """A template that is not of the form, or a name that it does not fit, is refused."""
    with pytest.raises(ConfigurationError) as refusal:
        OperatorIdentity.from_template(template, name=name)
    assert said in str(refusal.value)


# What an identity owns


@pytest.mark.parametrize(
    ("finalizer", "owned"),
    [
        ("mycompany.com/db-operator", True),
        ("mycompany.com/db-operator.backups", True),
        ("mycompany.com/db-operator.my-backups_2", True),
        ("mycompany.com/db-operator.", False),
        ("mycompany.com/db-operator.Backups", False),
        ("mycompany.com/db-operator.a.b", False),
        ("mycompany.com/db-operator.mycompany.com/x", False),
        ("mycompany.com/db-operator." + "p" * 52, False),
        ("mycompany.com/db-operator-two", False),
        ("mycompany.com/db-operator-two.backups", False),
        ("mycompany.com/db", False),
        ("mycompany.com/my-finalizer", False),
        ("other.org/db-operator", False),
        ("x.mycompany.com/db-operator", False),
        ("db-operator", False),
        ("", False),
        ("not a name", False),
    ],
)
def test_identity_owns_what_it_derives_and_nothing_else(finalizer: str, owned: bool) -> None:
    """An identity owns its finalizer and those for some purpose, and no name that looks like it."""
    assert IDENTITY.owns(finalizer) is owned


# Identities and names in users' own models


class OperatorSettings(pydantic.BaseModel):
    """A user's settings."""

    domain: OrganisationDomain = "mycompany.com"
    operator: OperatorName = "db-operator"
    purpose: Purpose = "backups"
    finalizer: FinalizerName = "mycompany.com/db-operator"


def test_annotated_types_validate_in_a_users_model() -> None:
    """The types keep valid names as they are, also from JSON."""
    assert OperatorSettings(purpose=Names.PURPOSE).purpose == "backups"
    settings_ = OperatorSettings.model_validate_json(
        '{"domain": "other.org", "operator": "x", "purpose": "y", "finalizer": "z"}'
    )
    assert settings_.model_dump() == {
        "domain": "other.org",
        "operator": "x",
        "purpose": "y",
        "finalizer": "z",
    }


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("domain", "mycompany", "has no dot"),
        ("operator", "DB", 'Use "db".'),
        ("purpose", "a.b", 'Use "a-b".'),
        ("finalizer", "a b", 'has a name, "a b"'),
        ("domain", 7, "must be a string, not int"),
        ("operator", None, "must be a string, not NoneType"),
        ("purpose", b"x", "must be a string, not bytes"),
        ("finalizer", 7.5, "must be a string, not float"),
    ],
)
def test_annotated_types_refuse_in_a_users_model(field: str, value: object, said: str) -> None:
    """A user's model reports the field, with the library's own words."""
    with pytest.raises(pydantic.ValidationError) as refusal:
        OperatorSettings.model_validate({field: value})
    (error,) = refusal.value.errors()
    assert error["loc"] == (field,)
    assert said in error["msg"]
    assert isinstance(error["ctx"]["error"], ConfigurationError)


def test_identity_survives_json() -> None:
    """An identity written as JSON and read back is the same."""
    written = IDENTITY.model_dump_json()
    assert written == '{"domain":"mycompany.com","operator":"db-operator"}'
    assert OperatorIdentity.model_validate_json(written) == IDENTITY


def test_identities_are_equal_and_hashable_by_value() -> None:
    """Two identities of one domain and operator are one key."""
    same = OperatorIdentity(domain="mycompany.com", operator="db-operator")
    other = OperatorIdentity(domain="mycompany.com", operator="db")
    assert {IDENTITY, same, other} == {IDENTITY, other}


def test_identity_cannot_be_changed() -> None:
    """An identity is frozen: its names are what they were when they were written."""
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        IDENTITY.operator = "other"


def test_refusal_is_a_value_error() -> None:
    """A refusal is a `ValueError`, as users of pydantic expect."""
    with pytest.raises(ValueError, match="must be a string"):
        check_domain(None)


# Properties

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
domains = st.lists(labels, min_size=2, max_size=4).map(".".join)
purposes = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,8}[a-z0-9])?", fullmatch=True)
# Few characters, so that parts which run into each other are met often.
tight = st.text("ab.-_", min_size=1, max_size=6)
anything = st.text(st.sampled_from("aZ0-_./ \n\u0660\u212a\u0130\x00é"), max_size=12) | st.text()
identities = st.tuples(domains | tight, labels | tight)


@PROPERTY
@given(identities, identities)
@example(("b.c", "a"), ("c.d", "a-b"))
@example(("b.c.d", "a"), ("c.d", "b"))
@example(("b.c", "a"), ("b.c", "a-b"))
def test_different_identities_never_derive_the_same(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    """Two identities that differ share neither a finalizer nor a storage prefix."""
    try:
        mine = OperatorIdentity.checked(domain=one[0], operator=one[1])
        theirs = OperatorIdentity.checked(domain=other[0], operator=other[1])
    except ConfigurationError:
        return
    same = one == other
    assert (mine == theirs) is same
    assert (mine.finalizer == theirs.finalizer) is same
    assert (mine.storage_prefix == theirs.storage_prefix) is same
    assert mine.owns(theirs.finalizer) is same


@PROPERTY
@given(domains, st.sets(labels, min_size=1, max_size=3), st.sets(purposes | tight, max_size=3))
@example("a.b", {"db", "db-x"}, {"x", "y"})
def test_different_identities_and_purposes_never_derive_the_same(
    domain: str, operators: set[str], whys: set[str]
) -> None:
    """Dedicated finalizers differ when the operator or the purpose does, and have one owner."""
    identities = [OperatorIdentity(domain=domain, operator=name) for name in operators - {"kopf"}]
    owners = dict[str, OperatorIdentity]()
    for identity in identities:
        derived = [identity.finalizer]
        for why in whys:
            with contextlib.suppress(ConfigurationError):
                derived.append(identity.finalizer_for(why))
        assert owners.keys().isdisjoint(derived)
        assert len(set(derived)) == len(derived)
        owners.update(dict.fromkeys(derived, identity))
    for finalizer, owner in owners.items():
        assert [identity for identity in identities if identity.owns(finalizer)] == [owner]


@PROPERTY
@given(domains | anything, labels | anything, purposes | anything)
def test_every_derived_name_is_qualified(domain: str, operator: str, purpose: str) -> None:
    """Every name that the library derives is one that Kubernetes takes."""
    try:
        identity = OperatorIdentity.checked(domain=domain, operator=operator)
        derived = [identity.finalizer, f"{identity.storage_prefix}/{'k' * 63}"]
        derived.append(identity.finalizer_for(purpose))
    except ConfigurationError:
        return
    assert all(is_qualified_name(name) for name in derived)


@PROPERTY
@given(
    anything
    | st.tuples(anything | domains, anything | purposes).map("/".join)
    | st.tuples(domains, st.text(sorted(ALPHANUMERIC) + list("._-"), max_size=66)).map("/".join)
)
@example("a/b")
@example("a.b/c\n")
@example("a\n/c")
@example("a/b/c")
@example("/a")
@example("a/")
@example("A")
@example("d" * 253 + "/" + "n" * 63)
@example("d" * 254 + "/" + "n" * 63)
@example("d" * 253 + "/" + "n" * 64)
def test_finalizer_is_taken_if_and_only_if_kubernetes_takes_it(value: str) -> None:
    """Whole finalizers are taken and refused as Kubernetes does, and nothing is changed."""
    try:
        assert check_finalizer(value) == value
        taken = True
    except ConfigurationError:
        taken = False
    assert taken == is_qualified_name(value)


@PROPERTY
@given(st.sampled_from([check_domain, check_operator, check_purpose]), anything)
@example(check_domain, "-_ . A.B")
@example(check_domain, "\u0130.com")
@example(check_operator, " .kopf")
def test_advice_is_a_name_that_would_do(check: Check, value: str) -> None:
    """A string is taken as it is, or refused; the name advised in its place is always taken."""
    try:
        assert check(value) == value
    except ConfigurationError as refusal:
        _, use, advice = str(refusal).rpartition(' Use "')
        if use:
            name = advice.partition('".')[0]
            assert name != value
            assert check(name) == name
