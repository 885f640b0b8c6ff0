"""A few of the random lives of `make chaos`, judged by what docs/handlers.md promises."""

from pathlib import Path

import pytest

from kopf_finalizers.testing import ApiServer

from ..chaos.lives.world import Allowed, batch
from ..support.servers import KubeApiServer, Server

LEFT_ALONE = Allowed(kills=False, refusals=False, losses=False, releases=False)

# These seeds make operators with several cleanups; that of the last one has handlers of two
# versions. What happens is said by the seed; when exactly it does, by the machine.
BATCHES = {"left alone": ("p", LEFT_ALONE), "all": ("s", Allowed()), "versions": ("i", Allowed())}


def judged(server: Server, folder: Path, seed: str, allowed: Allowed) -> None:
    told = batch(server, folder, seed, objects=6, allowed=allowed)
    assert not told.violations, str(told)
    assert all(life.is_gone for life in told.lives)
    assert any(life.notes for life in told.lives)


@pytest.mark.parametrize(("seed", "allowed"), BATCHES.values(), ids=BATCHES)
def test_nothing_that_is_promised_is_broken_in_a_random_life(
    in_process_server: ApiServer, tmp_path: Path, seed: str, allowed: Allowed
) -> None:
    """Whatever its handlers are, and whatever happens to its objects meanwhile."""
    judged(in_process_server, tmp_path, seed, allowed)


def test_nothing_that_is_promised_is_broken_on_a_real_server(
    real_server: KubeApiServer, tmp_path: Path
) -> None:
    """The same, with all that may happen."""
    judged(real_server, tmp_path, *BATCHES["all"])
