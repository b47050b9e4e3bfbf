import gc

import numpy as np
import pytest

from neverslower.judge.verdict import block_log_ratios
from neverslower.worker.sampling import MAX_ITERATIONS, calibrate, garbage_collection_off, interleave


class Fake:
    """Calls that take what `cost` says, told the iterations; every run is noted."""

    def __init__(self, cost, name="", diary=None):
        self.cost, self.name = cost, name
        self.diary = [] if diary is None else diary

    def run(self, iterations):
        self.diary.append((self.name, iterations))
        return self.cost(iterations)


@pytest.mark.parametrize("call", [1e-7, 3e-6, 1e-4, 9e-4])
def test_a_round_is_made_long_enough_and_not_much_longer(call):
    iterations, seconds = calibrate(Fake(lambda n: n * call), 1e-3)
    assert 1e-3 <= iterations * call <= 3e-3
    assert seconds == pytest.approx(call)


def test_a_call_that_is_long_enough_is_a_round_by_itself():
    fake = Fake(lambda n: n * 1e-3)
    assert calibrate(fake, 1e-3) == (1, 1e-3)
    assert [iterations for _, iterations in fake.diary] == [1, 1, 1, 1]


def test_a_call_that_takes_what_is_expected_is_not_searched_for():
    fake = Fake(lambda n: n * 1e-5)
    iterations, seconds = calibrate(fake, 1e-3, expected=1e-5)
    assert iterations == 120
    assert seconds == pytest.approx(1e-5)
    assert [iterations for _, iterations in fake.diary] == [1, 120]


@pytest.mark.parametrize("expected", [1e-5, 1.0])
def test_a_call_that_is_faster_than_expected_gets_a_longer_round(expected):
    iterations, seconds = calibrate(Fake(lambda n: n * 1e-6), 1e-3, expected=expected)
    assert 1e-3 <= iterations * 1e-6 <= 3e-3
    assert seconds == pytest.approx(1e-6)


def test_what_is_expected_keeps_to_the_least_iterations():
    assert calibrate(Fake(lambda n: n * 1e-2), 1e-3, 7, 1e-2)[0] == 7


@pytest.mark.parametrize("first", [5.0, 1.5e-3])
def test_the_first_call_does_not_count(first):
    costs = iter([first, 2e-3, 2e-3, 2e-3])
    assert calibrate(Fake(lambda n: next(costs)), 1e-3) == (1, 2e-3)


def test_the_fastest_of_three_rounds_tells_the_time_of_a_call():
    costs = iter([1.0, 9e-3, 2e-3, 7e-3])
    assert calibrate(Fake(lambda n: next(costs)), 1e-3) == (1, 2e-3)


def test_one_slow_round_does_not_end_the_search():
    costs = iter([1.0, 5e-3, 1e-6, 1e-6])
    iterations, _ = calibrate(Fake(lambda n: next(costs, n * 1e-6)), 1e-3)
    assert iterations >= 1000


def test_a_clock_that_stands_still_ends_at_the_most_iterations():
    fake = Fake(lambda n: 0.0)
    assert calibrate(fake, 1e-3) == (MAX_ITERATIONS, 0.0)
    assert max(iterations for _, iterations in fake.diary) == MAX_ITERATIONS


def test_a_clock_that_runs_backwards_ends_too():
    assert calibrate(Fake(lambda n: -1e-6), 1e-3)[0] == MAX_ITERATIONS


def test_one_reading_that_is_much_too_short_does_not_make_rounds_endless():
    fake = Fake(lambda n: 1e-12 if n == 1 else n * 1e-4)
    iterations, _ = calibrate(fake, 1e-3)
    assert iterations <= 64


def test_a_coarse_clock_is_outgrown():
    iterations, seconds = calibrate(Fake(lambda n: n * 1e-6 // 1e-3 * 1e-3), 1e-2)
    assert iterations * 1e-6 >= 1e-2
    assert seconds == pytest.approx(1e-6, rel=0.11)


def test_rounds_run_abba_then_baab_after_the_warm_up():
    diary: list[tuple[str, int]] = []
    interleave(Fake(lambda n: 1.0, "A", diary), Fake(lambda n: 1.0, "B", diary), (2, 3), blocks=3, warmup=2)
    assert "".join(name for name, _ in diary) == "ABAB" + "ABBA" + "BAAB" + "ABBA"
    assert set(diary) == {("A", 2), ("B", 3)}


def test_samples_are_seconds_per_call_in_their_block_side_and_order():
    ticks = iter(range(100))
    reference = Fake(lambda n: float(next(ticks)) * n)
    candidate = Fake(lambda n: float(next(ticks)) * n)
    seconds, *_ = interleave(reference, candidate, (4, 5), blocks=2, warmup=0)
    assert seconds.tolist() == [[[0, 3], [1, 2]], [[5, 6], [4, 7]]]


def _drifting(drift, blocks, ratio=1.0):
    """Block log ratios when the time of a call follows the number of rounds before it."""
    rounds = iter(range(1000))
    reference = Fake(lambda n: drift(next(rounds)))
    candidate = Fake(lambda n: ratio * drift(next(rounds)))
    return block_log_ratios(interleave(reference, candidate, (1, 1), blocks, warmup=1)[0])


def test_a_constant_rate_of_drift_cancels_exactly():
    np.testing.assert_allclose(_drifting(lambda t: np.exp(0.05 * t), 8, ratio=1.2), np.log(1.2), atol=1e-13)


@pytest.mark.parametrize("slope", [1e-3, -1e-3])
def test_linear_drift_cancels_to_first_order(slope):
    left_over = _drifting(lambda t: 1 + slope * t, 2)
    assert np.all(np.abs(left_over) <= 2 * slope**2 * 1.1)


def test_what_linear_drift_leaves_alternates_between_blocks():
    left_over = _drifting(lambda t: 1 + 1e-3 * t, 20)
    assert abs(left_over.sum()) < np.abs(left_over).max() / 10


@pytest.fixture
def _collector_as_it_was():
    enabled = gc.isenabled()
    yield
    if enabled:
        gc.enable()
    else:
        gc.disable()


@pytest.mark.usefixtures("_collector_as_it_was")
@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_off_during_rounds_and_then_as_it_was(enabled):
    if enabled:
        gc.enable()
    else:
        gc.disable()
    seen = []

    def run(iterations):
        seen.append(gc.isenabled())
        return 1.0

    fake = Fake(run)
    interleave(fake, fake, (1, 1), blocks=2)
    assert set(seen) == {False}
    assert gc.isenabled() is enabled


@pytest.mark.usefixtures("_collector_as_it_was")
def test_the_collector_comes_back_after_an_error():
    gc.enable()
    with pytest.raises(RuntimeError), garbage_collection_off():
        raise RuntimeError
    assert gc.isenabled()


@pytest.mark.usefixtures("_collector_as_it_was")
def test_garbage_is_collected_before_the_rounds(monkeypatch):
    collected = []
    monkeypatch.setattr(gc, "collect", lambda: collected.append(gc.isenabled()))
    with garbage_collection_off():
        assert len(collected) == 1
    assert len(collected) == 1
