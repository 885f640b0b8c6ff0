"""What an API server refuses, and in which words: Kubernetes' rules for the metadata of objects."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Body = dict[str, Any]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DNS_LABEL = "[a-z]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_QUALIFIED})?"

_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must"
    " start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for"
    f" validation is '{_LABEL}')"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.',"
    " and must start and end with an alphanumeric character (e.g. 'example.com', regex used for"
    f" validation is '{_SUBDOMAIN}')"
)
_QUALIFIED_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
    " alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for"
    f" validation is '{_QUALIFIED}')"
)
DNS_LABEL_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an"
    " alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123',"
    f" regex used for validation is '{DNS_LABEL}')"
)
_LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.',"
    " and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or"
    f" '12345', regex used for validation is '{_LABEL_VALUE}')"
)
_MAX_ANNOTATIONS = 256 * 1024


class ApiError(Exception):
    """An API server's refusal.

    Attributes:
        status: The HTTP status, such as 422.
        message: What is wrong, in the server's words.
        body: The whole answer, an object of the kind `Status`; empty where the server answers with
            a line of text, as it does for groups and versions that it does not know.

    Example:
        >>> from kopf_finalizers.testing import ApiError, ApiServer
        >>> with ApiServer() as server:
        ...     try:
        ...         server.call("DELETE", "/api/v1/namespaces/nowhere")
        ...     except ApiError as error:
        ...         print(error.body["kind"], error.status)
        Status 404
    """

    def __init__(self, status: int, message: str, body: Body) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.body = body


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one field."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


def refusal(
    code: int, reason: str | None, message: str, details: Mapping[str, Any] | None = None
) -> ApiError:
    """An error in the form that all Kubernetes API servers give it."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        **({"reason": reason} if reason else {}),
        **({"details": dict(details)} if details else {}),
        "code": code,
    }
    return ApiError(code, message, body)


def invalid(kind: str, group: str, name: str, problems: Sequence[Problem]) -> ApiError:
    """The error for an object that breaks rules: each of them is a cause of its own."""
    lines = [f"{p.field}: {p.message}" for p in problems]
    listed = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    qualified = f"{kind}.{group}" if group else kind
    causes = [{"reason": p.reason, "message": p.message, "field": p.field} for p in problems]
    details = {"name": name, "group": group, "kind": kind, "causes": causes}
    details = {key: value for key, value in details.items() if value}
    return refusal(422, "Invalid", f"{qualified} {quoted(name)} is invalid: {listed}", details)


def quoted(value: str) -> str:
    """A string as the server shows it."""
    return json.dumps(value, ensure_ascii=False)


def wrong_type(metadata: Mapping[str, Any]) -> str | None:
    """What cannot even be read as metadata, if anything."""
    for field, value in metadata.items():
        if value is None:
            continue
        if field == "finalizers":
            good = isinstance(value, list) and all(isinstance(f, str) for f in value)
        elif field in ("labels", "annotations"):
            good = isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
        elif field in ("name", "generateName", "namespace", "uid", "resourceVersion"):
            good = isinstance(value, str)
        elif field in ("creationTimestamp", "deletionTimestamp"):
            good = isinstance(value, str) and is_time(value)
        else:
            good = True
        if not good:
            return f"metadata.{field}: cannot unmarshal {json.dumps(value)}"
    return None


def is_time(text: str) -> bool:
    """Whether it is a time as the server writes it, with a zone."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def name_problems(metadata: Mapping[str, Any], *, label: bool) -> Iterator[Problem]:
    """Check the name of a new object; namespaces have the narrower rule of DNS labels."""
    pattern, rule, longest = (
        (_LABEL, _LABEL_RULE, 63) if label else (_SUBDOMAIN, _SUBDOMAIN_RULE, 253)
    )
    name = metadata["name"]
    if len(name) > longest:
        yield _invalid("metadata.name", name, f"must be no more than {longest} characters")
    if not re.fullmatch(pattern, name):
        yield _invalid("metadata.name", name, rule)


def metadata_problems(metadata: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Problem]:
    """Check the metadata of an object; `old` is what it was before, empty for a new one."""
    for key, value in metadata.get("labels", {}).items():
        yield from _qualified("metadata.labels", key)
        if len(value) > 63:
            yield _invalid("metadata.labels", value, "must be no more than 63 characters")
        if not re.fullmatch(_LABEL_VALUE, value):
            yield _invalid("metadata.labels", value, _LABEL_VALUE_RULE)
    annotations = metadata.get("annotations", {})
    for key in annotations:
        # Annotations may have upper case in their prefix, unlike labels and finalizers.
        yield from _qualified("metadata.annotations", key, key.lower())
    if sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items()) > _MAX_ANNOTATIONS:
        message = f"Too long: must have at most {_MAX_ANNOTATIONS} bytes"
        yield Problem("metadata.annotations", message, "FieldValueTooLong")
    finalizers = metadata.get("finalizers", [])
    for finalizer in finalizers:
        yield from _qualified("metadata.finalizers", finalizer)
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        message = "finalizer orphan and foregroundDeletion cannot be both set"
        yield Problem("metadata.finalizers", f"Invalid value: {_strings(finalizers)}: {message}")
    if old:
        yield from _changes(metadata, old)


def _changes(metadata: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Problem]:
    """Check what may not change."""
    new = sorted(set(metadata.get("finalizers", [])) - set(old.get("finalizers", [])))
    if new and "deletionTimestamp" in old:
        message = (
            "Forbidden: no new finalizers can be added if the object is being deleted, found new"
            f" finalizers {_strings(new)}"
        )
        yield Problem("metadata.finalizers", message, "FieldValueForbidden")
    for field in ("uid", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if metadata.get(field) != old.get(field):
            shown = _shown(field, metadata[field])
            message = f"Invalid value: {shown}: field is immutable"
            yield Problem(f"metadata.{field}", message)


def _shown(field: str, value: Any) -> str:
    if field == "deletionTimestamp":
        return f"{datetime.fromisoformat(value):%Y-%m-%d %H:%M:%S} +0000 UTC"
    return json.dumps(value)


def _qualified(field: str, name: str, checked: str | None = None) -> Iterator[Problem]:
    """Check a name by apimachinery's `IsQualifiedName`."""
    prefix, slash, last = (checked or name).rpartition("/")
    if "/" in prefix:
        both = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        yield _invalid(field, name, f"a qualified name {_QUALIFIED_RULE} {both}")
        return
    if slash and not prefix:
        yield _invalid(field, name, "prefix part must be non-empty")
    elif slash:
        if len(prefix) > 253:
            yield _invalid(field, name, "prefix part must be no more than 253 characters")
        if not re.fullmatch(_SUBDOMAIN, prefix):
            yield _invalid(field, name, f"prefix part {_SUBDOMAIN_RULE}")
    if not last:
        yield _invalid(field, name, "name part must be non-empty")
    if len(last) > 63:
        yield _invalid(field, name, "name part must be no more than 63 characters")
    if not re.fullmatch(_QUALIFIED, last):
        yield _invalid(field, name, f"name part {_QUALIFIED_RULE}")


def _invalid(field: str, value: str, rule: str) -> Problem:
    return Problem(field, f"Invalid value: {quoted(value)}: {rule}")


def _strings(values: Sequence[str]) -> str:
    return f"[]string{{{', '.join(quoted(v) for v in values)}}}"
