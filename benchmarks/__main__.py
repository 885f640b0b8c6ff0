"""Measure, print a table, and write the figures and pictures of the documentation: `make bench`.

Every comparison is paired: what is compared is measured in the same rounds of one run, in changing
order, and the median is given. Ratios hold on other machines; seconds and microseconds do not.
With `--only` one comparison is measured anew, of the same versions, and the others stay. The exit
code is 1 where the commands for a cluster take more than is promised of them.
"""

import argparse
import contextlib
import json
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.support.servers import KubeApiServer, client_of

from . import (
    building,
    busy,
    contention,
    flapping,
    lifecycle,
    operations,
    pages,
    pictures,
    sizes,
    watching,
)

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks")
    parser.add_argument("--objects", type=int, default=300, help="in the lifecycle benchmark")
    parser.add_argument("--owners", type=int, default=16, help="in the contention benchmark")
    parser.add_argument("--rounds", type=int, default=50, help="of each owner")
    parser.add_argument("--repeat", type=int, default=5, help="of everything; medians are given")
    # A round takes seconds, in which a small machine has other things to do, too.
    parser.add_argument("--lives", type=int, default=61, help="rounds of the lifecycle benchmark")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[100, 1000, 4000],
        help="numbers of objects in the benchmark of sizes",
    )
    parser.add_argument(
        "--clusters",
        type=int,
        nargs="+",
        default=[20_000, 60_000],
        help="numbers of objects in the benchmark of the commands for a cluster",
    )
    parser.add_argument("--stuck", type=int, default=2000, help="objects to release there")
    parser.add_argument("--seconds", type=float, default=5, help="to watch a finalizer flap")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=[*PARTS], help="measure these, keep the others"
    )
    parser.add_argument("--story", type=float, default=45, help="seconds to watch cleanups")
    parser.add_argument("--output", type=Path, default=DOCS, help="the folder of the documentation")
    options = parser.parse_args()
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets:
        sys.exit("This measures on a real kube-apiserver: set KUBEBUILDER_ASSETS to its folder.")
    with KubeApiServer(Path(assets)) as server:
        results = kept(server, options)
        for name in options.only:
            how, measure = PARTS[name]
            results[name] = measure(server, options)
            results["how"] |= how(options)
    tables = pages.tables_of(results)
    for name, text in tables.items():
        print(f"\n{name}\n{text}")
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "benchmarks.json").write_text(json.dumps(results, indent=2) + "\n")
    page = (DOCS / "benchmarks.md").read_text()
    (options.output / "benchmarks.md").write_text(pages.filled(page, tables))
    pictures.draw(results, options.output)
    if options.output == DOCS:
        readme = DOCS.parent / "README.md"
        story = pages.table_of_the_readme(results)
        readme.write_text(pages.filled(readme.read_text(), {"flapping": story}))
    if "operations" in options.only and (found := operations.problems(results["operations"])):
        sys.exit("Measured and written, but not as promised: " + "; ".join(found) + ".")


# What is measured: what the page says of how it was, and the measurement.
PARTS: dict[str, tuple[Callable[[Any], dict[str, Any]], Callable[[KubeApiServer, Any], Any]]] = {
    "lifecycle": (
        lambda options: {"objects": options.objects, "repeat of the lives": options.lives},
        lambda server, options: lifecycle.measure(
            server, objects=options.objects, repeat=options.lives
        ),
    ),
    "sizes": (
        lambda options: {"sizes": ", ".join(f"{size:,}" for size in options.sizes)},
        lambda server, options: sizes.measure(server, sizes=options.sizes, repeat=options.repeat),
    ),
    "contention": (
        lambda options: {"owners": options.owners, "rounds": options.rounds},
        lambda server, options: contention.measure(
            server, owners=options.owners, rounds=options.rounds, repeat=options.repeat
        ),
    ),
    "busy": (
        lambda _: {},
        lambda server, options: busy.measure(server, repeat=options.repeat),
    ),
    "patches": (
        lambda _: {},
        lambda _, options: building.measure_patches(repeat=options.repeat),
    ),
    "events": (
        lambda _: {},
        lambda _, options: building.measure_events(repeat=options.repeat),
    ),
    "import": (
        lambda _: {},
        lambda _, options: building.measure_import(repeat=options.repeat),
    ),
    "operations": (
        lambda options: {"clusters": ", ".join(f"{size:,}" for size in options.clusters)},
        lambda server, options: operations.measure(
            server, sizes=options.clusters, stuck=options.stuck, repeat=min(options.repeat, 3)
        ),
    ),
    "flapping": (
        lambda _: {},
        lambda server, options: flapping.measure(server, seconds=options.seconds),
    ),
    "watching": (
        lambda _: {},
        lambda server, options: watching.measure(server, seconds=options.story),
    ),
}


def kept(server: KubeApiServer, options: argparse.Namespace) -> dict[str, Any]:
    """The figures that are not measured anew: only of the same versions, or they say nothing."""
    how = {
        "kube-apiserver": server_version(server),
        "Kopf": version("kopf"),
        "Python": platform.python_version(),
        "repeat": options.repeat,
    }
    if set(options.only) == set(PARTS):
        return {"how": how}
    results: dict[str, Any] = json.loads((DOCS / "benchmarks.json").read_text())
    other = {key: results["how"].get(key) for key in how if results["how"].get(key) != how[key]}
    if other:
        sys.exit(f"The other figures are of {other}, and these of {how}: measure all of them.")
    return results


def server_version(server: KubeApiServer) -> str:
    """What the API server says that it is."""
    with contextlib.closing(client_of(server)) as api:
        return str(api.get("/version").raise_for_status().json()["gitVersion"])


if __name__ == "__main__":
    main()
