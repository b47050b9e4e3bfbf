from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from bench.fixed_size import FixedSizeJudge
from neverslower.judge.verdict import STANDARD, Code, Interval, ReasonCode, Thresholds, block_log_ratios, decide
from selftests.support import fake_passes, known

JUDGE = FixedSizeJudge()
NOISE = 0.01


_passes = partial(fake_passes, blocks=20, number=2)


def _swapped(passes):
    return [replace(one, seconds=one.seconds[:, ::-1]) for one in passes]


@pytest.mark.parametrize(
    ("low", "high", "code"),
    [
        (0.90, 0.98, Code.FASTER),
        (0.90, 0.9899, Code.FASTER),
        (0.90, 0.99, Code.SAME),
        (0.98, 1.00, Code.SAME),
        (1.00, 1.0299, Code.SAME),
        (1.00, 1.03, Code.UNDECIDED),
        (0.90, 1.10, Code.UNDECIDED),
        (1.01, 1.10, Code.UNDECIDED),
        (1.0101, 1.10, Code.SLOWER),
        (1.0101, 1.03, Code.SLOWER),
        (1.0101, 1.0299, Code.SAME),
        (2.00, 3.00, Code.SLOWER),
    ],
)
def test_the_word_follows_from_the_interval(low, high, code):
    assert decide(Interval((low + high) / 2, low, high), STANDARD)[0] is code


@pytest.mark.parametrize(
    ("low", "high", "reason", "text"),
    [
        (0.9, 0.95, ReasonCode.PROVED, "below 0.99×"),
        (0.9, 1.00, ReasonCode.WITHIN_TARGET, "below 1.03×"),
        (1.1, 1.20, ReasonCode.PROVED, "above 1.01×"),
        (0.9, 1.20, ReasonCode.TOO_NOISY, "neither above 1.01× nor below 1.03×"),
    ],
)
def test_every_word_has_its_reason(low, high, reason, text):
    found = decide(Interval(1.0, low, high), STANDARD)[1]
    assert found.code is reason
    assert text in found.text


def test_the_lines_are_the_thresholds():
    loose = Thresholds(tolerance=0.1, target=0.2)
    assert decide(Interval(1.1, 1.05, 1.15), loose)[0] is Code.SAME
    assert decide(Interval(1.1, 1.05, 1.15), STANDARD)[0] is Code.SLOWER


@pytest.mark.parametrize(
    ("ratio", "noise", "code"),
    [
        (0.5, NOISE, Code.FASTER),
        (0.95, NOISE, Code.FASTER),
        (1.0, NOISE, Code.SAME),
        (1.02, 1e-4, Code.SAME),
        (1.06, NOISE, Code.SLOWER),
        (2.0, NOISE, Code.SLOWER),
        (1.0, 0.2, Code.UNDECIDED),
        (1.1, 0.3, Code.UNDECIDED),
    ],
)
def test_samples_are_judged_by_their_ratio_and_noise(ratio, noise, code):
    verdict = JUDGE(_passes(ratio, noise), 100)
    seen = known(verdict.ratio)
    assert verdict.code is code
    assert seen.low <= seen.estimate <= seen.high
    assert seen.estimate == pytest.approx(ratio, rel=max(0.4 * noise, 1e-4))


@pytest.mark.parametrize("seed", range(5))
def test_a_few_spikes_on_one_side_do_not_make_it_slower(seed):
    passes = _passes(seed=seed)
    passes[0].seconds[3:5, 1] *= 20
    verdict = JUDGE(passes, 100)
    assert verdict.code is not Code.SLOWER
    assert known(verdict.ratio).estimate == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1e-3])
@pytest.mark.parametrize("where", [(0, 0, 0), (-1, 1, 1)])
def test_a_sample_that_is_no_time_is_invalid(bad, where):
    passes = _passes()
    passes[1].seconds[where] = bad
    verdict = JUDGE(passes, 1)
    assert (verdict.code, verdict.reason.code, verdict.ratio) == (Code.INVALID, ReasonCode.BAD_SAMPLES, None)


@pytest.mark.parametrize("passes", [[], _passes(blocks=0), _passes(blocks=0, number=1)])
def test_no_samples_are_invalid(passes):
    verdict = JUDGE(passes, 1)
    assert (verdict.code, verdict.reason.text) == (Code.INVALID, "no samples")


def test_an_empty_pass_beside_a_full_one_does_no_harm():
    assert JUDGE([*_passes(), *_passes(blocks=0, number=1)], 1).code is Code.SAME


@pytest.mark.parametrize(("blocks", "comparisons", "needed"), [(6, 1, 7), (16, 1000, 17), (1, 1, 7)])
def test_too_few_blocks_are_undecided_and_say_how_many_would_do(blocks, comparisons, needed):
    verdict = JUDGE(_passes(2.0, blocks=blocks, number=1), comparisons)
    assert (verdict.code, verdict.reason.code) == (Code.UNDECIDED, ReasonCode.TOO_NOISY)
    assert f"{blocks} blocks" in verdict.reason.text
    assert f"{needed} can" in verdict.reason.text
    assert JUDGE(_passes(2.0, blocks=needed, number=1), comparisons).code is Code.SLOWER


def test_the_blocks_that_are_needed_are_those_of_the_harder_bound():
    judge = FixedSizeJudge(Thresholds(family_error=0.1, miss_error=0.001))
    assert "10 can" in judge(_passes(blocks=5, number=1), 1).reason.text


def test_a_block_log_ratio_is_the_mean_of_its_rounds_logs():
    seconds = np.array([[[1.0, 4.0], [2.0, 8.0]], [[1.0, 1.0], [0.5, 0.5]]])
    np.testing.assert_allclose(block_log_ratios(seconds), [np.log(2), -np.log(2)])


@pytest.mark.parametrize("ratio", [1.0, 1.3])
def test_swapping_the_sides_gives_the_reciprocal_ratio(ratio):
    passes = _passes(ratio, seed=3)
    there, back = (known(JUDGE(one, 1).ratio) for one in (passes, _swapped(passes)))
    assert back.estimate == pytest.approx(1 / there.estimate)
    assert back.low == pytest.approx(1 / there.high)
    assert back.high == pytest.approx(1 / there.low)


def test_a_larger_family_lowers_the_bound_of_a_slower_only():
    passes = _passes(1.05)
    alone, one_of_many = (known(JUDGE(passes, number).ratio) for number in (1, 10_000))
    assert one_of_many.low < alone.low
    assert (one_of_many.estimate, one_of_many.high) == (alone.estimate, alone.high)


def test_what_is_slower_alone_may_be_undecided_among_many():
    passes = _passes(1.05, noise=0.03)
    assert JUDGE(passes, 1).code is Code.SLOWER
    assert JUDGE(passes, 1_000_000).code is Code.UNDECIDED


def test_a_family_of_none_counts_as_one():
    assert JUDGE(_passes(), 0) == JUDGE(_passes(), 1)


def test_false_slower_is_as_rare_as_stated():
    # At exactly the tolerance, in the hardest case, 1 in 20 may be called slower: 40 expected of 800, 70 is 5 sigma.
    judge = FixedSizeJudge(Thresholds(family_error=0.05, target=0.0))
    codes = [judge(_passes(1.01, seed=seed, number=1), 1).code for seed in range(800)]
    assert 15 <= codes.count(Code.SLOWER) <= 70


def test_equal_layers_are_never_called_slower_in_a_family():
    codes = [JUDGE(_passes(noise=0.025, seed=seed), 1000).code for seed in range(300)]
    assert Code.SLOWER not in codes


def test_without_noise_nothing_is_below_the_floor_and_the_tolerance_is_detectable():
    verdict = JUDGE(_passes(noise=0.0), 1)
    assert verdict.noise_floor == 0
    assert verdict.mde == pytest.approx(STANDARD.tolerance)


def test_the_noise_floor_grows_with_the_noise_and_the_family_and_shrinks_with_the_samples():
    def floor(comparisons=1, **changes):
        return np.median([JUDGE(_passes(seed=seed, **changes), comparisons).noise_floor for seed in range(100)])

    assert floor(noise=0.02) == pytest.approx(2 * floor(noise=0.01), rel=0.05)
    assert floor(blocks=80) == pytest.approx(floor(blocks=20) / 2, rel=0.15)
    assert floor(comparisons=1000) > 1.5 * floor()


def test_the_noise_floor_is_the_references_own():
    passes = _passes(1.5)
    spoilt = [replace(one, seconds=one.seconds.copy()) for one in passes]
    for one in spoilt:
        one.seconds[:, 1] *= np.exp(np.random.default_rng(9).normal(0, 0.3, (20, 2)))
    assert JUDGE(spoilt, 1).noise_floor == JUDGE(passes, 1).noise_floor


def test_equal_layers_stay_below_the_noise_floor_as_often_as_its_level_says():
    verdicts = [JUDGE(_passes(seed=seed), 1) for seed in range(400)]
    above = sum(known(verdict.ratio).estimate - 1 > known(verdict.noise_floor) for verdict in verdicts)
    # 1 % expected were the noise known; it is estimated from 40 values, which costs up to a few times that.
    assert 0 < above <= 20


@pytest.mark.parametrize("comparisons", [1, 1000])
def test_a_slowdown_beyond_the_minimum_detectable_effect_is_proved_and_one_short_of_it_is_not(comparisons):
    mde = np.median([JUDGE(_passes(noise=0.03, seed=seed), comparisons).mde for seed in range(40)])

    def proved(ratio):
        codes = [JUDGE(_passes(ratio, noise=0.03, seed=1000 + seed), comparisons).code for seed in range(150)]
        return codes.count(Code.SLOWER) / len(codes)

    assert proved(1 + 1.6 * mde) > 0.9
    assert 0.25 < proved(1 + mde) < 0.75
    assert proved(1 + 0.5 * mde) < 0.15


def test_undecided_is_measured():
    assert Code.UNDECIDED.measured


@pytest.mark.parametrize("code", [Code.UNSUPPORTED, Code.CRASHED, Code.INVALID, Code.NO_BASELINE, Code.INCOMPARABLE])
def test_what_says_that_nothing_was_measured(code):
    assert not code.measured
