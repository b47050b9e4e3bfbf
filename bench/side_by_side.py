"""The same layers by cuDNN and by TVM on one GPU: which channel counts are slower than unpruned in one of them alone.

    python -m bench.side_by_side --folder /tmp/both --time-budget 4m --tuning-budget 4m

Every layer of a network is compared with itself pruned to the counts of --keep, or at the standard distances: by cuDNN,
and by TVM as dlight's rules schedule it (or by the libraries that --first and --second name). Then as many layers as
--tuning-budget allows are searched for, unpruned and pruned by the share --tuned of their channels, with --trials
trials each: the pruned layer with the unpruned one's log is a miss, with a log of its own it is tuned.

The folder keeps the journals, the kernels, the logs and the figures; the same command goes on with what it has, also on
another day of the same GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neverslower.campaign import resume
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings, Result
from neverslower.campaign.settings import Settings
from neverslower.cli_shared import StepsOnStderr, step_on_stderr
from neverslower.device.readers import limits
from neverslower.errors import NeverSlowerError, UnknownName, Unsupported
from neverslower.evidence.observation import Searched
from neverslower.files.journal import Journal
from neverslower.judge.verdict import Code
from neverslower.option_values import duration
from neverslower.outcome.whole import median_times
from neverslower.problem.comparison import Comparison, pruning_distances
from neverslower.problem.convolution import DType, Layout, Side
from neverslower.problem.networks import Layer, distinct_layers, network
from neverslower.problem.subject import Search, TunedLog
from neverslower.worker.pool import Question, ask_all
from neverslower.worker.process import Worker, WorkerSpec

MISS, TUNED = "miss", "tuned"
DECIDED = (Code.FASTER, Code.SAME, Code.SLOWER)
A_SEARCH = 150.0
"""Seconds that a search may take that was begun within the budget."""
L16 = "resnet50.L16"
"""The layer of the paper's study, which is searched for first."""
COMPILED, TUNING, VERDICTS = "compiled", "tuning", "verdicts"


# What is compared


def untuned(backend: str, layers: Sequence[Layer], keep: Sequence[int] = (), most: int = 99) -> list[Comparison]:
    """Return each layer against itself pruned to the counts that it has more of, or at the most telling distances."""
    wanted = []
    for layer in layers:
        channels = layer.problem.out_channels
        distances = [(channels - count, rank) for rank, count in enumerate(keep, start=1) if count < channels]
        for distance, rank in distances if keep else pruning_distances(layer.problem, Side.OUT):
            if rank <= most and layer.problem.can_prune(distance, Side.OUT):
                wanted.append(Comparison(backend, layer, layer.problem.prune(distance, Side.OUT), Side.OUT, rank))
    return wanted


def tuned(backend: str, layers: Sequence[Layer], share: float, trials: int) -> list[Comparison]:
    """Return for each layer, in order, the pruned one with the unpruned one's log, and with a log of its own."""
    wanted = []
    for rank, layer in enumerate(layers, start=1):
        pruned = layer.problem.prune(max(1, int(layer.problem.out_channels * share)), Side.OUT)
        log, own = (str(TunedLog(Search(problem, trials, 0))) for problem in (layer.problem, pruned))
        wanted += [
            Comparison(backend, layer, pruned, Side.OUT, rank, (log, policy), label)
            for policy, label in ((log, MISS), (own, TUNED))
        ]
    return wanted


# What is measured


@dataclass(frozen=True)
class Bench:
    """Two libraries on one GPU, and the folder in which everything is kept."""

    folder: Path
    first: WorkerSpec
    second: WorkerSpec

    @property
    def names(self) -> tuple[str, str]:
        """Return the names of both libraries' backends."""
        return self.first.backend, self.second.backend

    @property
    def figures(self) -> dict[str, Any]:
        """Return the figures of this and of earlier calls."""
        path = self.folder / "figures.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def add_figures(self, name: str, **values: Any) -> None:
        """Keep figures under a name, joined with those that it has."""
        figures = self.figures
        figures[name] = figures.get(name, {}) | values
        (self.folder / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")

    def compile(self, comparisons: Sequence[Comparison], budget: float) -> None:
        """Compile what the second library has not compiled yet, in a pool, and keep how long that took."""
        keys = list(dict.fromkeys(key for comparison in comparisons for key in comparison.keys))
        begin, processes = time.monotonic(), limits.cores()
        known = self.figures.get(COMPILED, {}).get("answers", {})
        waiting = [key for key in keys if key not in known]
        if not waiting:
            return
        answers = self._ask_all(
            "compile", waiting, processes, lambda worker, key: worker.compile(key), begin + budget, 50
        )
        seconds = time.monotonic() - begin
        refused = {key: str(answer) for key, answer in answers.items() if isinstance(answer, Unsupported)}
        compiled = {key: "" for key, answer in answers.items() if not isinstance(answer, Exception)}
        pace = {"seconds": round(seconds, 1), "shapes": len(answers), "processes": processes}
        calls = [*self.figures.get(COMPILED, {}).get("calls", []), pace]
        self.add_figures(COMPILED, answers=known | compiled | refused, calls=calls)

    def _ask_all(
        self, what: str, keys: Sequence[str], processes: int, question: Question, end: float, every: int = 1
    ) -> dict[str, Any]:
        """Return the second library's answers as far as they came before `end`; one step of `every` is shown."""

        def show(done: int) -> None:
            if not done % every:
                step_on_stderr(f"{what}: {done} of {len(keys)}")

        return ask_all(self.second, keys, processes, question, show, lambda: time.monotonic() > end)

    def search(self, comparisons: Sequence[Comparison], budget: float) -> None:
        """Make the searches that comparisons rest on, as far as a budget goes; the library keeps their logs.

        For a GPU they are made side by side: candidates are drawn and compiled on all cores, and timed one at a time.
        """
        end, processes = time.monotonic() + budget, limits.cores() if self.second.argument.startswith("cuda") else 1
        made = self.figures.get(TUNING, {}) if (self.folder / "cache").is_dir() else {}
        wanted = dict.fromkeys(str(log.search) for comparison in comparisons for log in comparison.tuned_logs)
        waiting = [search for search in wanted if search not in made]
        if not waiting:
            return

        def tune(worker: Worker, key: str) -> Searched:
            return worker.tune(Search.parse(key), max(A_SEARCH, end - time.monotonic()))

        answers = self._ask_all("tune", waiting, processes, tune, end)
        for search, answer in answers.items():
            if isinstance(answer, Searched) and not answer.remembered:
                spent = {"seconds": round(answer.seconds, 1), "trials": answer.trials, "best": answer.best}
                self.add_figures(TUNING, **{search: spent | {"side by side": min(processes, len(waiting))}})
            elif isinstance(answer, Unsupported):
                self.add_figures(TUNING, **{search: {"refused": str(answer)}})

    def searched(self) -> set[str]:
        """Return the searches that ended with a log."""
        return {search for search, values in self.figures.get(TUNING, {}).items() if "seconds" in values}

    def measure(self, name: str, settings: Settings, comparisons: Sequence[Comparison]) -> Findings:
        """Return the findings of a campaign whose journal is in the folder, which goes on with what it has."""
        path = self.folder / f"{name}.jsonl"
        with closing(Journal(path)) as journal:
            recorded = resume.read_if_any(path)
            specs = {spec.backend: spec for spec in (self.first, self.second)}
            campaign = Campaign(specs, settings, journal, progress=StepsOnStderr(), recorded=recorded)
            findings = campaign.run(comparisons)
        for backend in {comparison.backend for comparison in comparisons}:
            findings.require(backend)
        if recorded is None and not findings.ended:
            decided = sum(verdict.code in DECIDED for verdict in findings.verdicts.values())
            spent = findings.seconds - findings.tuning_seconds
            self.add_figures(VERDICTS, **{name: {"seconds": round(spent, 1), "verdicts": decided}})
        return findings


# What comes of it


def cell(result: Result | None) -> str:
    """Return the times of a comparison in microseconds, its ratio and verdict; or why there is none."""
    if result is None:
        return "–"
    verdict, times = result.verdict, median_times(result.passes)
    if times is None:
        return f"{verdict.code}: {verdict.reason.text}"[:90]
    before, after = (f"{seconds * 1e6:,.1f}" for seconds in times)
    ratio = f"{verdict.ratio.estimate:.2f}× " if verdict.ratio else ""
    return f"{before} → {after}, {ratio}{verdict.code}"


def rows(results: Sequence[Result]) -> dict[tuple[str, int], dict[str, Result]]:
    """Return the results by layer and kept channels, and within by backend or by how a layer was tuned."""
    table: dict[tuple[str, int], dict[str, Result]] = {}
    for result in results:
        comparison = result.comparison
        place = comparison.layer.name, comparison.candidate.out_channels
        table.setdefault(place, {})[comparison.label or comparison.backend] = result
    return table


def table(results: Sequence[Result], columns: Mapping[str, str]) -> Iterator[str]:
    """Yield a Markdown table of what some columns, by name, have of each layer and count."""
    yield f"| layer | kept | {' | '.join(columns.values())} |"
    yield "|---" * (2 + len(columns)) + "|"
    for (layer, kept), found in rows(results).items():
        if columns.keys() & found.keys():
            yield f"| {layer} | {kept} | {' | '.join(cell(found.get(name)) for name in columns)} |"


def hurts(results: Sequence[Result], names: tuple[str, str]) -> Iterator[str]:
    """Yield which counts are slower than unpruned in one library and not in the other, and how many in which."""
    places: dict[tuple[bool, ...], list[str]] = {}
    for (layer, kept), found in rows(results).items():
        both = [found[name].verdict.code for name in names if name in found]
        if len(both) == len(names) and all(code in DECIDED for code in both):
            places.setdefault(tuple(code is Code.SLOWER for code in both), []).append(f"{layer}:{kept}")
    compared = sum(map(len, places.values()))
    which = {(True, True): "both", (True, False): f"{names[0]} alone", (False, True): f"{names[1]} alone"}
    for slower, name in which.items():
        there = places.get(slower, [])
        yield f"slower in {name}: {len(there)} of {compared}{': ' if there else ''}{', '.join(there)}"


def shares(figures: Mapping[str, Any], layers: Sequence[Layer], searched: Layer | None) -> Iterator[str]:
    """Yield the figures, as far as they are known."""
    compiled = figures.get(COMPILED, {})
    for pace in compiled.get("calls", []):
        each = pace["seconds"] / max(1, pace["shapes"])
        text = "compiled: {shapes} shapes in {seconds} s by {processes} processes".format(**pace)
        yield f"{text}, {each:.2f} s a shape"
    answers = compiled.get("answers", {})
    known = [answers[layer.problem.key] for layer in layers if layer.problem.key in answers]
    yield f"unpruned layers that compile untuned: {known.count('')} of {len(known)}"
    for why, count in Counter(words for words in answers.values() if words).most_common(5):
        yield f"refused {count} times: {why}"
    for text, values in figures.get(TUNING, {}).items():
        if searched and "seconds" in values and Search.parse(text).problem == searched.problem:
            pace = f"{values['trials']} trials in {values['seconds']:.0f} s, {values['side by side']} side by side"
            yield f"tuned: {searched.name}, {pace}"
    made = [values for values in figures.get(TUNING, {}).values() if "seconds" in values]
    if made:
        refused = len(figures[TUNING]) - len(made)
        usual = statistics.median(values["seconds"] for values in made)
        yield f"searches: {len(made)} of {usual:.0f} s (median), {refused} refused"
    for name, values in figures.get(VERDICTS, {}).items():
        each = values["seconds"] / max(1, values["verdicts"])
        yield f"{name}: {values['verdicts']} decided verdicts in {values['seconds']} s, {each:.2f} s each"


def side_by_side(findings: Findings, names: tuple[str, str]) -> Iterator[str]:
    """Yield what both libraries show untuned, in Markdown."""
    for backend, fingerprint in findings.fingerprints.items():
        software = ", ".join(f"{name} {version}" for name, version in fingerprint.software.items())
        yield f"{backend} on {fingerprint.device}: {software}"
    results = list(findings.results.values())
    yield from ("", *table(results, {name: f"{name}, µs" for name in names}), "", *hurts(results, names))


def compare(options: argparse.Namespace) -> Iterator[str]:
    """Measure everything, and yield the report."""
    layers = [layer.with_format(options.dtype, options.layout) for layer in distinct_layers(network(options.network))]
    layers = [layer for layer in layers if not options.layer or any(map(layer.matches, options.layer))]
    if not layers:
        raise UnknownName(
            f"no layer of {options.network} matches {', '.join(options.layer)}; write {options.network}.L16"
        )
    folder = Path(options.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"XDG_CACHE_HOME": str(folder / "cache")}
    both = (text.partition(":") for text in (options.first, options.second))
    bench = Bench(folder, *(WorkerSpec(name, argument, variables=kept) for name, _, argument in both))
    asked = [untuned(name, layers, options.keep, options.most) for name in bench.names]
    bench.compile(asked[1], options.compile_budget)
    plain = Settings(time_budget=options.time_budget, explain_budget=0.0)
    yield from side_by_side(bench.measure("untuned", plain, [*asked[0], *asked[1]]), bench.names)
    if options.tuning_budget:
        first_of_all = sorted(layers, key=lambda layer: layer.name != L16)
        studied = tuned(bench.names[1], first_of_all, options.tuned, options.trials)
        bench.search(studied, options.tuning_budget)
        made = bench.searched()
        ready = [one for one in studied if all(str(log.search) in made for log in one.tuned_logs)]
        findings = bench.measure("tuned", plain, ready)
        columns = {MISS: "with the unpruned layer's log, µs", TUNED: "each with its own log, µs"}
        yield from ("", *table(list(findings.results.values()), columns))
    yield from ("", *shares(bench.figures, layers, next((layer for layer in layers if layer.name == L16), None)))


def main() -> None:
    """Read the options and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True, metavar="DIR", help="where everything is kept")
    parser.add_argument("--first", default="cudnn", metavar="BACKEND", help="NAME or NAME:ARGUMENT; default cudnn")
    parser.add_argument("--second", default="tvm:cuda", metavar="BACKEND", help="compiles and tunes; default tvm:cuda")
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--layer", action="append", metavar="PATTERN", help="default: every layer")
    parser.add_argument("--keep", type=int, action="append", default=[], metavar="N", help="default: as the suite has")
    parser.add_argument("--most", type=int, default=99, metavar="N", help="the N most telling counts; default: all")
    parser.add_argument("--dtype", type=DType, choices=list(DType), default=DType.FLOAT32)
    parser.add_argument("--layout", type=Layout, choices=list(Layout), default=Layout.NCHW)
    parser.add_argument("--tuned", type=float, default=0.12, metavar="SHARE", help="of the channels; default 0.12")
    parser.add_argument("--trials", type=int, default=16)
    for name, default in (("compile", "4m"), ("time", "4m"), ("tuning", "4m")):
        parser.add_argument(f"--{name}-budget", default=default, metavar="TIME", help=f"default {default}; 0s: none")
    options = parser.parse_args()
    try:
        report(options)
    except NeverSlowerError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def report(options: argparse.Namespace) -> None:
    """Print the report line by line, and leave it in the folder. Raises NeverSlowerError for a user's mistake."""
    for name in ("compile_budget", "time_budget", "tuning_budget"):
        text = getattr(options, name)
        setattr(options, name, duration(f"--{name.replace('_', '-')}", text) if text != "0s" else 0.0)
    lines = []
    for line in compare(options):  # What is known is shown while the rest is searched for.
        print(line, flush=True)
        lines.append(line)
    (Path(options.folder) / "report.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
