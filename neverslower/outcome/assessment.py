"""From what was measured and what is stored to a finding for each test item: lookups and words, no measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from neverslower.baseline.entry import Baseline, Entry
from neverslower.baseline.folders import BaselineChoice
from neverslower.campaign.findings import Findings, Result
from neverslower.device.fingerprint import Fingerprint
from neverslower.evidence.observation import PairedPass, in_step
from neverslower.judge.accuracy import less_exact
from neverslower.judge.change import PassSpread, judge_change, levels_of, log_median, shown_again
from neverslower.judge.exact import judge_since
from neverslower.judge.failure import Failure
from neverslower.judge.paired import UNPAIRED, judge_all
from neverslower.judge.verdict import STANDARD, Code, Reason, ReasonCode, Thresholds, Verdict, whether_faster
from neverslower.outcome.beside import Pair, differences
from neverslower.outcome.table import Finding, advice_finding, change_finding, hazard_finding, ruled, unmeasured
from neverslower.outcome.tuned_log import Case, verdict_of
from neverslower.outcome.whole import AssessedWhole
from neverslower.problem.compared import Compared
from neverslower.problem.comparison import Comparison
from neverslower.problem.whole import WholeComparison
from neverslower.rules.rule import NO_RULES, Rule, Rules


@dataclass(frozen=True)
class Assessed:
    """What is said about one item: the finding, its verdict, and the baseline's entry if it has one.

    `also` are findings that are listed in addition to the deciding one; `rule` is the one that matches a hazard.
    `errors` are those of the output then and now, as fractions of its largest value, where it got less exact.
    """

    comparison: Comparison
    finding: Finding
    verdict: Verdict
    entry: Entry | None = None
    also: tuple[Finding, ...] = ()
    rule: Rule | None = None
    errors: tuple[float, float] | None = None


@dataclass(frozen=True)
class Assessment:
    """Sets a campaign's findings against the baselines chosen for each backend.

    `comparing` says whether the user asked for a comparison with the baseline; known hazards are looked up anyway.
    `before` are the findings of the other library, where one was measured in this run; `rules` say what is known of
    whole classes of hazards.
    """

    findings: Findings
    choices: Mapping[str, BaselineChoice]
    comparing: bool = False
    before: Findings | None = None
    thresholds: Thresholds = STANDARD
    rules: Rules = NO_RULES
    _measured: dict[str, tuple[dict[object, list[float]], PassSpread]] = field(default_factory=dict, repr=False)
    _paired: dict[str, dict[Pair, Verdict]] = field(default_factory=dict, repr=False)

    def never_slower(self, comparison: Comparison) -> Assessed:
        """Return whether the pruned layer is slower than the unpruned one, and whether that is known."""
        verdict = self._verdict(comparison)
        entry = self._entry(comparison)
        if verdict.code not in (Code.SLOWER, Code.MORE):
            return Assessed(comparison, hazard_finding(verdict, entry.known if entry else None), verdict, entry)
        unpruned = next((r for r in self.findings.results.values() if self._is_unpruned_of(r, comparison)), None)
        change = self._change(self.findings.results[comparison.identity], entry) if entry else None
        unpruned_change = None
        if unpruned and (unpruned_entry := self._entry(unpruned.comparison)):
            unpruned_change = self._change(unpruned, unpruned_entry)
        finding = hazard_finding(verdict, entry.known if entry else None, change, unpruned_change, self.thresholds)
        rule = self.rule(comparison)
        if rule and not (finding in (Finding.HAZARD_NEW, Finding.HAZARD_WORSE) and self._of_this_version(comparison)):
            finding = ruled(finding, verdict.ratio, rule.ratios, self.thresholds)
        return Assessed(comparison, finding, verdict, entry, rule=rule)

    def _of_this_version(self, comparison: Comparison) -> bool:
        """Return whether the baseline is of the version that is here: then it knows more of one count than a rule."""
        baseline, here = self._baseline(comparison), self.findings.fingerprints.get(comparison.backend)
        return baseline is not None and here is not None and baseline.fingerprint.version == here.version

    def rule(self, comparison: Comparison) -> Rule | None:
        """Return the rule that counts here and now and matches a comparison, or None."""
        fingerprint = self.findings.fingerprints.get(comparison.backend)
        return self.rules.about(fingerprint).covering(comparison) if fingerprint else None

    def no_regression(self, comparison: Comparison) -> Assessed:
        """Return whether this channel count is slower or less exact than it was, and whether its plan changed.

        How exact an output is needs no timing, and so counts where the time could not be judged.
        """
        assessed = self._since(comparison)
        errors = self._errors(comparison) if self.comparing else None
        if errors and less_exact(*errors, str(comparison.candidate.dtype)):
            return replace(assessed, also=(*assessed.also, Finding.LESS_EXACT), errors=errors)
        return assessed

    def _errors(self, comparison: Comparison) -> tuple[float, float] | None:
        """Return the errors of the output then and now, None where one of both was not checked."""
        result, entry = self.findings.results.get(comparison.identity), self._entry(comparison)
        other = self.before.results.get(comparison.identity) if self.before else None
        then = other.candidate.error if other and other.candidate else entry.error if entry else None
        now = result.candidate.error if result and result.candidate else None
        return None if then is None or now is None else (then, now)

    def _since(self, comparison: Comparison) -> Assessed:
        """Return whether the time of this channel count, or its plan, changed."""
        result = self.findings.results.get(comparison.identity)
        entry = self._entry(comparison)
        own = self._verdict(comparison)
        trouble = unmeasured(own)
        if self.comparing and entry and own.code is Code.UNSUPPORTED:
            return Assessed(comparison, Finding.DROPPED, own, entry)
        if result is None or (trouble and trouble is not Finding.UNDECIDED) or not result.observed:
            return Assessed(comparison, trouble or Finding.UNDECIDED, own, entry)
        if not self.comparing:
            return Assessed(comparison, Finding.RECORDED, own, entry)
        if entry is None:
            absent = self._absence(comparison)
            return Assessed(comparison, unmeasured(absent) or Finding.NO_BASELINE, absent)
        if change_of_state := self.findings.marked.get(comparison.identity):
            text = f"the device's state changed while this was measured: {change_of_state}"
            verdict = Verdict(Code.INCOMPARABLE, Reason(ReasonCode.ENVIRONMENT_DIFFERS, text))
            return Assessed(comparison, Finding.INCOMPARABLE, verdict, entry)
        change = self._confirmed_change(result, entry)
        plan_changed = result.candidate is not None and result.candidate.plan != entry.plan
        finding = change_finding(change, plan_changed)
        also = (Finding.PLAN_CHANGED,) if plan_changed and finding is not Finding.PLAN_CHANGED else ()
        return Assessed(comparison, finding, change, entry, also)

    def equal_outputs(self, comparison: Comparison) -> Assessed:
        """Return whether the pruned layer's output equals the kept channels of the unpruned one's."""
        agreement = self.findings.agreements.get(comparison.identity)
        verdict = agreement.verdict if agreement else self._missing(comparison)
        return Assessed(comparison, unmeasured(verdict) or Finding.RIGHT, verdict)

    def advised(self, comparison: Comparison, advice: Fingerprint) -> Assessed:
        """Return whether a layer is still faster than what it was advised against, on the device of the advice."""
        verdict = whether_faster(self._verdict(comparison), self.thresholds)
        now = self.findings.fingerprints.get(comparison.backend)
        if now and (obstacles := now.obstacles(advice)):
            text = f"the advice is of another device or state: {'; '.join(obstacles)}"
            verdict = Verdict(Code.INCOMPARABLE, Reason(ReasonCode.ENVIRONMENT_DIFFERS, text))
        return Assessed(comparison, advice_finding(verdict), verdict)

    def whole(self, comparison: WholeComparison) -> AssessedWhole:
        """Return whether the pruned network is slower than its original, from end to end; no baseline knows of it.

        What is refused of a layer is a limit of the library. A whole network is also refused for what the user's code
        does, and was asked for: it stays open.
        """
        result = self.findings.wholes.get(comparison.identity)
        verdict = result.verdict if result else self._missing(comparison)
        refused = verdict.code is Code.UNSUPPORTED
        return AssessedWhole(
            comparison, Finding.WHOLE_NOT_JUDGED if refused else hazard_finding(verdict, None), verdict
        )

    def tuned_log(self, case: Case) -> Assessed:
        """Return what became of a pruned shape, given the unpruned one's tuned log."""
        verdict = verdict_of(case, self.findings.results, self.thresholds) or self._missing(case.shown)
        return Assessed(case.shown, hazard_finding(verdict, None), verdict)

    def vanished(self, entry: Entry, comparison: Comparison) -> Assessed:
        """Return what is said of an entry within the selected scope that the suite no longer measures."""
        reason = Reason(ReasonCode.NOT_IN_BASELINE, f"{entry.name} is in the baseline, and no test measures it now")
        return Assessed(comparison, Finding.VANISHED, Verdict(Code.NO_BASELINE, reason), entry)

    def _verdict(self, comparison: Comparison) -> Verdict:
        result = self.findings.results.get(comparison.identity)
        return result.verdict if result else self._missing(comparison)

    def _missing(self, comparison: Compared) -> Verdict:
        """Return the verdict of what the campaign could not even begin."""
        if why := self.findings.unavailable.get(comparison.backend):
            return Verdict(Code.UNDECIDED, Reason(ReasonCode.BACKEND_UNAVAILABLE, why))
        return Verdict(Code.UNDECIDED, Reason(ReasonCode.INTERRUPTED, "the campaign ended before it was measured"))

    def _baseline(self, comparison: Comparison) -> Baseline | None:
        choice = self.choices.get(comparison.backend)
        return choice.baseline if choice else None

    def _entry(self, comparison: Comparison) -> Entry | None:
        baseline = self._baseline(comparison)
        return baseline.entry(comparison) if baseline else None

    def _absence(self, comparison: Comparison) -> Verdict:
        choice = self.choices.get(comparison.backend)
        if choice and choice.absence:
            return choice.absence
        if self.before is not None:
            other = self.before.results.get(comparison.identity)
            had = f"{other.verdict.code}: {other.verdict.reason.text}" if other else "it was not measured"
            text = f"the other library has no time to compare with: {had}"
            return Verdict(Code.NO_BASELINE, Reason(ReasonCode.NOT_IN_BASELINE, text))
        where = f"{choice.baseline.path} does not hold" if choice and choice.baseline else "no baseline holds"
        reason = Reason(ReasonCode.NOT_IN_BASELINE, f"{where} {comparison.id}")
        return Verdict(Code.NO_BASELINE, reason)

    def regressed(self, backend: str) -> list[Comparison]:
        """Return what looks slower than in the baseline, the worst first, before a fresh process has shown it again."""
        slower = []
        for identity, result in self.findings.results.items():
            entry = self._entry(result.comparison)
            if identity[0] != backend or result.comparison.studied or not (entry and result.passes):
                continue
            change = self._change(result, entry)
            if change.code is Code.SLOWER:
                slower.append((change.ratio.estimate if change.ratio else 0.0, result.comparison))
        return [comparison for _, comparison in sorted(slower, key=lambda pair: -pair[0])]

    def _confirmed_change(self, result: Result, entry: Entry) -> Verdict:
        """Return the change; a SLOWER that a fresh process did not show again is undecided."""
        change = self._change(result, entry)
        if change.code is not Code.SLOWER:  # Exact evidence is never SLOWER, and needs no second look.
            return change
        again = self.findings.rechecks.get(result.comparison.identity)
        if isinstance(again, Failure):  # The fresh process crashed on it, and that is worse news than the time.
            return again.verdict
        if again is not None and self._shown_again(result.comparison, entry, again):
            return replace(change, reason=Reason(change.reason.code, "shown again in a fresh process"))
        code, why = ReasonCode.NOT_CONFIRMED, "a fresh process did not show it again"
        if failed := self._other_failed(result.comparison):
            why = f"it could not be shown again, because the other library failed: {failed}"
        elif again is None:
            code, why = ReasonCode.BUDGET_ENDED, "the run ended before a fresh process could show it again"
        return replace(change, code=Code.UNDECIDED, reason=Reason(code, why))

    def _other_failed(self, comparison: Comparison) -> str | None:
        """Return why the other library, where there is one, could not be measured once more."""
        if self.before is None:
            return None
        again = self.before.rechecks.get(comparison.identity)
        return again.reason.text if isinstance(again, Failure) else self.before.alone.get(comparison.backend)

    def _shown_again(self, comparison: Comparison, entry: Entry, again: PairedPass) -> bool:
        """Return whether a fresh process repeats a regression; with another library, whether one more pair does."""
        level = log_median(again.candidate)
        if not self._beside(comparison.backend):
            return shown_again(entry.levels, level, self.thresholds.target)
        other = self.before.rechecks.get(comparison.identity) if self.before else None
        if not isinstance(other, PairedPass):
            return False
        return shown_again([log_median(other.candidate)], level, self.thresholds.tolerance)

    def _beside(self, backend: str) -> bool:
        """Return whether the baseline was measured in this run, in pairs of passes."""
        baseline = self.choices[backend].baseline
        return baseline is not None and bool(baseline.beside)

    def _change(self, result: Result, entry: Entry) -> Verdict:
        if result.evidence.exact:
            assert result.candidate is not None
            return judge_since(result.evidence, entry.plan, entry.instructions, result.candidate, self.thresholds)
        backend, *key = result.comparison.identity
        if self._beside(backend):
            return self._changes_in_pairs(backend).get((key[0], key[1]), UNPAIRED)
        levels, spread = self._levels(backend)
        return judge_change(entry.levels, levels[tuple(key)], spread, tuple(key), len(levels), self.thresholds)

    def _changes_in_pairs(self, backend: str) -> dict[Pair, Verdict]:
        """Return what another library changed, by (reference, candidate); judge it once."""
        if backend not in self._paired:
            pairs = differences(self.findings, self.before, backend) if self.before else {}
            self._paired[backend] = judge_all(pairs, lambda keys: keys[0], self.thresholds)
        return self._paired[backend]

    def _levels(self, backend: str) -> tuple[dict[object, list[float]], PassSpread]:
        """Return a backend's log medians in each pass of this run, and both runs' spread; compute it once."""
        if backend not in self._measured:
            measured: dict[object, Sequence[PairedPass]] = {
                identity[1:]: result.passes
                for identity, result in self.findings.results.items()
                if identity[0] == backend and result.passes and not result.comparison.studied
            }
            levels = {key: levels_of(passes) for key, passes in measured.items()}
            baseline = self.choices[backend].baseline
            # What passes have in common is seen where they are the same ones.
            kept = {key: [pass_ for pass_ in passes if pass_.candidate.size] for key, passes in measured.items()}
            started = {key: [pass_.started for pass_ in passes] for key, passes in kept.items()}
            spread = PassSpread.of({key: levels[key] for key in in_step(started)})
            self._measured[backend] = levels, spread.pooled(baseline.spread) if baseline else spread
        return self._measured[backend]

    @staticmethod
    def _is_unpruned_of(result: Result, comparison: Comparison) -> bool:
        own = result.comparison
        return (
            own.against_itself
            and not own.studied
            and own.reference == comparison.reference
            and own.backend == comparison.backend
        )
