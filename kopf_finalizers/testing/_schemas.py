"""The schemas of custom resources: which fields are kept, filled in, and refused.

As a kube-apiserver 1.20 does it with structural schemas: unknown fields and nulls are dropped,
defaults are filled in, and what is left is checked as a whole, at every write.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ._refusals import Body, Problem, is_time, quoted

Schema = Mapping[str, Any]

PRESERVE = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"

# What every object has, whatever the schema says.
_ALWAYS = ("apiVersion", "kind", "metadata")

_TYPES = {"array", "boolean", "integer", "number", "object", "string"}

# What only tells people, or other programs, something: the real server does not check it either.
_TEXTS = {"description", "title", "example", "externalDocs", "x-kubernetes-list-type"}
_TEXTS |= {"x-kubernetes-list-map-keys", "x-kubernetes-map-type", "$schema"}
_FORMATS = {"int32", "int64", "float", "double", "password"}

# All that is understood here; a definition with more is refused, since it would not be done.
_KNOWN = {
    *("type", "properties", "required", "additionalProperties", "items", "nullable", "default"),
    *("enum", "format", "pattern", "minLength", "maxLength", "minItems", "maxItems", "multipleOf"),
    *("minProperties", "maxProperties", "minimum", "maximum"),
    *("exclusiveMinimum", "exclusiveMaximum", PRESERVE, _INT_OR_STRING, *_TEXTS),
}


def shaped(body: Body, schema: Schema) -> Body:
    """An object with the fields that its schema knows, and with their defaults."""
    always = {name: body[name] for name in _ALWAYS if name in body}
    rest = {k: v for k, v in body.items() if k not in always}
    properties = {k: v for k, v in schema.get("properties", {}).items() if k not in _ALWAYS}
    shaped_rest: Body = _shaped(rest, {**schema, "properties": properties})
    return always | shaped_rest


def object_problems(body: Body, schema: Schema) -> Iterator[Problem]:
    """What is wrong with an object that has been shaped."""
    properties = {k: v for k, v in schema.get("properties", {}).items() if k not in _ALWAYS}
    yield from _problems(body, {**schema, "properties": properties}, "")


def _shaped(value: Any, schema: Schema) -> Any:
    if isinstance(value, list) and "items" in schema:
        return [_shaped(item, schema["items"]) for item in value]
    if isinstance(value, float) and schema.get("type") == "integer" and value.is_integer():
        return int(value)
    if not isinstance(value, dict):
        return value
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    kept: Body = {}
    for name, field in value.items():
        own = properties.get(name, others)
        if isinstance(own, Mapping):
            if field is not None or own.get("nullable"):
                kept[name] = _shaped(field, own)
        elif own is not None or schema.get(PRESERVE):
            kept[name] = field
    for name, own in properties.items():
        if name not in kept and "default" in own:
            kept[name] = _shaped(own["default"], own)
    return kept


def _problems(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    types = _types(schema)
    found = _type_of(value)
    if value is None and schema.get("nullable"):
        return
    if types and found not in types and not (found == "integer" and "number" in types):
        wanted = ",".join(types)
        yield _wrong(path, quoted(found), f"must be of type {wanted}: {quoted(found)}")
    else:
        yield from _limits(value, schema, path)
        yield from _parts(value, schema, path)
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(quoted(str(v)) for v in schema["enum"])
        message = f"Unsupported value: {json.dumps(value)}: supported values: {supported}"
        yield Problem(path, message, "FieldValueNotSupported")


def _parts(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    """What is wrong with the fields of an object, or the items of a list."""
    if isinstance(value, list):
        # The real server does not say which item it is, either.
        for item in value:
            yield from _problems(item, schema.get("items", {}), path)
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                yield Problem(_joined(path, name), "Required value", "FieldValueRequired")
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, field in value.items():
            own = properties.get(name, others)
            if isinstance(own, Mapping):
                yield from _problems(field, own, _joined(path, name))


def _limits(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    """Which limits a value of the right type breaks: of a text, only the first is told."""
    found = _type_of(value)
    if found == "string":
        yield from list(_text_limits(value, schema, path))[:1]
    elif found in ("integer", "number"):
        yield from _number_limits(value, schema, path)
    elif found in ("array", "object"):
        kind = "Items" if found == "array" else "Properties"
        least, most = schema.get(f"min{kind}", 0), schema.get(f"max{kind}", len(value))
        # Of an object, the limit itself is shown.
        if len(value) < least:
            shown = len(value) if found == "array" else least
            yield _wrong(path, shown, f"should have at least {least} {kind.lower()}")
        if len(value) > most:
            shown = len(value) if found == "array" else most
            yield _wrong(path, shown, f"should have at most {most} {kind.lower()}")


def _text_limits(value: str, schema: Schema, path: str) -> Iterator[Problem]:
    shown = quoted(value)
    if len(value) > schema.get("maxLength", len(value)):
        yield _wrong(path, shown, f"should be at most {schema['maxLength']} chars long")
    if len(value) < schema.get("minLength", 0):
        yield _wrong(path, shown, f"should be at least {schema['minLength']} chars long")
    if not re.search(schema.get("pattern", ""), value):
        yield _wrong(path, shown, f"should match '{schema['pattern']}'")
    if schema.get("format") == "date-time" and not is_time(value):
        yield _wrong(path, shown, f"must be of type date-time: {shown}")


def _number_limits(value: float, schema: Schema, path: str) -> Iterator[Problem]:
    checks: list[tuple[str, str, Callable[[float], bool], str]] = [
        ("multipleOf", "", lambda limit: value % limit != 0, "be a multiple of"),
        ("maximum", "exclusiveMaximum", lambda limit: value > limit, "be less than or equal to"),
        ("minimum", "exclusiveMinimum", lambda limit: value < limit, "be greater than or equal to"),
    ]
    for name, exclusive, breaks, words in checks:
        if name in schema:
            limit = schema[name]
            narrow = bool(schema.get(exclusive))
            if breaks(limit) or (narrow and value == limit):
                words = words.removesuffix(" or equal to") if narrow else words
                yield _wrong(path, json.dumps(value), f"should {words} {limit}")


def schema_problems(schema: Any, path: str, *, root: bool = True) -> Iterator[Problem]:
    """What is wrong with a schema: it is not structural, or it says more than is done here."""
    if not isinstance(schema, Mapping):
        yield Problem(path, "Invalid value: a schema is an object")
        return
    for name in sorted(schema.keys() - _KNOWN):
        yield _not_done(f"{path}.{name}")
    if schema.get("format", "date-time") not in {"date-time", *_FORMATS}:
        yield _not_done(f"{path}.format")
    if isinstance(schema.get("additionalProperties"), bool) and not schema["additionalProperties"]:
        yield _not_done(f"{path}.additionalProperties")
    yield from _type_problems(schema, path, root=root)
    if "default" in schema:
        for problem in _problems(_shaped(schema["default"], schema), schema, ""):
            yield Problem(f"{path}.default", problem.message)
    for name, part in schema.get("properties", {}).items():
        where = f"{path}.properties[{name}]"
        if root and name == "metadata":
            if part != {"type": "object"}:
                yield _not_done(where)
        else:
            yield from schema_problems(part, where, root=False)
    for name in ("items", "additionalProperties"):
        if name in schema and not isinstance(schema[name], bool):
            yield from schema_problems(schema[name], f"{path}.{name}", root=False)


def _type_problems(schema: Schema, path: str, *, root: bool) -> Iterator[Problem]:
    type_ = schema.get("type", "")
    if root and not type_:
        yield Problem(f"{path}.type", "Required value: must not be empty at the root")
    elif root and type_ != "object":
        message = f"Invalid value: {quoted(str(type_))}: must be object at the root"
        yield Problem(f"{path}.type", message)
    elif not type_ and not schema.get(PRESERVE) and not schema.get(_INT_OR_STRING):
        message = "Required value: must not be empty for specified object fields"
        yield Problem(f"{path}.type", message, "FieldValueRequired")
    elif type_ and type_ not in _TYPES:
        supported = ", ".join(quoted(t) for t in sorted(_TYPES))
        message = f"Unsupported value: {quoted(str(type_))}: supported values: {supported}"
        yield Problem(f"{path}.type", message, "FieldValueNotSupported")
    if type_ == "array" and "items" not in schema:
        yield Problem(f"{path}.items", "Required value: must be specified", "FieldValueRequired")


def _not_done(path: str) -> Problem:
    return Problem(path, "Forbidden: this API server for tests does not do that")


def _types(schema: Schema) -> list[str]:
    if schema.get(_INT_OR_STRING):
        return ["integer", "string"]
    return [schema["type"]] if "type" in schema else []


def _type_of(value: Any) -> str:
    for type_, name in (
        (bool, "boolean"),
        (int, "integer"),
        (float, "number"),
        (str, "string"),
        (list, "array"),
        (dict, "object"),
    ):
        if isinstance(value, type_):
            return name
    return "null"


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong(path: str, shown: object, why: str) -> Problem:
    # A default is checked where it has no path yet: the real server leaves that blank.
    return Problem(path, f"Invalid value: {shown}: {path} in body {why}")
