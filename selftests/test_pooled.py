import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from neverslower.judge.pooled import FEWEST, PooledJudge, Processes, Scatter, share
from neverslower.judge.ranks import chance
from neverslower.judge.verdict import STANDARD, Code

ARMS = 10
JUDGE = PooledJudge(replace(STANDARD, family_error=0.005, miss_error=0.005))
LINE = math.log1p(STANDARD.tolerance)


def effects(random: np.random.Generator, layers: int, processes: int, scale: float | np.ndarray = 0.003) -> np.ndarray:
    """What preparations do: half of it to the reference that a layer's arms share. Shape (comparisons, processes)."""
    each = random.standard_t(4, (layers, ARMS, processes)) + random.standard_t(4, (layers, 1, processes))
    return np.asarray((each * np.reshape(scale, (-1, 1, 1))).reshape(-1, processes))


def measured(log_ratios: np.ndarray, starts: tuple[int, ...] = ()) -> Processes:
    return Processes(log_ratios, tuple(np.arange(len(log_ratios)) // ARMS), starts)


def codes(processes: Processes, stored: Scatter | None = None) -> list[Code]:
    return [verdict.code for verdict in JUDGE(processes, len(processes.layers), stored)]


@pytest.mark.parametrize(
    ("n", "agreeing", "reached", "others"), [(2, 2, 0, 4), (2, 2, 1, 5), (3, 2, 1, 4), (3, 3, 2, 5)]
)
def test_chance_counts_the_orders(n: int, agreeing: int, reached: int, others: int) -> None:
    orders = list(itertools.combinations(range(n + others), n))  # The places of the n, from the largest value on.
    hits = 0
    for places in orders:
        limit = [place for place in range(n + others) if place not in places][reached]
        hits += sum(place < limit for place in places) >= agreeing
    assert chance(n, agreeing, reached, others) == pytest.approx(hits / len(orders))


def test_what_all_may_reach_is_certain() -> None:
    assert chance(3, 2, 7, 7) == 1.0


def test_all_looks_together_spend_no_more_than_the_error() -> None:
    spent = sum(share(n, agreeing) for n in range(200) for agreeing in range(n + 1))
    assert spent == pytest.approx(1.0)
    assert share(1, 1) == share(2, 1) == 0


@pytest.mark.parametrize("layers", [24, 100])
def test_what_is_clear_needs_three_processes(layers: int) -> None:
    random = np.random.default_rng(1)
    ratios = np.resize([1.0, 1.3, 2.0, 0.8], layers * ARMS)
    found = np.array(codes(measured(effects(random, layers, 3) + np.log(ratios)[:, None])))
    assert set(found[(ratios == 1.3) | (ratios == 2.0)]) == {Code.SLOWER}
    assert set(found[ratios == 0.8]) == {Code.FASTER}
    assert Code.SLOWER not in found[ratios == 1.0]


def test_two_processes_prove_what_is_twice_as_slow_and_one_proves_nothing() -> None:
    log_ratios = effects(np.random.default_rng(2), 100, 2)
    log_ratios[::2] += math.log(2)
    assert set(codes(measured(log_ratios))[::2]) == {Code.SLOWER}
    assert set(codes(measured(log_ratios[:, :1]))) == {Code.UNDECIDED}


@pytest.mark.parametrize("kind", ["alike", "unlike", "a noisy minority", "one-sided"])
def test_scatter_is_no_slowdown_however_layers_differ(kind: str) -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        scale = {
            "unlike": np.exp(random.standard_normal(24)),
            "a noisy minority": np.where(random.random(24) < 0.05, 10, 1),
        }
        log_ratios = LINE + effects(random, 24, 6, 0.003 * scale.get(kind, np.ones(24)))
        if kind == "one-sided":
            log_ratios += 0.08 * np.repeat(random.random((24, 6)) < 0.1, ARMS, axis=0)
        assert np.all(JUDGE.bounds(measured(log_ratios), 240).low <= LINE)


def test_a_noisy_layer_among_calm_ones_is_held_to_its_own_scale() -> None:
    random = np.random.default_rng(4)
    scale = np.full(24, 0.001)
    scale[0] = 0.02
    log_ratios = effects(random, 24, 3, scale)
    log_ratios[[0, 10]] += math.log(1.1)
    found = codes(measured(log_ratios))
    assert found[0] is not Code.SLOWER
    assert found[10] is Code.SLOWER


def test_an_arm_noisier_than_its_layer_is_held_to_its_own_range() -> None:
    log_ratios = effects(np.random.default_rng(5), 100, 3, 0.0005)
    log_ratios[0], log_ratios[1] = [0.05, 0.09, 0.13], [0.09, 0.09, 0.09]
    found = codes(measured(log_ratios))
    assert found[0] is not Code.SLOWER
    assert found[1] is Code.SLOWER


def test_the_layer_counts_and_not_the_comparison() -> None:
    """A reference that went astray carries all its arms with it: one event, and ten arms are no ten witnesses."""
    calm = effects(np.random.default_rng(6), 24, 3)
    few = Processes(calm, tuple(np.arange(240) // 24))
    assert len(set(few.layers)) == FEWEST
    assert set(codes(few)) == {Code.UNDECIDED}
    astray = calm.copy()
    astray[10:20, 1] += 0.2
    rest = np.arange(240) >= 20
    gap = [JUDGE.bounds(measured(one), 240).low[rest] for one in (calm, astray)]
    assert np.all(gap[1] < gap[0] - 0.1)


def test_processes_that_started_together_are_one() -> None:
    log_ratios = np.repeat(effects(np.random.default_rng(7), 100, 2), 2, axis=1) + math.log(2)
    assert set(codes(measured(log_ratios[:, :2], (0, 0)))) == {Code.UNDECIDED}
    together, apart = measured(log_ratios, (0, 0, 1, 1)), measured(log_ratios[:, ::2])
    assert np.allclose(together.replicates, apart.replicates)
    assert codes(together) == codes(apart)


def test_what_is_proved_stays_proved() -> None:
    random = np.random.default_rng(8)
    log_ratios = effects(random, 24, 7) + np.log(random.uniform(0.9, 1.4, 240))[:, None]
    looks = [JUDGE.bounds(measured(log_ratios[:, :n]), 240) for n in range(2, 8)]
    for before, after in itertools.pairwise(looks):
        assert np.all(after.low >= before.low)
        assert np.all(after.high <= before.high)
    for seen, alone in zip(JUDGE.looks(measured(log_ratios), 240), looks, strict=True):
        assert np.array_equal(seen.low, alone.low)
        assert np.array_equal(seen.high, alone.high)


def test_one_process_that_disagrees_costs_processes_and_not_the_verdict() -> None:
    log_ratios = effects(np.random.default_rng(9), 100, 8)
    log_ratios[0] += math.log(1.5)
    log_ratios[0, 1] = -0.3
    assert codes(measured(log_ratios[:, :3]))[0] is not Code.SLOWER
    assert codes(measured(log_ratios))[0] is Code.SLOWER


def test_the_family_is_what_the_campaign_compares_and_not_what_was_measured() -> None:
    processes = measured(effects(np.random.default_rng(10), 24, 3))
    assert np.all(JUDGE.bounds(processes, 2400).low < JUDGE.bounds(processes, 240).low)


def test_comparisons_that_a_process_left_out_are_judged_by_what_there_is() -> None:
    log_ratios = effects(np.random.default_rng(11), 100, 4) + math.log(1.5)
    log_ratios[0, 1], log_ratios[1, 1:], log_ratios[2] = np.nan, np.nan, np.nan
    found = codes(measured(log_ratios))
    assert found[0] is Code.SLOWER
    assert found[1] is found[2] is Code.UNDECIDED


def test_a_small_run_leans_on_stored_scatter_and_says_so() -> None:
    random = np.random.default_rng(12)
    earlier = Scatter.of(measured(effects(random, 80, 2)), "run 7 on this device")
    assert [len(layer) for layer in earlier.layers] == [ARMS] * 80
    one_layer = measured(effects(random, 1, 3) + math.log(1.3))
    assert set(codes(one_layer)) == {Code.UNDECIDED}
    verdicts = JUDGE(one_layer, ARMS, earlier)
    assert {verdict.code for verdict in verdicts} == {Code.SLOWER}
    assert "80 stored ones (run 7 on this device)" in verdicts[0].reason.text


def test_stored_scatter_is_widened_where_the_run_contradicts_it() -> None:
    random = np.random.default_rng(13)
    earlier = Scatter.of(measured(effects(random, 80, 2, 0.001)), "a calm day")
    run = effects(random, 1, 3, 0.03) + math.log(1.1)
    factor = earlier.widened(measured(run))
    assert factor > 3
    assert earlier.widened(measured(effects(random, 6, 2, 0.001))) < 1.6
    verdict = JUDGE(measured(run), ARMS, earlier)[0]
    assert verdict.code is not Code.SLOWER
    assert f"widened {factor:.2f} times" in verdict.reason.text


def test_a_ratio_at_the_target_is_hardly_ever_called_the_same() -> None:
    random = np.random.default_rng(14)
    wrong = 0
    for _ in range(20):
        scale = 0.003 * np.exp(0.7 * random.standard_normal(24))
        found = codes(measured(effects(random, 24, 6, scale) + math.log1p(STANDARD.target)))
        wrong += sum(code in (Code.SAME, Code.FASTER) for code in found)
    assert wrong <= 0.005 * 20 * 240


def test_no_noise_is_not_taken_for_certainty_about_hundredths_of_a_percent() -> None:
    log_ratios = np.full((240, 3), LINE + 1e-5)
    assert Code.SLOWER not in codes(measured(log_ratios))


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="as many layers"):
        Processes(np.zeros((2, 2)), ("a",))
    with pytest.raises(ValueError, match="as many starts"):
        Processes(np.zeros((1, 2)), ("a",), (0,))
    with pytest.raises(ValueError, match="infinite"):
        Processes(np.full((1, 2), np.inf), ("a",))
