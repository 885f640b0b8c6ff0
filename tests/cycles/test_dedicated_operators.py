"""Operators with dedicated finalizers: handlers declared late, several in one process, settings."""

import kopf
import pytest

from kopf_finalizers import ConfigurationError, Finalizers
from kopf_finalizers._changes import AddFinalizer

from ..support.dedicated import BACKUPS, BUCKETS, LATER, OWN, Operator, alive, deleted, deleting
from ..support.kopf_cycles import cycle

# Declared late, or never applied


def test_handler_declared_after_startup_is_guarded_too() -> None:
    """A handler that a startup handler declares has its finalizer like any other."""
    operator = Operator()
    operator.on.create("things", finalizer="buckets")(operator.handler("early"))
    operator.start()
    operator.on.delete("things", finalizer="backups")(operator.handler("late", LATER, None))
    body = operator.cycle(alive()).after()
    assert body["metadata"]["finalizers"] == [BUCKETS, BACKUPS, OWN]
    body = operator.cycle(deleted(body)).after()
    assert body["metadata"]["finalizers"] == [BACKUPS, OWN]
    assert operator.calls == ["late"]


def test_cleanup_declared_late_may_share_a_finalizer() -> None:
    """A finalizer that is in use already waits for a cleanup that is declared later."""
    operator = Operator()
    operator.on.create("things", finalizer="backups", labels={"a": "b"})(operator.handler("early"))
    operator.start()
    operator.on.delete("things", finalizer="backups")(operator.handler("late", LATER))
    assert operator.cycle(alive()).finalizers() == [BACKUPS, OWN]
    assert operator.cycle(alive(BACKUPS, OWN)).finalizers() == [BACKUPS, OWN]
    assert operator.cycle(deleting(BACKUPS, OWN)).finalizers() == [BACKUPS, OWN]
    assert operator.calls[-1] == "late"


def test_operator_with_dedicated_finalizers_that_was_not_applied_is_told() -> None:
    """Without settings nothing would be put on or taken off: the first event says so."""
    operator = Operator(apply=False)
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    with pytest.raises(ConfigurationError, match=r"call finalizers\.apply\(settings\) before"):
        operator.cycle(alive())
    assert operator.calls == []
    operator.finalizers.apply(operator.settings)
    assert operator.cycle(alive()).finalizers() == [BACKUPS]


def test_operator_without_dedicated_finalizers_need_not_be_applied() -> None:
    """Handlers as Kopf has them work without any settings of the library's."""
    operator = Operator(apply=False)
    operator.on.create("things")(operator.handler("created"))
    operator.cycle(alive())
    assert operator.calls == ["created"]


def test_handlers_declared_late_may_share_a_finalizer() -> None:
    """A startup handler may declare all the handlers of an operator, as a module would."""
    operator = Operator()
    operator.start()
    operator.on.create("things", finalizer="backups", labels={"a": "b"})(operator.handler("one"))
    operator.on.create("others", finalizer="backups")(operator.handler("two"))
    operator.on.delete("example.com", "things", finalizer="backups")(operator.handler("x", LATER))
    assert operator.cycle(alive(labels={"a": "b"})).finalizers() == [BACKUPS, OWN]
    assert operator.cycle(deleting(BACKUPS, OWN, labels={"a": "b"})).finalizers() == [BACKUPS, OWN]
    assert operator.calls == ["x"]
    assert operator.cycle(deleting(BACKUPS)).finalizers() == []


def test_operator_applied_twice_acts_once_and_on_the_later_settings() -> None:
    """Settings applied again take the place of the first, without a second of everything."""
    operator = Operator()
    operator.on.create("things", finalizer="backups")(operator.handler("created"))
    operator.start()
    before = len(operator.registry._watching.get_all_handlers())
    operator.settings = kopf.OperatorSettings()
    operator.finalizers.apply(operator.settings)
    assert len(operator.registry._watching.get_all_handlers()) == before
    assert operator.cycle(alive()).patch.fns == [AddFinalizer(BACKUPS)]
    assert operator.calls == []


@pytest.mark.parametrize("late", [False, True])
def test_two_operators_in_one_process_do_not_meet(late: bool) -> None:
    """Each operator keeps to its own registry, settings and cycles."""
    one, other = Operator(), Operator()
    one.on.create("things", finalizer="backups")(one.handler("one"))
    if late:
        other.start()
    other.on.delete("things", finalizer="buckets")(other.handler("other"))
    body = one.cycle(alive()).after()
    body = other.cycle(body).after()
    assert body["metadata"]["finalizers"] == [BACKUPS, BUCKETS, OWN]
    assert one.calls == other.calls == []


# More than one `Finalizers`, and other settings


def test_two_finalizers_of_one_operator_both_observe_its_storage() -> None:
    """Each module of a program may make one: whatever the number of cycles, each looks on once."""
    operator, other = Operator(), Operator()
    other.registry, other.settings = operator.registry, operator.settings
    other.finalizers = Finalizers(operator.finalizers.identity, registry=operator.registry)
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    other.on.delete("things", finalizer="buckets")(operator.handler("buckets"))
    operator.start()
    other.start()
    body = operator.settle(alive())
    storages = set[int]()
    for _ in range(5):
        operator.cycle(body)
        storages.add(id(operator.settings.persistence.progress_storage))
    assert len(storages) == 1
    assert not operator.settle(deleted(body))["metadata"].get("finalizers")
    assert sorted(operator.calls) == ["backups", "buckets"]


def test_settings_that_kopf_does_not_run_with_are_noticed() -> None:
    """Without them Kopf would tell nobody that a cleanup has ended, or whose finalizer is whose."""
    operator = Operator()
    operator.on.delete("things", finalizer="backups")(operator.handler("backups"))
    operator.start()
    with pytest.raises(ConfigurationError, match="runs with other settings"):
        cycle(operator.registry, kopf.OperatorSettings(), alive())
    assert operator.cycle(alive()).finalizers() == [BACKUPS, OWN]
    with pytest.raises(ConfigurationError, match=r"kopf\.run\(settings=settings\)"):
        cycle(operator.registry, kopf.OperatorSettings(), alive())
