"""Structural schemas: what is dropped, filled in and refused, and what a stricter one holds up."""

import pytest

from kopf_finalizers.testing._definitions import custom_resource_definition

from ..support.answers import A, B, accepted, causes, change_schema, make, op, refused, stored
from ..support.servers import CRDS, Api, Body, Resource, Server, wait_until

FIELDS: Body = {
    "text": {"type": "string", "pattern": "^a", "minLength": 2, "maxLength": 4},
    "letter": {"type": "string", "enum": ["x", "y"], "description": "a letter", "title": "l"},
    "whole": {"type": "integer", "minimum": 1, "maximum": 10, "format": "int32"},
    "between": {"type": "integer", "minimum": 1, "maximum": 10},
    "even": {"type": "number", "multipleOf": 2},
    "truth": {"type": "boolean"},
    "number": {"type": "integer", "enum": [1, 2]},
    "list": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
    "map": {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 2},
    "pair": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1},
    "anyone": {"type": "object", "additionalProperties": True},
    "nothing": {"type": "string", "nullable": True},
    "port": {"x-kubernetes-int-or-string": True},
    "any": {"x-kubernetes-preserve-unknown-fields": True},
    "size": {"type": "string", "default": "small"},
    "when": {"type": "string", "format": "date-time"},
    "parts": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["key"],
            "properties": {"key": {"type": "string"}, "count": {"type": "integer", "default": 3}},
        },
    },
    "part": {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {"in": {"type": "object", "properties": {"a": {"type": "string"}}}},
    },
}
FIELDS["between"] |= {"exclusiveMinimum": True, "exclusiveMaximum": True}
SCHEMA: Body = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": {"type": "object", "properties": FIELDS},
        "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
    },
}


@pytest.fixture(scope="module")
def checked_kind(server: Server) -> Resource:
    server.define("checked.example.com", "v1", "checkeds", kind="Checked", schema=SCHEMA)
    return Resource("checked.example.com", "v1", "checkeds", "Checked")


@pytest.fixture
def checked(checked_kind: Resource, resource: Resource) -> Resource:
    """A resource with a schema, in a namespace of the test's own."""
    return checked_kind.within(resource.namespace)


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        ({"unknown": 1, "truth": True}, {"truth": True}),
        ({"size": "large"}, {"size": "large"}),
        ({"size": None, "letter": None, "nothing": None}, {"nothing": None}),
        ({"port": 1}, {"port": 1}),
        ({"port": "http"}, {"port": "http"}),
        ({"any": {"q": [1]}}, {"any": {"q": [1]}}),
        ({"any": None}, {}),
        ({"map": {"a": 1, "b": None}}, {"map": {"a": 1}}),
        ({"anyone": {"a": 1, "b": None}}, {"anyone": {"a": 1, "b": None}}),
        ({"parts": [{"key": "a", "more": 1}]}, {"parts": [{"key": "a", "count": 3}]}),
        (
            {"part": {"in": {"a": "1", "b": 2}, "more": {"y": 1}}},
            {"part": {"in": {"a": "1"}, "more": {"y": 1}}},
        ),
        ({"when": "2026-01-01T00:00:00Z"}, {"when": "2026-01-01T00:00:00Z"}),
        ({"whole": 10, "between": 2, "even": 4}, {"whole": 10, "between": 2, "even": 4}),
        ({"whole": 2.0}, {"whole": 2}),
        ({"text": "aa", "list": ["a"], "number": 2}, {"text": "aa", "list": ["a"], "number": 2}),
    ],
)
def test_fields_that_are_kept(api: Api, checked: Resource, spec: Body, kept: Body) -> None:
    """Unknown fields and nulls are dropped without a word, and defaults are filled in."""
    body = accepted(api.create(checked.path, {**checked.body("a", spec=spec), "other": 1}), 201)
    assert body["spec"] == {"size": "small", **kept}
    assert "other" not in body
    assert stored(api, checked) == body


INVALID = "Invalid value:"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"text": 1}, f'text: {INVALID} "integer": spec.text in body must be of type string: "in'),
        ({"text": True}, f'text: {INVALID} "boolean": spec.text in body must be of type string'),
        ({"text": "b"}, f'text: {INVALID} "b": spec.text in body should be at least 2 chars long'),
        (
            {"text": "abbbb"},
            f'text: {INVALID} "abbbb": spec.text in body should be at most 4 chars',
        ),
        ({"text": "bb"}, f"text: {INVALID} \"bb\": spec.text in body should match '^a'"),
        ({"letter": "z"}, 'letter: Unsupported value: "z": supported values: "x", "y"'),
        (
            {"whole": 0},
            f"whole: {INVALID} 0: spec.whole in body should be greater than or equal to",
        ),
        ({"whole": 11}, f"whole: {INVALID} 11: spec.whole in body should be less than or equal to"),
        ({"whole": 1.5}, f'whole: {INVALID} "number": spec.whole in body must be of type integer'),
        ({"between": 1}, f"between: {INVALID} 1: spec.between in body should be greater than 1"),
        ({"between": 10}, f"between: {INVALID} 10: spec.between in body should be less than 10"),
        ({"even": 3}, f"even: {INVALID} 3: spec.even in body should be a multiple of 2"),
        ({"even": "x"}, f'even: {INVALID} "string": spec.even in body must be of type number'),
        ({"truth": 1}, f'truth: {INVALID} "integer": spec.truth in body must be of type boolean'),
        ({"number": 3}, 'number: Unsupported value: 3: supported values: "1", "2"'),
        ({"list": []}, f"list: {INVALID} 0: spec.list in body should have at least 1 items"),
        (
            {"list": list("abc")},
            f"list: {INVALID} 3: spec.list in body should have at most 2 items",
        ),
        ({"list": [1]}, f'list: {INVALID} "integer": spec.list in body must be of type string'),
        ({"list": "x"}, f'list: {INVALID} "string": spec.list in body must be of type array'),
        ({"map": {"a": "b"}}, f'map.a: {INVALID} "string": spec.map.a in body must be of type int'),
        (
            {"map": {"a": 1, "b": 1, "c": 1}},
            f"map: {INVALID} 2: spec.map in body should have at most 2 properties",
        ),
        ({"pair": {}}, f"pair: {INVALID} 1: spec.pair in body should have at least 1 properties"),
        ({"nothing": 3}, f'nothing: {INVALID} "integer": spec.nothing in body must be of type str'),
        ({"port": True}, f'port: {INVALID} "boolean": spec.port in body must be of type integer,s'),
        ({"when": "now"}, f'when: {INVALID} "now": spec.when in body must be of type date-time'),
        ({"parts": [{"key": "a"}, {}]}, "parts.key: Required value"),
        (
            {"part": {"in": 1}},
            f'part.in: {INVALID} "integer": spec.part.in in body must be of type',
        ),
    ],
)
def test_fields_that_are_refused(api: Api, checked: Resource, spec: Body, message: str) -> None:
    """A field of a wrong type, out of its limits, or missing, is refused with its path."""
    answer = api.create(checked.path, checked.body("a", spec=spec))
    body = refused(answer, 422, f'Checked.checked.example.com "a" is invalid: spec.{message}')
    assert len(causes(body)) == 1
    make(api, checked)
    answer = api.merge_patch(checked.path_to("a"), {"spec": spec})
    refused(answer, 422, f"spec.{message}")


def test_a_null_in_a_list(api: Api, checked: Resource) -> None:
    """A null in a list is refused in an object, and dropped from a merge patch."""
    words = 'spec.list: Invalid value: "null": spec.list in body must be of type string: "null"'
    refused(api.create(checked.path, checked.body("a", spec={"list": [None]})), 422, words)
    make(api, checked)
    patch = {"spec": {"list": [None, "a"], "any": [None, {"a": None, "b": [1, None]}]}}
    spec = accepted(api.merge_patch(checked.path_to("a"), patch))["spec"]
    assert (spec["list"], spec["any"]) == (["a"], [{"b": [1]}])


def test_all_that_is_wrong_with_fields(api: Api, checked: Resource) -> None:
    """All fields that are wrong are told at once, those of metadata too; of a null, only one."""
    body = checked.body("a", finalizers=["a b"], spec={"text": 1, "letter": 3})
    expected = {
        ("metadata.finalizers", "FieldValueInvalid"),
        ("spec.text", "FieldValueInvalid"),
        ("spec.letter", "FieldValueInvalid"),
        ("spec.letter", "FieldValueNotSupported"),
    }
    assert causes(refused(api.create(checked.path, body), 422)) == expected
    for spec in (None, "text"):
        answer = api.create(checked.path, {**checked.body("a"), "spec": spec})
        assert len(causes(refused(answer, 422, "spec: "))) == 1


def test_a_status_has_a_schema_too(api: Api, checked: Resource) -> None:
    """A status is checked where it is written, and ignored where it is not."""
    path = checked.path_to("a")
    body = {**checked.body("a"), "status": {"ready": "text"}}
    assert "status" not in accepted(api.create(checked.path, body), 201)
    answer = api.merge_patch(f"{path}/status", {"status": {"ready": "text"}})
    refused(answer, 422, 'status.ready: Invalid value: "string": status.ready in body must be')
    kept = accepted(api.merge_patch(f"{path}/status", {"status": {"other": 1, "ready": True}}))
    assert kept["status"] == {"ready": True}
    accepted(api.merge_patch(path, {"status": {"ready": "text"}}))


STRICTER: Body = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["owner"],
            "properties": {"owner": {"type": "string"}, "x": {"type": "integer"}},
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}


def test_a_schema_that_becomes_stricter(api: Api, server: Server, resource: Resource) -> None:
    """An object that the schema does not allow any more takes no change at all, and stays.

    Not of its metadata either: its finalizers stay on. It can be read and deleted, and as soon as
    it is good again, or the schema is, its finalizers come off.
    """
    loose = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    group = "stricter.example.com"
    server.define(group, "v1", "widgets", kind="Widget", other_versions=["v1beta1"])
    widgets = Resource(group, "v1", "widgets", "Widget", resource.namespace)
    before = make(api, widgets, finalizers=[A, B])
    path, status = widgets.path_to("a"), widgets.path_to("a", "status")
    change_schema(api, widgets, STRICTER, refusing="spec.owner: Required value")
    assert stored(api, widgets) == before
    deleted = accepted(api.delete(path))
    words = 'Widget.stricter.example.com "a" is invalid: spec.owner: Required value'
    for answer in (
        api.merge_patch(path, {"metadata": {"finalizers": [B]}}),
        api.json_patch(path, [op("remove", "/metadata/finalizers/0")]),
        api.merge_patch(status, {"status": {"ready": True}}),
        api.replace(path, stored(api, widgets)),
        api.merge_patch(path, {"metadata": {"labels": {"a": "1"}}}),
    ):
        assert causes(refused(answer, 422, words)) == {("spec.owner", "FieldValueRequired")}
    assert stored(api, widgets) == deleted
    new = {"metadata": {"finalizers": [A, B, "c.example.com/f"]}}
    refused(api.merge_patch(path, new), 422, "no new finalizers can be added", "spec.owner: Req")
    # The other version has a schema of its own, and takes what this one refuses.
    older = Resource(group, "v1beta1", "widgets", "Widget", resource.namespace)
    accepted(api.merge_patch(older.path_to("a"), {"metadata": {"finalizers": [B]}}))
    refused(api.merge_patch(path, {"metadata": {"finalizers": []}}), 422, words)
    change_schema(api, widgets, loose, refusing="is invalid: metadata.name: Invalid value")
    wait_until(lambda: api.merge_patch(path, {"metadata": {"finalizers": []}}).is_success)
    refused(api.get(path), 404, reason="NotFound")


def test_a_schema_that_knows_fewer_fields(api: Api, server: Server, resource: Resource) -> None:
    """Fields that the schema does not know any more are not shown, and gone with the next write."""
    group = "fewer.example.com"
    server.define(group, "v1", "widgets", kind="Widget")
    widgets = Resource(group, "v1", "widgets", "Widget", resource.namespace)
    body = widgets.body("a", spec={"owner": "me", "old": 1})
    accepted(api.create(widgets.path, body), 201)
    change_schema(api, widgets, STRICTER, refusing="spec.owner: Required value")
    assert stored(api, widgets)["spec"] == {"owner": "me"}
    assert api.list(widgets.path)[0]["spec"] == {"owner": "me"}
    accepted(api.merge_patch(widgets.path_to("a"), {"metadata": {"labels": {"a": "1"}}}))
    assert stored(api, widgets)["spec"] == {"owner": "me"}


def schema_of(field: object) -> Body:
    return {"type": "object", "properties": {"a": field}}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, 'type: Invalid value: "string": must be object at the root'),
        ({"properties": {}}, "type: Required value: must not be empty at the root"),
        (schema_of({}), "properties[a].type: Required value: must not be empty for specified"),
        (schema_of({"type": "text"}), 'properties[a].type: Unsupported value: "text"'),
        (schema_of({"type": "array"}), "properties[a].items: Required value: must be specified"),
        (
            schema_of({"type": "string", "default": 3}),
            'properties[a].default: Invalid value: "integer":  in body must be of type string',
        ),
    ],
)
def test_a_schema_is_structural(api: Api, schema: Body, words: str) -> None:
    """A schema that does not say the type of each field is refused, with the path to it."""
    made = custom_resource_definition("badly.example.com", "v1", "widgets", schema=schema)
    refused(api.create(CRDS, made), 422, words, reason="Invalid")
