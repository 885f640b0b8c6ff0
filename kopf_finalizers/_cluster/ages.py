"""Points in time and spans of time, as kubectl writes them."""

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SPAN = re.compile(r"(?:\d+[dhms])+")


def read_time(text: str | None) -> datetime | None:
    """A point in time as Kubernetes and Kopf write it; None where it is none."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def read_span(text: str) -> timedelta:
    """`90s`, `10m`, `1h30m` or `2d`.

    Raises:
        ValueError: It is none.
    """
    if not _SPAN.fullmatch(text):
        raise ValueError(f'"{text}" is no span of time: write it as in 90s, 10m, 1h30m or 2d')
    parts = re.findall(r"(\d+)([dhms])", text)
    return timedelta(seconds=sum(int(number) * _UNITS[unit] for number, unit in parts))


def write_span(span: timedelta) -> str:
    """The two largest units, as kubectl does: `3h12m`."""
    left = max(0, int(span.total_seconds()))
    parts = list[str]()
    for unit, seconds in _UNITS.items():
        number, left = divmod(left, seconds)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts[:2]) or "0s"


def write_time(moment: datetime) -> str:
    """As Kubernetes writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
