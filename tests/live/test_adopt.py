"""`kopf-finalizers adopt`: what it prints is written into an operator, which lives on with it."""

import functools
import itertools
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("kubernetes", reason="the extra cluster is not installed")

from kopf_finalizers._cluster.access import RefusedError

from ..support.adopted import Adopted
from ..support.commands import run
from ..support.servers import Api, KubeApiServer, Resource, Server, wait_until

NEW = "mycompany.com/reports"
PLACE = "reports.mycompany.com"
IDENTITY = ("--domain", "mycompany.com", "--operator", "reports")
KOPFS = "kopf.zalando.org/KopfFinalizerMarker"

OWN = """
@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_):
    settings.persistence.finalizer = "acme.example.com/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(
        prefix="acme.example.com"
    )
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(
        prefix="acme.example.com", key="last", ignored_fields=["spec.ignored"]
    )
"""
TWO_PLACES = """
GROUP = "acme.example.com"


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_):
    settings.batching.worker_limit = 3
    settings.persistence.finalizer = f"{GROUP}/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
"""
KEEPS = """
@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_):
    settings.persistence.finalizer = "mycompany.com/reports"
"""
STATUS = """
@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_):
    settings.persistence.progress_storage = kopf.StatusProgressStorage(name="reports")
"""
OWN_STORAGE = """
class Slow(kopf.AnnotationsProgressStorage): ...


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_):
    settings.persistence.finalizer = "acme.example.com/finalizer"
    settings.persistence.progress_storage = Slow(prefix="acme.example.com")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(
        prefix="acme.example.com"
    )
"""
ON_BOTH = (TWO_PLACES, STATUS, OWN_STORAGE)


@pytest.fixture
def adopted(server: Server, api: Api, resource: Resource, tmp_path: Path) -> Adopted:
    return Adopted(server, api, resource, tmp_path)


@pytest.mark.parametrize(
    ("settings", "former", "options"),
    [
        pytest.param("", KOPFS, IDENTITY, id="default names"),
        pytest.param("", KOPFS, (*IDENTITY, "--shared"), id="another with the same names"),
        pytest.param(OWN, "acme.example.com/finalizer", IDENTITY, id="own names"),
        pytest.param(TWO_PLACES, "acme.example.com/finalizer", IDENTITY, id="two places"),
        pytest.param(KEEPS, NEW, (), id="keeps its name"),
        pytest.param(STATUS, KOPFS, IDENTITY, id="in the status"),
        pytest.param(OWN_STORAGE, "acme.example.com/finalizer", IDENTITY, id="own storages"),
        pytest.param("", "", IDENTITY, id="no finalizer"),
    ],
)
def test_an_operator_goes_through_the_releases_that_are_printed(
    adopted: Adopted, settings: str, former: str, options: tuple[str, ...]
) -> None:
    """No creation is called again, its attempts go on counting, and all cleanups are called."""
    if isinstance(adopted.server, KubeApiServer) and settings not in ON_BOTH:
        pytest.skip("what a server does is the same in all cases: three are played on the real one")
    adopted.write(settings, cleanup=bool(former))
    with adopted.running():
        adopted.create("handled", "waiting")
        wait_until(lambda: adopted.calls()["create slowly handled"])
        adopted.tried_again(1)
    answer = adopted.adopt(*options)
    assert (answer["code"], answer["open"], answer["objects"]) == (0, [], 2)
    one, two, three = answer["releases"]
    rest = adopted.without(answer["remove"])
    assert "settings.persistence" not in rest or settings is OWN_STORAGE
    back = (one, two) if settings is TWO_PLACES else ()
    for release in (one, two, *back, three):
        seen = len(adopted.attempts())
        expected = [former if release is one else NEW] if former else []
        with adopted.running(release, rest):
            adopted.tried_again(seen)
            wait_until(functools.partial(adopted.carries, "handled", expected))
            if release is not three:
                continue
            adopted.gate.touch()
            adopted.resize("handled", 2)
            wait_until(lambda: adopted.calls()["update handled"])
            wait_until(lambda: adopted.calls()["create slowly waiting"])
            adopted.delete("handled", "waiting")
            wait_until(lambda: not adopted.api.list(adopted.resource.path))
    numbers = adopted.attempts()
    # As in plain Kopf, an operator may be stopped before it has stored its last attempt.
    assert {after - before for before, after in itertools.pairwise(numbers)} <= {0, 1}
    calls = Counter({k: v for k, v in adopted.calls().items() if not k.startswith("attempt")})
    each = ["create handled", "create waiting", "create slowly handled", "create slowly waiting"]
    each += ["update handled", *(["delete handled", "delete waiting"] if former else [])]
    assert calls == Counter(each)


def test_what_may_not_be_looked_at_is_named(
    server: Server, adopted: Adopted, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code says so; and of a list that cannot be read there is no account."""

    def refused(*_: object, **__: object) -> None:
        raise RefusedError(403, {"reason": "Forbidden", "message": "no"}, doing="GET things")

    adopted.write("")
    monkeypatch.setattr("kopf_finalizers._adoption.carried.Carried.look", refused)
    adopted.create("handled")
    result = run("adopt", str(adopted.file), *IDENTITY, "-n", str(resource.namespace), on=server)
    assert result.exit_code == 2
    assert "Not seen: things.example.com (403 Forbidden" in result.stderr
