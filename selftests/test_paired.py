"""Old against new in pairs: what is clear is decided after few of them, at a share of the errors, and by its layer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.upgrade import RULES, Pool, replayed
from neverslower.judge.change import PassSpread, judge_pairs
from neverslower.judge.paired import FEWEST_PAIRS, _at_look, at_the_end, decided_early, judge_all
from neverslower.judge.verdict import STANDARD, Code
from selftests.support import known

LAYERS, ARMS = 30, 5
Key = tuple[int, int]
Pairs = dict[Key, list[float]]


def drawn(pairs: int, noise: float = 0.003, seed: int = 0, layers: int = LAYERS) -> Pairs:
    """Pairs of an unchanged library, by (layer, arm)."""
    rng = np.random.default_rng(seed)
    return {(layer, arm): rng.normal(0, noise, pairs).tolist() for layer in range(layers) for arm in range(ARMS)}


def changed(levels: list[float], ratio: float) -> list[float]:
    return [level + math.log(ratio) for level in levels]


def layer_of(key: Key) -> int:
    return key[0]


def first(pairs: Pairs, number: int) -> Pairs:
    return {key: levels[:number] for key, levels in pairs.items()}


@pytest.mark.parametrize(("ratio", "code"), [(1.3, Code.SLOWER), (0.9, Code.FASTER), (1.0, Code.SAME)])
def test_what_is_clear_is_decided_by_the_fewest_pairs(ratio: float, code: Code) -> None:
    pairs = drawn(FEWEST_PAIRS, noise=0.002)
    pairs |= {(0, arm): changed(pairs[0, arm], ratio) for arm in range(ARMS)}
    assert {(0, arm) for arm in range(ARMS)} <= set(decided_early(pairs, layer_of))
    assert judge_all(pairs, layer_of)[0, 0].code is code


def test_what_was_clear_stays_so_though_later_pairs_are_noisy() -> None:
    pairs = first(drawn(12), 3)
    pairs[0, 0] += [0.3, -0.3, 0.4, -0.4]
    verdict = judge_all(pairs, layer_of)[0, 0]
    assert verdict.code is Code.SAME
    assert verdict.reason.text.endswith(", after 3 pairs")


def test_what_more_pairs_show_narrows_the_interval_of_what_was_clear() -> None:
    few, many = (known(judge_all(first(drawn(8), number), layer_of)[0, 0].ratio) for number in (3, 8))
    assert few.low < many.low < many.high < few.high


def test_all_looks_together_have_no_more_than_the_whole_of_each_error() -> None:
    spent = [_at_look(STANDARD, pairs) for pairs in range(FEWEST_PAIRS, 60)] + [at_the_end(STANDARD)]
    assert sum(each.family_error for each in spent) == pytest.approx(STANDARD.family_error)
    assert sum(each.miss_error for each in spent) == pytest.approx(STANDARD.miss_error)


def test_the_verdict_on_all_pairs_has_only_what_the_looks_have_left() -> None:
    pairs = drawn(6, noise=0.02)
    spread = PassSpread.of(dict(pairs))
    ours, left, whole = (
        judge_all(pairs, layer_of)[0, 0],
        judge_pairs(pairs[0, 0], spread, (0, 0), len(pairs), at_the_end(STANDARD)),
        judge_pairs(pairs[0, 0], spread, (0, 0), len(pairs)),
    )
    assert ours == left
    assert ours != whole


def test_what_may_be_faster_is_not_called_the_same_before_all_pairs_are_taken() -> None:
    pairs = drawn(FEWEST_PAIRS, noise=0.006)
    pairs[0, 0] = changed([0.001, -0.001, 0.0], 0.982)
    pairs[1, 0] = [0.001, -0.001, 0.0]
    assert (0, 0) not in decided_early(pairs, layer_of)
    assert (1, 0) in decided_early(pairs, layer_of)


def test_an_arm_that_is_calm_by_luck_is_not_slower_by_less_than_what_other_layers_do() -> None:
    """Pairs of a few other layers are 12 % apart: three that agree on 12 % may have been as unlucky."""
    pairs = drawn(FEWEST_PAIRS)
    pairs[0, 0] = [0.12, 0.1201, 0.1199]
    assert (0, 0) in decided_early(pairs, layer_of)
    for layer in (3, 9, 20):
        pairs[layer, 1][0] += 0.12
    assert (0, 0) not in decided_early(pairs, layer_of)
    assert judge_all(pairs, layer_of)[0, 0].code is Code.SLOWER  # By all its pairs, if there are no more.


def test_arms_of_a_layer_are_one_witness() -> None:
    """Fifty comparisons of ten layers say nothing of what an eleventh may do."""
    few = drawn(FEWEST_PAIRS, layers=10)
    few[0, 0] = changed(few[0, 0], 1.5)
    assert (0, 0) not in decided_early(few, layer_of)
    enough = drawn(FEWEST_PAIRS, layers=11)
    enough[0, 0] = changed(enough[0, 0], 1.5)
    assert (0, 0) in decided_early(enough, layer_of)


def test_what_pairs_do_to_all_layers_is_no_change() -> None:
    pairs = {key: (np.array(levels) + np.array([0.05, 0.0, 0.09])).tolist() for key, levels in drawn(3).items()}
    assert Code.SLOWER not in {verdict.code for verdict in judge_all(pairs, layer_of).values()}


def test_what_is_decided_stays_so_while_others_take_more_pairs() -> None:
    pairs = drawn(8, noise=0.01)
    pairs |= {(0, arm): changed(pairs[0, arm], 1.3) for arm in range(ARMS)}
    taken = dict.fromkeys(pairs, FEWEST_PAIRS)
    for number in range(FEWEST_PAIRS, 9):
        before = decided_early({key: pairs[key][: taken[key]] for key in pairs}, layer_of)
        now = {key: levels[: taken[key]] if key in before else levels[:number] for key, levels in pairs.items()}
        taken = {key: len(levels) for key, levels in now.items()}
        assert before.items() <= decided_early(now, layer_of).items()
    assert len(set(taken.values())) > 2
    verdicts = judge_all({key: pairs[key][: taken[key]] for key in pairs}, layer_of)
    assert {verdict.code for key, verdict in verdicts.items() if key[0]} <= {Code.SAME, Code.UNDECIDED}
    assert verdicts[0, 0].code is Code.SLOWER


def test_what_goes_on_alone_is_judged_by_its_own_scatter() -> None:
    """Its first pairs looked calm; the later ones do not, and nobody else has any."""
    pairs = first(drawn(12), 3)
    pairs[5, 1][0] += 0.05
    pairs[6, 1][0] += 0.05
    pairs[0, 0] = [0.026, 0.027, 0.025, -0.06, 0.14, -0.05, 0.13, -0.04, 0.12, 0.0, 0.1, 0.04]
    assert judge_all(pairs, layer_of)[0, 0].code is Code.UNDECIDED


def test_nothing_is_known_of_a_single_pair() -> None:
    assert {verdict.code for verdict in judge_all(drawn(1), layer_of).values()} == {Code.UNDECIDED}
    assert judge_all({}, layer_of) == {}
    assert decided_early(drawn(2), layer_of) == {}


def test_the_bench_finds_what_it_plants_and_counts_the_pairs() -> None:
    levels = np.array(list(drawn(8).values()))
    pool = Pool("drawn", levels - np.median(levels, axis=1, keepdims=True), [key[0] for key in drawn(8)])
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in replayed(pool, 1, 0)][-len(RULES) :]
    assert [row[0] for row in rows] == list(RULES)
    assert all(row[3].startswith(("99%", "100%")) and row[7].startswith("100%") for row in rows)
    assert float(rows[1][1]) <= float(rows[0][1])
    assert all(row[-1].startswith("0 of ") for row in rows)
