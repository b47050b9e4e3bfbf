"""The command that explains: one pruned layer, measured with its neighbours, or the hazards of whole records."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import backends
from neverslower.baseline import folders
from neverslower.campaign.settings import Settings
from neverslower.cli_maps import ROOT, StoredScatter, budget_of, campaign_of, spec_of
from neverslower.cli_shared import newest_journal, refuse_out_of_place, require_suffix, step_on_stderr
from neverslower.counted import counted
from neverslower.device.fingerprint import Fingerprint, slug
from neverslower.errors import InvalidProblem, NeverSlowerError
from neverslower.files.journal import Journal, new_journal
from neverslower.maps import cases
from neverslower.maps.staircase import WORSE
from neverslower.outcome import record
from neverslower.outcome.rejudge import comparison_of
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, DType, Layout, Side, parse_descriptor
from neverslower.problem.epilogue import Epilogue, post_ops
from neverslower.problem.networks import Layer
from neverslower.report.explained import Curve, lines, mined_lines
from neverslower.rules import rule_file
from neverslower.rules.mining import FEWEST, MOST_RULES, Case, Coverage, Mined, coverages, mine
from neverslower.rules.reach import across_layers, reach_text
from neverslower.rules.rule import Owner, Rules
from neverslower.worker.process import LOCAL

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

WHOLE = 64
"""The unpruned layer has the next multiple of this many channels, unless the user says otherwise."""
NEIGHBOURS, MULTIPLES = 3, (8, 16, 32)
EXPLAIN_BUDGET = 30.0
_HEAD = f"""# Mined from records. Give each rule that you accept a reason and an owner ({", ".join(Owner)}),
# and remove the others: a rule without them is refused.
"""


def add(commands: Commands) -> None:
    """Describe this command to the parser."""
    parser = commands.add_parser(
        "explain",
        help="why a pruned layer is slow: the counts around it, plans, cause, remedy, and the rule that covers it",
        description="Measures a pruned layer and the channel counts around it against the unpruned layer, and says why "
        "it is slow. With --record nothing is measured: rules are mined that cover a record's hazards.",
    )
    parser.add_argument(
        "problem", nargs="?", metavar="PROBLEM",
        help="the pruned layer, as mb1_ic128oc127_ih28kh3ph1; or a case as a summary names it, such as "
        "cudnn-resnet50.L16-float16-NHWC-out127, with everything as it was in that run",
    )  # fmt: skip
    parser.add_argument(
        # `run` is what runs the command.
        "--run", dest="of_run", type=Path, metavar="FILE", help="the journal that holds the case; default: the newest"
    )  # fmt: skip
    parser.add_argument(
        "--unpruned", type=int, metavar="N", help=f"channels before pruning; default: next multiple of {WHOLE}"
    )
    parser.add_argument(
        "--side", type=Side, choices=list(Side), help="which channels were pruned; default out. Where both were, "
        f"--unpruned names the output's, and the input had the next multiple of {WHOLE}",
    )  # fmt: skip
    parser.add_argument(
        "--pruned", default="", metavar="PRUNED",
        help="the pruned layer; then PROBLEM is the unpruned one, as layers of two models are compared",
    )  # fmt: skip
    parser.add_argument("--bias", action="store_true", help="give the layer a bias")
    parser.add_argument("--post-ops", default="", metavar="OPS", help="what follows it in the same call, as sum+relu")
    parser.add_argument("--backend", metavar="NAME", help="as pytest's; default: the case's, or cudnn")
    parser.add_argument("--dtype", type=DType, default=None, choices=list(DType), help="default: the backend's own")
    parser.add_argument("--layout", type=Layout, default=None, choices=list(Layout), help="default: the backend's own")
    parser.add_argument("--time-budget", default="2m", metavar="TIME", help="measure for this long; default 2m")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads; default 1")
    parser.add_argument("--worker", default=LOCAL, metavar="SPEC", help="where it runs, as an execnet spec")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="raw samples; default: in .neverslower")
    parser.add_argument(
        "--unsound", choices=["refuse", "warn"], default="refuse", help="what to do on an unsound device; see pytest -h"
    )
    parser.add_argument(
        "--hazards", type=Path, metavar="FILE", help="rules; default: the suite's baselines/hazards.toml"
    )
    parser.add_argument(
        "--record",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="mine rules from a map (.json.xz), a journal or a baseline (repeatable)",
    )
    parser.add_argument("--rules", type=int, default=MOST_RULES, metavar="N", help="at most so many; default 12")
    parser.add_argument("--output", type=Path, metavar="RULES.toml", help="also write the mined rules, to be accepted")
    parser.set_defaults(run=partial(_explain, parser), blocks=None, resume=None)


_OF_MINING = ("--rules", "--output")
_OF_MEASURING = (
    "--unpruned", "--side", "--pruned", "--bias", "--post-ops", "--backend", "--dtype", "--layout", "--time-budget",
    "--threads", "--worker", "--journal", "--unsound", "--hazards",
)  # fmt: skip


def _explain(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if bool(options.problem) == bool(options.record):
        raise NeverSlowerError("explain what? name a PROBLEM, such as mb1_ic128oc127_ih28kh3ph1, or a --record FILE")
    if options.record:
        refuse_out_of_place(parser, options, _OF_MEASURING, "rules are mined from --record, and nothing is measured")
        _mine(options)
    else:
        refuse_out_of_place(parser, options, _OF_MINING, "it is for rules that are mined from --record")
        print("\n".join(lines(_measure(options))))


# One problem


def _measure(options: argparse.Namespace) -> Curve:
    known = _of_a_case(options)
    options.backend = options.backend or "cudnn"
    spec = spec_of(options)
    asked, *others = around(known or _of_a_problem(spec.backend, options))
    path = options.hazards or ROOT / "baselines" / rule_file.NAME
    listed = rule_file.load(path, backends.load) if options.hazards or path.exists() else ()
    rules = Rules(listed, datetime.date.today())
    settings = Settings(time_budget=budget_of(options), explain_budget=EXPLAIN_BUDGET)
    journal = options.journal or new_journal(ROOT, "explain")
    step_on_stderr(f"journal: {journal}")
    with closing(Journal(journal)) as events:
        reviewer = StoredScatter(journal.parent, settings.blocks, None)
        findings = campaign_of(options, spec, settings, events, reviewer).run([asked, *others])
    if asked.identity not in findings.results:
        why = findings.unavailable.get(spec.backend, "the time budget ended first; give it more with --time-budget")
        raise NeverSlowerError(f"{asked.candidate} could not be measured on {spec.backend}: {why}")
    return Curve(asked, findings, rules.about(findings.fingerprints[spec.backend]).covering(asked))


def _of_a_case(options: argparse.Namespace) -> Comparison | None:
    """Return the comparison of a case that a journal holds, None where a problem is named.

    The backend is that of its run, unless it is given. Raises NeverSlowerError.
    """
    name = options.problem.partition("-")[0]
    if name not in backends.TABLE:
        return None
    if options.backend and options.backend.partition(":")[0] != name:
        raise NeverSlowerError(f"--backend {options.backend}: the case is of {name}; name that, or none")
    chosen = {"--unpruned": options.unpruned, "--side": options.side, "--bias": options.bias}
    chosen |= {"--post-ops": options.post_ops, "--dtype": options.dtype, "--layout": options.layout}
    chosen |= {"--pruned": options.pruned}
    if given := [flag for flag, value in chosen.items() if value]:
        raise NeverSlowerError(f"{', '.join(given)}: {options.problem} says this itself; leave it out")
    read = record.read(options.of_run or newest_journal(ROOT / ".neverslower", but="explain-*"))
    for comparison in read.comparisons.values():
        if comparison.id == options.problem:
            options.backend = options.backend or read.specs.get(name, name)
            return comparison
    raise NeverSlowerError(f"{read.path} holds no {options.problem}; name the journal that does: --run FILE")


def _of_a_problem(backend: str, options: argparse.Namespace) -> Comparison:
    own = backends.load(backend).CAPABILITIES.formats[0]

    def parsed(text: str) -> ConvProblem:
        problem = parse_descriptor(text, options.dtype or own[0], options.layout or own[1])
        if options.bias or options.post_ops:
            problem = replace(problem, epilogue=Epilogue(options.bias, post_ops(options.post_ops)))
        return problem

    problem = parsed(options.problem)
    if options.pruned:
        if given := [flag for flag in ("--unpruned", "--side") if getattr(options, flag.strip("-")) is not None]:
            raise NeverSlowerError(f"{', '.join(given)}: --pruned names both layers; leave it out")
        return between(backend, problem, parsed(options.pruned))
    return pruned_from(backend, problem, options.unpruned, options.side or Side.OUT)


def pruned_from(backend: str, pruned: ConvProblem, unpruned: int | None = None, side: Side = Side.OUT) -> Comparison:
    """Return a pruned layer next to the unpruned one, as it is guessed.

    Raises NeverSlowerError where that has no more channels, or is no layer.
    """
    count, noun = pruned.channels(side), "input" if side is Side.IN else "output"
    whole = (count // WHOLE + 1) * WHOLE if unpruned is None else unpruned
    if whole <= count:
        raise NeverSlowerError(f"--unpruned {whole}: {pruned} has {count} {noun} channels; name more")
    try:
        problem = _widened(pruned, whole, side)
    except InvalidProblem as error:
        named = "name the unpruned layer as PROBLEM, and this one with --pruned"
        raise NeverSlowerError(f"{pruned}: the unpruned layer can't be guessed: {error}; {named}") from None
    if side is Side.TOGETHER and not pruned.depthwise:
        return between(backend, problem, pruned)
    layer = Layer("", None, problem.descriptor, problem)
    return Comparison(backend, layer, problem.prune(whole - count, side), side)


def _widened(pruned: ConvProblem, whole: int, side: Side) -> ConvProblem:
    """Return a layer with so many channels on a side; a depthwise one has more groups. Raises InvalidProblem."""
    if pruned.depthwise:
        each = pruned.channels(side) // pruned.groups
        if whole % each:
            raise InvalidProblem(f"{whole} channels are no whole groups of {each}")
        groups, outputs = whole // each, pruned.out_channels // pruned.groups
        return replace(pruned, in_channels=groups, out_channels=groups * outputs, groups=groups)
    if side is Side.IN:
        return replace(pruned, in_channels=whole)
    if side is Side.OUT:
        return replace(pruned, out_channels=whole)
    return replace(pruned, out_channels=whole, in_channels=(pruned.in_channels // WHOLE + 1) * WHOLE)


def between(backend: str, unpruned: ConvProblem, pruned: ConvProblem) -> Comparison:
    """Return two layers that differ in channels alone, as those of a model and its pruned version do.

    Raises NeverSlowerError where they differ otherwise, or the pruned one has more channels on a side.
    """
    like = replace(pruned, out_channels=unpruned.out_channels, in_channels=unpruned.in_channels, groups=unpruned.groups)
    if like != unpruned or (pruned.groups != unpruned.groups and not pruned.depthwise):
        raise NeverSlowerError(f"--pruned {pruned}: it differs from {unpruned} in more than its channels")
    lost = [side for side in (Side.OUT, Side.IN) if pruned.channels(side) < unpruned.channels(side)]
    grown = any(pruned.channels(side) > unpruned.channels(side) for side in (Side.OUT, Side.IN))
    if grown or not lost:
        raise NeverSlowerError(f"--pruned {pruned}: it has no fewer channels than {unpruned}; name a pruned layer")
    side = lost[0] if len(lost) == 1 or pruned.depthwise else Side.TOGETHER
    distance = unpruned.channels(side) - pruned.channels(side)
    usual = unpruned.can_prune(distance, side) and unpruned.prune(distance, side) == pruned
    return Comparison(backend, Layer("", None, unpruned.descriptor, unpruned), pruned, side, paired=not usual)


def around(asked: Comparison) -> list[Comparison]:
    """Return a comparison, then those of the channel counts around it, each with the same unpruned layer.

    Around a layer of a pruned model, which no pruning leads to, its other side stays as it is.
    """
    side, problem = asked.side, asked.reference
    count, whole = asked.candidate.channels(side), asked.reference.channels(side)
    counts = {count + step for step in range(-NEIGHBOURS, NEIGHBOURS + 1)}
    counts |= {base for size in MULTIPLES for base in (count // size * size, (count // size + 1) * size)}
    near = sorted(number for number in counts if 0 < number < whole and number != count)
    if asked.paired:
        fitting = [number for number in near if number % asked.candidate.groups == 0]
        candidates = [replace(asked.candidate, out_channels=number) for number in fitting]
    else:
        fitting = [whole - number for number in near if problem.can_prune(whole - number, side)]
        candidates = [problem.prune(distance, side) for distance in fitting]
    return [asked, *(replace(asked, candidate=candidate) for candidate in candidates)]


# Records


def _mine(options: argparse.Namespace) -> None:
    if options.rules < 1:
        raise NeverSlowerError(f"--rules {options.rules}: mine at least 1")
    if options.output:
        require_suffix(options.output, ".toml", "a file of rules")
    read = [cases_of(path) for path in options.record]
    fingerprint = read[0][0]
    for path, (other, _) in zip(options.record, read, strict=True):
        if (other.folder, other.version) != (fingerprint.folder, fingerprint.version):
            theirs = f"{other.folder} {other.version}, and the first record is of {fingerprint.folder}"
            raise NeverSlowerError(f"--record {path}: it is of {theirs} {fingerprint.version}; mine them apart")
    every = [case for _, some in read for case in some]
    hazards = sum(case.hazard for case in every)
    if not hazards:
        raise NeverSlowerError(f"no hazard in {counted(len(every), 'pruned layer')} of these records; nothing to mine")
    mined = mine(every, options.rules)
    if not mined:
        text = f"no rule of a few tests covers {FEWEST} of the {hazards} hazards and next to nothing else"
        raise NeverSlowerError(f"{text}; mine fewer records at a time, such as those of one method or format")
    found = f"{counted(hazards, 'hazard')} of {counted(len(every), 'pruned layer')}"
    print(f"{found} on {fingerprint.folder}, {fingerprint.version}")
    if left := sum(map(cases.inferred, options.record)):
        print(f"no rule was checked against {counted(left, 'other count')}, inferred and not timed")
    held_out = across_layers(every, len(mined))
    print("\n".join(mined_lines(mined, list(coverages(every, [rule.when for rule in mined])), held_out)))
    if options.output:
        rule_file.save(options.output, mined_text(fingerprint, mined, held_out))
        print(options.output)


def cases_of(path: Path) -> tuple[Fingerprint, list[Case]]:
    """Return what a record says of each pruned layer that was decided. Raises NeverSlowerError."""
    if cases.is_map(path):
        read, found = cases.load(path)
        return read.fingerprint, found
    if folders.is_stored(path):
        return _stored(path)
    journal = record.read(path)
    if len(journal.fingerprints) != 1:
        names = ", ".join(journal.fingerprints) or "none"
        raise NeverSlowerError(f"--record {path}: rules are mined for one backend, and it holds {names}")
    decided = (*WORSE, *cases.HARMLESS)
    (fingerprint,) = journal.fingerprints.values()
    return fingerprint, [
        Case(comparison, verdict.ratio.estimate, verdict.code in WORSE)
        for identity, comparison in journal.comparisons.items()
        if (verdict := journal.verdicts[identity]).code in decided and verdict.ratio and comparison.asks_whether_slower
    ]


def _stored(path: Path) -> tuple[Fingerprint, list[Case]]:
    """Return what a baseline says of each pruned layer that was decided. Raises NeverSlowerError."""
    baseline = folders.load(path)
    name, decided = baseline.fingerprint.backend, (*WORSE, *cases.HARMLESS)
    entries = [entry for entry in baseline.entries.values() if entry.known.code in decided and entry.known.ratio]
    found = [(comparison_of((name, entry.reference, entry.candidate), entry.label), entry.known) for entry in entries]
    return baseline.fingerprint, [
        Case(comparison, known.ratio.estimate, known.code in WORSE)
        for comparison, known in found
        if known.ratio and comparison.asks_whether_slower
    ]


def mined_text(fingerprint: Fingerprint, mined: Sequence[Mined], held_out: Sequence[Coverage]) -> str:
    """Return mined rules as a file in which each waits for its owner and its reason."""
    head = f"{_HEAD}# {reach_text(held_out)}\n"
    return "\n".join([head, *(_entry(fingerprint, rule) for rule in mined)])


def _entry(fingerprint: Fingerprint, rule: Mined) -> str:
    values = {
        "backend": fingerprint.backend,
        "device": slug(fingerprint.device),
        "versions": f"=={fingerprint.version.partition('+')[0]}",
        "when": rule.when,
        "ratios": list(rule.ratios),
        "owner": "",
        "reason": "",
    }
    counts = (
        f"covers {counted(rule.hazards, 'hazard')}, {rule.new:,} of them not covered by a rule above, and "
        f"{counted(rule.false, 'other')}"
    )
    return rule_file.table_text(values, [counts])
