"""What is kept of what was prepared, and what makes room: decided without a device or a process."""

from __future__ import annotations

from typing import Any

import pytest

from neverslower.errors import OutOfMemory, Unsupported
from neverslower.evidence.observation import Cache
from neverslower.problem.subject import Subject
from neverslower.worker import preparations
from neverslower.worker.preparations import Preparation, Preparations, require_one_way
from selftests.support import problem


class Timed:
    """Calls of one second each."""

    cache = Cache("hot")
    least_iterations = 1

    def run(self, iterations: int) -> float:
        """The seconds of that many calls."""
        return float(iterations)

    def plan(self) -> Any:
        """No plan."""


class Backend:
    """Notes what it prepares, and refuses one problem where it has no `room`."""

    shortest_round = 1.0
    room = True

    def __init__(self) -> None:
        self.prepared: list[str] = []

    def prepare(self, wanted: Any, *_: Any) -> Timed:
        """Prepare a problem, or refuse it where there is no room."""
        if not self.room:
            self.room = True  # For the next one.
            raise OutOfMemory("no room")
        self.prepared.append(wanted.key)
        return Timed()


def kept_on(backend: Any) -> Preparations:
    return Preparations(backend, "", "seed")


def names(count: int) -> list[tuple[str, int]]:
    return [(problem(out_channels=1 + number).key, 0) for number in range(count)]


def test_what_is_kept_is_prepared_once_unless_it_must_come_later() -> None:
    backend = Backend()
    kept = kept_on(backend)
    one, other = names(2)
    first = kept.take(one)
    second = kept.take(other, first.number)
    assert kept.take(one) is first
    assert kept.take(one, second.number).number == 3
    assert backend.prepared == [one[0], other[0], one[0]]


@pytest.mark.parametrize(("most", "bytes_"), [(3, 100), (99, 30)])
def test_the_least_recently_used_is_dropped_where_they_are_too_many_or_too_large(
    monkeypatch: pytest.MonkeyPatch, most: int, bytes_: int
) -> None:
    monkeypatch.setattr(preparations, "CACHED", most)
    monkeypatch.setattr(preparations, "CACHE_BYTES", bytes_)
    kept, four = kept_on(Backend()), names(4)
    for name in four[:3]:
        kept.keep(name, 10, Timed())
    oldest = kept.take(four[0])
    kept.keep(four[3], 10, Timed())
    assert len(kept) == 3
    assert kept.take(four[0]) is oldest
    assert kept.take(four[1]).number == 5  # It was the least recently used, and is prepared again.


def test_those_that_are_measured_together_stay_however_large_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparations, "CACHE_BYTES", 1)
    kept, three = kept_on(Backend()), names(3)
    taken = [kept.take(name, together=3) for name in three]
    assert [kept.take(name, together=3) for name in three] == taken
    kept.keep(three[0], 10, Timed())
    assert len(kept) == 2  # As many as a pair needs.


def test_what_does_not_fit_is_tried_again_once_without_what_is_kept() -> None:
    backend, subject = Backend(), Subject.from_key(names(1)[0][0])
    kept, tensors = kept_on(backend), (None, None)
    kept.keep(("other", 0), 10, Timed())
    backend.room = False
    assert isinstance(kept.make(subject, tensors), Timed)  # type: ignore[arg-type]
    assert not kept
    backend.room = False
    with pytest.raises(OutOfMemory):
        kept.make(subject, tensors)  # type: ignore[arg-type]


def test_networks_that_are_called_in_different_ways_are_not_timed_together() -> None:
    graphed, called = (Preparation(1, 0, Timed(), 1, 1.0, way=way) for way in ("by graph", "call by call"))
    require_one_way(graphed, graphed)
    with pytest.raises(Unsupported, match="one network runs by graph and the other call by call"):
        require_one_way(graphed, called)
