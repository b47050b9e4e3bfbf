"""The judge on noise that was recorded on real devices: a two-core virtual machine (bench/record_noise.py), an H100."""

from collections import Counter

import numpy as np
import pytest

from bench.fixed_size import FixedSizeJudge
from bench.judge_noise import judged
from bench.pools import seconds_of
from neverslower.evidence.observation import PairedPass
from neverslower.judge.verdict import Code
from selftests.support import ROOT

POOL = ROOT / "bench" / "data" / "onednn-two-cores.npz"


@pytest.fixture(scope="module")
def pool() -> np.ndarray:
    """Seconds per call of shape (comparisons, blocks, 2, 2)."""
    with np.load(POOL) as file:
        return seconds_of(file)


def slower(pool: np.ndarray, ratio: float) -> int:
    """How many comparisons are SLOWER when the candidate takes `ratio` times as long, unconfirmed."""
    judge, factor = FixedSizeJudge(), np.array([1.0, ratio])[None, None, :, None]
    passes = [PairedPass(seconds, (1, 1), "recorded") for seconds in pool * factor]
    return sum(judge([one], len(pool)).code is Code.SLOWER for one in passes)


def test_the_pool_is_a_thousand_comparisons(pool: np.ndarray) -> None:
    assert pool.shape == (1000, 40, 2, 2)


def test_at_most_five_of_a_thousand_comparisons_of_a_layer_with_itself_are_slower(pool: np.ndarray) -> None:
    assert slower(pool, 1.0) <= 5


def test_at_least_950_of_a_thousand_slowdowns_by_a_fifth_are_found(pool: np.ndarray) -> None:
    assert slower(pool, 1.2) >= 950


def test_on_an_h100_what_comes_out_slower_by_itself_is_where_buffers_lie() -> None:
    """Three layers, unconfirmed: what the places of the two selves' buffers are worth stays for a whole process."""
    path = ROOT / "bench" / "data" / "cudnn-h100.npz"
    with np.load(path) as file:
        layers = file["layers"]
    verdicts = [verdict.code for _, verdict in judged(path)]
    assert Counter(verdicts) == {Code.SAME: 942, Code.FASTER: 45, Code.SLOWER: 13}
    slower = {str(layer) for layer, code in zip(layers, verdicts, strict=True) if code is Code.SLOWER}
    assert slower == {"vgg16.L3", "vgg16.L7", "vgg16.L8"}
