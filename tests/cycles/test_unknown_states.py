"""An object without a last state in a known place: whether it was handled before, and what then."""

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers import ConfigurationError

from ..support.renamed import (
    KOPF,
    KOPFS_PLACE,
    NEW,
    OWN_PLACE,
    Busy,
    Operator,
    deleted,
    places_of,
    thing,
)

STATE = json.dumps({"spec": {"size": 1}}, separators=(",", ":")) + "\n"
KOPFS_STATE = f"{KOPFS_PLACE}/last-handled-configuration"
PROGRESS = json.dumps({"started": "2026-01-01T00:00:00.000000+00:00", "purpose": "create"})


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [
        (record.levelno, record.getMessage())
        for record in caplog.records
        if record.getMessage().endswith("[unknown-records]")
    ]


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ({KOPFS_STATE: STATE}, 'former_storage_prefix="kopf.zalando.org"'),
        ({"acme.example.com/last-handled-configuration": STATE}, 'prefix="acme.example.com"'),
        (
            {"acme.example.com/last": STATE},
            'AnnotationsDiffBaseStorage(prefix="acme.example.com", key="last")',
        ),
        ({f"{OWN_PLACE}/last": STATE}, f'(prefix="{OWN_PLACE}", key="last")'),
        ({"acme.example.com/create": PROGRESS}, 'former_progress_storage="acme.example.com"'),
        (
            {KOPFS_STATE: STATE, "acme.example.com/create": PROGRESS},
            '="kopf.zalando.org" and former_progress_storage="acme.example.com"',
        ),
        # The domain of a finalizer of its own: so it is no neighbour's.
        (
            {f"{OWN_PLACE}/last": STATE, f"{OWN_PLACE}/records-of": "Thing/default/one/1-2"},
            f'(prefix="{OWN_PLACE}", key="last")',
        ),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_what_looks_like_a_record_elsewhere_is_told(
    caplog: pytest.LogCaptureFixture, annotations: dict[str, str], said: str, strict: bool
) -> None:
    """Once for each resource, with what is to be said of it."""
    operator = Operator(strict=strict)
    for uid in ("1", "2"):
        operator.settle(thing(NEW, annotations=annotations, uid=uid))
    ((level, message),) = told(caplog)
    assert level == (logging.ERROR if strict else logging.WARNING)
    assert all(key in message for key in annotations if "records-of" not in key)
    assert said in message
    assert operator.called("create") == (0 if strict else 2)


@pytest.mark.parametrize(
    ("finalizers", "annotations", "metadata"),
    [
        # A creation that was cut short.
        ([NEW], {}, {}),
        ([NEW], {"acme.example.com/note": "x"}, {}),
        ([NEW], {"acme.example.com/other": PROGRESS}, {}),
        # None of this operator's objects.
        ([], {KOPFS_STATE: STATE}, {}),
        (["other.org/f"], {KOPFS_STATE: STATE}, {}),
        # Another operator's, as far as it shows.
        ([NEW, KOPF], {KOPFS_STATE: STATE}, {}),
        ([NEW, "other.org/f"], {"other.org/last-handled-configuration": STATE}, {}),
        ([NEW, "other.org/f"], {"f.other.org/create": PROGRESS}, {}),
        (
            [NEW],
            {"f.other.org/last-handled-configuration": STATE, "f.other.org/records-of": "x"},
            {},
        ),
        # A creation that is under way.
        ([NEW], {KOPFS_STATE: STATE, f"{OWN_PLACE}/create": PROGRESS}, {}),
        # It was born like this.
        (
            [NEW],
            {KOPFS_STATE: STATE},
            {"creationTimestamp": (datetime.now(UTC) + timedelta(hours=1)).isoformat()},
        ),
    ],
)
def test_a_creation_is_a_creation(
    caplog: pytest.LogCaptureFixture,
    finalizers: list[str],
    annotations: dict[str, str],
    metadata: dict[str, Any],
) -> None:
    """Where nothing says that this operator has handled the object, strictness changes nothing."""
    operator = Operator(strict=True)
    operator.settle(thing(*finalizers, annotations=annotations, **metadata))
    assert operator.calls == [("create", 0)]
    assert told(caplog) == []


def test_what_waits_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is written, neither at once nor after a while, and a change does not begin it."""
    operator = Busy(strict=True, busy="create")
    body = thing(NEW, annotations={KOPFS_STATE: STATE})
    outcome = operator.cycle(body)
    assert not outcome.patch
    assert min(outcome.delays) > 600
    patch = kopf.Patch()
    storage = operator.settings.persistence.progress_storage
    storage.touch(body=kopf.Body(cast("kopf.RawBody", body)), patch=patch, value="again")
    assert not patch
    assert not operator.cycle({**body, "spec": {"size": 2}}).patch
    assert operator.calls == []


def test_what_waits_without_a_handler_of_creations_waits_too() -> None:
    """Else what has changed meanwhile would count as handled."""
    operator = Operator(handlers="update delete", strict=True)
    body = thing(NEW, annotations={KOPFS_STATE: STATE})
    assert operator.settle({**body, "spec": {"size": 2}})["metadata"] == body["metadata"]


def test_a_deletion_goes_on() -> None:
    """Of an object that waits, and of one that is being deleted when it is seen first."""
    operator = Operator(strict=True)
    body = operator.settle(thing(NEW, annotations={KOPFS_STATE: STATE}))
    assert operator.settle(deleted(body))["metadata"].get("finalizers", []) == []
    assert operator.calls == [("delete", 0)]


def test_one_that_gets_its_last_state_waits_no_more() -> None:
    """Somebody has copied it by hand."""
    operator = Operator(strict=True)
    body = operator.settle(thing(NEW, annotations={KOPFS_STATE: STATE}))
    own = {f"{OWN_PLACE}/last-handled-configuration": STATE}
    body = thing(NEW, annotations={KOPFS_STATE: STATE, **own}, resourceVersion="2")
    operator.settle({**body, "spec": {"size": 2}})
    assert operator.calls == [("update", 0)]


def test_a_state_in_a_former_place_is_known(caplog: pytest.LogCaptureFixture) -> None:
    """Where the operator has said where its records are, they are moved."""
    operator = Operator(strict=True, former_storage_prefix=KOPFS_PLACE)
    body = operator.settle(thing(NEW, annotations={KOPFS_STATE: STATE}))
    assert places_of(body) == {OWN_PLACE}
    assert operator.calls == []
    assert told(caplog) == []


def test_a_state_that_is_missing_in_both_places_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In a rename that names another place than the right one."""
    operator = Operator(former=[KOPF], former_storage_prefix="acme.example.com")
    operator.settle(thing(KOPF, annotations={KOPFS_STATE: STATE}))
    assert len(told(caplog)) == 1


def test_a_given_storage_is_looked_at_too(caplog: pytest.LogCaptureFixture) -> None:
    """As it is given, it tells nobody what it does not find."""
    storage = kopf.AnnotationsDiffBaseStorage(prefix="acme.example.com", key="wrong")
    operator = Operator(diffbase_storage=storage)
    operator.finalizers.apply(operator.settings)  # type: ignore[union-attr]
    body = thing(NEW, annotations={"acme.example.com/right": STATE})
    operator.settle(operator.settle(body))
    assert operator.settings.persistence.diffbase_storage is storage
    assert len(told(caplog)) == 1
    assert operator.called("create") == 1


@pytest.mark.parametrize("options", [{"storages": False}, {"watches_only": True}])
def test_strict_is_refused_where_nothing_can_be_checked(options: dict[str, Any]) -> None:
    """Rather than not being so in silence."""
    with pytest.raises(ConfigurationError, match=r"strict=True .*\[configure-arguments\]"):
        Operator(strict=True, **options)
