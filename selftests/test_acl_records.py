"""What the committed records of ACL say, and the docs with them; no ACL is needed to read them."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import pytest

from neverslower.baseline.diff import compare
from neverslower.baseline.entry import Baseline, Entry
from neverslower.baseline.folders import load
from neverslower.evidence.enqueue import Enqueue, enqueues
from neverslower.judge.verdict import Code
from neverslower.problem.convolution import ConvProblem
from selftests.support import ROOT, known

G72 = ROOT / "baselines" / "acl@mali-g72-recorded"
A76 = ROOT / "baselines" / "acl@cortex-a76-emulated"


@cache
def record(folder: Path, version: str, method: str) -> Baseline:
    (path,) = folder.glob(f"*{version}+*-{method}-*.jsonl")
    return load(path)


def by_count(stored: Baseline) -> dict[int, Entry]:
    """A layer's entries by their number of filters, the unpruned one among them."""
    return {ConvProblem.from_key(one.candidate).out_channels: one for one in stored.entries.values()}


def last(entry: Entry) -> Enqueue:
    return enqueues(entry.plan)[-1]


def treads(stored: Baseline) -> int:
    """How often the last kernel changes from one count to the next, and the first tread."""
    ascending = [last(entry) for _, entry in sorted(by_count(stored).items())]
    return 1 + sum(one != other for one, other in itertools.pairwise(ascending))


def test_gemm_of_20_08_on_a_g72_has_two_parallel_staircases():
    entries = by_count(record(G72 / "maps", "20.08", "gemm"))
    assert len(entries) == 128
    assert all(last(entry).items == (-(-count // 4), 196, 1) for count, entry in entries.items())
    even = [count for count in range(29, 129) if "x" not in last(entries[count]).uneven]
    assert even == [*range(29, 33), *range(61, 65), *range(93, 97), *range(125, 129)]


def test_in_24_11_they_are_gone():
    entries = by_count(record(G72 / "maps", "24.11", "gemm"))
    assert {last(entries[count]) for count in range(65, 129)} == {
        Enqueue("gemm_mm_reshaped_only_rhs_t", (32, 256, 1), (32, 4, 1))
    }
    assert treads(record(G72 / "maps", "20.08", "gemm")) == 33
    assert treads(record(G72 / "maps", "24.11", "gemm")) == 7


def test_direct_convolution_shows_no_levels_in_20_08_and_steps_of_four_in_24_11():
    before, after = (record(G72 / "maps", version, "direct") for version in ("20.08", "24.11"))
    assert all(last(entry).group is None for entry in by_count(before).values())
    items = {count: last(entry).items[0] for count, entry in by_count(after).items()}
    assert all(items[count] == -(-count // 4) for count in range(65, 129))


@pytest.mark.parametrize("method", ["gemm", "direct", "auto"])
def test_an_upgrade_dispatches_every_problem_otherwise(method):
    changes = compare(record(G72, "20.08", method), record(G72, "24.11", method))
    assert len(changes) == 237
    assert not [one for one in changes if one.verdict and one.verdict.code is not Code.CHANGED]


@pytest.mark.parametrize("method", ["gemm", "direct", "winograd"])
@pytest.mark.parametrize("version", ["20.08", "24.11"])
def test_counts_of_every_method_are_recorded_with_checked_outputs(method, version):
    stored = record(A76, version, method)
    assert len({one.layer for one in stored.entries.values()}) == (4 if method == "winograd" else 23)
    assert all(one.instructions and one.known.code.measured for one in stored.entries.values())


def test_what_the_readme_says_of_instructions():
    counts = {
        (version, count): known(entry.instructions)
        for version in ("20.08", "24.11")
        for count, entry in by_count(record(A76 / "maps", version, "gemm")).items()
    }
    assert [counts["20.08", count] for count in (92, 96, 97)] == [31_929_109, 31_763_881, 35_518_743]
    assert [counts["24.11", count] for count in (92, 96, 97)] == [31_199_495, 31_200_223, 35_898_840]
    assert counts["20.08", 97] / counts["20.08", 96] == pytest.approx(1.118, abs=1e-3)
    assert counts["20.08", 93] / counts["20.08", 96] == pytest.approx(1.006, abs=1e-3)
