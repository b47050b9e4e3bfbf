"""A case for a library's maintainers: one Markdown page that they can act on with nothing of ours.

It names no host, user or path: only fields that are listed here are written, and paths in free text are cut out.
"""

from __future__ import annotations

import getpass
import re
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neverslower.device.fingerprint import Fingerprint, short_hash
from neverslower.evidence.observation import Examined, Plan
from neverslower.judge.cause import Cause
from neverslower.judge.verdict import Code, Verdict
from neverslower.outcome.record import Record
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem
from neverslower.report import words

NEIGHBOURS, SAMPLES = 4, 8
_FINE = (Code.SAME, Code.FASTER, Code.FEWER)
# A space may be part of a path: where that is not clear, more is cut out and not less.
_PATH = re.compile(r"(?<![\w.<])(?:~|\.{1,2}|[A-Za-z]:)?(?:[/\\](?=[\w.~-])[\w.+@~ -]*[\w+@~-])+[/\\]?")
_PLACE = re.compile(r"(?<![\w./:<])~?/(?:[\w.+@~-]+/)+[\w.+@~-]*")
_OWN = "never-slower"
"""The folder of what this suite built itself, whose names say nothing of who did."""
_SYSTEM = ("/bin/", "/dev/", "/lib/", "/proc/", "/sys/", "/usr/")
_EVERYONE = ("localhost", "root", "user")
_LEFT_OUT = ("host", "node", "user", "serial", "uuid", "path", "prefix", "image")
"""Words in the names of fields that say who measured where."""

Samples = NDArray[np.float64]
Scripts = Callable[[ConvProblem, Plan | None, bool], Sequence[str]]
"""Returns what runs a problem alone by a plan, none where nothing can be written; true asks to check the output."""


@dataclass(frozen=True)
class VendorCase:
    """One slower layer of a record, with its verdict and the device and software that it was measured on."""

    record: Record
    comparison: Comparison
    scripts: Scripts

    @property
    def verdict(self) -> Verdict:
        """Return the verdict of the record."""
        return self.record.verdicts[self.comparison.identity]

    @property
    def counted(self) -> bool:
        """Return whether instructions were counted and nothing was timed."""
        examined = self.examined(self.comparison.candidate)
        return examined is not None and examined.instructions is not None

    @property
    def measure(self) -> str:
        """Return what the ratio is one of."""
        return "instructions" if self.counted else "time"

    @property
    def fingerprint(self) -> Fingerprint:
        """Return what the layer was measured on."""
        return self.record.fingerprints[self.comparison.backend]

    def examined(self, problem: ConvProblem) -> Examined | None:
        """Return what the library chose for a problem, None where the record does not say."""
        return self.record.examined.get((self.comparison.backend, problem.key))

    def fine(self) -> list[Comparison]:
        """Return the nearest counts of the same layer that are not slower, from few channels to many."""
        asked, side = self.comparison, self.comparison.side
        count = asked.candidate.channels(side)
        fine = [
            other
            for identity, other in self.record.comparisons.items()
            if (other.backend, other.reference, other.side) == (asked.backend, asked.reference, side)
            and self.record.verdicts[identity].code in _FINE
            and other.asks_whether_slower
        ]
        nearest = sorted(fine, key=lambda other: abs(other.candidate.channels(side) - count))[:NEIGHBOURS]
        return sorted(nearest, key=lambda other: other.candidate.channels(side))


def report(case: VendorCase) -> str:
    """Return the page, in GitHub's Markdown."""
    return without_paths(
        "\n".join([*_summary(case), *environment(case.fingerprint), "", *_sides(case), *_figures(case)])
    ) + "".join(f"{line}\n" for line in _scripts(case))


def _summary(case: VendorCase) -> Iterator[str]:
    asked, ratio = case.comparison, case.verdict.ratio
    library = f"{case.fingerprint.backend} {case.fingerprint.version}"
    worse, takes = ("needs more instructions", "executes") if case.counted else ("is slower", "takes")
    yield f"# {library}: a convolution with fewer channels {worse} ({asked.channels})"
    yield ""
    yield f"The convolution `{asked.candidate.descriptor}` ({asked.candidate.dtype}, {asked.candidate.layout}) {takes}"
    yield f"**{ratio}** the {case.measure} of `{asked.reference.descriptor}`, though it computes less: it has"
    yield f"{asked.channels}. {certainty(case.record, case.counted)}"
    yield "Problems are written as oneDNN's benchdnn does."
    yield ""


def certainty(record: Record, counted: bool) -> str:
    """Return what the brackets of a ratio hold, at the error that the run was allowed."""
    if counted:
        return "Instructions were counted, which are the same in every run; no time was measured."
    error = record.settings.get("family_error")
    allowed = f", at an error of {100 * error:g} % over all that was measured together" if error else ""
    return f"The brackets hold the interval of the ratio{allowed}."


def environment(fingerprint: Fingerprint) -> Iterator[str]:
    """Yield what a case was measured on, but for the fields that say who measured where."""
    yield "## Measured on"
    yield ""
    yield f"- device: {fingerprint.device}"
    yield f"- library: {fingerprint.backend} {fingerprint.version} (build {short_hash(fingerprint.build)})"
    for fields in (fingerprint.hardware, fingerprint.state, fingerprint.software):
        for name, value in sorted(fields.items()):
            if not names_somebody(name):
                yield f"- {name}: {value}"


def names_somebody(field: str) -> bool:
    """Return whether a field says who measured where, by the words of its name."""
    return any(word in field.lower() for word in _LEFT_OUT)


def _sides(case: VendorCase) -> Iterator[str]:
    yield "## What the library chose"
    yield ""
    for title, problem in (("more channels", case.comparison.reference), ("fewer channels", case.comparison.candidate)):
        examined = case.examined(problem)
        yield f"- {title}, `{problem.descriptor}`: plan `{examined.plan if examined else 'not recorded'}`"
        yield from (f"  - `{step}`" for step in (examined.plan.steps if examined else ()))
    explained = case.record.explained.get(case.comparison.identity)
    if explained and explained["cause"] != Cause.UNKNOWN:
        yield ""
        yield f"Likely cause: {explained['cause']}. {'; '.join(explained['evidence'])}."
    yield ""


def _figures(case: VendorCase) -> Iterator[str]:
    asked, verdict = case.comparison, case.verdict
    yield "## Figures"
    yield ""
    yield f"| convolution | channels | {case.measure} over that of the unpruned one |"
    yield "|---|---|---|"
    yield f"| `{asked.reference.descriptor}` | {asked.reference.channels(asked.side)} | 1 |"
    yield f"| `{asked.candidate.descriptor}` | **{asked.candidate.channels(asked.side)}** | **{verdict.ratio}** |"
    for other in case.fine():
        ratio = case.record.verdicts[other.identity].ratio
        yield f"| `{other.candidate.descriptor}` | {other.candidate.channels(other.side)} | {ratio}, fine |"
    yield ""
    if case.counted:
        yield f"Counted: {case.verdict.reason.text}."
        yield ""
    passes = [pass_ for pass_ in case.record.samples.get(asked.identity, ()) if len(pass_.seconds)]
    if passes:
        pairs = [(taken.reference, taken.candidate) for taken in passes]
        yield from sampled(pairs, ("more channels", "fewer channels"))


def sampled(pairs: Sequence[tuple[Samples, Samples]], titles: tuple[str, str]) -> Iterator[str]:
    """Yield a table of both sides' samples, in seconds, a row for each process or pair of processes."""
    yield "Both were timed alternately, in shuffled order, in fresh processes. Microseconds of a call, the first rounds"
    yield "of each process, and the median of all of its rounds:"
    yield ""
    yield f"| process | {' | median | '.join(titles)} | median |"
    yield "|---|---|---|---|---|"
    for number, pair in enumerate(pairs, start=1):
        yield f"| {number} | {' | '.join(map(_rounds, pair))} |"
    yield ""
    whole = [np.concatenate(side) for side in zip(*pairs, strict=True)]
    yield f"All rounds: {words.time_with_interval(whole[0])} and {words.time_with_interval(whole[1])}."
    yield ""


def _rounds(seconds: Samples) -> str:
    first = ", ".join(f"{1e6 * value:.2f}" for value in seconds[:SAMPLES])
    more = " …" if len(seconds) > SAMPLES else ""
    return f"{first}{more} | {1e6 * float(np.median(seconds)):.2f}"


def _scripts(case: VendorCase) -> Iterator[str]:
    yield ""
    yield "## Reproduce it"
    for title, problem in (("More channels", case.comparison.reference), ("Fewer channels", case.comparison.candidate)):
        yield ""
        yield f"{title}, `{problem.descriptor}`:"
        yield from runnable(case.scripts, problem, case.examined(problem))


def runnable(scripts: Scripts, problem: ConvProblem, examined: Examined | None, checks: bool = False) -> Iterator[str]:
    """Yield what runs a problem without this suite: blocks of code, each after an empty line."""
    texts = scripts(problem, examined.plan if examined else None, checks)
    for text in texts:
        yield from ("", "```", *scrubbed(text).rstrip().splitlines(), "```")
    if not texts:
        yield from ("", NO_SCRIPT)


NO_SCRIPT = "No script can be written for it."


def scrubbed(script: str) -> str:
    """Return a script in which places of this machine are `FOLDER`, and those that every system has are left."""
    homes = (str(Path.home()), tempfile.gettempdir(), str(Path.cwd()))
    for place in sorted((place for place in homes if len(place) > 1), key=len, reverse=True):
        script = re.sub(rf"{re.escape(place)}(?=/)", "/FOLDER", script)
    return _PLACE.sub(lambda place: _scrubbed_place(place[0]), script)


def _scrubbed_place(place: str) -> str:
    if place.startswith(_SYSTEM):
        return place
    return f"FOLDER/{place.rpartition('/')[2]}" if f"/{_OWN}/" in place else "FOLDER"


def without_names(text: str, fingerprint: Fingerprint) -> str:
    """Return a text without the host and the user, as far as this machine and the record's own fields name them."""
    fields = {**fingerprint.hardware, **fingerprint.state, **fingerprint.software}
    names = {value for name, value in fields.items() if "host" in name or "user" in name} | {socket.gethostname()}
    with suppress(KeyError, OSError, ImportError):  # Of a user whom the system does not know.
        names.add(getpass.getuser())
    listed = sorted((name for name in names if len(name) > 2 and name not in _EVERYONE), key=len, reverse=True)
    each = "|".join(map(re.escape, listed))
    return re.sub(rf"(?<!\w)(?:{each})(?!\w)", "<name>", text) if listed else text


def without_paths(text: str) -> str:
    """Return a text in which each path of a file system is cut down to `<path>`."""
    return _PATH.sub("<path>", text)
