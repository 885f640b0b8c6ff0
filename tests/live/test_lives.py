"""A few of the random lives of `make chaos`, judged by what docs/handlers.md promises."""

from pathlib import Path

import pytest

from ..chaos.lives.world import Allowed, batch
from ..support.servers import Server

# What may happen here. `python -m tests.chaos.lives` lets everything happen.
PEACE = Allowed(kills=False, refusals=False, losses=False, releases=False, versions=False)
KILLS = Allowed(refusals=False, losses=False, releases=False, versions=False)


@pytest.mark.parametrize(("seed", "allowed"), [("a", PEACE), ("b", KILLS)], ids=["alone", "killed"])
def test_nothing_that_is_promised_is_broken_in_a_random_life(
    server: Server, tmp_path: Path, seed: str, allowed: Allowed
) -> None:
    """Whatever its handlers are, and whatever happens to its objects meanwhile."""
    told = batch(server, tmp_path, seed, objects=8, allowed=allowed)
    assert not told.violations, str(told)
    assert all(life.is_gone for life in told.lives)
    assert any(life.notes for life in told.lives)
