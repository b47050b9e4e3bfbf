"""The command that writes a case for a library's maintainers, from the journal of a run."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import backends
from backends.base import BackendOptions
from neverslower.cli_maps import ROOT
from neverslower.cli_shared import newest_journal, require_suffix
from neverslower.errors import NeverSlowerError, Unsupported
from neverslower.evidence.observation import Plan
from neverslower.files import writing
from neverslower.judge.verdict import Code, Verdict
from neverslower.maps.staircase import WORSE
from neverslower.outcome import record
from neverslower.outcome.record import Record
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem
from neverslower.report import vendor_change, vendor_fault
from neverslower.report.vendor import VendorCase, report
from neverslower.report.vendor_change import ChangedCase
from neverslower.report.vendor_fault import FaultCase

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

LISTED = 10


def add(commands: Commands) -> None:
    """Describe this command to the parser."""
    parser = commands.add_parser(
        "vendor-report",
        help="a slower or wrong layer as a case for the library's maintainers, as Markdown that needs nothing of ours",
        description="Writes what a journal holds of one layer that is slower, crashes or computes something wrong, as "
        "Markdown for an issue tracker: versions, device, figures, plans and kernels, samples, neighbours that are "
        "fine, and a script. It names no host, user or path. Of a run with --against, or a step of bisect, what got "
        "slower or less exact than with the other release comes first.",
    )
    parser.add_argument("case", metavar="CASE", help="as a summary names it: cudnn-resnet50.L16-float16-NHWC-out127")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="default: the newest one in .neverslower")
    parser.add_argument("--backend", default="", metavar="NAME", help="as in the run, NAME:ARGUMENT; for the script")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="as in the run; for the script")
    parser.add_argument("--output", type=Path, metavar="CASE.md", help="write it there; default: print it")
    parser.set_defaults(run=_vendor_report)


def _vendor_report(options: argparse.Namespace) -> None:
    if options.output:
        require_suffix(options.output, ".md", "a case")
    path = options.journal or newest_journal(ROOT / ".neverslower")
    read, before = record.read(path), record.read(path, other=True)
    changes = {change.id: change for change in record.changes_in(read, before)} if before.fingerprints else {}
    worse = [name for name, change in changes.items() if change.code in WORSE]
    at_fault = [name for name, change in changes.items() if change.broke or change.less_exact]
    at_fault += [one.id for identity, one in read.comparisons.items() if _is_faulty(read.verdicts[identity])]
    comparison = _case(read, options.case, {*worse, *at_fault})
    name, _, argument = options.backend.partition(":")
    if name and name != comparison.backend:
        raise NeverSlowerError(f"--backend {options.backend}: the case is of {comparison.backend}; name that, or none")
    adapter: Any = backends.load(comparison.backend)
    if not argument and hasattr(adapter, "argument_of"):
        argument = adapter.argument_of(read.fingerprints[comparison.backend])

    scripts = partial(_scripts, adapter, comparison.backend, BackendOptions(argument, options.threads))
    if comparison.id in worse:
        text = vendor_change.report(ChangedCase(read, before, comparison, changes, scripts))
    elif comparison.id in at_fault:
        change = changes.get(comparison.id)
        other = before if change and (change.broke or change.less_exact) else None
        text = vendor_fault.report(FaultCase(read, comparison, scripts, other, changes))
    else:
        text = report(VendorCase(read, comparison, scripts))
    if not options.output:
        print(text, end="")
        return
    try:
        writing.write_whole(options.output, text)
    except OSError as error:
        raise NeverSlowerError(f"{options.output} can't be written: {error.strerror}; name another file") from error
    print(options.output)


def _is_faulty(verdict: Verdict) -> bool:
    """Return whether a library's maintainers have to know of it, slower or not."""
    return verdict.at_fault and verdict.code is not Code.UNSUPPORTED


def _scripts(
    adapter: Any, name: str, options: BackendOptions, problem: ConvProblem, plan: Plan | None, checks: bool
) -> list[str]:
    """Return the texts by which a problem is run without this suite: a script, and the vendor's own benchmark's line.

    Raises NeverSlowerError where the backend's argument is wrong.
    """
    texts: list[str] = []
    try:
        texts.append(adapter.write_script(problem, plan.name if plan else "", options))
        if plan and hasattr(adapter, "vendor_command"):
            texts.append(adapter.vendor_command(problem, plan, checks, options))
    except Unsupported:
        pass
    except ValueError as error:
        raise NeverSlowerError(f"--backend {name}:{options.argument}: {error}") from None
    folder = options.argument if "/" in options.argument else ""  # Such as the folder of a tuned log.
    return [text.replace(folder, "FOLDER") if folder else text for text in texts if text]


def _case(read: Record, name: str, worse: Collection[str] = ()) -> Comparison:
    """Return the comparison of this name that is slower, or that is `worse` in another way or than it was.

    Raises NeverSlowerError, which lists those that there are.
    """
    slower = [
        one for identity, one in read.comparisons.items() if read.verdicts[identity].code in WORSE or one.id in worse
    ]
    for comparison in slower:
        if comparison.id == name and comparison.backend in read.fingerprints:
            return comparison
    known = next((read.verdicts[identity] for identity, one in read.comparisons.items() if one.id == name), None)
    reason = f" ({known.reason.text})" if known and known.code is Code.INVALID else ""
    why = f"it is {known.code} there{reason}" if known else "it is not there"
    listed = ", ".join(one.id for one in slower[:LISTED]) or "none"
    more = f" … ({len(slower)} in all)" if len(slower) > LISTED else ""
    raise NeverSlowerError(f"{name} is no case of {read.path}: {why}; slower or at fault are {listed}{more}")
