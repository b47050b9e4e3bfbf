"""Calibration: figures from raw A/A passes, measuring them on scripts, storing them, and saying where none counts."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neverslower import cli
from neverslower.calibration import recording, stored
from neverslower.calibration.figures import (
    Calibration,
    CalibrationOptions,
    LayerFigures,
    against_itself,
    calibration_of,
    drift,
    noise,
    process_spread,
    troubles,
)
from neverslower.calibration.measuring import LEAST_PROCESSES, STRETCH, STRETCHES, TURNS, Calibrator, spread
from neverslower.calibration.recording import Recording, Scheme, Taken
from neverslower.calibration.stored import as_dict, load, noise_since, save, standing
from neverslower.campaign.findings import Findings, Result
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.state import State, Trouble, Unsound
from neverslower.errors import CalibrationError, NeverSlowerError
from neverslower.evidence.observation import PairedPass
from neverslower.files.journal import Journal
from neverslower.judge.sequential import SequentialJudge
from neverslower.judge.stats import rate_bound
from neverslower.judge.verdict import Code, Reason, ReasonCode, Verdict
from neverslower.problem.networks import Layer
from neverslower.report.calibration import lines, to_fix
from neverslower.worker.process import StartWorker
from selftests import in_process
from selftests.conftest import PROBLEM, SuiteRunner
from selftests.support import comparison, fake_passes, known, layers, problem, scripted
from selftests.test_plugin import FLAT

pytestmark = pytest.mark.usefixtures("workers_here")
DEVICE = Fingerprint("scripted", "Board 1", "1.0", "abc", {"cpu": "x"}, {"governor": "performance"}, {})
OPTIONS = CalibrationOptions("", 1, "standard", 241)
FIGURES = LayerFigures("net.L1", problem().key, 1e-3, 48, {"SAME": 8}, 0.004, 0.005, 0.02, 0.003, 0.001)
FILE = "baselines/scripted@scripted/calibration.json"


def calibration(fingerprint: Fingerprint = DEVICE, **changes: Any) -> Calibration:
    """A calibration of one quiet layer."""
    found = Calibration(fingerprint, "2026-01-02T03:04:05+00:00", OPTIONS, (FIGURES,), 12, 60.0, 0.002, 2)
    return replace(found, **changes)


def taken(passes: list[PairedPass], name: str = "net.L1", in_one_process: int = 4) -> list[Taken]:
    """Passes a second apart, some in each process."""
    return [Taken(name, number // in_one_process, float(number), one) for number, one in enumerate(passes)]


def levels(logs: list[float]) -> list[PairedPass]:
    """Passes without noise at these levels."""
    return [PairedPass(np.full((8, 2, 2), math.exp(log)), (1, 1), "fake") for log in logs]


# Figures


def test_the_bound_of_a_rate_is_exact():
    assert rate_bound(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100))
    bound = rate_bound(2, 10)
    assert sum(math.comb(10, k) * bound**k * (1 - bound) ** (10 - k) for k in range(3)) == pytest.approx(0.05)
    assert rate_bound(0, 0) == rate_bound(3, 3) == 1.0


def test_no_pass_serves_two_comparisons():
    seen = []

    class Three(SequentialJudge):
        def enough(self, passes, comparisons):
            return len(passes) == 3

        def __call__(self, passes, comparisons):
            seen.append(list(passes))
            return Verdict(Code.SAME, Reason(ReasonCode.PROVED, ""))

    passes = fake_passes(number=8)
    assert len(against_itself(passes, Three(), 1)) == 2
    assert seen == [passes[:3], passes[3:6]]


@pytest.mark.parametrize(("ratio", "code"), [(1.0, Code.SAME), (1.2, Code.SLOWER)])
def test_each_comparison_is_stopped_and_judged_as_in_a_campaign(ratio, code):
    passes = fake_passes(ratio=ratio, noise=0.005, number=40)
    found = against_itself(passes, judge := SequentialJudge(), 241)
    assert len(found) >= 4
    assert {one.code for one in found} == {code}
    fewest = next(end for end in range(1, 41) if judge.enough(passes[:end], 241))
    assert found[0] == judge(passes[:fewest], 241)


def test_noise_is_that_of_a_block_however_many_there_are():
    few, many = (noise(fake_passes(noise=0.02, number=number, blocks=32)) for number in (10, 40))
    assert few == pytest.approx(0.02, rel=0.15)  # Two rounds a side: σ/√2 each, and σ for their difference.
    assert many == pytest.approx(0.02, rel=0.05)


def test_drift_is_what_a_layer_moved_by_whatever_one_pass_does():
    steady = [0.001 * number for number in range(21)]
    assert drift(taken(levels(steady))) == pytest.approx(math.expm1(0.02))
    assert drift(taken(levels([*steady[:10], 1.0, *steady[11:]]))) == pytest.approx(math.expm1(0.02), rel=0.05)
    assert drift(taken(levels([0.0]))) == 0.0


def test_processes_are_compared_where_every_layer_was_timed():
    one = taken(levels([0.0] * 4 + [0.1] * 4 + [9.0] * 4), "one")
    other = taken(levels([1.0] * 4 + [1.1] * 4), "other")
    found = process_spread({"one": one, "other": other})
    assert found.common.value == pytest.approx(0.1**2 / 2)
    assert found.common.freedom == 1


def test_what_looks_found_is_told_once_with_how_often():
    busy = Unsound(Trouble.BUSY, "busy with cc", "wait")
    looks = [
        State({"governor": "performance"}),
        State({"governor": "performance"}, unsound=(busy,)),
        State({"governor": "powersave"}, unsound=(replace(busy, text="busy with ld"),)),
    ]
    assert troubles(looks) == [
        "busy with ld; fix: wait (in 2 of 3 looks)",
        "state governor: performance → powersave, while it was calibrated; fix: keep that setting fixed",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unsound": ("hot; fix: cool it",)}, "hot"),
        ({"block_length": 4}, "up to 4 in a row"),
        ({"layers": (replace(FIGURES, drift=-0.1),)}, "moved by -10.0 %"),
        ({"layers": (replace(FIGURES, mde=0.2),)}, "3.0 % is seldom proved within 192 blocks"),
        ({"layers": (replace(FIGURES, mde=None),)}, "seldom proved"),
        ({"layers": (replace(FIGURES, verdicts={"SAME": 7, "SLOWER": 1}),)}, "1 of 8 layers came out slower"),
        ({"layers": (replace(FIGURES, verdicts={}),)}, "no comparison"),
    ],
)
def test_what_keeps_a_device_from_telling_is_named_with_what_mends_it(change, words):
    assert to_fix(calibration()) == []
    (told,) = to_fix(calibration(**change))
    assert words in told
    assert "fix: " in told


def recorded(*passes: Taken, **fields: Any) -> Recording:
    scheme = Scheme("scripted", "", 1, 8, {one.name: problem().key for one in passes})
    return Recording(Path("journal"), scheme, DEVICE, list(passes), **fields)


def test_figures_follow_from_the_raw_passes():
    quiet, loud = (fake_passes(noise=noise, number=24) for noise in (0.002, 0.02))
    found = calibration_of(recorded(*taken(loud, "loud"), *taken(quiet, "quiet")), OPTIONS)
    by_name = {one.name: one for one in found.layers}
    assert known(by_name["loud"].noise) > 5 * known(by_name["quiet"].noise)
    assert known(by_name["loud"].noise_floor) > 5 * known(by_name["quiet"].noise_floor)
    assert known(by_name["loud"].mde) > known(by_name["quiet"].mde) > 0.01
    assert (found.slower, found.processes, found.seconds) == (0, 6, 23.0)
    assert found.comparisons == sum(found.verdicts.values()) > 0
    assert found.slower_bound == rate_bound(0, found.comparisons)
    assert found.block_length is None
    assert "\n".join(lines(found)).count("loud") == 1


def test_a_floor_is_that_of_the_whole_budget_however_little_was_measured():
    many = fake_passes(noise=0.02, number=24, blocks=8)
    short, whole = (calibration_of(recorded(*taken(many[:count])), OPTIONS).noise_floor for count in (8, 24))
    assert short == pytest.approx(whole, rel=0.3)


def test_what_a_budget_can_prove_is_typical_of_all_budgets():
    loud, quiet, more = (
        fake_passes(noise=noise, number=24, seed=seed) for seed, noise in enumerate((0.1, 0.005, 0.005))
    )
    found = calibration_of(recorded(*taken([*loud, *quiet, *more, *loud[:20]])), OPTIONS)
    alone = calibration_of(recorded(*taken(quiet)), OPTIONS)
    assert found.mde == pytest.approx(alone.mde, rel=0.2)
    assert found.noise_floor == pytest.approx(alone.noise_floor, rel=0.2)


def test_the_block_length_is_that_of_stretches():
    rng = np.random.default_rng(1)
    stretches = []
    for _ in range(8):
        steps = rng.normal(0, 0.01, STRETCH)
        walk = np.array(list(itertools.accumulate(steps, lambda last, step: 0.8 * last + step)))
        seconds = np.ones((STRETCH, 2, 2))
        seconds[:, 1] *= np.exp(walk)[:, None]
        stretches.append(Taken("net.L1", 0, 0.0, PairedPass(seconds, (1, 1), "fake")))
    passes = taken(fake_passes())
    found = calibration_of(recorded(*passes, stretches=stretches), OPTIONS).block_length
    assert found is not None
    assert found > 2


def test_what_failed_is_left_out_and_all_that_failed_is_told():
    fine, broken = taken(fake_passes(), "fine"), taken(fake_passes(), "broken")
    found = calibration_of(recorded(*fine, *broken, failures={"broken": "it crashed"}), OPTIONS)
    assert [one.name for one in found.layers] == ["fine"]
    with pytest.raises(CalibrationError, match="no layer could be calibrated: broken: it crashed"):
        calibration_of(recorded(*broken, failures={"broken": "it crashed"}), OPTIONS)


# Stored


def test_what_is_stored_is_read_again(tmp_path):
    noisy = replace(FIGURES, name="net.L2", noise_floor=None, mde=None, verdicts={"UNDECIDED": 1, "SLOWER": 1})
    found = calibration(layers=(FIGURES, noisy), unsound=("hot; fix: cool it",))
    path = save(tmp_path, found)
    assert path == tmp_path / "scripted@board-1" / "calibration.json"
    assert load(path) == found
    assert json.loads(path.read_text())["overall"]["slower_bound"] == pytest.approx(rate_bound(1, 10))


def changed(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update(fields)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (changed(schema=99), "schema 99 is newer than 1; update never-slower"),
        (lambda content: content.pop("schema"), "schema is missing"),
        (changed(date="yesterday"), "yesterday"),
        (changed(layers=[]), "it has no layers"),
        (changed(layers=[1]), "layers is 1"),
        (changed(seconds=-1), "seconds is -1"),
        (changed(common_deviation="much"), "common_deviation is 'much'"),
        (changed(block_length=True), "block_length is True"),
        (changed(fingerprint={}), "backend is missing"),
        (lambda content: content["options"].update(preset="hasty"), "preset is 'hasty'"),
        (lambda content: content["layers"][0].update(noise=None), "noise is None"),
        (lambda content: content["layers"][0].pop("mde"), "mde is None"),
        (lambda content: content["layers"][0].update(verdicts={"GOOD": 1}), "GOOD"),
    ],
)
def test_a_damaged_calibration_is_named_with_what_is_wrong(tmp_path, damage, words):
    content = as_dict(calibration())
    damage(content)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(content))
    with pytest.raises(CalibrationError) as told:
        load(path)
    assert str(told.value).startswith(f"calibration {path}: ")
    assert words in str(told.value)
    assert "calibrate again" in str(told.value) or "update never-slower" in str(told.value)


@pytest.mark.parametrize("length", [0, 1, 100, -3])
def test_a_truncated_calibration_is_named(tmp_path, length):
    path = save(tmp_path, calibration())
    path.write_text(path.read_text()[:length])
    with pytest.raises(CalibrationError, match=r"calibration .*calibration\.json: not whole JSON .*; calibrate again"):
        load(path)


def test_the_stored_calibration_counts_on_its_device_in_its_state_only(tmp_path):
    assert standing(tmp_path, DEVICE) == stored.Standing()
    found = calibration()
    path = save(tmp_path, found)
    assert standing(tmp_path, DEVICE).calibration == found
    assert standing(tmp_path, replace(DEVICE, version="2.0", software={"torch": "9"})).calibration == found
    other = standing(tmp_path, replace(DEVICE, state={"governor": "powersave"}))
    assert other.calibration is None
    assert other.why == "calibrated in another state: state governor: performance → powersave"
    path.write_text("{")
    assert "not whole JSON" in standing(tmp_path, DEVICE).why


def findings(noise: float, distance: int = 0) -> Findings:
    verdict = Verdict(Code.SAME, Reason(ReasonCode.PROVED, ""))
    one = Result(comparison(distance), verdict, tuple(fake_passes(noise=noise, number=20)))
    return Findings(results={one.comparison.identity: one})


@pytest.mark.parametrize(("times", "differs"), [(1.0, False), (1.6, False), (3.0, True), (0.3, True)])
def test_noise_differs_beyond_a_factor_either_way(times, differs):
    since = noise_since(calibration(), findings(FIGURES.noise * times))
    assert since is not None
    assert since.differs is differs
    assert (since.then, since.layers) == (FIGURES.noise, 1)
    assert since.now == pytest.approx(FIGURES.noise * times, rel=0.2)


def test_noise_is_that_of_the_same_layers_against_themselves():
    assert noise_since(calibration(layers=(replace(FIGURES, problem="other"),)), findings(0.1)) is None
    assert noise_since(calibration(), findings(0.1, distance=1)) is None
    assert noise_since(calibration(), Findings()) is None


# Measuring


def test_layers_are_spread_over_their_durations():
    seconds = {"a": 1.0, "b": 1.1, "c": 9.0, "d": 100.0, "e": 11.0, "f": 1.2}
    assert spread(seconds, 3) == ["a", "e", "d"]
    assert spread(seconds, 1) == ["a"]
    assert set(spread(seconds, 6)) == set(spread(seconds, 99)) == set(seconds)


def small(count: int) -> list[Layer]:
    return [Layer("", number, f"L{number}", one) for number, one in enumerate(layers(count))]


class Steps:
    """A clock that goes on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self._steps = itertools.count()

    def __call__(self) -> float:
        return float(next(self._steps))


def measured(
    folder: Path,
    count: int = 3,
    budget: float = 0.0,
    resume: bool = False,
    refuse: bool = True,
    start: StartWorker = in_process.start,
    **script: Any,
) -> Recording:
    """The recording of a calibration on a script, in the folder's journal."""
    path = folder / "journal.jsonl"
    before = recording.load(path) if resume else None
    journal = Journal(path)
    try:
        spec = scripted(folder, **{"noise": 0.005} | script)
        Calibrator(spec, journal, 8, budget, refuse, before, clock=Steps(), start=start).run(small(count), 2)
    finally:
        journal.close()
    return recording.load(path)


def test_every_layer_is_measured_in_fresh_processes_as_long_as_time_lasts(tmp_path):
    found = measured(tmp_path)
    assert found.processes == LEAST_PROCESSES
    assert found.scheme is not None
    assert len(found.scheme.layers) == 2
    for name in found.scheme.layers:
        assert {one.process for one in found.of(name)} == {0, 1}
        assert all(one.paired.seconds.shape == (8, 2, 2) for one in found.of(name))
        assert [len(one.paired.seconds) for one in found.stretches if one.name == name] == [STRETCH] * STRETCHES


def test_a_longer_time_brings_more_processes(tmp_path):
    found = measured(tmp_path, budget=200.0)
    assert found.processes > LEAST_PROCESSES
    assert TURNS * (found.processes - 1) < len(found.of("L0")) <= TURNS * found.processes


def test_every_pass_is_a_fresh_preparation_and_either_is_first_by_turns(tmp_path):
    asked = []

    class Spy(in_process.InProcess):
        def measure(self, reference, candidate, blocks, candidate_first=False, afresh=False):
            if blocks == 8:
                asked.append((reference == candidate, afresh, candidate_first))
            return super().measure(reference, candidate, blocks, candidate_first, afresh)

    passes = len(measured(tmp_path, count=1, budget=200.0, start=Spy).passes)
    assert asked == [(True, True, bool(number % 2)) for number in range(passes)]


def test_what_is_prepared_afresh_is_another_preparation(tmp_path):
    """A script's noise begins anew with each preparation, and goes on within one."""
    key = problem().key
    found = []
    for afresh in (False, True):
        with in_process.start(scripted(tmp_path, noise=0.01)) as worker:
            worker.measure(key, key, 2)
            found.append(worker.measure(key, key, 2, afresh=afresh).seconds)
    usual, afresh_too = found
    assert not np.array_equal(usual, afresh_too)


def test_a_calibration_goes_on_where_it_ended(tmp_path):
    before = measured(tmp_path)
    after = measured(tmp_path, count=1, resume=True)  # Its layers are those of the journal, whatever is selected.
    assert after.scheme == before.scheme
    assert after.processes == before.processes + 1
    assert len(after.passes) > len(before.passes)
    assert [one.at for one in after.passes[: len(before.passes)]] == [one.at for one in before.passes]


def test_a_calibration_goes_on_on_the_same_device_only(tmp_path):
    measured(tmp_path)
    with pytest.raises(NeverSlowerError, match=r"--resume .*: it was measured elsewhere: state governor: absent → x"):
        measured(tmp_path, resume=True, state={"governor": "x"})


def test_a_part_of_a_line_is_left_out_and_a_wrong_line_named(tmp_path):
    passes = len(measured(tmp_path).passes)
    path = tmp_path / "journal.jsonl"
    text = path.read_text()
    path.write_text(text + '{"event":"pass","layer"')
    assert len(recording.load(path).passes) == passes
    path.write_text('{"event":"pass"}\n' + text)
    with pytest.raises(NeverSlowerError, match=r"line 1 is not an event of a journal \('at'\)"):
        recording.load(path)


def test_a_layer_that_crashes_is_left_out(tmp_path):
    rules = [{"when": "height == 6", "fault": "crash", "processes": [1]}]
    found = measured(tmp_path, count=2, rules=rules)
    assert list(found.failures) == ["L0"]
    assert found.failures["L0"] == "the worker process died"
    assert {one.process for one in found.of("L1")} >= {0}
    assert [one.name for one in calibration_of(found, OPTIONS).layers] == ["L1"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ({"rules": [{"fault": "unsupported"}]}, "no layer can be calibrated: L0: scripted refusal of 16 channels"),
        ({"rules": [{"fault": "wrong"}]}, "no layer can be calibrated: L0: its output is off by"),
        ({"evidence": "instructions"}, "instructions here, which are exact: there is no noise to calibrate"),
        ({"unavailable": "no board"}, "no board"),
        ({"states": [{"unsound": [{"trouble": "hot", "text": "hot", "remedy": "cool it"}]}]}, "fix: cool it"),
    ],
)
def test_what_can_t_be_calibrated_is_told(tmp_path, script, words):
    with pytest.raises(NeverSlowerError) as told:
        measured(tmp_path, **script)
    assert words in str(told.value)


def test_an_unsound_device_is_measured_if_it_is_asked_for_and_told(tmp_path):
    states = [{"unsound": [{"trouble": "hot", "text": "hot", "remedy": "cool it"}]}]
    found = calibration_of(measured(tmp_path, refuse=False, states=states), OPTIONS)
    assert found.unsound == ("hot; fix: cool it (in 3 of 3 looks)",)


def test_what_processes_do_is_seen(tmp_path):
    for name in ("steady", "moving"):
        (tmp_path / name).mkdir()
    steady, moving = (
        calibration_of(measured(tmp_path / name, count=1, budget=100.0, noise=0.001, process_effect=effect), OPTIONS)
        for name, effect in (("steady", 0.0), ("moving", 0.1))
    )
    assert steady.common_deviation < 0.002  # Of a layer alone, all that differs is common.
    assert moving.common_deviation > 0.02
    assert steady.slower == moving.slower == 0


# The command


def calibrate(folder: Path, *arguments: str, **script: Any) -> int:
    """Run the command on a script for a moment; the layer is named, so that nothing larger is measured."""
    spec = scripted(folder, **{"noise": 0.005} | script)
    where = ["--baselines", str(folder / "baselines"), "--journal", str(folder / "raw.jsonl")]
    if "--resume" in arguments:
        where = where[:2]
    named = [] if "--resume" in arguments else ["--layer", "alexnet.L4"]
    return cli.main(["calibrate", f"scripted:{spec.argument}", *named, "--time-budget", "1s", *where, *arguments])


@pytest.mark.processes
def test_the_command_stores_a_calibration_and_tells_it(tmp_path, capsys):
    assert calibrate(tmp_path) == 0
    said = capsys.readouterr()
    assert f"journal: {tmp_path}/raw.jsonl" in said.err
    assert "A/A passes" in said.err
    assert said.out.splitlines()[-1] == str(tmp_path / FILE)
    assert "judged as in a run of 241 comparisons, preset standard" in said.out
    assert "false SLOWER: 0 of " in said.out
    found = load(tmp_path / FILE)
    assert [one.name for one in found.layers] == ["alexnet.L4"]
    assert found.options.argument == str(tmp_path / "script.json")


def test_the_command_goes_on_and_replaces_the_calibration(tmp_path, capsys):
    assert calibrate(tmp_path) == 0
    before = load(tmp_path / FILE)
    assert calibrate(tmp_path, "--resume", str(tmp_path / "raw.jsonl"), "--preset", "quick") == 0
    after = load(tmp_path / FILE)
    assert after.processes > before.processes
    assert after.options.preset == "quick"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--time-budget", "soon"], "--time-budget: 'soon' is not a duration such as 90s, 5m or 1h30m"),
        (["--layer", "resnet50.L99"], "no layer matches 'resnet50.L99'"),
        (["--threads", "0"], "--threads 0: from 1 to 1000"),
        (["--resume", "absent.jsonl"], "--resume absent.jsonl: No such file or directory"),
        (["--resume", "EMPTY"], "it holds no calibration; leave out --resume to start one"),
        (["--resume", "EMPTY", "--layer", "alexnet.L4"], "leave out --layer and --journal"),
        (["--baselines", "/dev/null/x"], "no calibration can be stored in /dev/null/x: Not a directory; name another"),
        (["--journal", "/dev/null/x"], "can't be written: "),
        (["--worker", "nonsense"], "a place is an execnet spec"),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("EMPTY").write_text("")
    assert calibrate(tmp_path, *arguments) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("journal: ")]
    assert len(told) == 1
    assert told[0].startswith("never-slower: ")
    assert words in told[0]


def test_a_journal_of_other_options_is_refused(tmp_path, capsys):
    assert calibrate(tmp_path) == 0
    assert calibrate(tmp_path, "--resume", str(tmp_path / "raw.jsonl"), "--threads", "2") == 2
    assert "it was measured with threads 1, not 2; give the same options" in capsys.readouterr().err


def test_an_interruption_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Calibrator, "run", interrupted)
    assert calibrate(tmp_path) == 2
    assert f"go on with the same command and --resume {tmp_path}/raw.jsonl" in capsys.readouterr().err


# What a run says of it


def of_a_run(runner: SuiteRunner, **changes: Any) -> list[str]:
    """What the summary of a run on `FLAT` says of calibration, but for what to do next."""
    result = runner.run(FLAT | changes)
    return [line for line in result.stdout.lines if line.startswith("scripted: ") and "calibrate" in line]


def store(runner: SuiteRunner, noise: float) -> Path:
    """A calibration of the runner's problem on the scripted device."""
    from neverslower.problem.convolution import parse_descriptor

    device = Fingerprint("scripted", "scripted", "1.0", "0", {}, {}, {"scripted": "1.0"})
    layer = replace(FIGURES, problem=parse_descriptor(PROBLEM).key, noise=noise)
    return save(runner.path / "baselines", calibration(device, layers=(layer,)))


def test_a_run_says_that_its_device_was_never_calibrated(runner: SuiteRunner):
    command = f"python -m neverslower calibrate scripted:{runner.path}/script.json"
    result = runner.run(FLAT)
    result.stdout.fnmatch_lines(
        ["next:", "  learn how small a slowdown shows here (scripted is not calibrated yet):", f"    {command}"]
    )


def test_a_run_says_once_that_its_device_was_never_calibrated_and_again_when_asked(runner: SuiteRunner):
    arguments = ["--backend", runner.script(**FLAT), "--problem", PROBLEM]
    said = [
        "not calibrated" in runner.pytester.runpytest_inprocess(*arguments, *verbose).stdout.str()
        for verbose in ((), (), ("-v",))
    ]
    assert said == [True, False, True]


def test_a_run_says_that_its_noise_now_differs(runner: SuiteRunner):
    store(runner, noise=0.002)
    assert of_a_run(runner, noise=0.002) == []
    (told,) = of_a_run(runner, noise=0.02)
    assert told.startswith("scripted: its noise differs: a block scatters by ")
    assert " now, by 0.2 % when it was calibrated (2026-01-02T03:04:05+00:00)" in told
    assert told.endswith(f"calibrate again: python -m neverslower calibrate scripted:{runner.path}/script.json")


def test_a_run_says_that_its_device_was_calibrated_in_another_state(runner: SuiteRunner):
    store(runner, noise=0.002)
    (told,) = of_a_run(runner, state={"governor": "powersave"})
    assert "not calibrated (calibrated in another state: state governor: absent → powersave)" in told


def test_a_damaged_calibration_costs_a_run_one_line(runner: SuiteRunner):
    store(runner, noise=0.002).write_text('{"schema": 1}')
    (told,) = of_a_run(runner)
    assert "calibration.json: not a calibration (" in told


def test_what_is_exact_has_no_noise(runner: SuiteRunner):
    assert of_a_run(runner, evidence="instructions") == []
