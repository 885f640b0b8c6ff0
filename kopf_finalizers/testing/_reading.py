"""How clients read: which objects they select, how many at once, and in which form."""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ._refusals import ApiError, Body, refusal

_Test: TypeAlias = Callable[[Mapping[str, str]], bool]

_META = "meta.k8s.io"
_PARTIAL = "PartialObjectMetadata"
# The real server's own words; it has two formats more.
_NOT_ACCEPTABLE = (
    "only the following media types are accepted: application/json, application/yaml,"
    " application/vnd.kubernetes.protobuf"
)
_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start"
    " a new list without the continue parameter, or use the continue token in this response to"
    " retrieve the remainder of the results. Continuing with the provided token results in an"
    " inconsistent list - objects that were created, modified, or deleted between the time the"
    " first chunk was returned and now may show up in the list."
)
_TOKEN = re.compile(r"\s*(==|!=|[=!,()<>]|[^\s=!,()<>]+|$)")


# The form of an answer


@dataclass(frozen=True)
class Form:
    """How a client wants to have objects: whole, or no more than their metadata."""

    partial: str = ""
    of_lists: bool = False

    def of(self, answer: Body) -> Body:
        """An answer as it was asked for.

        Raises:
            ApiError: A list was asked for as an object, or the other way round.
        """
        if not self.partial or answer.get("kind") == "Status":
            return answer
        is_list = "items" in answer
        if is_list and not self.of_lists:
            message = f"you requested {_PARTIAL}, but the requested object is a list"
            raise refusal(406, "NotAcceptable", message)
        if self.of_lists and not is_list:
            raise refusal(500, None, "content is not a list")
        if not is_list:
            return self._object(answer)
        metadata = {k: v for k, v in answer["metadata"].items() if v and k != "remainingItemCount"}
        # Nothing is null here, unlike in a whole list.
        items = [self._object(item) for item in answer["items"]] or None
        return {**self._kind(f"{_PARTIAL}List"), "metadata": metadata, "items": items}

    def of_event(self, event: Body) -> Body:
        """An event of a watch; a refusal in it is as it is."""
        return {**event, "object": self.of(event["object"])}

    def _object(self, body: Body) -> Body:
        return {**self._kind(_PARTIAL), "metadata": body["metadata"]}

    def _kind(self, kind: str) -> Body:
        return {"kind": kind, "apiVersion": f"{_META}/{self.partial}"}


def asked_form(accept: str) -> Form:
    """The first form in an `Accept` header that can be had.

    What a real server would answer as a table is answered as a list here, as its clients accept.

    Raises:
        ApiError: None can.
    """
    clauses = [_clause(text) for text in (accept or "*/*").split(",")]
    for weight in sorted({weight for weight, _, _ in clauses}, reverse=True):
        for own_weight, type_, parameters in clauses:
            if own_weight != weight or type_ not in ("application/json", "application/*", "*/*"):
                continue
            kind, version = parameters.get("as", ""), parameters.get("v", "")
            if not kind:
                return Form()
            known = kind in (_PARTIAL, f"{_PARTIAL}List") and parameters.get("g") == _META
            if known and version in ("v1", "v1beta1"):
                return Form(version, of_lists=kind != _PARTIAL)
    raise refusal(406, "NotAcceptable", _NOT_ACCEPTABLE)


def _clause(text: str) -> tuple[float, str, dict[str, str]]:
    type_, *parameters = (part.strip() for part in text.split(";"))
    named = dict(part.partition("=")[::2] for part in parameters)
    try:
        return float(named.get("q", "1")), type_, named
    except ValueError:
        return 0.0, type_, named


# Selectors


@dataclass(frozen=True)
class Selection:
    """Which objects a client asks for."""

    labels: tuple[_Test, ...] = ()
    fields: tuple[_Test, ...] = ()

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return not self.labels and not self.fields

    def has(self, body: Body) -> bool:
        """Whether an object is among them."""
        labels, fields = body["metadata"].get("labels", {}), _Fields(body)
        return all(test(labels) for test in self.labels) and all(
            test(fields) for test in self.fields
        )

    def seen(self, event: Body, before: Body | None) -> Body | None:
        """What a watcher of these objects is told of a change; `before` is the last state.

        An object that gets in is added, one that gets out is deleted.
        """
        now = self.has(event["object"])
        was = self.has(before) if before else False
        if event["type"] == "MODIFIED" and now != was:
            return {**event, "type": "ADDED" if now else "DELETED"}
        return event if now or (was and event["type"] == "DELETED") else None


def selection(query: Mapping[str, str], fields: Sequence[str]) -> Selection:
    """Read the selectors of a query.

    Args:
        query: The query.
        fields: The fields that may be asked for.

    Raises:
        ApiError: They cannot be read, or ask for another field.
    """
    return Selection(
        tuple(_label_tests(query.get("labelSelector", ""))),
        tuple(_field_tests(query.get("fieldSelector", ""), fields)),
    )


class _Fields(dict[str, str]):
    """The fields of an object by their paths; one that is not there is empty."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self._body = body

    def get(self, path: str, default: Any = "") -> Any:
        found: Any = self._body
        for key in path.split("."):
            found = found.get(key, default) if isinstance(found, dict) else default
        return found


def _field_tests(text: str, fields: Sequence[str]) -> Iterator[_Test]:
    for term in filter(None, text.split(",")):
        found = re.fullmatch(r"([^=!]*)(==|!=|=)(.*)", term)
        if not found:
            message = f"invalid selector: '{text}'; can't understand '{term}'"
            raise refusal(400, "BadRequest", message)
        name, operator, value = found.groups()
        if name not in fields:
            raise refusal(400, "BadRequest", f"field label not supported: {name}")
        yield _compared(name, value, equal=operator != "!=")


def _compared(name: str, value: str, *, equal: bool) -> _Test:
    return lambda found: (found.get(name) == value) is equal


def _label_tests(text: str) -> Iterator[_Test]:
    """Read the requirements of a label selector one after the other."""
    tokens = [found[1] for found in _TOKEN.finditer(text)]
    while tokens[0]:
        yield _label_test(tokens)
        if tokens[0] == ",":
            tokens.pop(0)
            if not _is_word(tokens[0]) and tokens[0] != "!":
                raise _unexpected(tokens[0], "identifier after ','")
        elif tokens[0]:
            raise _unexpected(tokens[0], "',' or 'end of string'")


def _label_test(tokens: list[str]) -> _Test:
    negated = tokens[0] == "!"
    if negated:
        tokens.pop(0)
    name = tokens.pop(0)
    if not _is_word(name):
        raise _unexpected(name, "!, identifier, or 'end of string'")
    if negated:
        return lambda labels: name not in labels
    operator = tokens[0]
    if operator in ("", ","):
        return lambda labels: name in labels
    tokens.pop(0)
    if operator in ("=", "==", "!="):
        value = tokens.pop(0) if _is_word(tokens[0]) else ""
        return _compared(name, value, equal=operator != "!=")
    if operator in ("<", ">"):
        limit = _whole(tokens.pop(0))
        sign = 1 if operator == ">" else -1
        return lambda labels: (
            bool(re.fullmatch("-?[0-9]+", labels.get(name, "")))
            and sign * (int(labels[name]) - limit) > 0
        )
    if operator in ("in", "notin"):
        values = _values(tokens)
        wanted = operator == "in"
        return lambda labels: (labels.get(name) in values) is wanted
    raise _unexpected(operator, "'=', '!=', '==', 'in', notin'", "unable to parse requirement: ")


def _values(tokens: list[str]) -> set[str]:
    if tokens.pop(0) != "(":
        raise refusal(400, "BadRequest", "unable to parse requirement: expected: '('")
    values = {""} if tokens[0] in (")", ",") else set()
    while True:
        word = tokens.pop(0)
        if word == ")":
            return values
        if _is_word(word):
            values.add(word)
        elif word != ",":
            raise _unexpected(word, "',' or ')'", "unable to parse requirement: ")


def _is_word(token: str) -> bool:
    return bool(re.fullmatch(r"[^\s=!,()<>]+", token))


def _whole(text: str) -> int:
    if not re.fullmatch("-?[0-9]+", text):
        message = "for 'Gt', 'Lt' operators, the value must be an integer"
        raise refusal(400, "BadRequest", message)
    return int(text)


def _unexpected(found: str, expected: str, before: str = "") -> ApiError:
    return refusal(400, "BadRequest", f"{before}found '{found}', expected: {expected}")


# Pages


@dataclass(frozen=True)
class Page:
    """Which part of a list is asked for: how many, after which, and as of which version."""

    limit: int
    after: str = ""
    version: int | None = None

    def continued(self, last: str, version: int) -> str:
        """What to ask with for the rest."""
        return _token(version, last)


def asked_page(query: Mapping[str, str], oldest: int) -> Page:
    """Read how much of a list is asked for.

    Args:
        query: The query.
        oldest: The oldest version that is still known.

    Raises:
        ApiError: It cannot be read, or begins in a version that is not known any more.
    """
    try:
        limit = max(0, int(query.get("limit") or 0))
    except ValueError:
        message = f'strconv.ParseInt: parsing "{query["limit"]}": invalid syntax'
        raise refusal(400, "BadRequest", message) from None
    token = query.get("continue")
    if not token:
        return Page(limit)
    if query.get("resourceVersion", "0") not in ("", "0"):
        message = "specifying resource version is not allowed when using continue"
        raise refusal(400, "BadRequest", message)
    try:
        read = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, start = int(read["rv"]), str(read["start"])
    except (ValueError, LookupError, TypeError) as error:
        message = f"invalid continue token: continue key is not valid: {error}"
        raise refusal(400, "BadRequest", message) from None
    after = start.removesuffix("\0")
    if version < 0:
        return Page(limit, after)
    if version < oldest:
        expired = refusal(410, "Expired", _EXPIRED)
        # With this one goes on whoever would rather have a rest of another state than none.
        expired.body["metadata"] = {"continue": _token(-1, after)}
        raise expired
    return Page(limit, after, version)


def _token(version: int, after: str) -> str:
    content: Any = {"v": f"{_META}/v1", "rv": version, "start": f"{after}\0"}
    text = json.dumps(content, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
