"""The study of tuned logs: which cases it has, and what is concluded from several searches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverslower.baseline.entry import Known
from neverslower.campaign.findings import Result
from neverslower.errors import CannotPrune
from neverslower.evidence.observation import Examined, Plan
from neverslower.judge.verdict import Code, Interval, Reason, ReasonCode, Verdict, explained
from neverslower.outcome.table import Finding, Outcome, hazard_finding, outcome_of
from neverslower.outcome.tuned_log import MISSES, RETUNED, SEARCHES, Case, Kind, cases, equally_tuned, verdict_of
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import Layout, Side, parse_descriptor
from neverslower.problem.networks import Layer, network
from neverslower.problem.subject import Search, TunedLog

L16 = network("resnet50")[16]
"""128 channels; the most telling distances are 15, 1, 7, 31."""


def study(keep: Sequence[int] = (), layer: Layer = L16, side: Side = Side.OUT, trials: int = 16) -> list[Case]:
    return cases("tvm", layer, side, trials, keep)


def of_kind(found: Sequence[Case], kind: Kind) -> list[Case]:
    return [one for one in found if one.kind is kind]


def counts(found: Sequence[Case], side: Side = Side.OUT) -> list[int]:
    return [one.shown.candidate.channels(side) for one in found]


def logs(comparison: Comparison) -> tuple[TunedLog, TunedLog]:
    reference, candidate = comparison.tuned_logs
    return reference, candidate


# The cases


def test_the_most_telling_counts_are_studied_and_the_first_of_them_mended() -> None:
    found = study()
    assert counts(of_kind(found, Kind.MISS)) == [113, 127, 121, 97]
    assert counts(of_kind(found, Kind.PADDED)) == counts(of_kind(found, Kind.TUNED)) == [113, 127]
    assert len(found) == MISSES + 2 * RETUNED


def test_counts_that_the_user_names_are_studied_instead_and_all_mended() -> None:
    found = study(keep=(64, 100, 101))
    for kind in Kind:
        assert counts(of_kind(found, kind)) == [64, 100, 101]


def test_input_channels_are_studied_when_asked() -> None:
    found = study(side=Side.IN)
    assert counts(of_kind(found, Kind.MISS), Side.IN) == [113, 127, 121, 97]
    assert {one.shown.candidate.out_channels for one in found} == {128}


def test_a_small_layer_has_what_there_is() -> None:
    layer = Layer("", 0, "tiny", parse_descriptor("mb1ic8oc3ih6kh3ph1"))
    assert counts(of_kind(study(layer=layer), Kind.MISS)) == [2]
    single = Layer("", 0, "single", parse_descriptor("mb1ic8oc1ih6kh3ph1"))
    assert study(layer=single) == []


@pytest.mark.parametrize("keep", [0, 128, 129, -1])
def test_a_count_that_can_t_be_kept_is_refused(keep: int) -> None:
    with pytest.raises(CannotPrune):
        study(keep=(keep,))


def test_grouped_layers_lose_what_their_groups_allow() -> None:
    layer = Layer("", 0, "grouped", parse_descriptor("mb1g4ic16oc128ih8kh3ph1"))
    assert all(count % 4 == 0 for count in counts(study(layer=layer)))


@pytest.mark.parametrize("keep", [(), (64,), (1, 2, 3)])
@pytest.mark.parametrize("side", Side)
def test_names_are_unique(keep: tuple[int, ...], side: Side) -> None:
    found = study(keep, side=side)
    every = {one.id for case in found for one in case.comparisons}
    identities = {one.identity for case in found for one in case.comparisons}
    assert len({one.id for one in found}) == len(found)
    assert len(identities) == len(every)


def test_names_tell_the_treatment() -> None:
    prefix = "tvm-resnet50.L16-float32-NCHW-out100"
    assert [one.id for one in study(keep=(100,))] == [f"{prefix}-miss", f"{prefix}-padded", f"{prefix}-tuned"]


def test_every_case_is_set_against_the_unpruned_layer_as_its_first_search_has_it() -> None:
    first = TunedLog(Search(L16.problem, 16, 0))
    for case in study():
        assert {one.reference for one in case.comparisons} == {L16.problem}
        assert {logs(one)[0] for one in case.comparisons} == {first}
        assert all(one.studied and not one.asks_whether_slower for one in case.comparisons)
        assert not any(one.against_itself for one in case.comparisons)


def test_a_miss_has_the_unpruned_layers_log() -> None:
    for case in of_kind(study(), Kind.MISS):
        (one,) = case.comparisons
        assert one.policies[0] == one.policies[1]
        assert one.candidate != one.reference


def test_a_padded_one_runs_as_the_unpruned_layer() -> None:
    for case in of_kind(study(), Kind.PADDED):
        (one,) = case.comparisons
        reference, candidate = logs(one)
        assert candidate == replace(reference, padded=True)


def test_a_tuned_one_has_as_many_searches_of_its_own_as_the_unpruned_layer() -> None:
    for case in of_kind(study(), Kind.TUNED):
        pruned, unpruned = case.comparisons[:SEARCHES], case.comparisons[SEARCHES:]
        assert {one.candidate for one in pruned} == {case.shown.candidate}
        assert {one.candidate for one in unpruned} == {L16.problem}
        searches = [logs(one)[1].search for one in case.comparisons]
        assert [one.problem for one in searches] == [one.candidate for one in case.comparisons]
        assert [one.seed for one in searches] == [0, 1, 2, 1, 2]
        assert [one.label for one in case.comparisons] == ["tuned", "tuned1", "tuned2", "search1", "search2"]


@given(st.integers(1, 1000), st.sets(st.integers(1, 127), max_size=5), st.sampled_from(Side))
def test_every_search_has_the_same_trials_and_as_few_are_made_as_possible(
    trials: int, keep: set[int], side: Side
) -> None:
    found = study(tuple(keep), side=side, trials=trials)
    searches = {log.search for case in found for one in case.comparisons for log in one.tuned_logs}
    assert {one.trials for one in searches} == {trials}
    made = Counter(one.problem for one in searches)
    tuned = {case.shown.candidate for case in of_kind(found, Kind.TUNED)}
    assert made == dict.fromkeys({L16.problem, *tuned}, SEARCHES)


def test_the_unpruned_layers_other_searches_are_measured_once() -> None:
    tuned = of_kind(study(), Kind.TUNED)
    identities = [one.identity for case in tuned for one in case.comparisons]
    assert len(identities) == 2 * (2 * SEARCHES - 1)
    assert len(set(identities)) == 2 * SEARCHES + SEARCHES - 1


def test_the_most_telling_case_goes_first() -> None:
    ranks = [one.shown.telling for one in study()]
    assert ranks == sorted(ranks)
    assert {one.telling for case in study(keep=(100,)) for one in case.comparisons} == {1}


def test_formats_are_the_layers() -> None:
    layer = replace(L16, problem=replace(L16.problem, layout=Layout.NHWC))
    assert all("NHWC" in case.id for case in study(layer=layer))


# What several searches say


def verdict(
    estimate: float, code: Code | None = None, width: float = 0.005, reason: ReasonCode = ReasonCode.PROVED
) -> Verdict:
    """A verdict as it is of a measurement with a narrow interval."""
    judged = Code.SLOWER if estimate > 1.02 else Code.FASTER if estimate < 0.98 else Code.SAME
    ratio = Interval(estimate, estimate * (1 - width), estimate * (1 + width))
    return Verdict(code or judged, Reason(reason, "measured"), ratio)


def said(pruned: Sequence[float], unpruned: Sequence[float] = (1.0, 1.0)) -> tuple[Code, ReasonCode]:
    found = equally_tuned([verdict(one) for one in pruned], [verdict(one) for one in unpruned])
    return found.code, found.reason.code


SLOWER = Code.SLOWER, ReasonCode.EQUALLY_TUNED
FASTER = Code.FASTER, ReasonCode.EQUALLY_TUNED
SAME = Code.SAME, ReasonCode.EQUALLY_TUNED
LUCK = Code.UNDECIDED, ReasonCode.LUCK_OF_THE_SEARCH


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        pytest.param((1.5, 1.4, 1.3), (1.0, 1.1), SLOWER, id="the best pruned one behind the worst unpruned one"),
        pytest.param((1.5, 1.4, 1.3), (1.0, 1.35), LUCK, id="one unpruned search was as bad"),
        pytest.param((1.5, 1.4, 1.3), (1.0, 1.295), LUCK, id="all but proved"),
        pytest.param((1.5, 1.4, 1.1), (1.0, 1.2), LUCK, id="one pruned search was better than the worst unpruned one"),
        pytest.param((1.5, 1.4, 1.0), (1.0, 1.0), SAME, id="one pruned search was as good"),
        pytest.param((1.5, 1.4, 0.9), (1.0, 1.2), SAME, id="one pruned search was better than any"),
        pytest.param((1.0, 1.0, 1.0), (1.0, 1.0), SAME, id="no difference"),
        pytest.param((1.0, 1.0, 1.0), (0.5, 1.0), LUCK, id="a better search of the unpruned layer exists"),
        pytest.param((0.8, 0.7, 0.9), (1.0, 1.2), FASTER, id="every pruned search before every unpruned one"),
        pytest.param((0.8, 0.7, 0.9), (1.0, 0.85), SAME, id="one unpruned search as good"),
        pytest.param((1.015, 1.015, 1.015), (1.0, 1.0), SAME, id="no more than the target"),
    ],
)
def test_searches_are_compared_as_a_whole(
    ours: Sequence[float], theirs: Sequence[float], expected: tuple[Code, ReasonCode]
) -> None:
    assert said(ours, theirs) == expected


@given(
    st.lists(st.floats(0.2, 5.0), min_size=3, max_size=3),
    st.lists(st.floats(0.2, 5.0), min_size=2, max_size=2),
)
def test_slower_means_that_every_search_was(ours: list[float], theirs: list[float]) -> None:
    code, reason = said(ours, theirs)
    if code is Code.SLOWER:
        assert min(ours) > 1.01 * max(1.0, *theirs)
    if code is Code.FASTER:
        assert max(ours) < 0.99 * min(1.0, *theirs)
    if code is Code.SAME:
        assert min(ours) < 1.03 * min(1.0, *theirs)
    assert reason in (ReasonCode.EQUALLY_TUNED, ReasonCode.LUCK_OF_THE_SEARCH)


@pytest.mark.parametrize("reason", [ReasonCode.NOT_CONFIRMED, ReasonCode.TOO_NOISY, ReasonCode.TIME_BUDGET], ids=str)
@pytest.mark.parametrize("which", range(3))
def test_what_one_search_did_not_confirm_is_not_slower(which: int, reason: ReasonCode) -> None:
    pruned = [verdict(1.5) for _ in range(3)]
    assert equally_tuned(pruned, [verdict(1.0), verdict(1.0)]).code is Code.SLOWER
    pruned[which] = verdict(1.5, Code.UNDECIDED, reason=reason)
    found = equally_tuned(pruned, [verdict(1.0), verdict(1.0)])
    # What ended too early is told as that: no two searches overlap here.
    assert (found.code, found.reason.code) == (LUCK if reason is ReasonCode.TOO_NOISY else (Code.UNDECIDED, reason))


def test_the_ratio_is_that_of_the_medians_between_the_extremes() -> None:
    found = equally_tuned([verdict(one) for one in (1.2, 1.8, 1.5)], [verdict(1.1), verdict(0.9)])
    assert found.ratio is not None
    assert found.ratio.estimate == pytest.approx(1.5)
    assert found.ratio.low == pytest.approx(1.2 * 0.995 / (1.1 * 1.005))
    assert found.ratio.high == pytest.approx(1.8 * 1.005 / (0.9 * 0.995))


def test_the_words_say_how_many_searches_there_were() -> None:
    for pruned in ((1.5,) * 3, (1.0,) * 3, (0.5,) * 3, (1.5, 1.5, 1.04)):
        found = equally_tuned([verdict(one) for one in pruned], [verdict(1.0), verdict(1.02)])
        assert "3 searches of each shape" in found.reason.text


# The verdict of a case


def case_of(kind: Kind) -> Case:
    return of_kind(study(keep=(100,)), kind)[0]


def results(case: Case, verdicts: Sequence[Verdict]) -> dict[tuple[str, str, str], Result]:
    return {
        one.identity: Result(one, found) for one, found in zip(case.comparisons, verdicts, strict=False)
    }  # Fewer verdicts than comparisons are those that were made.


MISS = Verdict(Code.SLOWER, Reason(ReasonCode.NOT_IN_TUNED_LOG, "a miss"), Interval(20.0, 19.0, 21.0))


@pytest.mark.parametrize("kind", [Kind.MISS, Kind.PADDED])
@pytest.mark.parametrize("found", [MISS, verdict(0.9), verdict(1.0), verdict(1.5, Code.UNDECIDED)])
def test_one_comparison_is_its_own_verdict(kind: Kind, found: Verdict) -> None:
    case = case_of(kind)
    assert verdict_of(case, results(case, [found])) is found


@pytest.mark.parametrize("kind", Kind)
def test_without_every_comparison_there_is_no_verdict(kind: Kind) -> None:
    case = case_of(kind)
    for made in range(len(case.comparisons)):
        assert verdict_of(case, results(case, [verdict(1.5)] * made)) is None
    assert verdict_of(case, {}) is None


def test_a_tuned_case_is_that_of_all_its_searches() -> None:
    case = case_of(Kind.TUNED)
    slower = [verdict(1.5)] * 3 + [verdict(1.0)] * 2
    found = verdict_of(case, results(case, slower))
    assert found is not None
    assert (found.code, found.reason.code) == SLOWER
    lucky = verdict_of(case, results(case, [*slower[:4], verdict(1.6)]))
    assert lucky is not None
    assert (lucky.code, lucky.reason.code) == LUCK


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (Code.CRASHED, ReasonCode.WORKER_DIED),
        (Code.UNSUPPORTED, ReasonCode.LIBRARY_REFUSES),
        (Code.INVALID, ReasonCode.WRONG_OUTPUT),
        (Code.UNDECIDED, ReasonCode.TIME_BUDGET),
    ],
)
@pytest.mark.parametrize("which", range(5))
def test_a_search_without_a_measurement_decides_a_tuned_case(which: int, code: Code, reason: ReasonCode) -> None:
    case = case_of(Kind.TUNED)
    verdicts = [verdict(1.5)] * 3 + [verdict(1.0)] * 2
    verdicts[which] = Verdict(code, Reason(reason, "nothing was measured"))
    assert verdict_of(case, results(case, verdicts)) is verdicts[which]


@pytest.mark.parametrize(
    ("kind", "reference", "candidate", "expected"),
    [
        (Kind.MISS, True, False, False),
        (Kind.MISS, False, False, True),
        (Kind.PADDED, True, True, False),
        (Kind.PADDED, False, False, True),
        (Kind.TUNED, True, True, False),
        (Kind.TUNED, True, False, True),
        (Kind.TUNED, False, True, True),
        *((kind, None, None, False) for kind in Kind),
    ],
)
@pytest.mark.parametrize("found", [MISS, verdict(1.0)])
def test_what_a_search_left_untuned_is_compared_with_nothing(
    kind: Kind, reference: bool | None, candidate: bool | None, expected: bool, found: Verdict
) -> None:
    case = case_of(kind)
    made = results(case, [found] * len(case.comparisons))
    last = case.comparisons[-1].identity
    made[last] = replace(made[last], reference=examined(reference), candidate=examined(candidate))
    concluded = verdict_of(case, made)
    assert concluded is not None
    undecided = (concluded.code, concluded.reason.code, concluded.ratio) == (*LUCK, None)
    assert undecided is expected


# Misses and equal tuning are different findings


def examined(tuned: bool | None) -> Examined:
    return Examined(Plan("any", (), tuned), 0.0, 1e-4, 1e-3)


def test_slower_beside_a_tuned_reference_is_a_miss_only_where_the_candidate_is_untuned() -> None:
    slower = verdict(20.0)
    found = explained(slower, examined(True), examined(False))
    assert found.reason.code is ReasonCode.NOT_IN_TUNED_LOG
    assert (found.code, found.ratio) == (slower.code, slower.ratio)
    assert slower.reason.text in found.reason.text
    every = [None, True, False]
    for reference, candidate in ((one, other) for one in every for other in every):
        if (reference, candidate) != (True, False):
            assert explained(slower, examined(reference), examined(candidate)) is slower
    for missing in ((None, examined(False)), (examined(True), None), (None, None)):
        assert explained(slower, *missing) is slower


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.SLOWER])
def test_what_is_not_slower_needs_no_explanation(code: Code) -> None:
    found = verdict(20.0, code)
    assert explained(found, examined(True), examined(False)) is found


@pytest.mark.parametrize(
    ("found", "finding", "lenient", "strict"),
    [
        (MISS, Finding.TUNED_LOG_MISS, Outcome.XFAILED, Outcome.FAILED),
        (
            verdict(1.5, reason=ReasonCode.EQUALLY_TUNED),
            Finding.SLOWER_EQUALLY_TUNED,
            Outcome.XFAILED,
            Outcome.FAILED,
        ),
        (
            verdict(1.5, Code.UNDECIDED, reason=ReasonCode.LUCK_OF_THE_SEARCH),
            Finding.UNDECIDED,
            Outcome.SKIPPED,
            Outcome.FAILED,
        ),
        (verdict(1.0, reason=ReasonCode.EQUALLY_TUNED), Finding.NOT_SLOWER, Outcome.PASSED, Outcome.PASSED),
        (verdict(0.5, reason=ReasonCode.EQUALLY_TUNED), Finding.NOT_SLOWER, Outcome.PASSED, Outcome.PASSED),
        (verdict(1.5), Finding.HAZARD_FOUND, Outcome.XFAILED, Outcome.FAILED),
    ],
)
def test_each_has_a_row_of_its_own(found: Verdict, finding: Finding, lenient: Outcome, strict: Outcome) -> None:
    assert hazard_finding(found, None) is finding
    assert (outcome_of(finding, strict=False), outcome_of(finding, strict=True)) == (lenient, strict)


@pytest.mark.parametrize("found", [MISS, verdict(1.5, reason=ReasonCode.EQUALLY_TUNED)])
def test_what_a_baseline_knows_is_known_whatever_the_reason(found: Verdict) -> None:
    assert hazard_finding(found, Known(Code.SLOWER, found.ratio)) is Finding.HAZARD_KNOWN
    assert hazard_finding(found, Known(Code.SAME, Interval(1.0, 0.99, 1.01))) is Finding.HAZARD_NEW
