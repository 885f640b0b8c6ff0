"""The tables of the documentation, made from what was measured and nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any


def tables_of(results: dict[str, Any]) -> dict[str, str]:
    """Each table of the page of benchmarks, by the name that it has there."""
    tables = {
        name: table([{"": what, **row} for what, row in results.get(name, {}).items()])
        for name in ("contention", "busy", "patches", "events")
    }
    tables["lifecycle"] = table(results["lifecycle"]["comparisons"])
    tables["sizes"] = table(results.get("sizes", []))
    for name in ("looking", "releasing"):
        tables[name] = table(results.get("operations", {}).get(name, []))
    tables["import"] = table([{"": "kopf_finalizers", **results["import"]}])
    tables["how"] = "; ".join(f"{what}: {value}" for what, value in results["how"].items()) + "."
    return tables


def table_of_the_readme(results: dict[str, Any]) -> str:
    """What became of the object of `make demo`, with Kopf's default names and with ours."""
    how, (theirs, ours) = results["how"], results["flapping"].values()
    where = f"on a kube-apiserver {how['kube-apiserver'].lstrip('v')}, Kopf {how['Kopf']}"
    asked = {True: "yes", False: "**no, it was never asked to**"}
    rows = [
        ("A's finalizer was added", *(times(story["added"]) for story in (theirs, ours))),
        ("writes to the object", *(str(story["writes"]) for story in (theirs, ours))),
        (
            "A cleaned up before the object was gone",
            *(asked[story["cleanup ran"]] for story in (theirs, ours)),
        ),
    ]
    columns = (where, "with Kopf's default names", "with this library")
    return table([dict(zip(columns, row, strict=True)) for row in rows])


def times(count: int) -> str:
    """How often, in words."""
    return "once" if count == 1 else f"{count:,} times"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys, as a page has them."""
    if not rows:
        return ""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[_cell(it) for it in row.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: str | float) -> str:
    """A count is whole, and a measure is not."""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def filled(page: str, tables: Mapping[str, str]) -> str:
    """The page with its tables, each between the two comments that name it."""
    for name, text in tables.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, _, rest = page.partition(begin)
        after = rest.partition(end)[2]
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page
