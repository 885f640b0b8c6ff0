"""Annotations that look like records of a Kopf operator, whoever's they are.

Kopf (1.44 to 1.45) keeps two kinds of records of an object in annotations, under prefixes and keys
that each operator may choose, so their names tell little. What they hold tells more:

* **Progress**, one annotation for each handler that is not at its end: JSON with `started`,
  `stopped`, `delayed`, `purpose`, `retries`, `success`, `failure`, `message` and `subrefs`, of
  which those that are null may be missing. What is not of that form is none of Kopf's.
* **A last state**, what was handled last: JSON with what the object has at its top level, as
  `spec`, and of its metadata the labels and the annotations. It has neither `apiVersion` nor
  `kind`, which tells it from what kubectl and others keep; and it is written without a space, with
  a line break at its end. Under Kopf's own key it need not be: an older Kopf may have written it.

It is a guess, if a good one: anybody may write annotations. So it is only ever used to warn, to
wait, or to propose something to a person.
"""

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

KOPFS_KEY = "last-handled-configuration"
"""What Kopf calls the annotation of a last state, unless it is told another name."""

_TIMES = ("started", "stopped", "delayed")
_FORMS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(_TIMES, str),
    "purpose": str,
    "message": str,
    "retries": int,
    "success": bool,
    "failure": bool,
    "subrefs": list,
}


def progress_in(annotations: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The annotations that are progress of handlers, with what each of them says."""
    told = {key: _progress(value) for key, value in annotations.items() if "/" in key}
    return {key: one for key, one in told.items() if one is not None}


def last_states_in(annotations: Mapping[str, Any], parts: Collection[str] = ()) -> list[str]:
    """The annotations that look like the last state of an object.

    Args:
        annotations: Those of the object, or those of them that are in question.
        parts: What the object has at its top level; without it, only a `spec` tells.
    """
    return [key for key, value in annotations.items() if _is_last_state(key, value, parts)]


def _is_last_state(key: str, value: object, parts: Collection[str]) -> bool:
    _, slash, name = key.rpartition("/")
    is_named = name.startswith(KOPFS_KEY)
    # Quick, since it is asked of each annotation in each cycle.
    if not slash or not isinstance(value, str) or not (is_named or value.endswith("}\n")):
        return False
    told = _read(value)
    if told is None or not told.keys().isdisjoint({"apiVersion", "kind"}):
        return False
    if is_named:
        return True
    has_form = value == f"{json.dumps(told, separators=(',', ':'))}\n"
    return has_form and bool(told) and told.keys() <= {*(parts or ["spec"]), "metadata", "status"}


def _progress(value: object) -> dict[str, Any] | None:
    """The fields of a handler's progress; None where it is none."""
    # Quick, since it is asked of each annotation of an object that is not handled yet.
    told = _read(value) if isinstance(value, str) and '"started"' in value else None
    if told is None or "started" not in told or not told.keys() <= _FORMS.keys():
        return None
    for name, one in told.items():
        wrong = isinstance(one, bool) and _FORMS[name] is int
        if one is not None and (wrong or not isinstance(one, _FORMS[name])):
            return None
    if any(told.get(name) and not _is_time(told[name]) for name in _TIMES):
        return None
    return told


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _read(value: object) -> dict[str, Any] | None:
    """The JSON object that it is; None where it is none."""
    try:
        told = json.loads(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return told if isinstance(told, dict) else None
