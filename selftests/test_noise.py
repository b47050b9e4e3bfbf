"""The judge on noise that was recorded on real devices: a two-core virtual machine (bench/record_noise.py), an H100."""

import json
import lzma
from collections import Counter

import numpy as np
import pytest

from neverslower.observation import PairedPass
from neverslower.verdict import Code, FixedSizeJudge
from selftests.support import ROOT

POOL = ROOT / "bench" / "data" / "onednn-two-cores.npz"


@pytest.fixture(scope="module")
def pool() -> np.ndarray:
    """Seconds per call of shape (comparisons, blocks, 2, 2)."""
    with np.load(POOL) as file:
        return file["nanoseconds"] * 1e-9 / file["iterations"][:, None, :, None]


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


def test_what_the_readme_says_of_layers_compared_with_themselves_on_an_h100() -> None:
    """Two whole passes of a baseline that its time limit ended; the third is left out."""
    path = ROOT / "bench" / "data" / "journals" / "cudnn-h100-interrupted.jsonl.xz"
    passes: dict[str, list[PairedPass]] = {}
    comparisons = set()
    for line in map(json.loads, lzma.decompress(path.read_bytes()).splitlines()):
        if line["event"] == "measured" and line["pass"] < 2:
            comparisons.add(line["id"])
            if line["reference"] == line["candidate"]:
                found = PairedPass(np.array(line["seconds"]), tuple(line["iterations"]), "recorded")
                passes.setdefault(line["reference"], []).append(found)
    verdicts = [FixedSizeJudge()(one, len(comparisons)).code for one in passes.values()]
    assert Counter(verdicts) == {Code.SAME: 109, Code.SLOWER: 1, Code.UNDECIDED: 1}
