"""Is advice worth more than rounding? A model pruned without advice, rounded, and advised: timed from end to end.

    python -m bench.advice_proof --model bench/proof_models.py:resnet50 --input 1x3x224x224 \
        --backend cudnn --dtype float16 --layout NHWC --folder /tmp/proof-resnet50

For each share of the channels (12, 25 and 50 %) four variants take the same share from every group: as it comes out,
and rounded to the nearest multiple of 8, 16 and 32. Each is compared with widths that are advised for the least time at
the same importance kept or more, as `advise` does: planned on a grid, every layer measured, what is slower planned
again. The whole networks are timed interleaved and judged, as `pytest --model … --pruned …` does. Weights are random,
so nothing is said of accuracy. Then the sum of the grid's layer times is set against the measured whole.

The folder keeps the grid, the journals and the variants; the same command goes on with what it has. A machine without
Torch-Pruning will do: variants are built anew at their sizes (bench/resized.py).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import backends
from neverslower.campaign import resume
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings, WholeResult
from neverslower.campaign.settings import Settings
from neverslower.cli_advise import in_round
from neverslower.cli_shared import StepsOnStderr, step_on_stderr
from neverslower.errors import NeverSlowerError
from neverslower.files.journal import Journal
from neverslower.judge.verdict import STANDARD, Code, Thresholds, Verdict
from neverslower.maps import grid, grid_file, map_file, mapping
from neverslower.maps.grid import Grid
from neverslower.models import reading
from neverslower.models.coupling import coupled_groups
from neverslower.models.weights import weights_of
from neverslower.option_values import duration
from neverslower.outcome.whole import median_times
from neverslower.problem.compared import Compared
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import DType, Layout
from neverslower.problem.model import Model
from neverslower.problem.networks import Layer
from neverslower.problem.whole import Network, WholeComparison
from neverslower.report.widths import modules
from neverslower.widths import importance
from neverslower.widths.budget import Resource
from neverslower.widths.building import Known, question_of, work_of
from neverslower.widths.problem import Plan, Question
from neverslower.widths.solving import Goal, solve
from neverslower.widths.structure import Structure, structure_of, wanted_pairs
from neverslower.widths.verifying import all_verified
from neverslower.worker.process import WorkerSpec

SHARES = (12, 25, 50)
ROUNDED = (0, 8, 16, 32)
"""Multiples to which the variants are rounded; 0 takes the counts as they come out."""
ORIGINAL = "original"
Widths = Mapping[str, int]


# Variants


def without_advice(channels: Mapping[str, int], share: int, multiple: int) -> dict[str, int]:
    """Return the widths that take a share (in %) from every group, rounded to the nearest multiple if there is one."""
    kept = {name: count - int(count * share / 100) for name, count in channels.items()}
    if not multiple:
        return kept
    rounded = {name: max(1, math.floor(count / multiple + 0.5)) * multiple for name, count in kept.items()}
    return {name: min(rounded[name], count) for name, count in channels.items()}


def variants_of(channels: Mapping[str, int], shares: Sequence[int] = SHARES) -> dict[str, dict[str, int]]:
    """Return every variant without advice, by names such as `uniform_12` and `rounded_8_25`."""
    return {
        f"rounded_{multiple}_{share}" if multiple else f"uniform_{share}": without_advice(channels, share, multiple)
        for share in shares
        for multiple in ROUNDED
    }


def without_twins(variants: Mapping[str, Widths]) -> tuple[dict[str, Widths], dict[str, str]]:
    """Return the variants that differ, and for each of the others, by its name, the one that it equals."""
    kept: dict[str, Widths] = {}
    equal: dict[str, str] = {}
    for name, widths in variants.items():
        twin = next((other for other, theirs in kept.items() if theirs == widths), None)
        if twin:
            equal[name] = twin
        else:
            kept[name] = widths
    return kept, equal


def at_the_importance(widths: Widths, seconds: float) -> Any:
    """Return what chooses the widths that take least time and keep as much importance as these."""

    def choose(question: Question) -> Plan:
        goal = Goal(importance=question.kept_by(widths), least=Resource.LATENCY)
        plan = solve(question, goal, seconds)
        if plan is None:  # The unpruned widths keep everything.
            raise NeverSlowerError("no widths keep that importance")
        return plan

    return choose


# What is measured


@dataclass(frozen=True)
class Bench:
    """One model on one device, and the folder in which everything is kept."""

    options: argparse.Namespace
    model: Model
    spec: WorkerSpec

    @property
    def folder(self) -> Path:
        """Return the folder of this proof."""
        return Path(self.options.folder)

    def campaign(
        self, name: str, settings: Settings, asked: Sequence[Compared], thresholds: Thresholds = STANDARD
    ) -> Findings:
        """Return the findings of a campaign whose journal is in the folder, which goes on with what it has."""
        with closing(Journal(self.folder / f"{name}.jsonl")) as journal:
            findings = self._campaign(journal, settings, thresholds=thresholds).run(asked)
        findings.require(self.spec.backend)
        return findings

    def _campaign(self, journal: Journal, settings: Settings, **rest: Any) -> Campaign:
        recorded = resume.read_if_any(journal.path)
        specs = {self.spec.backend: self.spec}
        return Campaign(specs, settings, journal, progress=StepsOnStderr(), recorded=recorded, **rest)

    def known(self) -> Known:
        """Return what planning needs: the grid is measured where the folder has none."""
        structure, weights = structure_of(self.model, coupled_groups(self.model)), weights_of(self.model)
        scores = importance.normalised({name: one.norms for name, one in weights.items()})
        worth = {name: importance.of_group(group, scores) for name, group in structure.free.items()}
        path = self.folder / "grid.json.xz"
        if not path.exists():
            self._measure_grid(self._wanted(structure), path)
        return Known(self.model, structure, grid_file.load(path), weights, worth)

    def _wanted(self, structure: Structure) -> dict[Layer, list[grid.Pair]]:
        """Return the pairs of a grid, and those that the variants without advice have besides."""
        channels = {name: group.channels for name, group in structure.free.items()}
        wanted = wanted_pairs(self.model, structure, self.options.step, self.options.points)
        rows = {layer.problem.key: pairs for layer, pairs in wanted.items()}
        for widths in variants_of(channels, self.options.share).values():
            for layer in self.model.layers:
                rows[layer.problem.key].append(structure.pair_at(layer, widths))
        return {layer: list(dict.fromkeys(pairs)) for layer, pairs in wanted.items()}

    def _measure_grid(self, wanted: Mapping[Layer, Sequence[grid.Pair]], path: Path) -> None:
        asked = grid.comparisons(self.spec.backend, wanted)
        step_on_stderr(f"grid: {len(asked):,} pairs of {len(wanted)} layers")
        with closing(Journal(path.with_name("grid.jsonl"))) as journal:
            campaign = self._campaign(journal, grid.settings_of(), judge=grid.JUDGE)
            mapped = mapping.measure(campaign, self.spec.backend, list(wanted), asked)
        mapped.require_measured()
        if mapped.ended_early:
            raise KeyboardInterrupt
        map_file.save(path, grid_file.document_of(mapped, self.options.step, self.options.points))

    def verify(self, comparisons: Sequence[Comparison], number: int) -> Mapping[tuple[str, str], Verdict]:
        """Return the verdicts on layers of the plans; all rounds share one chance of a false SLOWER."""
        step_on_stderr(f"round {number}: {len(comparisons)} layers against their unpruned selves")
        settings = mapping.settings_of(len({layer.problem for layer in self.model.layers}))
        findings = self.campaign("verified", settings, comparisons, thresholds=in_round(number))
        return {identity[1:]: verdict for identity, verdict in findings.verdicts.items()}

    def network(self, name: str, known: Known, widths: Widths) -> Network:
        """Return a variant as what a worker runs from end to end."""
        source = self.model.source
        given = [word for flag, word in itertools.pairwise(source) if flag == "--input"]
        digest = hashlib.sha256(json.dumps(sorted(widths.items())).encode()).hexdigest()[:12]
        first = self.model.layers[0].problem
        builder = f"{(self.folder / 'variants.py').resolve()}:{name}"
        return Network(builder, tuple(given), digest, first.dtype, first.layout, int(work_of(known, widths).macs))

    def write_variants(self, known: Known, plans: Mapping[str, Widths]) -> None:
        """Write the Python that builds every variant."""
        sizes = {name: modules(known, widths) for name, widths in plans.items()}
        (self.folder / "variants.json").write_text(json.dumps(sizes), encoding="utf-8")
        lines = [_PREAMBLE.format(root=str(Path(__file__).resolve().parent.parent), model=self._place())]
        lines += [f"def {name}():\n    return built({name!r})\n" for name in plans]
        (self.folder / "variants.py").write_text("\n\n".join(lines), encoding="utf-8")

    def _place(self) -> str:
        path, colon, function = self.model.source[1].rpartition("=")[2].rpartition(":")
        return f"{Path(path).resolve() if path.endswith('.py') else path}{colon}{function}"


_PREAMBLE = '''"""Written by bench.advice_proof."""

import json
import sys
from pathlib import Path

sys.path.insert(0, {root!r})
SIZES = json.loads((Path(__file__).parent / "variants.json").read_text(encoding="utf-8"))


def built(name):
    from bench.resized import resized
    from neverslower.models import torch_module
    from neverslower.models.words import ModelName

    return resized(torch_module.built(ModelName.parse({model!r})), SIZES[name])
'''


# What comes of it


@dataclass(frozen=True)
class Row:
    """One comparison of whole networks: what was advised against the variant that keeps as much."""

    against: str
    known: Known
    plans: Mapping[str, Widths]
    result: WholeResult

    def lines(self, advised: str) -> str:
        """Return a row of the table."""
        question = question_of(self.known)
        one, other = self.plans[self.against], self.plans[advised]
        before, after = work_of(self.known, one), work_of(self.known, other)
        kept = " → ".join(f"{question.share_kept(widths):.1%}" for widths in (one, other))
        params = f"{before.params / 1e6:.2f} → {after.params / 1e6:.2f}"
        macs = f"{before.macs / 1e9:.3f} → {after.macs / 1e9:.3f}"
        times = median_times(self.result.passes)
        shown = f"{times[0] * 1e6:,.1f} → {times[1] * 1e6:,.1f}" if times else "–"
        verdict = self.result.verdict
        ratio = str(verdict.ratio) if verdict.ratio else verdict.reason.text
        against = f"{ORIGINAL} ({advised})" if self.against == ORIGINAL else self.against
        return f"| {against} | {kept} | {params} | {macs} | {shown} | {verdict.code} {ratio} |"


def layer_sum(known: Known, grid: Grid, widths: Widths) -> float | None:
    """Return the sum of the grid's times of all convolutions, in seconds; None where one was not measured."""
    total = 0.0
    for layer in known.model.layers:
        cost = grid.of(layer).costs.get(known.structure.pair_at(layer, widths))
        if cost is None:
            return None
        total += cost
    return total


def sums(known: Known, plans: Mapping[str, Widths], results: Sequence[tuple[str, str, WholeResult]]) -> Iterator[str]:
    """Yield a table of the layers' sum against the measured whole, network by network."""
    yield "| network | sum of convolutions, µs | whole, µs | sum / whole | sum / original's | whole / original's |"
    yield "|---" * 6 + "|"
    wholes: dict[str, list[float]] = {}
    for first, second, result in results:
        if times := median_times(result.passes):
            for name, seconds in zip((first, second), times, strict=True):
                wholes.setdefault(name, []).append(seconds)
    mean = {name: sum(times) / len(times) for name, times in wholes.items()}
    unpruned = layer_sum(known, known.grid, plans[ORIGINAL])
    for name, whole in mean.items():
        total = layer_sum(known, known.grid, plans[name])
        if total is None:
            yield f"| {name} | not measured | {whole * 1e6:,.1f} | | | |"
            continue
        original = mean.get(ORIGINAL)  # The time budget may have ended before.
        ratios = total / whole, unpruned and total / unpruned, original and whole / original
        shown = " | ".join(f"{ratio:.3f}" if ratio else "" for ratio in ratios)
        yield f"| {name} | {total * 1e6:,.1f} | {whole * 1e6:,.1f} | {shown} |"


def report(known: Known, plans: Mapping[str, Widths], results: Sequence[tuple[str, str, WholeResult]]) -> Iterator[str]:
    """Yield all that is reported."""
    fingerprint = known.grid.fingerprint
    problem = known.model.layers[0].problem
    software = f"{fingerprint.backend} {fingerprint.version}, {fingerprint.device}"
    yield f"{known.model.title} on {software}, {problem.dtype} {problem.layout}"
    yield ""
    yield "| advised against | importance kept | params, M | GMACs | whole, µs | verdict, advised over other |"
    yield "|---" * 6 + "|"
    for first, second, result in results:
        yield Row(first, known, plans, result).lines(second)
    codes = [result.verdict.code for first, _, result in results if first != ORIGINAL]
    yield ""
    yield f"{len(codes)} comparisons: {', '.join(f'{codes.count(code)} {code}' for code in Code if code in codes)}"
    yield ""
    yield from sums(known, plans, results)


def advised_name(variant: str) -> str:
    """Return the name of the widths that are advised against a variant."""
    return f"advised_for_{variant}"


def prove(bench: Bench) -> Iterator[str]:
    """Measure everything, and yield the report."""
    known = bench.known()
    channels = {name: group.channels for name, group in known.structure.free.items()}
    variants, equal = without_twins(variants_of(channels, bench.options.share))
    chooses = {name: at_the_importance(widths, bench.options.solve_time) for name, widths in variants.items()}
    rounds = itertools.count(1)
    advised = all_verified(known, bench.spec.backend, chooses, lambda asked: bench.verify(asked, next(rounds)))
    plans: dict[str, Widths] = {ORIGINAL: question_of(known).unpruned, **variants}
    plans |= {advised_name(name): one.plan.widths for name, one in advised.items()}
    bench.write_variants(known, plans)
    pairs = [(name, advised_name(name)) for name in variants]
    pairs += [(ORIGINAL, advised_name(f"uniform_{share}")) for share in bench.options.share]
    networks = {name: bench.network(name, known, widths) for name, widths in plans.items()}
    comparisons = {
        (first, second): WholeComparison(bench.spec.backend, first, networks[first], networks[second])
        for first, second in pairs
        if plans[first] != plans[second]
    }
    step_on_stderr(f"{len(comparisons)} comparisons of whole networks")
    settings = Settings(time_budget=bench.options.time_budget, explain_budget=0.0)
    findings = bench.campaign("whole", settings, list(comparisons.values()))
    results = [(*pair, findings.wholes[comparison.identity]) for pair, comparison in comparisons.items()]
    yield from report(known, plans, results)
    yield from (f"{name} is the same network as {twin}" for name, twin in equal.items())
    taken = sum(len(one.taken_back) for one in advised.values())
    yield f"{taken} layers of {len(advised)} plans were taken back: slower than estimated, or not to be measured"


def main() -> None:
    """Run the proof, and print its report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, metavar="FILE.py:FUNCTION")
    parser.add_argument("--input", required=True, metavar="SHAPE")
    parser.add_argument("--backend", default="cudnn", help="NAME or NAME:ARGUMENT")
    parser.add_argument("--dtype", type=DType, choices=list(DType), default=None)
    parser.add_argument("--layout", type=Layout, choices=list(Layout), default=None)
    parser.add_argument("--folder", required=True, metavar="DIR", help="where everything is kept")
    parser.add_argument("--share", type=int, action="append", metavar="PERCENT", help="default 12, 25 and 50")
    parser.add_argument("--step", type=int, default=16)
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--solve-time", type=float, default=10.0, help="seconds for each plan; default 10")
    parser.add_argument("--time-budget", default="4m", help="for the whole networks; default 4m")
    options = parser.parse_args()
    options.share = options.share or list(SHARES)
    options.time_budget = duration("--time-budget", options.time_budget)
    Path(options.folder).mkdir(parents=True, exist_ok=True)
    name, _, argument = options.backend.partition(":")
    own = backends.load(name).CAPABILITIES.formats[0]
    (model,) = reading.models({"model": [options.model], "input": [options.input]})
    layers = tuple(layer.with_format(options.dtype or own[0], options.layout or own[1]) for layer in model.layers)
    spec = WorkerSpec(name, argument, threads=options.threads)
    print("\n".join(prove(Bench(options, replace(model, layers=layers), spec))))


if __name__ == "__main__":
    main()
