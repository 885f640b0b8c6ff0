"""An identity applied to Kopf's settings: three things, and nobody else's record is believed."""

import json
import logging
from typing import Any, cast

import kopf
import pytest

from kopf_finalizers import Finalizers, OperatorIdentity
from kopf_finalizers._settings import KOPF_FINALIZER

from ..support.kopf_cycles import after, cycle, finalizers_of, start

IDENTITY = OperatorIdentity(domain="mycompany.com", operator="db-operator")
PREFIX = "db-operator.mycompany.com"
KOPF_PREFIX = "kopf.zalando.org"

RECORD = kopf.ProgressRecord(
    started="2030-01-01T00:00:00", stopped=None, delayed=None, purpose="create",
    retries=1, success=False, failure=False, message="again", subrefs=None,
)  # fmt: skip


def applied(
    identity: OperatorIdentity = IDENTITY,
    settings: kopf.OperatorSettings | None = None,
    **options: Any,
) -> kopf.OperatorSettings:
    settings = settings or kopf.OperatorSettings()
    options = {"registry": kopf.OperatorRegistry(), **options}
    Finalizers(identity, **options).apply(settings)
    return settings


def storages_of_its_own(settings: kopf.OperatorSettings) -> None:
    """What an operator sets that has said `storages=False`."""
    settings.persistence.progress_storage = kopf.StatusProgressStorage(name="mine")
    settings.persistence.diffbase_storage = kopf.StatusDiffBaseStorage(name="mine")


def body_with(
    *finalizers: str, annotations: dict[str, str] | None = None, **metadata: Any
) -> kopf.Body:
    body = {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {
            "name": "t",
            "namespace": "default",
            "finalizers": list(finalizers),
            **({"annotations": annotations} if annotations else {}),
            **metadata,
        },
        "spec": {"size": 1},
    }
    return kopf.Body(cast("kopf.RawBody", body))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "kopf_finalizers" and record.levelno == logging.WARNING
    ]


def test_identity_sets_finalizer_and_both_storages() -> None:
    """An identity is three things to Kopf, and none of the three is left at its default."""
    settings = applied()
    assert settings.persistence.finalizer == "mycompany.com/db-operator"
    for storage in (settings.persistence.progress_storage, settings.persistence.diffbase_storage):
        assert cast("Any", storage).prefix == PREFIX


def test_everything_is_written_under_the_own_prefix_and_once() -> None:
    """Progress and the last state go to the identity's annotations, in the newer form alone."""
    persistence = applied().persistence
    body = body_with()
    patch = kopf.Patch(body=body)
    handler = cast("kopf.HandlerId", "create_fn/spec.size")
    essence = persistence.diffbase_storage.build(body=body)
    persistence.progress_storage.store(key=handler, record=RECORD, body=body, patch=patch)
    persistence.diffbase_storage.store(body=body, patch=patch, essence=essence)
    assert set(patch) == {"metadata"}
    assert set(patch.metadata) == {"annotations"}
    assert set(patch.metadata.annotations) == {
        f"{PREFIX}/kopf-managed",
        f"{PREFIX}/records-of",
        f"{PREFIX}/create_fn.spec.size",
        f"{PREFIX}/last-handled-configuration",
    }


@pytest.mark.parametrize("watches_only", [False, True])
def test_longest_prefix_makes_annotations_that_are_not_cut(watches_only: bool) -> None:
    """The longest prefix there is leaves Kopf's keys whole, and none of the older, cut form."""
    identity = OperatorIdentity(domain="d" * 121 + ".com", operator="o" * 63)
    settings = applied(identity, watches_only=watches_only)
    body = body_with()
    patch = kopf.Patch(body=body)
    persistence = settings.persistence
    key = cast("kopf.HandlerId", "h" * 63)
    essence = persistence.diffbase_storage.build(body=body)
    persistence.progress_storage.store(key=key, record=RECORD, body=body, patch=patch)
    persistence.diffbase_storage.store(body=body, patch=patch, essence=essence)
    assert set(patch.metadata.annotations) == {
        f"{identity.storage_prefix}/{name}"
        for name in ("h" * 63, "kopf-managed", "last-handled-configuration", "records-of")
    }


def test_what_was_written_is_read_back() -> None:
    """The storages read what they have written."""
    persistence = applied().persistence
    body = body_with()
    patch = kopf.Patch(body=body)
    key = cast("kopf.HandlerId", "create_fn")
    essence = persistence.diffbase_storage.build(body=body)
    persistence.progress_storage.store(key=key, record=RECORD, body=body, patch=patch)
    persistence.diffbase_storage.store(body=body, patch=patch, essence=essence)
    seen = kopf.Body(cast("kopf.RawBody", after(dict(body), patch)))
    assert persistence.diffbase_storage.fetch(body=seen) == {"spec": {"size": 1}}
    record = persistence.progress_storage.fetch(key=key, body=seen)
    assert record is not None
    assert record["message"] == "again"


@pytest.mark.parametrize("watches_only", [False, True])
def test_record_in_kopfs_default_place_is_not_believed(watches_only: bool) -> None:
    """Another operator's record, where Kopf writes by default, is none of this operator's."""
    defaults = kopf.OperatorSettings().persistence
    persistence = applied(watches_only=watches_only).persistence
    body = body_with()
    patch = kopf.Patch(body=body)
    key = cast("kopf.HandlerId", "create_fn")
    defaults.progress_storage.store(key=key, record=RECORD, body=body, patch=patch)
    essence = defaults.diffbase_storage.build(body=body)
    defaults.diffbase_storage.store(body=body, patch=patch, essence=essence)
    seen = kopf.Body(cast("kopf.RawBody", after(dict(body), patch)))
    assert defaults.progress_storage.fetch(key=key, body=seen) is not None
    assert defaults.diffbase_storage.fetch(body=seen) is not None
    assert persistence.progress_storage.fetch(key=key, body=seen) is None
    assert persistence.diffbase_storage.fetch(body=seen) is None


def test_two_operators_do_not_take_each_others_annotations_for_changes() -> None:
    """What one operator writes is marked as Kopf's, so the other one sees no change in it."""
    mine = applied().persistence
    theirs = applied(OperatorIdentity(domain="other.org", operator="x"))
    body = body_with()
    patch = kopf.Patch(body=body)
    key = cast("kopf.HandlerId", "create_fn")
    theirs.persistence.progress_storage.store(key=key, record=RECORD, body=body, patch=patch)
    seen = kopf.Body(cast("kopf.RawBody", after(dict(body), patch)))
    essence = mine.progress_storage.clear(essence=mine.diffbase_storage.build(body=seen))
    assert essence == {"spec": {"size": 1}}


def test_storages_are_left_alone_when_asked_for() -> None:
    """With `storages=False` an operator keeps its own; the finalizer is set all the same."""
    settings = kopf.OperatorSettings()
    progress, diffbase = kopf.StatusProgressStorage(name="mine"), kopf.StatusDiffBaseStorage()
    settings.persistence.progress_storage = progress
    settings.persistence.diffbase_storage = diffbase
    applied(settings=settings, storages=False)
    assert settings.persistence.progress_storage is progress
    assert settings.persistence.diffbase_storage is diffbase
    assert settings.persistence.finalizer == IDENTITY.finalizer


def test_operator_that_only_watches_takes_no_other_finalizer_off() -> None:
    """Kopf takes its finalizer off where nothing needs it: so a watching operator has a unique one.

    The same operator with Kopf's default settings takes the default finalizer off, whosever it is.
    """
    registry = kopf.OperatorRegistry()
    kopf.on.create("things", registry=registry, id="created")(lambda **_: None)
    body = dict(body_with(KOPF_FINALIZER, "other.org/f"))
    watching = applied(watches_only=True)
    assert cycle(registry, watching, body).finalizers() == [KOPF_FINALIZER, "other.org/f"]
    assert cycle(registry, kopf.OperatorSettings(), body).finalizers() == ["other.org/f"]


# The warning


def test_default_marker_with_nothing_of_the_own_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An object that an earlier release may have left behind is named, with what to read."""
    applied().persistence.diffbase_storage.fetch(body=body_with("other.org/f", KOPF_FINALIZER))
    (warning,) = warnings_of(caplog)
    assert warning.startswith("Objects of example.com/v1 Thing carry Kopf's default finalizer,")
    for words in (
        KOPF_FINALIZER,
        "nothing of this operator, mycompany.com/db-operator (default/t is one)",
        "will hang when they are deleted",
        '"Adopting it on a live cluster"',
    ):
        assert words in warning


def test_warning_comes_once_for_each_resource(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand objects make one warning; another resource makes another one."""
    storage = applied().persistence.diffbase_storage
    for name in ("a", "b", "a"):
        storage.fetch(body=body_with(KOPF_FINALIZER, name=name))
    assert len(warnings_of(caplog)) == 1
    other = {"apiVersion": "v1", "kind": "Pod", "metadata": {"finalizers": [KOPF_FINALIZER]}}
    storage.fetch(body=kopf.Body(cast("kopf.RawBody", other)))
    assert [message.split(" carry")[0] for message in warnings_of(caplog)] == [
        "Objects of example.com/v1 Thing",
        "Objects of v1 Pod",
    ]


def test_object_without_a_namespace_is_named_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A cluster-wide object is shown by its name."""
    storage = applied().persistence.diffbase_storage
    storage.fetch(body=body_with(KOPF_FINALIZER, name="everywhere", namespace=None))
    assert "(everywhere is one)" in warnings_of(caplog)[0]


@pytest.mark.parametrize(
    "body",
    [
        body_with(),
        body_with("other.org/f"),
        body_with(KOPF_FINALIZER, "mycompany.com/db-operator"),
        body_with(KOPF_FINALIZER, "mycompany.com/db-operator.backups"),
        body_with(KOPF_FINALIZER, annotations={f"{PREFIX}/last-handled-configuration": "{}"}),
        body_with(KOPF_FINALIZER, annotations={f"{PREFIX}/kopf-managed": "yes"}),
    ],
)
def test_object_that_is_known_or_nobodys_is_not_warned_about(
    body: kopf.Body, caplog: pytest.LogCaptureFixture
) -> None:
    """Without Kopf's marker, or with anything of one's own, nothing has been left behind."""
    applied().persistence.diffbase_storage.fetch(body=body)
    assert warnings_of(caplog) == []


@pytest.mark.parametrize(
    "body",
    [
        body_with(KOPF_FINALIZER, "mycompany.com/db-operator-two"),
        body_with(KOPF_FINALIZER, annotations={f"{KOPF_PREFIX}/last-handled-configuration": "{}"}),
        body_with(KOPF_FINALIZER, annotations={f"{PREFIX}.example.com/x": "{}"}),
    ],
)
def test_what_only_looks_like_the_own_does_not_count(
    body: kopf.Body, caplog: pytest.LogCaptureFixture
) -> None:
    """Another operator's finalizer or annotation, however alike, is nothing of this one."""
    applied().persistence.diffbase_storage.fetch(body=body)
    assert len(warnings_of(caplog)) == 1


@pytest.mark.parametrize("storages", [True, False])
@pytest.mark.parametrize("options", [{"watches_only": True}, {"former": [KOPF_FINALIZER]}])
def test_operator_that_has_left_nothing_behind_does_not_warn(
    options: dict[str, Any], storages: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """One that only watches never put a finalizer on; one that knows the former one moves it."""
    registry = kopf.OperatorRegistry()
    kopf.on.update("things", registry=registry, id="updated")(lambda **_: None)
    settings = applied(registry=registry, storages=storages, **options)
    if not storages:
        storages_of_its_own(settings)
    cycle(registry, settings, dict(body_with(KOPF_FINALIZER)))
    assert warnings_of(caplog) == []


def test_warning_does_not_change_what_is_read(caplog: pytest.LogCaptureFixture) -> None:
    """The storage that warns is a diff-base storage first."""
    annotation = {f"{PREFIX}/last-handled-configuration": json.dumps({"spec": {"size": 2}})}
    storage = applied().persistence.diffbase_storage
    assert storage.fetch(body=body_with(annotations=annotation)) == {"spec": {"size": 2}}
    assert storage.fetch(body=body_with(KOPF_FINALIZER)) is None


@pytest.mark.parametrize("storages", [True, False])
@pytest.mark.parametrize("decorator", ["ours", "Kopf's"])
def test_every_object_of_the_operator_is_looked_at(
    storages: bool, decorator: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning comes in an operator's first cycle over such an object, whatever its storages."""
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    finalizers = Finalizers(IDENTITY, registry=registry, storages=storages)
    if not storages:
        storages_of_its_own(settings)
    finalizers.apply(settings)
    if decorator == "ours":
        finalizers.on.delete("things", id="delete")(lambda **_: None)
    else:
        kopf.on.delete("things", id="delete", registry=registry)(lambda **_: None)
    start(registry, settings)
    body = dict(body_with(KOPF_FINALIZER))
    assert finalizers_of(cycle(registry, settings, body).after()) == [
        KOPF_FINALIZER,
        "mycompany.com/db-operator",
    ]
    assert len(warnings_of(caplog)) == 1


def test_identity_that_is_applied_again_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    """As in tests that run an operator several times in one process."""
    registry = kopf.OperatorRegistry()
    kopf.on.delete("things", id="delete", registry=registry)(lambda **_: None)
    finalizers = Finalizers(IDENTITY, registry=registry, storages=False)
    for _ in range(2):
        settings = kopf.OperatorSettings()
        storages_of_its_own(settings)
        finalizers.apply(settings)
        start(registry, settings)
        cycle(registry, settings, dict(body_with(KOPF_FINALIZER)))
    assert len(warnings_of(caplog)) == 1
    assert len(registry._watching.get_all_handlers()) == 1


# What is set anew


def looked_at(settings: kopf.OperatorSettings, registry: kopf.OperatorRegistry) -> None:
    for _ in range(2):
        cycle(registry, settings, dict(body_with()))


def an_operator(
    finalizer: str | None = None, **options: Any
) -> tuple[kopf.OperatorSettings, kopf.OperatorRegistry]:
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    finalizers = Finalizers(IDENTITY, registry=registry, **options)
    given = {"finalizer": finalizer} if finalizer else {}
    cast("Any", finalizers.on.delete)("things", id="delete", **given)(lambda **_: None)
    if not options.get("storages", True):
        storages_of_its_own(settings)
    finalizers.apply(settings)
    return settings, registry


@pytest.mark.parametrize("options", [{}, {"storages": False}, {"former": ["old.org/f"]}])
@pytest.mark.parametrize("name", ["other.org/f", "old.org/f"])
def test_finalizer_that_is_set_anew_is_warned_about(
    name: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A startup handler of before the adoption comes after the identity is applied: once."""
    options = {"former_storage_prefix": None, **options} if "former" in options else options
    settings, registry = an_operator(**options)
    settings.persistence.finalizer = name
    looked_at(settings, registry)
    (warning,) = warnings_of(caplog)
    assert warning.startswith("settings.persistence.finalizer was set after the identity")
    assert "mycompany.com/db-operator" in warning


@pytest.mark.parametrize(
    "options",
    [{"finalizer": "backups"}, {"former": ["old.org/f"], "former_storage_prefix": "old.org"}],
)
def test_storage_that_is_set_anew_is_warned_about(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """With the storages of before, `on.create` would be called again for every object."""
    settings, registry = an_operator(**options)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="old.org")
    settings.persistence.finalizer = "old.org/f"
    looked_at(settings, registry)
    (warning,) = warnings_of(caplog)
    assert "settings.persistence.finalizer and settings.persistence.diffbase_storage was" in warning


@pytest.mark.parametrize("storages", [True, False])
def test_what_is_set_to_the_same_or_left_to_the_operator_is_not_warned_about(
    storages: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The same name changes nothing, and with `storages=False` the storages are the operator's."""
    settings, registry = an_operator(storages=storages)
    settings.persistence.finalizer = "mycompany.com/" + "db-operator"
    if not storages:
        settings.persistence.diffbase_storage = kopf.StatusDiffBaseStorage(name="mine")
    looked_at(settings, registry)
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("handlers", ["ours", "Kopf's"])
def test_all_three_that_are_set_anew_are_warned_about(
    handlers: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where nothing of the library looks at objects any more: the setting tells it."""
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    finalizers = Finalizers(IDENTITY, registry=registry)
    if handlers == "ours":
        finalizers.on.delete("things", finalizer="backups", id="backups")(lambda **_: None)
    kopf.on.delete("things", registry=registry, id="delete")(lambda **_: None)
    finalizers.apply(settings)
    before = len(registry._watching.get_all_handlers())
    settings.persistence.finalizer = "old.org/f"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="old.org")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="old.org")
    assert len(registry._watching.get_all_handlers()) == before + 1
    looked_at(settings, registry)
    (warning,) = warnings_of(caplog)
    names = ("finalizer", "progress_storage", "diffbase_storage")
    assert warning.startswith(" and ".join(f"settings.persistence.{name}" for name in names))


@pytest.mark.parametrize(
    ("name", "value", "options", "said"),
    [
        ("finalizer", "old.org/f", {}, 'former=["old.org/f"]'),
        ("finalizer", "old.org/f", {"former": ["old.org/f"], "former_storage_prefix": None}, None),
        ("finalizer", KOPF_FINALIZER, {}, None),
        ("finalizer", "mycompany.com/db-operator", {}, None),
        ("finalizer", None, {}, None),
        (
            "diffbase_storage",
            kopf.AnnotationsDiffBaseStorage(prefix="old.org"),
            {},
            "former_diffbase_storage=, with what it was set to (old.org)",
        ),
        (
            "progress_storage",
            kopf.StatusProgressStorage(name="old"),
            {},
            "former_progress_storage=, with what it was set to (status.old.progress)",
        ),
        (
            "diffbase_storage",
            kopf.AnnotationsDiffBaseStorage(prefix="old.org"),
            {"former_storage_prefix": "old.org"},
            None,
        ),
        (
            "diffbase_storage",
            kopf.AnnotationsDiffBaseStorage(prefix="old.org"),
            {"storages": False},
            None,
        ),
    ],
)
def test_what_is_set_before_the_identity_and_replaced_is_warned_about(
    name: str,
    value: Any,
    options: dict[str, Any],
    said: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Kopf may load the module with the startup handler of the operator first."""
    settings = kopf.OperatorSettings()
    setattr(settings.persistence, name, value)
    for _ in range(2):  # applied again, it is the identity's own
        applied(settings=settings, **options)
    expected = [] if said is None else [f"settings.persistence.{name} was set before the identity"]
    warnings = [one for one in warnings_of(caplog) if "was set before" in one]
    assert [one[: len(expected[0])] for one in warnings] == expected
    assert all(said in one for one in warnings if said)
