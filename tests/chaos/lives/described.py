"""Operators made at random, in a form that a process can be told, and that a person can read."""

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

DOMAIN, OPERATOR = "mycompany.com", "db-operator"
MAIN = f"{DOMAIN}/{OPERATOR}"
STORED, OTHER_VERSION = "v1", "v1beta1"

PURPOSES = ("backups", "dns", "users")

# Which objects a handler is for. Two of these ask for what is not known from the object alone.
FILTERS = ("", "", "", "label", "flag", "memo", "change")
# How its function comes about: as it is written, or in a way in which several look alike.
MADE = ("plainly", "plainly", "in a factory", "with param", "as a method")


@dataclass(frozen=True)
class Handler:
    """A handler: what it is for, what guards it, and how often it fails before it succeeds."""

    id: str
    kind: str
    purpose: str | None = None
    ours: bool = True
    filter: str = ""
    version: str = STORED
    failures: int = 0
    is_given_up: bool = False
    made: str = "plainly"

    def __str__(self) -> str:
        where = "" if self.version == STORED else f" of {self.version}"
        told = [f"{'' if self.ours else 'kopf.'}{self.id}{where}"]
        told += [f"finalizer={self.purpose}"] if self.purpose else []
        told += [f"by {self.filter}"] if self.filter else []
        told += [f"fails {self.failures} times"] if self.failures else []
        told += ["is given up"] if self.is_given_up else []
        told += [self.made] if self.made != "plainly" else []
        return ", ".join(told)

    @property
    def finalizer(self) -> str:
        """What it waits for, or what waits for it."""
        return f"{MAIN}.{self.purpose}" if self.purpose else MAIN

    def matches(self, body: Mapping[str, Any]) -> bool | None:
        """Whether its filters hold for an object; None where that cannot be told from it."""
        match self.filter:
            case "label":
                return (body["metadata"].get("labels") or {}).get("keep") == "1"
            case "flag":
                return bool(body["spec"].get("flag"))
            case "memo" | "change":
                return None
        return True


@dataclass(frozen=True)
class Described:
    """An operator."""

    handlers: tuple[Handler, ...]

    @classmethod
    def at_random(cls, chance: random.Random, *, versions: bool) -> Self:
        """An operator that is not refused: one cleanup for each finalizer."""
        handlers = list[Handler]()

        def add(kind: str, **more: Any) -> None:
            version = chance.choice([STORED, OTHER_VERSION]) if versions else STORED
            failures = chance.choice([0, 0, 0, 1, 2])
            made = chance.choice(MADE)
            options = {"version": version, "failures": failures, "made": made, **more}
            handlers.append(Handler(f"{kind}_{len(handlers)}", kind, **options))

        for purpose in chance.sample(PURPOSES, chance.choice([0, 1, 1, 2, 2, 3])):
            filter_ = chance.choice(FILTERS)
            if chance.random() < 0.85:
                is_given_up = chance.random() < 0.1
                add("delete", purpose=purpose, filter=filter_, is_given_up=is_given_up)
            for _ in range(chance.randint(0, 2)):
                kind = chance.choice(["create", "update", "resume", "event", "daemon", "timer"])
                own = filter_ if filter_ != "change" or kind == "update" else ""
                add(kind, purpose=purpose, filter=chance.choice([own, own, ""]))
        if chance.random() < 0.6:
            add("create", ours=False, failures=chance.choice([0, 0, 1]))
            add("update", ours=False)
        for _ in range(chance.choice([0, 0, 1, 2])):
            ours, filter_ = chance.random() < 0.5, chance.choice(["", "", "label", "flag"])
            add("delete", ours=ours, filter=filter_)
        return cls(tuple(handlers))

    @property
    def has_versions(self) -> bool:
        """Whether it handles objects in another version than they are stored in."""
        return any(handler.version != STORED for handler in self.handlers)

    def of(self, *kinds: str) -> list[Handler]:
        """The handlers of these kinds."""
        return [handler for handler in self.handlers if handler.kind in kinds]

    def as_json(self) -> str:
        """What a process is told."""
        return json.dumps([asdict(handler) for handler in self.handlers])

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What it was told."""
        return cls(tuple(Handler(**handler) for handler in json.loads(text)))

    def __str__(self) -> str:
        return "\n".join(f"  {handler}" for handler in self.handlers)
