"""What an event costs of an object with which there is nothing to do: most events are of these."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import kopf_finalizers

from ..support.kopf_cycles import CycledOperator, start
from ..support.servers import Body

PACKAGE = str(Path(kopf_finalizers.__file__).parent)


class Operator(CycledOperator):
    """An operator with so many dedicated finalizers."""

    def __init__(self, count: int) -> None:
        super().__init__()
        finalizers = kopf_finalizers.configure("mycompany.com", "op", registry=self.registry)

        async def cleanup(**_: Any) -> None: ...

        for number in range(count):
            add = finalizers.on.delete("things", id=f"cleanup-{number}", finalizer=f"part-{number}")
            add(cleanup)
        finalizers.on.delete("things")(cleanup)
        finalizers.on.create("things")(cleanup)
        start(self.registry, self.settings)


def calls(operator: Operator, body: Body) -> int:
    """How many functions of the library run in one cycle: other than seconds, always the same."""
    counted = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal counted
        counted += event == "call" and frame.f_code.co_filename.startswith(PACKAGE)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        assert not operator.cycle(body).patch
    finally:
        sys.setprofile(before)
    return counted


def test_event_of_a_settled_object_takes_few_calls_and_two_for_each_finalizer() -> None:
    """Whatever comes to the library is paid with each event of each object: see to that."""
    taken = list[int]()
    for count in (0, 3, 10):
        operator = Operator(count)
        body = operator.settle({"kind": "Thing", "metadata": {"name": "one", "uid": "1"}})
        calls(operator, body)  # what is found once
        taken.append(calls(operator, body))
    none, three, ten = taken
    assert none <= 12
    assert three <= 48
    assert ten - three <= 2 * 7
