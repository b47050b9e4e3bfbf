from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import simulate
from bench.pools import seconds_of
from neverslower.judge import stats
from neverslower.judge.sequential import (
    PRESETS,
    QUICK,
    STANDARD_PRESET,
    THOROUGH,
    SequentialJudge,
    log_evidence,
)
from neverslower.judge.units import block_length, units_of
from neverslower.judge.verdict import STANDARD, Code, ReasonCode, Thresholds
from selftests.support import ROOT, known
from selftests.support import fake_passes as _passes

JUDGE = SequentialJudge()
POOLS = [ROOT / "bench" / "data" / f"{name}.npz" for name in ("onednn-two-cores", "cudnn-h100")]


def _scaled(passes, ratio):
    return [replace(one, seconds=one.seconds * np.array([1, ratio])[:, None]) for one in passes]


def _until_enough(passes, comparisons=1000, judge=JUDGE):
    """(the verdict, the passes it took)."""
    for number in range(1, len(passes) + 1):
        if judge.enough(passes[:number], comparisons):
            break
    return judge(passes[:number], comparisons), number


@pytest.fixture(scope="module", params=[0.0, 0.03, 0.5])
def unlucky(request):
    return request.param


NOISES = sorted(simulate.NOISES)


@pytest.mark.parametrize("name", [name for name in NOISES if name != "correlated"])
def test_evidence_is_at_most_one_on_average_whenever_one_stops(name, unlucky):
    """At the end, and when it first falls below a tenth or rises above 3."""
    rng = np.random.default_rng(1)
    blocks = simulate.NOISES[name](rng, (20_000, 3, 8))
    passes = [blocks[:, number].reshape(-1, 4, 2).mean(axis=2) for number in range(3)]
    evidence = np.exp(log_evidence(passes, np.zeros(len(blocks)), unlucky))
    ends = (evidence > 3) | (evidence < 0.1)
    when = np.where(ends.any(axis=1), ends.argmax(axis=1), -1)
    for found in (evidence[:, -1], evidence[np.arange(len(evidence)), when]):
        assert found.mean() - 1 <= 4 * found.std() / np.sqrt(len(found))


@pytest.mark.parametrize("distance", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("seen", [0, 2, 3, 12])
def test_the_stake_on_a_unit_is_set_before_it_is_seen(seen, distance):
    """Then what is won on one side of the centre is lost on the other, however far away the unit lies."""
    past = np.random.default_rng(5).normal(0.3, 1, seen)
    won, lost = (np.exp(log_evidence([np.append(past, unit)], 0.0)[-1]) for unit in (distance, -distance))
    before = np.exp(log_evidence([past], 0.0)[-1]) if seen else 1.0
    assert (won + lost) / 2 == pytest.approx(before)


def test_evidence_against_a_centre_above_the_true_one_is_less_still():
    units = np.random.default_rng(2).standard_normal((20_000, 8))
    assert np.exp(log_evidence([units], np.full(len(units), 0.5))[:, -1]).mean() < 0.2


@pytest.mark.parametrize("error", [0.05, 0.01])
def test_the_chance_ever_to_reach_a_level_is_that_level(error, unlucky):
    units = np.random.default_rng(3).standard_normal((4000, 6, 4))
    crossed = (
        simulate.first_crossing(log_evidence(list(units.transpose(1, 0, 2)), np.zeros(4000), unlucky), error) <= 24
    )
    assert crossed.mean() <= error + 3 * np.sqrt(error / 4000)


def test_unlucky_passes_do_not_break_the_level():
    rng = np.random.default_rng(4)
    units = rng.standard_normal((4000, 6, 4)) + 50 * (rng.random((4000, 6, 1)) < 0.1)
    crossed = simulate.first_crossing(log_evidence(list(units.transpose(1, 0, 2)), np.zeros(4000), 0.1), 0.01) <= 24
    assert crossed.mean() <= 0.01 + 3 * np.sqrt(0.01 / 4000)


@pytest.mark.parametrize("share", [0.03, 0.5])
def test_no_pass_gives_more_than_the_share_of_unlucky_ones_allows(share):
    units = np.full((1, 200), 1e3) + np.arange(200.0)
    assert log_evidence([units], np.zeros(1), share).max() < -np.log(share)
    assert log_evidence([units], np.zeros(1)).max() > 50


DYADIC = st.integers(-1024, 1024).map(lambda number: number / 1024)


@given(
    st.lists(DYADIC, min_size=1, max_size=20),
    DYADIC,
    DYADIC.map(abs),
    st.sampled_from([0.0, 0.03, 0.5]),
)
@settings(max_examples=60, deadline=None)
def test_evidence_falls_as_the_centre_rises_and_rises_with_a_shift(values, centre, step, share):
    units = np.array(values)
    passes = [units[: len(units) // 2], units[len(units) // 2 :]]
    here, above = (log_evidence(passes, place, share) for place in (centre, centre + step))
    assert np.all(above <= here + 1e-9)
    np.testing.assert_allclose(log_evidence([one + step for one in passes], centre + step, share), here)


def test_a_block_is_what_it_is_of_a_unit():
    seconds = _passes(1.2, blocks=7)[0].seconds
    logs = np.log(seconds).mean(axis=2)
    expected = (logs[:, 1] - logs[:, 0])[:6].reshape(3, 2).mean(axis=1)
    np.testing.assert_allclose(units_of(seconds, 2), expected)


@pytest.mark.parametrize(
    ("ratio", "noise", "code"),
    [
        (0.5, 0.01, Code.FASTER),
        (1.0, 0.01, Code.SAME),
        (1.02, 1e-4, Code.SAME),
        (1.06, 0.01, Code.SLOWER),
        (2.0, 0.01, Code.SLOWER),
        (1.0, 0.3, Code.UNDECIDED),
    ],
)
def test_samples_are_judged_by_their_ratio_and_noise(ratio, noise, code):
    verdict, _ = _until_enough(_passes(ratio, noise, number=10))
    assert verdict.code is code
    if verdict.ratio:
        assert verdict.ratio.low <= verdict.ratio.estimate <= verdict.ratio.high


def test_swapping_the_sides_gives_the_reciprocal_ratio():
    judge = SequentialJudge(
        Thresholds(family_error=0.01, miss_error=0.01), replace(STANDARD_PRESET, unlucky_error=0.01)
    )
    passes = _passes(1.3, seed=3)
    swapped = [replace(one, seconds=one.seconds[:, ::-1]) for one in passes]
    # At one comparison SLOWER and SAME have one level, but for SLOWER's second proof, which asks more of none.
    there, back = (known(judge(sides, 1).ratio) for sides in (passes, swapped))
    assert back.estimate == pytest.approx(1 / there.estimate)
    assert back.low == pytest.approx(1 / there.high, rel=1e-3)
    assert back.high == pytest.approx(1 / there.low, rel=1e-3)


@pytest.mark.parametrize("ratio", [1.1, 3.0])
def test_the_interval_moves_with_the_candidates_scale(ratio):
    plain, moved = (JUDGE(one, 1000).ratio for one in (_passes(number=8), _scaled(_passes(number=8), ratio)))
    for name in ("estimate", "low", "high"):
        assert getattr(moved, name) == pytest.approx(ratio * getattr(plain, name), rel=1e-4)


def test_what_was_proved_stays_proved():
    passes = _passes(number=10, noise=0.02)
    ratios = [known(JUDGE(passes[:number], 1000).ratio) for number in range(4, 11)]
    assert sorted(one.low for one in ratios) == [one.low for one in ratios]
    assert sorted((one.high for one in ratios), reverse=True) == [one.high for one in ratios]


def test_the_interval_and_the_stopping_rule_agree():
    for seed in range(15):
        passes = _passes(1.0 + 0.006 * seed, noise=0.02, seed=seed, number=6)
        for number in range(1, 7):
            verdict = JUDGE(passes[:number], 1000)
            on_target = verdict.ratio is not None and verdict.ratio.estimate >= 1 + STANDARD.target
            decided = verdict.code in (Code.SAME, Code.FASTER) or (verdict.code is Code.SLOWER and on_target)
            assert JUDGE.enough(passes[:number], 1000) is decided


def test_the_simulations_decide_as_the_judge_does():
    rng = np.random.default_rng(7)
    codes = {
        simulate.UNDECIDED: "UNDECIDED",
        simulate.SAME: "SAME",
        simulate.FASTER: "FASTER",
        simulate.SLOWER: "SLOWER",
    }
    judge = SequentialJudge(preset=replace(QUICK, most_blocks=48))
    passes = [_passes(float(rng.uniform(0.96, 1.08)), 0.02, seed, 6) for seed in range(20)]
    units = np.array([[units_of(one.seconds, 2) for one in each] for each in passes])
    found = simulate.decisions(units, judge)
    for each, code, taken in zip(passes, found.codes, found.passes, strict=True):
        verdict, number = _until_enough(each, judge=judge)
        assert (verdict.code.value, number) == (codes[int(code)], taken)


@pytest.mark.parametrize("seed", range(5))
def test_spikes_on_one_side_do_not_make_it_slower(seed):
    passes = _passes(seed=seed)
    passes[0].seconds[3:5, 1] *= 20
    verdict, _ = _until_enough(passes)
    assert verdict.code is not Code.SLOWER


@pytest.mark.parametrize("name", NOISES)
def test_no_noise_makes_equal_layers_slower(name):
    rng = np.random.default_rng(8)
    drawn = simulate.units(rng, 1000, STANDARD_PRESET, 1.0, 0.02, simulate.NOISES[name])
    assert not np.any(simulate.decisions(drawn, JUDGE).codes == simulate.SLOWER)


def test_drift_of_both_sides_does_not_matter():
    def drifting(ratio):
        passes = _passes(ratio, number=6)
        clock = np.array([[[0, 3], [1, 2]], [[1, 2], [0, 3]]] * 4) + 4 * np.arange(8)[:, None, None]
        return [replace(one, seconds=one.seconds * np.exp(0.02 * clock)) for one in passes]

    assert _until_enough(drifting(1.0))[0].code is Code.SAME
    assert _until_enough(drifting(1.05))[0].code is Code.SLOWER


def test_one_pass_proves_nothing_and_one_bad_preparation_is_outvoted():
    good, bad = _passes(number=6, noise=1e-3), _passes(1.06, number=1, noise=1e-3, seed=1)
    for ratio in (0.5, 1.0, 2.0):
        assert JUDGE(_passes(ratio, number=1, blocks=190, noise=1e-3), 1000).code is Code.UNDECIDED
    assert _until_enough([*bad, *good])[0].code is Code.SAME
    assert _until_enough([*good[:1], *bad, *good[1:]])[0].code is Code.SAME


def test_the_interval_holds_the_ratio_as_often_as_it_says_under_early_stopping():
    judge = SequentialJudge(Thresholds(family_error=0.025, miss_error=0.025), replace(QUICK, unlucky_error=0.025))
    for ratio in (1.0, 1.03):
        ends = [_until_enough(_passes(ratio, 0.015, seed, 8), 1, judge)[0].ratio for seed in range(30)]
        # 95 % is promised, more is kept.
        assert sum(one is None or one.low <= ratio <= one.high for one in ends) >= 28


@pytest.mark.parametrize("ratio", [1.0, 1.1, 2.0])
def test_few_blocks_are_undecided_and_say_how_many_would_do(ratio):
    verdict = JUDGE(_passes(ratio, number=1), 1000)
    assert (verdict.code, verdict.reason.code, verdict.ratio) == (Code.UNDECIDED, ReasonCode.TOO_NOISY, None)
    assert f"it takes {JUDGE.fewest_passes(1000)} passes" in verdict.reason.text


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("comparisons", [1, 1000, 10_000])
def test_the_fewest_blocks_decide_what_is_clear_and_fewer_do_not(preset, comparisons):
    judge = SequentialJudge(preset=preset)
    number = judge.fewest_passes(comparisons)
    passes = _passes(3.0, 1e-3, number=number)
    assert judge(passes, comparisons).code is Code.SLOWER
    assert judge(passes[:-1], comparisons).code is Code.UNDECIDED


def test_a_larger_family_asks_for_more():
    passes = _passes(1.05, 0.02, number=8)
    alone, among_many = (known(JUDGE(passes, number).ratio) for number in (1, 100_000))
    assert among_many.low < alone.low
    assert (among_many.estimate, among_many.high) == (alone.estimate, alone.high)
    assert JUDGE(passes, 0) == JUDGE(passes, 1)


def test_the_lines_are_the_thresholds():
    passes = _passes(1.08, noise=0.005, number=8)
    assert JUDGE(passes, 1000).code is Code.SLOWER
    assert SequentialJudge(Thresholds(tolerance=0.1, target=0.2))(passes, 1000).code is Code.SAME


def test_the_budget_ends_it():
    passes = _passes(1.02, noise=0.2, number=24)
    assert not JUDGE.enough(passes[:23], 1000)
    assert JUDGE.enough(passes, 1000)
    assert JUDGE(passes, 1000).code is Code.UNDECIDED


def test_slower_below_the_target_goes_on_until_it_is_the_same_or_the_budget_ends():
    passes = _passes(1.028, noise=0.012, number=24)
    codes = [JUDGE(passes[:number], 1000).code for number in range(1, 25)]
    first = codes.index(Code.SLOWER) + 1
    assert not JUDGE.enough(passes[:first], 1000)
    assert _until_enough(passes)[0].code is codes[-1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1e-3])
def test_a_sample_that_is_no_time_is_invalid_and_enough(bad):
    passes = _passes()
    passes[1].seconds[0, 1, 1] = bad
    assert (JUDGE(passes, 1).code, JUDGE(passes, 1).ratio) == (Code.INVALID, None)
    assert JUDGE.enough(passes, 1)


@pytest.mark.parametrize("passes", [[], _passes(blocks=0), _passes(blocks=0, number=1)])
def test_no_samples_are_invalid_and_not_enough(passes):
    assert JUDGE(passes, 1).code is Code.INVALID
    assert not JUDGE.enough(passes, 1)


def test_a_disturbed_device_is_given_more_time_but_not_more_than_the_budget():
    passes = [replace(one, discarded=4, why_discarded="throttled") for one in _passes()]
    assert JUDGE(passes, 1).code is Code.INVALID
    assert not JUDGE.enough(passes, 1)
    assert JUDGE.enough([*passes, *_passes(number=10, seed=1)], 1)
    assert JUDGE.enough([replace(one, discarded=40) for one in passes], 1)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("comparisons", [1, 1000, 10_000])
def test_a_clear_slower_is_confirmed_by_a_later_pass_that_shows_it_too(preset, comparisons):
    judge = SequentialJudge(preset=preset)
    *passes, later = _passes(1.1, 2e-3, number=judge.fewest_passes(comparisons) + 1)
    verdict = judge.confirmed(passes, later, comparisons)
    assert (verdict.code, verdict.reason.code) == (Code.SLOWER, ReasonCode.PROVED)
    assert "confirmed in a fresh process (1." in verdict.reason.text


@pytest.mark.parametrize("number", [6, 20])
def test_a_later_pass_that_does_not_show_it_undoes_a_slower_however_much_was_proved_before(number):
    passes = _passes(1.1, 2e-3, number=number)
    verdict = JUDGE.confirmed(passes, _passes(noise=2e-3, number=1)[0], 1000)
    assert (verdict.code, verdict.reason.code) == (Code.UNDECIDED, ReasonCode.NOT_CONFIRMED)
    assert "did not confirm (1.00" in verdict.reason.text


def test_a_confirmation_allows_for_unlucky_passes_at_the_familys_error():
    passes = _passes(1.1, 2e-3, number=JUDGE.fewest_passes(1000))
    (later,) = _passes(1.05, 0.05, number=1)  # It shows it too, but it adds little.
    assert JUDGE([*passes, later], 1000).code is Code.SLOWER
    verdict = JUDGE.confirmed(passes, later, 1000)
    assert (verdict.code, verdict.reason.code) == (Code.UNDECIDED, ReasonCode.NOT_CONFIRMED)


def test_a_disturbed_confirmation_confirms_nothing():
    later = replace(_passes(1.1, number=1)[0], discarded=9, why_discarded="throttled")
    verdict = JUDGE.confirmed(_passes(1.1, 2e-3, number=12), later, 1000)
    assert (verdict.code, verdict.reason.code) == (Code.UNDECIDED, ReasonCode.NOT_CONFIRMED)
    assert "throttled" in verdict.reason.text


def test_an_empty_pass_and_a_block_that_fills_no_unit_do_no_harm():
    assert JUDGE([*_passes(), *_passes(blocks=0, number=1)], 1).code is Code.SAME
    assert JUDGE(_passes(blocks=1), 1).code is Code.UNDECIDED


def test_no_noise_at_all_is_judged():
    assert _until_enough(_passes(noise=0))[0].code is Code.SAME
    assert _until_enough(_passes(1.5, noise=0, number=8))[0].code is Code.SLOWER


def test_the_minimum_detectable_effect_is_found_every_second_time():
    verdict = JUDGE(_passes(noise=0.03, number=24), 1000)
    mde = known(verdict.mde)
    drawn = simulate.units(np.random.default_rng(5), 300, STANDARD_PRESET, 1 + mde, 0.03)
    found = simulate.decisions(drawn, SequentialJudge(Thresholds(target=0.01 + 1e-9))).share(simulate.SLOWER)
    assert mde > STANDARD.tolerance
    assert 0.2 < found < 0.8


def test_presets_are_frozen_and_named():
    assert list(PRESETS) == ["quick", "standard", "thorough"]
    assert QUICK.most_blocks < STANDARD_PRESET.most_blocks < THOROUGH.most_blocks
    with pytest.raises(FrozenInstanceError):
        setattr(QUICK, "most_blocks", 1)  # noqa: B010  (mypy knows that it cannot be done)


@pytest.mark.parametrize(("by", "length"), [(0.0, 1), (0.15, 2), (0.3, 4), (0.95, 8)])
def test_blocks_are_as_long_as_they_correlate(by, length):
    noise = simulate.correlated(np.random.default_rng(6), (200, 1, 80), by)[:, 0]
    pools = [np.exp(np.stack([np.zeros((80, 2)), np.repeat(one[:, None], 2, 1)], axis=1)) for one in noise]
    assert block_length(pools) == length


def test_blocks_that_alternate_with_their_order_are_taken_in_pairs():
    rng = np.random.default_rng(6)
    alternating = rng.normal(0, 1, (100, 24)) * 0.1 + np.tile([1, -1], 12)
    pools = [np.exp(np.stack([np.zeros((24, 2)), np.repeat(one[:, None], 2, 1)], axis=1)) for one in alternating]
    assert block_length(pools) == 2


@pytest.mark.parametrize("pools", [[], [np.ones((3, 2, 2))], [np.ones((40, 2, 2))]])
def test_without_noise_to_go_by_a_block_is_a_unit(pools):
    assert block_length(pools) == 1


@pytest.mark.parametrize("path", POOLS, ids=lambda path: path.stem)
def test_recorded_blocks_are_independent_in_pairs(path):
    with np.load(path) as pool:
        assert block_length(list(seconds_of(pool))) == STANDARD_PRESET.block_length


@pytest.mark.parametrize("path", POOLS, ids=lambda path: path.stem)
def test_recorded_layers_are_not_slower_than_themselves_and_found_when_a_tenth_slower(path):
    """Each comparison has passes of one problem, and every other pass exchanges both names: it prepares them so."""
    with np.load(path) as pool:
        seconds, problems = seconds_of(pool), pool["problems" if "problems" in pool else "layers"]
    most = QUICK.most_passes
    passes = [np.flatnonzero(problems == problem) for problem in np.unique(problems)]
    drawn = np.concatenate([one[: len(one) // most * most].reshape(-1, most) for one in passes])
    units = np.array(
        [[units_of(seconds[one, : QUICK.blocks_at_once], QUICK.block_length) for one in each] for each in drawn]
    )
    units[:, 1::2] *= -1
    alarms = [simulate.decisions(units + np.log(ratio), SequentialJudge(preset=QUICK)) for ratio in (1.0, 1.1)]
    assert len(units) >= 50
    assert alarms[0].share(simulate.SLOWER) == 0
    assert alarms[1].share(simulate.SLOWER) >= 0.9


def test_wald_asks_for_less_where_the_gap_is_wider():
    # α = 1e-5, β = 5 % at the target saves 39 % of the fixed-size samples, as shared knowledge has it.
    fixed = (stats.normal_quantile(1 - 1e-5) + stats.normal_quantile(0.95)) ** 2
    assert 1 - simulate.wald_units(1.0, 1e-5, 0.05) / fixed == pytest.approx(0.39, abs=0.02)
    assert simulate.wald_units(2.0, 1e-5, 0.05) == pytest.approx(simulate.wald_units(1.0, 1e-5, 0.05) / 4)
