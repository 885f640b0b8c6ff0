"""What is promised of the commands for a cluster, as `make bench` holds its figures to it."""

from typing import Any

import pytest

pytest.importorskip("kubernetes", reason="the extra cluster is not installed")

from benchmarks.operations import problems

LOOKING = {"objects": "20,000", "of the listing": 1.2, "times as fast": 3.0, "peak, MiB": 100.0}
RELEASING = {"objects": "2,000", "of the bare requests": 1.2, "requests per object": 2.0}


def results(larger: dict[str, Any], releasing: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Figures at the limit, but for what is given."""
    return {
        "looking": [LOOKING, {**LOOKING, "objects": "60,000", "peak, MiB": 110.0} | larger],
        "releasing": [RELEASING | releasing],
    }


def test_figures_at_the_limit_are_as_promised() -> None:
    """And without kubectl there is nothing to compare with."""
    assert problems(results({}, {})) == []
    alone = {key: value for key, value in LOOKING.items() if key != "times as fast"}
    assert problems({"looking": [alone], "releasing": []}) == []


@pytest.mark.parametrize(
    ("larger", "releasing", "said"),
    [
        (
            {"of the listing": 1.21},
            {},
            "at 60,000 objects holders / a bare listing 1.21, at most 1.20",
        ),
        ({"times as fast": 2.9}, {}, "holders / kubectl with jq 0.34, at most 0.33"),
        ({"peak, MiB": 110.1}, {}, "MiB of holders at 60,000 objects 110.10, at most 110.00"),
        (
            {},
            {"of the bare requests": 1.21},
            "release / the same requests sent bare 1.21, at most 1.20",
        ),
        ({}, {"requests per object": 2.01}, "requests of release per object 2.01, at most 2.00"),
    ],
)
def test_a_figure_beyond_the_limit_is_named(
    larger: dict[str, Any], releasing: dict[str, Any], said: str
) -> None:
    """With what was promised."""
    (found,) = problems(results(larger, releasing))
    assert found.endswith(said)
