"""What the rules of baselines/hazards.toml say of the records that are stored: known, worse, new, and false.

    python -m bench.known

Each record and format that a rule is about has a row: its hazards, and how a run with the rules finds them. A count
that a rule matches and that is no hazard costs nothing in a run, but says how far the rule is from the truth. Below it,
a device's rules are asked of either half of the layers in its maps, every other one by name. Next to them stands the
first rule that is mined from the other half. Nothing is timed.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import backends
from neverslower.cli_explain import cases_of
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.judge.verdict import STANDARD
from neverslower.maps import cases
from neverslower.rules import rule_file
from neverslower.rules.mining import Case, coverages, mine
from neverslower.rules.rule import Rule, Rules

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("baselines/cudnn@*/maps/*.json.xz", "baselines/*/[0-9]*.json*", "bench/data/journals/*.jsonl.xz")


def main() -> None:
    """Print both tables."""
    rules = Rules(rule_file.load(ROOT / "baselines" / rule_file.NAME, backends.load), datetime.date.today())
    print("| record | hazards | known | worse | new | matched, no hazard |")
    print("|---|---|---|---|---|---|")
    mapped: dict[tuple[Rule, ...], list[Case]] = {}
    for path in _records():
        for fingerprint, every in _by_format(path):
            about = rules.about(fingerprint)
            matching = [rule for rule in about.rules if any(rule.matches(case.comparison) for case in every)]
            if matching:
                print(row(path.relative_to(ROOT).as_posix(), every, about))
            if matching and cases.is_map(path):
                mapped.setdefault(tuple(about.rules), []).extend(every)
    for together, every in mapped.items():
        print("\n".join(["", f"{together[0].device}, {together[0].versions}", "", *halves(every, together)]))


def _records() -> list[Path]:
    return [path for place in PLACES for path in sorted(ROOT.glob(place))]


def _by_format(path: Path) -> list[tuple[Fingerprint, list[Case]]]:
    """Return a record's cases, those of each dtype and layout apart; nothing of a record that has none of layers."""
    try:
        fingerprint, every = cases_of(path)
    except NeverSlowerError:
        return []
    formats: dict[object, list[Case]] = {}
    for case in every:
        formats.setdefault((case.comparison.candidate.dtype, case.comparison.candidate.layout), []).append(case)
    return [(fingerprint, some) for some in formats.values()]


def row(name: str, every: Sequence[Case], rules: Rules) -> str:
    """Return how a run that found these cases would name its hazards; a ratio is taken for proved."""
    found: Counter[str] = Counter()
    for case in every:
        rule = rules.covering(case.comparison)
        if not case.hazard:
            found["false"] += rule is not None
        elif rule is None:
            found["new"] += 1
        else:
            found["worse" if case.ratio > rule.ratios[1] * (1 + STANDARD.tolerance) else "known"] += 1
    hazards = sum(case.hazard for case in every)
    return f"| {name} | {hazards} | {' | '.join(str(found[word]) for word in ('known', 'worse', 'new', 'false'))} |"


def halves(every: Sequence[Case], rules: Sequence[Rule]) -> Iterator[str]:
    """Yield what is mined first from either half of the layers, and how it and the rules do on the other one."""
    names = sorted({case.comparison.layer.name for case in every})
    yield "| tested on | predicate | hazards covered | wrongly covered, of all covered |"
    yield "|---|---|---|---|"
    for half in (0, 1):
        tested, fitted = (
            [case for case in every if names.index(case.comparison.layer.name) % 2 == side] for side in (half, 1 - half)
        )
        mined = mine(fitted, 1)[0].when
        for title, predicates in ((f"`{mined}`", [mined]), (f"all {len(rules)} rules", [rule.when for rule in rules])):
            *_, coverage = coverages(tested, predicates)
            yield f"| half {half + 1} | {title} | {coverage.coverage:.1%} | {coverage.false_share:.1%} |"


if __name__ == "__main__":
    main()
