"""Write the reference pages that follow from the code: options, commands, outcomes and exit codes, as Markdown.

`docs/conf.py` puts each text where a page says `<!-- generated: NAME -->`. Nothing here needs Sphinx.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from neverslower import cli
from neverslower.judge.sequential import PRESETS
from neverslower.option_table import GROUPS, Option
from neverslower.outcome.run_verdict import RunCode, RunVerdict
from neverslower.outcome.table import TABLE, Finding
from neverslower.problem.selection import PROFILES
from neverslower.report import words

MEANINGS = {
    Finding.NOT_SLOWER: "The pruned layer is proved not to be slower than the unpruned one.",
    Finding.HAZARD_FOUND: "Slower than unpruned, and no baseline holds this comparison; or a drawn layer is slower.",
    Finding.HAZARD_KNOWN: "Slower, as the baseline says, and within the baseline's interval.",
    Finding.TUNED_LOG_MISS: "The tuning database has no schedule for the pruned shape, which therefore runs untuned.",
    Finding.SLOWER_EQUALLY_TUNED: "Both shapes got as many trials in each of three searches, and the pruned one lost.",
    Finding.HAZARD_BORDERLINE: "Slower now, not in the baseline, and not proved to lie beyond the baseline's interval.",
    Finding.HAZARD_UNDECIDED_BEFORE: "Slower now, and the baseline could not decide whether it was.",
    Finding.HAZARD_NEW: "Slower now, not in the baseline, and proved to lie beyond the baseline's interval.",
    Finding.HAZARD_WORSE: "A known hazard whose ratio is proved to have risen beyond the baseline's interval.",
    Finding.HAZARD_FADED: "A known hazard that is not slower now, but not proved to lie below the baseline's interval.",
    Finding.HAZARD_FIXED: "A known hazard that is proved gone. Accept a new baseline.",
    Finding.DISPATCH_DIFFERS: "Other kernels, uneven groups or more work-items than unpruned. Says nothing about time.",
    Finding.UNPRUNED_FASTER: "The pruned layer is no slower than it was; the unpruned one got faster.",
    Finding.UNCHANGED: "This channel count is no slower than in the baseline.",
    Finding.REGRESSION: "This channel count is slower than in the baseline, shown again by a fresh process.",
    Finding.MORE_INSTRUCTIONS: "This channel count executes more instructions than in the baseline.",
    Finding.IMPROVED: "This channel count is faster than in the baseline.",
    Finding.FEWER_INSTRUCTIONS: "This channel count executes fewer instructions than in the baseline.",
    Finding.PLAN_CHANGED: "The library chose another plan, or dispatches otherwise.",
    Finding.LESS_EXACT: "The error against float64 is ten times what it was, or more; within the tolerance.",
    Finding.NO_BASELINE: "A comparison with a baseline was asked for, and none is stored.",
    Finding.RECORDED: "The time was recorded; nothing was asked about it.",
    Finding.RIGHT: "The output is the kept slice of the unpruned layer's output.",
    Finding.UNDECIDED: "Begun and not decided: neither slower nor not slower could be proved within the budget.",
    Finding.CHANGE_UNCONFIRMED: "This channel count is slower than in the baseline, and the run ended, mostly with its "
    "time budget, before a fresh process could show it again.",
    Finding.CHANGE_UNDECIDED: "Whether this channel count is slower than in the baseline could not be decided.",
    Finding.OUT_OF_TIME: "Never begun, because the time budget ended first.",
    Finding.INCOMPARABLE: "The baseline is of another device or state; the field that differs is named.",
    Finding.UNSUPPORTED: "The library refuses this problem, in its own words, or it does not fit in memory.",
    Finding.WHOLE_NOT_JUDGED: "A whole network does not run, with your own traceback, or can't be compared.",
    Finding.DROPPED: "Unsupported now, although the baseline or the other library measured it.",
    Finding.UNAVAILABLE: "The backend could not be started.",
    Finding.CRASHED: "The worker process died; its last words are shown.",
    Finding.INVALID: "The output is wrong, or a sample is no time.",
    Finding.DISTURBED: "More than a quarter of the blocks was dropped, because the device was throttled or busy.",
    Finding.ADVICE_HOLDS: "An advised count is proved faster than the next larger one; widths, than unpruned.",
    Finding.ADVICE_BROKEN: "It is proved to be slower than that, or no faster than 0.99 of its time.",
    Finding.VANISHED: "In the baseline and in scope, but no test measures it any more.",
    Finding.RULE_KNOWS: "Slower, and a rule covers its ratio; no baseline of this version proves it new or worse.",
    Finding.RULE_EXCEEDED: "Slower, and proved to lie beyond the ratios that the rule covers.",
    Finding.RULE_HOLDS: "The rule covers at least one hazard of this run.",
    Finding.RULE_FIXED: "Everything that the rule matches in this run is proved not to be slower. Remove the rule.",
    Finding.RULE_STALE: "The rule matches nothing that is measured, nor any layer of the catalogue at any count.",
    Finding.RULE_SHADOWED: "Earlier rules match everything that this rule matches.",
    Finding.RULE_EXPIRED: "The rule's last day is over, so it covers nothing any more.",
    Finding.RULE_IDLE: "The rule is about another device or version, or what it matches was not measured or decided.",
}
"""What each finding means, in one sentence."""

WHEN = {
    RunCode.INTERRUPTED: "the user stopped the run",
    RunCode.INTERNAL_ERROR: "pytest or the suite itself failed",
    RunCode.USAGE_ERROR: "an option is wrong",
    RunCode.NOT_ACCEPTED: "`--accept-baseline` refused the run",
    RunCode.NOTHING_COLLECTED: "the options select no test",
    RunCode.RED: "something failed by the [table of outcomes](outcomes.md)",
    RunCode.CANNOT_JUDGE: "some evidence that was asked for has not a single decision, or the device is unfit",
    RunCode.HAZARDS: "there are slower layers that neither a baseline nor a rule knows",
    RunCode.INCOMPLETE: "something is undecided, unconfirmed or left out",
    RunCode.GREEN: "everything is decided, and none of the above holds",
}
"""When a run ends so; the first that holds counts."""


def fill(page: str) -> str:
    """Return a page with each `<!-- generated: NAME -->` replaced. Raises KeyError for an unknown name."""
    return re.sub(r"<!-- generated: (\w+) -->", lambda found: GENERATED[found[1]](), page)


# Options of pytest


def options() -> str:
    """Return every option that the suite adds to pytest's, by group, with its default."""
    tables = []
    for group in GROUPS:
        title = group.title.removeprefix("never-slower").lstrip(":, ") or "never-slower"
        rows = [_row(option) for option in group.options]
        tables += [f"## {title[:1].upper()}{title[1:]}", _table(("option", "meaning", "default"), rows)]
    return "\n\n".join(tables)


def _row(option: Option) -> tuple[str, str, str]:
    keywords = {"help": option.help, **option.keywords}
    return _usage((option.flag,), keywords), _help(keywords), _default(keywords)


def _usage(flags: Iterable[str], keywords: Mapping[str, Any]) -> str:
    if keywords.get("action") == "store_true" or keywords.get("nargs") == 0:
        value = ""
    elif choices := keywords.get("choices"):
        value = " " + "|".join(choices)
    else:
        value = f" {keywords.get('metavar') or 'VALUE'}"
    return ", ".join(f"`{flag}{value}`" for flag in flags)


def _help(keywords: Mapping[str, Any]) -> str:
    text = str(keywords.get("help") or "").replace("%%", "%")
    return re.sub(r"(?<![\w`-])--[a-z][a-z-]*", r"`\g<0>`", text)


def _default(keywords: Mapping[str, Any]) -> str:
    """Return the default, from the option itself, or else in the words of its help."""
    value = keywords.get("default")
    if keywords.get("action") == "store_true":
        return "off"
    if value not in (None, []):
        return f"`{str(value).replace('%%', '%')}`"
    told = re.search(r"\bdefault:? (.+?)(?:[;,)]|$| \()", _help(keywords))
    return told[1] if told else ""


def profiles() -> str:
    """Return what each --profile and each --preset stands for."""
    names = ("`--profile`", "networks", "preset", "processes, where times are stored or compared", "time budget")
    rows = [
        (
            f"`{profile.name}`",
            ", ".join(profile.networks),
            f"`{profile.preset}`",
            str(profile.passes),
            words.duration(profile.time_budget) if profile.time_budget else "none",
        )
        for profile in PROFILES.values()
    ]
    most = [(f"`{preset.name}`", str(preset.most_blocks)) for preset in PRESETS.values()]
    return f"{_table(names, rows)}\n\n{_table(('`--preset`', 'blocks of a comparison, at most'), most)}"


# Commands of python -m neverslower


def commands() -> str:
    """Return every command with its arguments, a section each."""
    parser = cli._parser()
    (choices,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    helps = {action.dest: action.help or "" for action in choices._choices_actions}
    return "\n\n".join(_command(name, helps[name], command) for name, command in choices.choices.items())


def _command(name: str, help: str, parser: argparse.ArgumentParser) -> str:
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    rows = []
    for action in actions:
        usage = _usage(action.option_strings, vars(action)) if action.option_strings else f"`{action.metavar}`"
        if action.help:
            rows.append((usage, _help(vars(action))))
    positional = [_positional(action) for action in actions if not action.option_strings]
    options = ["[options]"] if len(positional) < len(actions) else []
    typed = f"```text\n{' '.join([parser.prog, *positional, *options])}\n```"
    text = [f"## `{name}`", typed, parser.description or f"{help[:1].upper()}{help[1:]}."]
    return "\n\n".join([*text, _table(("argument", "meaning"), rows)] if rows else text)


def _positional(action: argparse.Action) -> str:
    """Return how an argument is typed: `[NAME]` if it may be left out, `NAME …` if it may be repeated."""
    form = {"*": "[{} …]", "?": "[{}]", "+": "{} …"}.get(str(action.nargs), "{}")
    return form.format(action.metavar)


# Outcomes and exit codes


def outcomes() -> str:
    """Return the table of outcomes: what each finding is for pytest."""
    rows = [
        (f"**{finding}**: {MEANINGS[finding]}", str(usual.value), str(strict.value))
        for finding, (usual, strict) in TABLE.items()
    ]
    return _table(("finding", "pytest", "with `--strict-verdicts`"), rows)


def exit_codes() -> str:
    """Return the verdicts of a run in the order in which they count, each with its exit codes."""
    rows = [
        (f"**{code}**", when, str(RunVerdict(code).exit_code), _strictly(code), str(RunVerdict(code).bisect_code))
        for code, when in WHEN.items()
    ]
    return _table(("verdict", "when", "exit code", "with `--strict-verdicts`", "with `--exit-codes bisect`"), rows)


def _strictly(code: RunCode) -> str:
    if code is RunCode.HAZARDS:
        return "is RED"
    if code is RunCode.INCOMPLETE:
        return f"{RunVerdict(code, strict=True).exit_code}, or 0 where nothing begun is undecided and enough is decided"
    return str(RunVerdict(code, strict=True).exit_code)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(_lines(head, rows))


def _lines(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        cells = (" ".join(cell.split()).replace("|", "\\|") for cell in row)
        yield f"| {' | '.join(cells)} |"


GENERATED: Mapping[str, Callable[[], str]] = {
    "options": options,
    "profiles": profiles,
    "commands": commands,
    "outcomes": outcomes,
    "exit_codes": exit_codes,
}
"""What a page may ask for."""
