"""The command that pads a pruned model to channel counts that run faster, where that is proved."""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neverslower.campaign.findings import Findings
from neverslower.campaign.resume import Recorded
from neverslower.campaign.settings import Settings
from neverslower.cli_advise import in_round
from neverslower.cli_maps import (
    SeveralCampaigns,
    StoredScatter,
    add_running,
    campaign_of,
    format_of,
    recorded_in,
    spec_of,
)
from neverslower.cli_shared import runs_networks, step_on_stderr
from neverslower.counted import counted
from neverslower.errors import AdviceError, NeverSlowerError
from neverslower.files import writing
from neverslower.files.journal import Journal
from neverslower.judge.verdict import STANDARD, Code, Thresholds, Verdict
from neverslower.maps import advice_file, mapping
from neverslower.mending.choice import Table, comparison_of, proved
from neverslower.mending.mended import Mended
from neverslower.mending.script import script_of
from neverslower.mending.widths import Padding, Widths
from neverslower.models import child, reading, whole
from neverslower.models.coupling import coupled_groups
from neverslower.models.words import ModelName
from neverslower.problem.compared import Compared
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import Side
from neverslower.problem.model import Model
from neverslower.report.mended import mended_lines
from neverslower.worker.process import WorkerSpec

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

CHOOSING_SHARE, VERIFYING_SHARE = 0.5, 0.75
"""The shares of the time that is left which choosing, and each round of verifying, may take."""


def add(commands: Commands) -> None:
    """Describe this command to the parser."""
    parser = commands.add_parser(
        "mend",
        help="pad a pruned model with zeros to channel counts at which it is proved faster",
        description="Measures the layers of a model at wider counts, and pads the groups of coupled channels of which "
        "every layer is proved no slower and one at least faster. Writes a Python file that builds the padded model.",
    )
    parser.add_argument("--model", metavar="FILE.py:FUNCTION", help="what builds the model; see pytest")
    parser.add_argument("--onnx", metavar="FILE", help=argparse.SUPPRESS)  # Refused with the remedy.
    parser.add_argument("--input", action="append", default=[], metavar="SHAPE", help="such as 1x3x224x224; repeatable")
    parser.add_argument("--out", type=Path, default=Path("mended"), metavar="DIR", help="for the file; default mended")
    parser.add_argument("--advised", type=Path, metavar="ADVICE.json", help="also try the counts that `advise` wrote")
    parser.add_argument("--backend", default="onednn", metavar="NAME", help="as pytest's; default onednn")
    add_running(parser)
    parser.set_defaults(run=_mend)


def _mend(options: argparse.Namespace) -> None:
    if options.onnx:
        raise NeverSlowerError(
            f"--onnx {options.onnx}: mend pads no ONNX file, because no backend runs one to check that its outputs "
            "stay the same; name the Python that it was exported from with --model FILE.py:FUNCTION --input SHAPE, and "
            "export the model that this writes"
        )
    if not options.model:
        raise NeverSlowerError("mend which model? name what builds it: --model FILE.py:FUNCTION --input SHAPE")
    spec = spec_of(options)
    (model,) = reading.models({"model": [options.model], "input": options.input})
    name = ModelName.parse(options.model)
    script = options.out / f"{re.sub(r'[^0-9a-zA-Z]', '_', model.name)}_padded.py"
    if name.path and script.resolve() == name.path:
        raise NeverSlowerError(f"--out {options.out}: {script} is the model itself; name another folder")
    try:
        writing.probe(options.out)
    except OSError as error:
        raise NeverSlowerError(f"--out {options.out}: {error.strerror}; name a folder that can be written") from None
    step_on_stderr(f"{model.title}: {counted(len(model.layers), 'convolution')}; reading which channels are coupled")
    layers = tuple(layer.with_format(*format_of(options)) for layer in model.layers)
    padding = Padding(layers, coupled_groups(model), _advised(options.advised, model))
    mending = _Mending(options, spec, model, padding)
    step_on_stderr(f"journal: {mending.journal}, and of what verifies the choice: {mending.verifying}")
    try:
        mended = mending.mended(name, script)
    except KeyboardInterrupt:
        again = f"go on with the same command and --resume {mending.journal}"
        raise NeverSlowerError(f"interrupted; nothing is written; {again}") from None
    lines = [*mended_lines(mended), *mending.device]
    print("\n".join(lines))
    if mended.script:
        report = script.with_suffix(".md")
        writing.write_whole(report, "\n".join(lines) + "\n")
        print(f"\n{script}\n{report}")


def _advised(path: Path | None, model: Model) -> dict[str, list[int]]:
    """Return the counts of a file of advice by the modules of a model, whatever name the advised model has.

    Raises AdviceError, also where the file advises on nothing that the model has.
    """
    if path is None:
        return {}
    advice = advice_file.load(path)
    modules = {layer.place for layer in model.layers}
    counts = {module: [count] for module, count in advice.widths.items()}
    for comparison in () if advice.widths else advice.comparisons:
        if comparison.side is Side.OUT:
            place = comparison.layer.name.partition("@")[0].removeprefix(f"{model.name}.")
            place = place if place in modules else place.partition(".")[2] or place
            counts.setdefault(place, []).append(comparison.candidate.out_channels)
    if found := {module: each for module, each in counts.items() if module in modules}:
        return found
    named = ", ".join(list(counts)[:3]) or "no output channels"
    raise AdviceError(
        f"--advised {path}: it advises on {named}, and {model.name} has {', '.join(sorted(modules)[:3])}, …; name the "
        "advice on the model that this one was pruned from, or leave --advised out"
    )


class _Mending(SeveralCampaigns):
    """One command from the layers to a padded model.

    The samples that led to a choice are not those that prove it: what verifies has a journal of its own. So have whole
    networks, whose passes are longer.
    """

    def __init__(self, options: argparse.Namespace, spec: WorkerSpec, model: Model, padding: Padding) -> None:
        super().__init__(options, spec, "mend", "the choice")
        self._model, self._padding, self._rounds = model, padding, 0
        self.verifying, self.networks = (self.beside(word) for word in ("verified", "whole"))

    def mended(self, name: ModelName, script: Path) -> Mended:
        """Measure, choose, verify and write. Raises NeverSlowerError, where nothing could be measured for one."""
        if self._padding.choices:  # A model that can't be padded at all is refused before anything is measured.
            self._check(name, {group: counts[-1] for group, counts in self._padding.choices.items()})
        table = self._measured()
        with closing(Journal(self.verifying)) as journal:

            def measure(comparisons: Sequence[Comparison]) -> Mapping[tuple[str, str], Verdict]:
                recorded = self.recorded(self.verifying)
                settings = self._settings(VERIFYING_SHARE)
                findings = self._run(comparisons, journal, recorded, settings, in_round(self._next_round()))
                return {identity[1:]: verdict for identity, verdict in findings.verdicts.items()}

            widths = proved(table, self.spec.backend, measure) if table.verdicts else {}
            if not widths:
                return Mended(self._model, self.spec.backend, table, widths)
            difference = self._write(name, script, widths)
            mended = Mended(self._model, self.spec.backend, table, widths, script, difference)
        return self._with_whole(mended, script)

    def _measured(self) -> Table:
        """Return the table of every layer at every count that is tried."""
        asked = [comparison_of(layer, self.spec.backend, problem) for layer, problem in self._padding.tried()]
        asked = list({comparison.identity: comparison for comparison in asked}.values())
        if not asked:
            return Table(self._padding, {}, {})
        groups = counted(len(self._padding.choices), "group")
        step_on_stderr(f"{groups} to be padded; measuring {counted(len(asked), 'padded layer')}")
        recorded = recorded_in(self.options.resume, self.spec.backend)
        with closing(Journal(self.journal)) as journal:
            findings = self._run(asked, journal, recorded, self._settings(CHOOSING_SHARE))
        if not any(result.passes for result in findings.results.values()):
            reasons = dict.fromkeys(verdict.reason.text for verdict in findings.verdicts.values())
            raise NeverSlowerError(f"no layer could be timed on {self.spec.backend}: {'; '.join(list(reasons)[:3])}")
        verdicts = {identity[1:]: verdict for identity, verdict in findings.verdicts.items()}
        return Table(self._padding, _seconds(findings), verdicts)

    def _write(self, name: ModelName, script: Path, widths: Widths) -> float:
        """Write the script, once it is known that it changes no output, and return the largest relative difference."""
        difference = self._check(name, widths)
        script.parent.mkdir(parents=True, exist_ok=True)
        writing.write_whole(script, script_of(name, script.parent, len(widths), self._padding.added(widths)))
        return difference

    def _check(self, name: ModelName, widths: Widths) -> float:
        """Return the largest relative difference of the padded model's outputs. Raises NeverSlowerError."""
        with tempfile.TemporaryDirectory(prefix="neverslower-") as folder:
            tried = Path(folder) / "padded.py"
            text = script_of(name, Path(folder), len(widths), self._padding.added(widths))
            tried.write_text(text, encoding="utf-8")
            checked = child.read(child.TORCH, self.options.model, self.options.input, f"{child.PADDED}{tried}")
        return float(checked["difference"])

    def _with_whole(self, mended: Mended, script: Path) -> Mended:
        """Return what was padded with the verdict on the whole network, or why there is none.

        Raises NeverSlowerError where that is slower; the script is not kept then.
        """
        try:
            return self._whole(mended, script)
        except KeyboardInterrupt:
            return replace(mended, no_whole="interrupted")
        except NeverSlowerError:
            script.unlink(missing_ok=True)
            raise

    def _whole(self, mended: Mended, script: Path) -> Mended:
        named = reading.PrunedName.parse(f"{script}:build", self.options.input)
        original, padded = reading.with_pruned(named, self._model, self.options.input)
        self._require_as_planned(padded, mended.widths)
        if not runs_networks(self.spec.backend):
            return replace(mended, no_whole=f"{self.spec.backend} runs no whole networks")
        if self.out_of_time():
            return replace(mended, no_whole=f"--time-budget {self.options.time_budget} had ended")
        (asked,) = whole.comparisons(self.spec.backend, original, padded, [format_of(self.options)])
        blocks = self.options.blocks or Settings().blocks  # A process takes seconds to build both: few long passes.
        settings = Settings(blocks=blocks, time_budget=self.left(), explain_budget=0.0, whole=True)
        with closing(Journal(self.networks)) as journal:
            findings = self._run([asked], journal, self.recorded(self.networks), settings)
        result = findings.wholes[asked.identity]
        if result.verdict.code is Code.SLOWER:
            raise NeverSlowerError(
                f"the whole padded network is slower, {result.verdict.ratio}, although none of its layers is by "
                f"itself; {script} is not kept"
            )
        return replace(mended, whole=result)

    def _require_as_planned(self, padded: Model, widths: Widths) -> None:
        """Raise NeverSlowerError where what was written has other layers than those that were measured."""
        built = {layer.place: layer.with_format(*format_of(self.options)).problem for layer in padded.layers}
        planned = {layer.place: self._padding.problem(layer, widths) for layer in self._padding.layers}
        if other := [place for place in planned if built.get(place) != planned[place]]:
            raise NeverSlowerError(
                f"{self._model.title}, padded, has other layers than were measured, such as {other[0]}; does its "
                "Python build another model each time?"
            )

    def _settings(self, share: float) -> Settings:
        """Return how layers are measured, in a share of the time that is left.

        By the number of layers, whatever is compared: all of one journal must have passes of one length.
        """
        return mapping.settings_of(len(self._padding.layers), self._share(share), self.options.blocks)

    def _run(
        self,
        comparisons: Sequence[Compared],
        journal: Journal,
        recorded: Recorded | None,
        settings: Settings,
        thresholds: Thresholds = STANDARD,
    ) -> Findings:
        """Run one campaign. Raises NeverSlowerError without the backend."""
        reviewer = StoredScatter(self.journal.parent, settings.blocks, recorded)
        findings = campaign_of(self.options, self.spec, settings, journal, reviewer, thresholds).run(comparisons)
        findings.require(self.spec.backend)
        self.note(findings)
        return findings

    def _share(self, share: float) -> float | None:
        """Return a share of the seconds that are left, None for as long as it takes."""
        left = self.left()
        return None if left is None else left * share

    def _next_round(self) -> int:
        self._rounds += 1
        return self._rounds


def _seconds(findings: Findings) -> dict[str, float]:
    """Return the median seconds of a call of each layer as it is, by the key of its problem."""
    samples: dict[str, list[np.ndarray]] = {}
    for (_, reference, _), result in findings.results.items():
        samples.setdefault(reference, []).extend(one.reference.ravel() for one in result.passes)
    return {key: float(np.median(np.concatenate(parts))) for key, parts in samples.items() if parts}
