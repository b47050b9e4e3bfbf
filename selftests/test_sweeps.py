"""A layer's arms timed together: orders, drift, periods, preparations, and each arm's own samples."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neverslower.evidence.observation import PairedPass
from neverslower.worker.far_side import FarSide
from neverslower.worker.process import Worker
from neverslower.worker.sampling import sweep
from selftests import in_process
from selftests.support import problem, scripted

ARMS = 5


class Arm:
    """A runnable whose call takes `seconds(now)`, where `now` counts the rounds of all arms; notes who ran."""

    def __init__(self, name: int, clock: list[int], seconds: Any) -> None:
        self.name, self.clock, self.seconds = name, clock, seconds

    def run(self, iterations: int) -> float:
        """Take a round."""
        self.clock.append(self.name)
        return float(iterations * self.seconds(len(self.clock) - 1))


def swept(seconds: Any, sweeps: int, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """(log seconds of shape (sweeps, arms, 2), who ran in which round) of arms that all take equally long."""
    clock: list[int] = []
    arms = [Arm(number, clock, seconds) for number in range(ARMS)]
    taken, *_ = sweep(arms, [1] * ARMS, sweeps, random.Random(seed), warmup=0)
    return np.log(taken), clock


def test_a_sweep_goes_forth_and_back_in_a_fresh_order() -> None:
    _, ran = swept(lambda now: 1.0, 6)
    halves = [ran[first : first + ARMS] for first in range(0, len(ran), ARMS)]
    assert all(sorted(half) == list(range(ARMS)) for half in halves)
    assert all(forth == back[::-1] for forth, back in zip(halves[::2], halves[1::2], strict=True))
    assert len({tuple(half) for half in halves[::2]}) > 1


def test_the_same_seed_gives_the_same_orders() -> None:
    assert swept(lambda now: 1.0, 4, seed=3)[1] == swept(lambda now: 1.0, 4, seed=3)[1]
    assert swept(lambda now: 1.0, 4, seed=3)[1] != swept(lambda now: 1.0, 4, seed=4)[1]


def test_linear_drift_cancels_between_any_two_arms() -> None:
    logs, _ = swept(lambda now: np.exp(0.01 * now), 8)
    levels = logs.mean(axis=2)
    np.testing.assert_allclose(levels - levels[:, :1], 0, atol=1e-12)


@pytest.mark.parametrize("period", range(2, 2 * ARMS + 7))
def test_a_disturbance_of_any_period_locks_on_to_no_arm(period: int) -> None:
    """Every so many rounds one takes half as long again; over 400 sweeps it falls on all arms alike."""
    logs, _ = swept(lambda now: 1.5 if now % period == 0 else 1.0, 400)
    levels = logs.mean(axis=(0, 2))
    assert np.ptp(levels) < 0.25 * np.log(1.5) / np.sqrt(period) + 0.02


def test_a_sweep_is_taken_again_where_the_device_was_disturbed() -> None:
    looks = iter(["", "hot", "", ""])
    arms = [Arm(number, [], lambda now: 1.0) for number in range(ARMS)]
    seconds, discarded, why = sweep(arms, [1] * ARMS, 8, random.Random(0), lambda: next(looks))
    assert (seconds.shape, discarded, why) == ((8, ARMS, 2), 4, "hot")


def opened(folder: Path, **script: Any) -> FarSide:
    """A far side in this process, on a script."""
    far_side = FarSide()
    far_side.open("scripted", scripted(folder, **script).argument, 1, 0)
    return far_side


def preparations(far_side: FarSide, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The channel counts of what is prepared from now on, in that order."""
    prepared: list[int] = []
    original = far_side.backend.prepare

    def noted(subject: Any, *arguments: Any) -> Any:
        prepared.append(subject.out_channels)
        return original(subject, *arguments)

    monkeypatch.setattr(far_side.backend, "prepare", noted)
    return prepared


KEYS = [problem(channels).key for channels in (15, 13, 9, 16)]


def test_the_order_of_preparation_is_drawn_anew_in_each_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far_side = opened(tmp_path)
    prepared = preparations(far_side, monkeypatch)
    for process in range(12):
        far_side.sweep(KEYS[-1], KEYS[:-1], 1, f"seed/{process}")
    orders = [tuple(prepared[first : first + 4]) for first in range(0, len(prepared), 4)]
    assert all(sorted(order) == [9, 13, 15, 16] for order in orders)
    assert len({order.index(16) for order in orders}) > 2


def test_every_sweep_prepares_all_arms_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far_side = opened(tmp_path)
    prepared = preparations(far_side, monkeypatch)
    for _ in range(2):
        far_side.sweep(KEYS[-1], KEYS, 1, "seed")
    assert sorted(prepared) == sorted([9, 13, 15, 16, 16] * 2)


def test_each_arm_has_its_own_samples_beside_the_references(tmp_path: Path) -> None:
    slow = {"when": "out_channels == 13", "times": 3.0}
    with Worker(scripted(tmp_path, noise=0.0, rules=[slow])) as worker:
        passes = worker.sweep(KEYS[-1], KEYS, 6, "seed")
    assert [one.seconds.shape for one in passes] == [(6, 2, 2)] * 4
    ratios = [float(np.median(one.candidate) / np.median(one.reference)) for one in passes]
    assert np.argmax(ratios) == 1
    assert ratios[1] > 2.5
    assert all(np.array_equal(one.reference, passes[0].reference) for one in passes)
    assert ratios[3] == pytest.approx(1.0, abs=1e-9)


def test_where_tensors_begin_is_drawn_anew_in_each_process_and_told(tmp_path: Path) -> None:
    told = []
    for seed in ("seed/0", "seed/0", "seed/1"):
        with in_process.start(scripted(tmp_path)) as worker:
            passes = worker.sweep(KEYS[-1], KEYS, 1, seed)
        told.append([one.offsets for one in passes])
        references = {one.offsets[0] for one in passes}
        assert len(references) == 1  # It was prepared once for all of them.
        assert len(references | {one.offsets[1] for one in passes}) == 1 + len(KEYS)
    assert told[0] == told[1]
    first, last = ({byte for arm in arms for side in arm for byte in side} for arms in (told[0], told[2]))
    assert len(first - last) > len(first) / 2  # Not the same places in another order.


def test_offsets_go_through_the_journal_and_are_left_out_where_there_are_none(tmp_path: Path) -> None:
    with in_process.start(scripted(tmp_path)) as worker:
        found = worker.measure(KEYS[-1], KEYS[0], 2)
    assert all(len(offsets) == 2 for offsets in found.offsets)
    line = json.loads(json.dumps(found.record(0)))
    assert PairedPass.from_record(line).offsets == found.offsets
    assert "offsets" not in replace(found, offsets=((), ())).record(0)
    del line["offsets"]
    assert PairedPass.from_record(line).offsets == ((), ())
