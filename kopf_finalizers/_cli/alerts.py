"""Alert rules for Prometheus, over the series of `kopf_finalizers.instrumentation`.

Each is about one finalizer, and says to whoever is paged what that waits for.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from .._finalizers import Finalizers
from .._inventory import InventoryEntry

_SERIES = "kopf_finalizers_"
_SHOW = (
    "kubectl get {{ $labels.resource }} --all-namespaces --output jsonpath="
    "'{range .items[?(@.metadata.deletionTimestamp)]}{.metadata.namespace}/{.metadata.name} since"
    ' {.metadata.deletionTimestamp}, held by {.metadata.finalizers}{"\\n"}{end}\''
)
_FAILURES = 10


@dataclass(frozen=True)
class _Rule:
    """One alert."""

    name: str
    expression: str
    severity: str
    summary: str
    lasts: str | None = None


def as_alerts(finalizers: Finalizers, *, stuck_for: timedelta) -> str:
    """The rules, as a file that `rule_files:` of a Prometheus server takes.

    Args:
        finalizers: Those of the operator.
        stuck_for: How long a deletion lasts that is taken to be stuck.
    """
    operator, entries = finalizers.name, finalizers.inventory()
    stuck_after = stuck_for.total_seconds()
    by_name = dict[str, list[InventoryEntry]]()
    for entry in entries:
        by_name.setdefault(entry.name, []).append(entry)
    if not by_name:
        return "groups: []\n"
    own = {one.name for one in entries if operator in (one.name, one.former_of)}
    dedicated = [name for name in by_name if name not in own]
    lines = ["groups:", f"- name: {json.dumps(operator)}", "  rules:"]
    guarded = {_handler(one) for name in dedicated for one in by_name[name]}
    for name, those in by_name.items():
        is_own = name in own
        # A cleanup that has a finalizer of its own is counted there, though both wait for it.
        its = [one for one in those if not (is_own and _handler(one) in guarded)]
        rules = [_stuck_rule(name, dedicated if is_own else [], stuck_after)]
        rules += _attempt_rules(name) if its else []
        rules += [] if is_own else [_overdue_rule(name)]
        for rule in rules:
            lines += _lines(rule, name, its or those)
    return "\n".join(lines) + "\n"


def _handler(entry: InventoryEntry) -> tuple[str, str, str]:
    return entry.resource, entry.handler, entry.decorator


def _stuck_rule(name: str, dedicated: list[str], stuck_after: float) -> _Rule:
    stuck = _stuck(f"finalizer={json.dumps(name)}", stuck_after)
    if dedicated:
        # The operator's own finalizer goes last: who waits for a dedicated one is told of that.
        pattern = "|".join(re.escape(one) for one in dedicated)
        others = _stuck(f"finalizer=~{json.dumps(pattern)}", stuck_after)
        stuck += f"\nunless ignoring (finalizer)\n{others}"
    return _Rule(
        name="FinalizerStuck",
        expression=stuck,
        severity="warning",
        summary="{{ $labels.resource }} hang in Terminating on {{ $labels.finalizer }}",
        lasts="1m",
    )


def _attempt_rules(name: str) -> Iterator[_Rule]:
    attempts = f"{_SERIES}cleanup_attempts_total{{finalizer={json.dumps(name)},outcome="
    yield _Rule(
        name="FinalizerCleanupFailing",
        expression=f'increase({attempts}"failed"}}[1h]) > {_FAILURES}',
        severity="info",
        summary="A cleanup of {{ $labels.finalizer }} keeps failing",
        lasts="15m",
    )
    yield _Rule(
        name="FinalizerCleanupGivenUp",
        expression=_counted(f'{attempts}"given_up"}}'),
        severity="warning",
        summary="A cleanup of {{ $labels.finalizer }} was given up, and has not succeeded",
    )


def _overdue_rule(name: str) -> _Rule:
    return _Rule(
        name="FinalizerCleanupOverdue",
        expression=_counted(f"{_SERIES}cleanups_overdue_total{{finalizer={json.dumps(name)}}}"),
        severity="warning",
        summary="A cleanup of {{ $labels.finalizer }} was not done within its release_after",
    )


def _counted(series: str) -> str:
    """That it was counted within an hour, also where the series begins with its first count."""
    return f"increase({series}[1h]) > 0\nor\n({series} > 0 unless {series} offset 1h)"


def _stuck(selector: str, after: float) -> str:
    series = f"{_SERIES}oldest_deletion_timestamp_seconds{{{selector}}}"
    return f"(time() - ({series} > 0) > {after:g})"


def _lines(rule: _Rule, name: str, entries: list[InventoryEntry]) -> Iterator[str]:
    yield f"  - alert: {rule.name}"
    yield "    expr: |-"
    yield from (f"      {line}" for line in rule.expression.splitlines())
    if rule.lasts is not None:
        yield f"    for: {rule.lasts}"
    yield "    labels:"
    yield f"      severity: {rule.severity}"
    yield "    annotations:"
    yield f"      summary: {json.dumps(rule.summary)}"
    yield f"      description: {json.dumps(_description(name, entries))}"
    yield f"      command: {json.dumps(_SHOW)}"


def _description(name: str, entries: list[InventoryEntry]) -> str:
    """What an author has written is text for Prometheus, and no template."""
    waits = "; for ".join(dict.fromkeys(entry.waits_for for entry in entries))
    parts = [f"{name} waits for {waits}."]
    parts += dict.fromkeys(_sentence(entry.purpose) for entry in entries if entry.purpose)
    left = "; ".join(dict.fromkeys(entry.leaves for entry in entries if entry.leaves))
    if left:
        parts.append(f"Stays behind without that: {_sentence(left)}")
    return " ".join(parts).replace("{{", '{{ "{{" }}')


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
