"""Who owns which finalizer: the part of server-side apply that is about `metadata.finalizers`.

Finalizers are a set for server-side apply, and every entry has owners: the field managers that
applied it, and the client that wrote it by any other kind of request. An entry goes when the last
manager that applied it no longer does, and nobody else owns it.


"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ._refusals import Body, refusal

Entry = dict[str, Any]


@dataclass(frozen=True)
class Writer:
    """Who changes an object, and when."""

    manager: str
    api_version: str
    time: str


def apply_finalizers(
    metadata: Mapping[str, Any], applied: list[str], writer: Writer
) -> tuple[list[str], list[Entry]]:
    """What becomes of the finalizers and their owners when a manager applies these."""
    present = list(metadata.get("finalizers", []))
    for names in (present, applied):
        duplicate = next((n for n in names if names.count(n) > 1), None)
        if duplicate:
            # An internal error on the real server, too: it cannot take such a list for a set.
            message = f'.metadata.finalizers: duplicate entries for key [="{duplicate}"]'
            raise refusal(500, None, message)
    entries = list(metadata.get("managedFields", []))
    mine = [e for e in entries if (e["manager"], e["operation"]) == (writer.manager, "Apply")]
    others = [e for e in entries if e not in mine]
    mine_now = _entry(writer, "Apply", applied)
    before = {name for e in mine for name in _names(e)}
    given_up = before - set(applied) - {name for e in others for name in _names(e)}
    kept = [n for n in present if n not in given_up]
    owners = [*others, *(mine if before == set(applied) else [mine_now])]
    return kept + [n for n in applied if n not in kept], _sorted(owners)


def updated_owners(
    old: Mapping[str, Any], metadata: Mapping[str, Any], writer: Writer
) -> list[Entry]:
    """Who owns the finalizers after a request that is not an apply.

    Nobody owns what is gone; what is new belongs to who brought it; and what was there already
    keeps its owners.
    """
    after = set(metadata.get("finalizers", []))
    new = after - set(old.get("finalizers", []))
    entries = []
    for entry in old.get("managedFields", []):
        names = _names(entry) & after
        if new and (entry["manager"], entry["operation"]) == (writer.manager, "Update"):
            names, new = names | new, set()
        by = Writer(entry["manager"], writer.api_version, writer.time)
        same = names == _names(entry)
        entries.append(entry if same else _entry(by, entry["operation"], names))
    return _sorted([*entries, _entry(writer, "Update", new)])


def _entry(writer: Writer, operation: str, names: Iterable[str]) -> Entry:
    fields: Body = {f'v:"{name}"': {} for name in sorted(names)}
    return {
        "manager": writer.manager,
        "operation": operation,
        "apiVersion": writer.api_version,
        "time": writer.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:finalizers": fields}},
    }


def _names(entry: Entry) -> set[str]:
    fields = entry["fieldsV1"]["f:metadata"]["f:finalizers"]
    return {key.removeprefix('v:"').removesuffix('"') for key in fields}


def _sorted(entries: Iterable[Entry]) -> list[Entry]:
    """Without those that own nothing any more; those that apply are first."""
    return sorted((e for e in entries if _names(e)), key=lambda e: (e["operation"], e["manager"]))
