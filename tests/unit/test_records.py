"""What Kopf has noted on an object, as it is read by people on call; and spans of time."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers._cluster.ages import read_span, read_time, write_span
from kopf_finalizers._cluster.records import key_of, prefixes_of, records_of
from kopf_finalizers._records_of_others import last_states_in

STARTED = "2026-01-01T00:00:00.000000"


def annotated(**values: str) -> dict[str, Any]:
    """Metadata with these annotations."""
    return {"annotations": values}


@pytest.mark.parametrize(
    "value",
    [
        "",
        "[]",
        "{}",
        '{"started": "2026-',
        json.dumps({"retries": 1}),
        json.dumps({"started": 7}),
        json.dumps({"started": "yesterday"}),
        json.dumps({"started": STARTED, "retries": True}),
        json.dumps({"started": STARTED, "retries": "1"}),
        json.dumps({"started": STARTED, "by": "hand"}),
        json.dumps({"started": STARTED, "delayed": "soon"}),
    ],
)
def test_what_is_not_of_the_form_of_a_record_is_none(value: str) -> None:
    """Anybody may write annotations, and nothing is guessed of them."""
    assert records_of(annotated(**{"any.example.com/handler": value})) == []


def test_an_annotation_without_a_prefix_is_none_of_kopfs() -> None:
    """Kopf's storages refuse to be without one."""
    value = json.dumps({"started": STARTED})
    assert records_of(annotated(handler=value)) == []
    assert records_of({}) == []
    assert records_of({"annotations": {"any.example.com/handler": 7}}) == []


def test_what_kopf_writes_is_read() -> None:
    """By the storage that an operator has: with all that it knows of a handler."""
    storage = kopf.AnnotationsProgressStorage(prefix="any.example.com", v1=False, verbose=True)
    body, patch = kopf.Body({"metadata": {}}), kopf.Patch()
    written: Any = {
        "started": STARTED,
        "stopped": None,
        "delayed": "2026-01-01T00:01:00.000000+00:00",
        "purpose": "delete",
        "retries": 2,
        "success": False,
        "failure": False,
        "message": "no connection",
        "subrefs": ["parent/<lambda>"],
    }
    storage.store(key=cast("Any", "parent"), record=written, body=body, patch=patch)
    (record,) = records_of(patch["metadata"])
    assert record.prefix == "any.example.com"
    assert record.handler == "parent"
    assert (record.purpose, record.retries, record.message) == ("delete", 2, "no connection")
    assert record.delayed == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert record.subhandlers == ("parent._lambda_",)
    (key,) = storage.make_keys("parent/<lambda>")
    assert key == f"any.example.com/{key_of('parent/<lambda>')}"


def test_prefixes_are_those_of_records_and_of_what_kopf_keeps_beside() -> None:
    """The record of an object's last state, too."""
    annotations = {
        "one.example.com/last-handled-configuration": "{}",
        "two.example.com/kopf-managed": "yes",
        "three.example.com/handler": json.dumps({"started": STARTED}),
        "four.example.com/note": "x",
        "last-handled-configuration": "x",
    }
    assert prefixes_of(annotated(**annotations)) == {
        "one.example.com",
        "two.example.com",
        "three.example.com",
    }


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("0s", 0)]
)
def test_a_span_is_read_as_it_is_written_elsewhere(text: str, seconds: int) -> None:
    """In kubectl's own notation, and in days."""
    assert read_span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "m", "1m ", "-1m", "1.5h"])
def test_what_is_no_span_is_refused(text: str) -> None:
    """Rather than taken for seconds, or minutes."""
    with pytest.raises(ValueError, match="is no span of time"):
        read_span(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0, "0s"), (61, "1m1s"), (3600, "1h"), (90061, "1d1h"), (86401, "1d1s")],
)
def test_a_span_is_written_in_its_two_largest_parts(seconds: int, text: str) -> None:
    """Short enough for a column; what is in the future has no age yet."""
    assert write_span(timedelta(seconds=seconds)) == text


def test_a_time_without_a_zone_is_utc() -> None:
    """Nothing is guessed of the place where it was written."""
    assert read_time("2026-01-01T00:00:00") == read_time("2026-01-01T00:00:00Z")
    assert read_time(None) is None


@pytest.mark.parametrize("kind", ["Thing", "ReplicaSet"])
@pytest.mark.parametrize("options", [{}, {"key": "last"}, {"prefix": "any.example.com"}])
def test_a_last_state_is_told_from_its_form(options: dict[str, Any], kind: str) -> None:
    """Under whatever prefix and key an operator has Kopf write it."""
    storage = kopf.AnnotationsDiffBaseStorage(**options)
    raw: Any = {
        "kind": kind,
        "metadata": {"name": "one", "labels": {"a": "ü"}, "annotations": {"note": "x"}},
        "data": {"size": [1, 2.5, None]},
        "status": {"phase": "Ready"},
    }
    body, patch = kopf.Body(raw), kopf.Patch()
    essence = storage.build(body=body, extra_fields=["status.phase"])
    storage.store(body=body, patch=patch, essence=essence)
    annotations = dict(patch["metadata"]["annotations"])
    keys = set(storage.make_keys(storage.key, body=body))
    assert set(last_states_in(annotations, raw)) == keys


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("any.example.com/last", '{"spec":{}}'),
        ("any.example.com/last", '{"spec": {}}\n'),
        ("any.example.com/last", '{"ingress":true}\n'),
        ("any.example.com/last", "{}\n"),
        ("any.example.com/last", "{spec}\n"),
        ("any.example.com/last", 7),
        ("last", '{"spec":{}}\n'),
        ("any.example.com/last-handled-configuration", "[]"),
        ("any.example.com/last-handled-configuration", "see the wiki"),
        (
            "kubectl.kubernetes.io/last-applied-configuration",
            '{"apiVersion":"v1","kind":"Thing","metadata":{},"spec":{}}\n',
        ),
    ],
)
def test_what_is_not_of_the_form_of_a_last_state_is_none(key: str, value: object) -> None:
    """Many write JSON into annotations, kubectl among them."""
    assert last_states_in({key: value}, ["apiVersion", "kind", "metadata", "spec"]) == []


def test_under_kopfs_own_key_any_state_is_one() -> None:
    """However an older Kopf has written it, and whatever the object has had."""
    key = "any.example.com/last-handled-configuration"
    assert last_states_in({key: '{"data": {}}'}) == [key]
