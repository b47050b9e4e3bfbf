"""Two judges share a campaign's errors: what the pooled one proves, when it counts, and the scatter that runs keep."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from neverslower.calibration import scatter
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings
from neverslower.campaign.judging import decided, first_of
from neverslower.campaign.settings import Settings
from neverslower.device.fingerprint import Fingerprint
from neverslower.evidence.observation import PairedPass
from neverslower.judge.joint import Pooling, can_pool, halved, processes_of
from neverslower.judge.pooled import FEWEST, PooledJudge, Scatter
from neverslower.judge.sequential import SequentialJudge
from neverslower.judge.verdict import STANDARD, Code, Reason, ReasonCode, Verdict
from selftests.in_process import start
from selftests.support import comparison, fake_passes, known, layers, scripted

POOLING = Pooling(PooledJudge(halved(STANDARD)))
LAYERS, ARMS = 30, 4
Key = tuple[int, int]


def layer(key: Key) -> int:
    return key[0]


def measured(ratio: float = 1.0, number: int = 3, noise: float = 0.003) -> dict[Key, list[PairedPass]]:
    """Passes of 30 layers of four; the first comparison takes `ratio` times as long as its reference."""
    found = {}
    for place, key in enumerate((one, arm) for one in range(LAYERS) for arm in range(ARMS)):
        passes = fake_passes(ratio if key == (0, 0) else 1.0, noise, place, number)
        found[key] = [replace(one, started=float(process)) for process, one in enumerate(passes)]
    return found


def codes(passes: dict[Key, list[PairedPass]]) -> dict[Key, Code]:
    return {key: verdict.code for key, verdict in POOLING.verdicts(passes, layer, len(passes)).items()}


def test_what_is_clear_is_proved_by_three_processes() -> None:
    found = codes(measured(1.3))
    assert found.pop((0, 0)) is Code.SLOWER
    assert set(found.values()) <= {Code.SAME}
    assert SequentialJudge(halved(STANDARD))(measured(1.3)[0, 0], LAYERS * ARMS).code is Code.UNDECIDED


def test_a_process_counts_once_however_many_passes_say_so() -> None:
    """All passes of one process are one look at what preparing did."""
    passes = {key: [replace(one, started=5.0) for one in taken] for key, taken in measured(1.3).items()}
    assert codes(passes) == {}


def test_passes_whose_process_is_not_known_count_as_those_of_one() -> None:
    passes = measured(1.3)
    passes[0, 0] = [replace(one, started=None) for one in passes[0, 0]]
    assert (0, 0) not in codes(passes)
    assert len(codes(passes)) > 1


def test_disturbed_passes_are_not_pooled() -> None:
    passes = measured(1.3)
    passes[0, 0][1] = replace(passes[0, 0][1], discarded=20, why_discarded="throttled")
    assert (0, 0) not in codes(passes)


def test_slower_counts_where_the_last_process_shows_it_by_itself() -> None:
    """Nine of ten say so, which is proof; the one that measured last does not, so that the next one tries again."""
    passes = measured(1.3, number=10)
    assert codes(passes)[0, 0] is Code.SLOWER
    passes[0, 0][-1] = replace(fake_passes(1.0, 0.003, 99, 1)[0], started=9.0)
    assert (0, 0) not in codes(passes)


def test_a_process_that_kept_no_block_shows_nothing() -> None:
    passes = {key: taken[:2] for key, taken in measured().items()}
    passes[1, 1][1] = replace(passes[1, 1][1], seconds=np.empty((0, 2, 2)))
    found = processes_of(passes, layer)
    assert math.isnan(found.log_ratios[5, 1])
    assert np.isfinite(found.log_ratios).sum() == found.log_ratios.size - 1


def test_each_judge_has_half_of_the_errors() -> None:
    share = halved(STANDARD)
    assert (share.family_error, share.miss_error) == (STANDARD.family_error / 2, STANDARD.miss_error / 2)
    assert replace(share, family_error=STANDARD.family_error, miss_error=STANDARD.miss_error) == STANDARD


def test_few_layers_are_pooled_with_stored_ones_alone() -> None:
    assert not can_pool(FEWEST, None)
    assert can_pool(FEWEST + 1, None)
    assert can_pool(1, Scatter("a run", ((0.01,),) * FEWEST))


# Which of two verdicts counts


def of(code: Code) -> Verdict:
    return Verdict(code, Reason(ReasonCode.PROVED, "by all"))


@pytest.mark.parametrize(
    ("ratio", "passes", "by_all", "counts"),
    [
        (1.3, 3, None, None),
        (1.3, 3, Code.SLOWER, Code.SLOWER),
        (1.0, 24, Code.SLOWER, Code.SAME),  # A slowdown below the target need not be found.
        (1.3, 24, Code.SAME, Code.SAME),
        (0.7, 24, None, Code.FASTER),
    ],
)
def test_what_either_judge_proves_counts(ratio: float, passes: int, by_all: Code | None, counts: Code | None) -> None:
    taken = fake_passes(ratio, number=passes)
    judged = first_of(SequentialJudge(), taken, 100, of(by_all) if by_all else None)
    assert (judged and judged.verdict.code) == counts
    if judged and judged.verdict.reason.text == "by all":
        own = SequentialJudge()(taken, 100)
        assert (judged.verdict.noise_floor, judged.verdict.mde) == (own.noise_floor, own.mde)
        assert judged.confirmation is (taken[-1] if counts is Code.SLOWER else None)


@dataclass(frozen=True)
class Counting(SequentialJudge):
    """Notes of how many passes it is asked for a verdict."""

    asked: list[int] = field(default_factory=list)

    def __call__(self, passes: Sequence[PairedPass], comparisons: int) -> Verdict:
        self.asked.append(len(passes))
        return super().__call__(passes, comparisons)


def test_no_verdict_is_drawn_twice_for_the_noise_of_what_all_comparisons_prove() -> None:
    judge = Counting()
    first_of(judge, fake_passes(1.3, number=3), 100, of(Code.SLOWER))
    assert judge.asked == []


def test_a_study_is_decided_by_its_own_passes_and_by_as_many_as_bound_both_sides() -> None:
    judge, plain = SequentialJudge(), comparison(1)
    studied = replace(plain, policies=("best", "best"))
    passes = fake_passes(1.3, number=judge.most_passes)
    together = {one.identity: of(Code.SLOWER) for one in (plain, studied)}
    fewest = judge.fewest_passes(100)
    assert known(decided(judge, plain, passes[:2], 100, together)).verdict.reason.text == "by all"
    assert all(decided(judge, studied, passes[:number], 100, together) is None for number in range(fewest))
    assert known(decided(judge, studied, passes, 100, together)).verdict.reason.text != "by all"


# A campaign


class Stored:
    """A reviewer that knows a device's scatter and nothing else."""

    def __init__(self, kept: Scatter | None = None) -> None:
        self.kept = kept

    def identified(self, fingerprint: Fingerprint) -> None: ...

    def beside(self, backend: str, before: Findings) -> None: ...

    def regressed(self, backend: str) -> list:  # type: ignore[type-arg]
        return []

    def scatter(self, fingerprint: Fingerprint) -> Scatter | None:
        return self.kept


def campaign(folder: Path, count: int, kept: Scatter | None = None) -> tuple[Findings, Sequence[Verdict]]:
    """Findings of a scripted campaign of so many layers of two, of which one of 15 channels is 1.3 times as slow."""
    asked = [comparison(distance, one) for one in layers(count) for distance in (1, 3)]
    rules = [{"seconds": 1e-5}, {"when": "out_channels == 15 and height == 6", "times": 1.3}]
    spec = scripted(folder, noise=0.003, process_effect=0.002, rules=rules)
    findings = Campaign({"scripted": spec}, Settings(), reviewer=Stored(kept), start=start).run(asked)
    return findings, [findings.results[one.identity].verdict for one in asked]


def test_a_campaign_of_many_layers_decides_in_few_processes(tmp_path: Path) -> None:
    findings, verdicts = campaign(tmp_path, 25)
    passes = [len(result.passes) for result in findings.results.values()]
    assert verdicts[0].code is Code.SLOWER
    assert "by the scatter of 25 layers" in verdicts[0].reason.text
    assert {verdict.code for verdict in verdicts[1:]} == {Code.SAME}
    assert max(passes) <= 4
    assert verdicts[0].mde is not None


def test_a_campaign_of_few_layers_is_judged_by_stored_scatter(tmp_path: Path) -> None:
    kept = scatter.scatter_of(campaign(tmp_path, 25)[0], "scripted")
    assert len(kept.layers) == 25
    findings, verdicts = campaign(tmp_path, 1, kept)
    assert [verdict.code for verdict in verdicts] == [Code.SLOWER, Code.SAME]
    assert "stored" in verdicts[0].reason.text
    assert max(len(result.passes) for result in findings.results.values()) <= 4


@pytest.mark.parametrize(("count", "shares"), [(25, 0.5), (2, 1.0)])
def test_two_judges_share_the_errors_of_a_campaign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, shares: float
) -> None:
    asked = set()

    def noted(self: SequentialJudge, passes: Sequence[PairedPass], comparisons: int) -> Verdict:
        asked.add((self.thresholds.family_error, self.thresholds.miss_error))
        return judge(self, passes, comparisons)

    judge = SequentialJudge.__call__
    monkeypatch.setattr(SequentialJudge, "__call__", noted)
    campaign(tmp_path, count)
    assert asked == {(shares * STANDARD.family_error, shares * STANDARD.miss_error)}


# What is kept


def test_scatter_serves_the_same_device_and_software_alone(tmp_path: Path) -> None:
    findings, _ = campaign(tmp_path, 12)
    scatter.save(tmp_path, findings, 8)
    fingerprint = findings.fingerprints["scripted"]
    kept = known(scatter.load(tmp_path, fingerprint, 8))
    assert kept == scatter.scatter_of(findings, "scripted")
    for other in (
        replace(fingerprint, version="99"),
        replace(fingerprint, build="other"),
        replace(fingerprint, state={"governor": "powersave"}),
        replace(fingerprint, software={"python": "3.99"}),
        replace(fingerprint, hardware={"cores": "1"}),
    ):
        assert scatter.load(tmp_path, other, 8) is None
    assert scatter.load(tmp_path, fingerprint, 64) is None


def test_scatter_of_few_layers_is_not_kept(tmp_path: Path) -> None:
    findings, _ = campaign(tmp_path, 2)
    scatter.save(tmp_path, findings, 8)
    assert scatter.load(tmp_path, findings.fingerprints["scripted"], 8) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"layers": [1], "origin": "x"}', '{"layers": [["a"]]}'])
def test_scatter_that_cannot_be_read_is_measured_again(tmp_path: Path, content: str) -> None:
    findings, _ = campaign(tmp_path, 12)
    scatter.save(tmp_path, findings, 8)
    (path,) = (tmp_path / scatter.FOLDER).iterdir()
    path.write_text(content, encoding="utf-8")
    assert scatter.load(tmp_path, findings.fingerprints["scripted"], 8) is None


def test_stored_scatter_is_read_back_and_nothing_else_is() -> None:
    scattered = Scatter("a run", ((0.01, 0.0), (0.02,)))
    stored = json.loads(json.dumps(asdict(scattered)))
    assert Scatter.from_dict(stored) == scattered
    for damage in ({"layers": 1}, {"layers": [0.01]}, {"layers": [["0.01"]]}, {"origin": "a\x1bb"}, {"origin": 1}):
        with pytest.raises((ValueError, KeyError, TypeError)):
            Scatter.from_dict(stored | damage)
    with pytest.raises(ValueError, match="no finite number"):
        Scatter.from_dict(stored | {"layers": [[math.nan]]})
    with pytest.raises(KeyError):
        Scatter.from_dict({"origin": "a run"})
