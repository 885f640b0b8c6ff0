"""Objects whose status somebody writes without pause, so that who tests their version loses."""

import logging
from contextlib import closing

import pytest

from ..support.objects import create, delete, has_now
from ..support.operators import MAIN, Operator, running
from ..support.proxies import Asked, Proxy
from ..support.servers import JSON_PATCH, Api, Resource, Server, Watched, client_of, wait_until

PURPOSES = ("audit", "backups", "database")


def test_releases_beside_a_busy_writer(
    server: Server,
    api: Api,
    resource: Resource,
    seen: Watched,
    operator: Operator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A release that has lost twice is sent by itself, and those after it when they have lost once.

    Kopf is late then: in the events of before, what has gone is not released again and again.
    """
    for purpose in PURPOSES:
        operator.on.delete(*operator.resource, id=purpose, finalizer=purpose)(
            operator.noting(purpose)
        )
    lost = list[Asked]()
    path = resource.path_to("one")

    def write_before(asked: Asked) -> None:
        """A version is old before the patch arrives that tests it, and ten events tell of it."""
        if asked.content_type == JSON_PATCH and b"/metadata/resourceVersion" in asked.body:
            lost.append(asked)
            for number in range(10):
                writer.merge_patch(f"{path}/status", {"status": {"lost": len(lost), "n": number}})

    with (
        closing(client_of(server)) as writer,
        Proxy(server) as proxy,
        running(operator.registry, proxy, resource),
    ):
        create(api, resource)
        names = sorted([MAIN, *(f"{MAIN}.{purpose}" for purpose in PURPOSES)])
        wait_until(lambda: has_now(api, resource, names))
        proxy.rules.append(write_before)
        with caplog.at_level(logging.WARNING):
            delete(api, resource)
            seen.wait_for("DELETED", "one")
    assert [operator.called(purpose) for purpose in PURPOSES] == [1, 1, 1]
    assert "[refused]" not in caplog.text
    assert len(lost) <= 10
