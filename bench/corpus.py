"""How many public reports this suite finds: each case of `bench/corpus.toml` is asked as a user would, and scored.

    python -m bench.corpus
    python -m bench.corpus --only 'ComputeLibrary-*' --json score.json

Each case is a run of pytest of its own, a minute at most to measure in. Run it on an otherwise idle machine: what noise
leaves open counts as undecided. Exit code 1 where something was missed or undecided, or nothing found; 2 for a user's
mistake.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

import backends
from neverslower.cli_shared import what_is_missing
from neverslower.device.fingerprint import Fingerprint
from neverslower.enums import StrEnum
from neverslower.errors import NeverSlowerError, WorkerFailure
from neverslower.files.writing import probe, write_whole
from neverslower.judge.verdict import Code
from neverslower.problem.convolution import DType, Layout, parse_descriptor
from neverslower.report.reproduction import software
from neverslower.worker.process import Worker, WorkerSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PATH = Path(__file__).with_suffix(".toml")
BUDGET, AT_MOST = 40, 60
"""Seconds that each case may measure: unless given otherwise, and at most."""
INTERRUPTED = 130
"""The exit code after Ctrl-C, as a shell's."""
BESIDES, DOWNLOAD = 120, 3600
"""Seconds that a run may take for all else, and for getting another release, before it is ended."""
_NOT_SLOWER = (Code.SAME, Code.FASTER, Code.FEWER)
_DECIDED = (*_NOT_SLOWER, Code.SLOWER, Code.MORE, Code.CHANGED)
_LEFT_OPEN = (Code.UNDECIDED, Code.NO_BASELINE, Code.INCOMPARABLE)


class Expect(StrEnum):
    """What the suite should say: a verdict's word, that outputs are right, or a plan alone."""

    SLOWER = "SLOWER"
    MORE = "MORE"
    SAME = "SAME"
    CHANGED = "CHANGED"
    RIGHT = "RIGHT"
    PLAN = "PLAN"


class Status(StrEnum):
    """What came of a case."""

    FOUND = "found"
    MISSED = "missed"
    UNDECIDED = "undecided"
    NOT_HERE = "can't be tried here"
    BEYOND = "can't be asked"


@dataclass(frozen=True)
class Case:
    """One report, and the run that asks about it; `bench/corpus.toml` describes the fields."""

    id: str
    link: str
    reported: str
    device: str
    says: str
    beyond: str = ""
    asks: str = ""
    needs: str = ""
    backend: str = ""
    problem: str = ""
    keep: int = 0
    dtype: str = DType.FLOAT32
    layout: str = Layout.NCHW
    environment: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    isa: str = ""
    against: str = ""
    expect: str = ""
    plan: str = ""


@dataclass(frozen=True)
class Result:
    """What came of a case, and what the suite said, or why it was not asked."""

    case: Case
    status: Status
    text: str


# Reading


def load(path: Path = PATH) -> tuple[Case, ...]:
    """Read the cases of a file, in its order. Raises NeverSlowerError with the case and the remedy."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["case"]
    except (OSError, KeyError, ValueError) as error:
        raise NeverSlowerError(f"{path} can't be read: {error}; it holds a table [[case]] for each report") from None
    cases = tuple(_case(path, entry) for entry in entries)
    if twice := sorted({case.id for case in cases if sum(other.id == case.id for other in cases) > 1}):
        raise NeverSlowerError(f"{path}: {', '.join(twice)} stands twice; give each case an id of its own")
    return cases


def _case(path: Path, entry: Mapping[str, Any]) -> Case:
    where = f"{path}: case {entry.get('id', '?')}"
    if unknown := sorted(set(entry) - {known.name for known in fields(Case)}):
        raise NeverSlowerError(f"{where} has no field {', '.join(unknown)}; the head of the file lists the fields")
    try:
        case = Case(**entry)
        _require_sound(case)
    except (TypeError, ValueError, NeverSlowerError) as error:
        raise NeverSlowerError(f"{where}: {error}") from None
    return case


def _require_sound(case: Case) -> None:
    """Refuse a case that can't be asked as it is written. Raises ValueError, or NeverSlowerError of the problem."""
    if not case.link.startswith("https://"):
        raise ValueError(f"{case.link!r} is no https link; give the address of the report")
    if case.beyond:
        if case.backend or case.problem or case.expect:
            raise ValueError("what is beyond the suite has no run; leave backend, problem and expect out")
        return
    if not (case.asks and case.backend and case.problem and case.expect):
        raise ValueError("it needs asks, backend, problem and expect; or say with `beyond` why it can't be asked")
    backends.load(case.backend.partition(":")[0])
    problem = parse_descriptor(case.problem, dtype=DType(case.dtype), layout=Layout(case.layout))
    problem.prune(problem.out_channels - case.keep)
    if Expect(case.expect) is Expect.PLAN and not case.plan:
        raise ValueError("expect = 'PLAN' needs `plan`: what the plan contains")
    try:
        SpecifierSet(case.version)
    except InvalidSpecifier:
        raise ValueError(f"version {case.version!r} is no range of versions; write it like '>=3.7,<4'") from None


# Asking

Machine = Mapping[str, Fingerprint | str]
"""For each backend its fingerprint, or why it can't be started."""


def machine(names: Iterable[str]) -> dict[str, Fingerprint | str]:
    """Start each backend once, and return what it is, or why it can't be started."""
    return {text: _identity(text) for text in dict.fromkeys(names)}


def _identity(text: str) -> Fingerprint | str:
    name, _, argument = text.partition(":")
    if why := what_is_missing(name):
        return why
    try:
        with Worker(WorkerSpec(name, argument)) as worker:
            return worker.fingerprint
    except WorkerFailure as error:
        return f"unavailable: {error}"


def absence(case: Case, here: Machine, releases: bool) -> str:
    """Return why a case can't be tried here, or an empty string."""
    if case.needs:
        return f"needs {case.needs}"
    found = here[case.backend]
    if isinstance(found, str):
        return f"{case.backend} is {found}"
    if not SpecifierSet(case.version).contains(found.version, prereleases=True):
        return f"needs {found.backend} {case.version}; here is {found.version}"
    isa = found.software.get("onednn isa", "")
    if case.isa and not re.search(rf"\b{re.escape(case.isa)}\b", isa):  # Where bfloat16 is named, float16 is not.
        return f"needs a processor with {case.isa}; here is {isa}"
    if case.against and not releases:
        return f"needs {case.against} next to what is here; --releases downloads it"
    return ""


def command(case: Case, folder: Path, budget: int) -> list[str]:
    """Return the run that asks about a case; it writes `verdicts.json` and `journal.jsonl` into the folder."""
    outputs_alone = ["tests/test_numerics.py"] if case.expect == Expect.RIGHT else []
    return [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *outputs_alone),
        *("--backend", case.backend, "--problem", case.problem, "--keep", str(case.keep)),
        *("--dtype", case.dtype, "--layout", case.layout, "--time-budget", f"{budget}s"),
        *(("--against", case.against) if case.against else ()),
        *(("--unsound", "warn") if case.expect == Expect.PLAN else ()),  # A busy device changes times, and no plan.
        *("--journal", str(folder / "journal.jsonl"), "--verdicts", str(folder / "verdicts.json")),
    ]  # fmt: skip


def ask(case: Case, budget: int) -> Result:
    """Run a case, and score what the suite says."""
    with tempfile.TemporaryDirectory() as name:
        folder, limit = Path(name), budget + BESIDES + (DOWNLOAD if case.against else 0)
        try:
            ran = subprocess.run(
                command(case, folder, budget), cwd=ROOT, env={**os.environ, **case.environment}, timeout=limit,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Result(case, Status.UNDECIDED, f"the run was ended after {limit} s")
        verdicts = folder / "verdicts.json"
        if verdicts.is_file():
            return score(case, json.loads(verdicts.read_text(encoding="utf-8")))
        last = (ran.stdout.strip().splitlines() or ["it printed nothing"])[-1]
        return Result(case, Status.UNDECIDED, f"the run gave no verdict (exit code {ran.returncode}): {last}")


# Scoring


def score(case: Case, seen: Mapping[str, Any]) -> Result:
    """Return what came of a case, from the verdicts of its run (docs/reference/verdicts.md)."""
    if case.expect == Expect.RIGHT:
        status = {"GREEN": Status.FOUND, "RED": Status.MISSED}.get(seen.get("verdict", ""), Status.UNDECIDED)
        return Result(case, status, seen["sentence"])
    found = next((entry for entry in seen.get("cases", ()) if entry["channels"] == case.keep), None)
    if found is None:
        return Result(case, Status.UNDECIDED, seen["sentence"])
    judged = found.get("since", {"code": Code.UNDECIDED, "text": "not compared"}) if case.against else found
    said = _said(judged)
    if judged["code"] == Code.UNSUPPORTED:
        return Result(case, Status.NOT_HERE, said)
    if judged["code"] in (Code.INVALID, Code.CRASHED):
        return Result(case, Status.MISSED, said)
    plan = _plan(seen, found)
    if plan and case.plan and not any(case.plan in part for part in plan):
        return Result(case, Status.MISSED, f"{said}, plan {plan[0]}")
    if plan and case.expect == Expect.PLAN:
        return Result(case, Status.FOUND, "plan " + next(part for part in plan if case.plan in part))
    if judged["code"] in _LEFT_OPEN or (case.plan and not plan):
        return Result(case, Status.UNDECIDED, said)
    wanted = _NOT_SLOWER if case.expect == Expect.SAME else (case.expect,)
    return Result(case, Status.FOUND if judged["code"] in wanted else Status.MISSED, said)


def _said(judged: Mapping[str, Any]) -> str:
    estimate, low, high = judged.get("ratio", (0, 0, 0))
    interval = "" if low == high else f" [{low:.3f}, {high:.3f}]"
    ratio = f" {estimate:.3f}×{interval}" if estimate else ""
    reason = f": {judged['text']}" if judged["code"] not in _DECIDED else ""
    return f"{judged['code']}{ratio}{reason}"


def _plan(seen: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return the name of the pruned layer's plan, then its steps; nothing where no plan was seen."""
    if "plan" not in found:
        return []
    plan = seen["plans"][found["plan"]]
    return [plan["name"], *plan.get("steps", ())]


def summary(results: Sequence[Result]) -> str:
    """Return the score in one sentence."""
    count = {status: sum(result.status is status for result in results) for status in Status}
    tried = count[Status.FOUND] + count[Status.MISSED] + count[Status.UNDECIDED]
    return (
        f"{count[Status.FOUND]} found, {count[Status.MISSED]} missed, {count[Status.UNDECIDED]} undecided of {tried} "
        f"tried; {count[Status.NOT_HERE]} can't be tried here, {count[Status.BEYOND]} can't be asked of the suite"
    )


def passed(results: Sequence[Result]) -> bool:
    """Return whether something was found, and nothing that was tried was missed or left open."""
    statuses = {result.status for result in results}
    return Status.FOUND in statuses and not statuses & {Status.MISSED, Status.UNDECIDED}


# The command


def table(results: Iterable[Result]) -> Iterator[str]:
    """Yield a Markdown table of what came of the cases."""
    yield "| report | expected | result | what the suite says, or why not |"
    yield "|---|---|---|---|"
    for result in results:
        case = result.case
        expected = " ".join(filter(None, (case.expect, case.plan and f"`{case.plan}`"))) or "nothing"
        yield f"| [{case.id}]({case.link}) | {expected} | {result.status} | {result.text.replace('|', '/')} |"


def as_json(results: Sequence[Result], here: Machine) -> str:
    """Return the score, with every case, for programs."""
    found = {name: software(one) if isinstance(one, Fingerprint) else one for name, one in here.items()}
    cases = [{**asdict(result.case), "status": result.status, "text": result.text} for result in results]
    return (
        json.dumps({"score": summary(results), "backends": found, "cases": cases}, indent=1, ensure_ascii=False) + "\n"
    )


def main() -> None:
    """Ask about each case, and print the score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", action="append", default=[], metavar="ID", help="ask this case, or those of a pattern"
    )
    parser.add_argument("--releases", action="store_true", help="download the older releases that cases compare with")
    parser.add_argument("--seconds", type=int, default=BUDGET, help=f"to measure each case in, at most {AT_MOST}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the score there too")
    options = parser.parse_args()
    try:
        if not 1 <= options.seconds <= AT_MOST:
            raise NeverSlowerError(f"--seconds {options.seconds}: give 1 to {AT_MOST}")
        cases = chosen(load(), options.only)
        if options.json:
            probe(options.json.absolute().parent)
    except NeverSlowerError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"--json {options.json} can't be written: {error.strerror}; name another file")
    here = machine(case.backend for case in cases if not case.beyond and not case.needs)
    results, whole = _asked(cases, here, options)
    print("\n".join([*table(results), "", summary(results)]))
    if options.json:
        write_whole(options.json, as_json(results, here))
    if not whole:
        sys.exit(INTERRUPTED)
    sys.exit(0 if passed(results) else 1)


def chosen(cases: Sequence[Case], patterns: Sequence[str]) -> list[Case]:
    """Return the cases that match one of the patterns, all where there is none. Raises NeverSlowerError."""
    for pattern in patterns:
        if not any(fnmatchcase(case.id, pattern) for case in cases):
            raise NeverSlowerError(f"--only {pattern}: no such case; there are {', '.join(case.id for case in cases)}")
    return [case for case in cases if not patterns or any(fnmatchcase(case.id, pattern) for pattern in patterns)]


def _asked(cases: Sequence[Case], here: Machine, options: argparse.Namespace) -> tuple[list[Result], bool]:
    """Return what each case came to, and whether all were asked: an interruption keeps those that were."""
    results: list[Result] = []
    try:
        for number, case in enumerate(cases, start=1):
            results.append(_result(case, here, options.releases, options.seconds, f"{number} of {len(cases)}"))
    except KeyboardInterrupt:
        print(f"interrupted: {len(results)} of {len(cases)} cases were tried", file=sys.stderr)
        return results, False
    return results, True


def _result(case: Case, here: Machine, releases: bool, budget: int, place: str) -> Result:
    if case.beyond:
        return Result(case, Status.BEYOND, case.beyond)
    if why := absence(case, here, releases):
        return Result(case, Status.NOT_HERE, why)
    print(f"asking {case.id}, {place}", file=sys.stderr, flush=True)
    result = ask(case, budget)
    print(f"  {result.status}", file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    main()
