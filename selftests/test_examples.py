"""Kept examples: what is written comes back, what is gone is dropped, and damage costs a warning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.evidence.observation import Plan
from neverslower.hunt.examples import KeptExamples
from neverslower.hunt.hunting import Counterexample, Hunted
from neverslower.judge.verdict import Code, Interval, Reason, ReasonCode, Verdict
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.problem.networks import Layer
from selftests.support import problem

DEPTHWISE = ConvProblem(in_channels=8, height=4, width=4, out_channels=8, kernel=(3, 3), groups=8)


def fingerprint(version: str = "1.2") -> Fingerprint:
    return Fingerprint("scripted", "Board (TM) 4c", version, "abc")


def example(unpruned: ConvProblem, distance: int = 1, side: Side = Side.OUT) -> Comparison:
    return Comparison("scripted", Layer("", 0, unpruned.descriptor, unpruned), unpruned.prune(distance, side), side)


ONE, OTHER, THIRD = example(problem(16)), example(problem(16), 3, Side.IN), example(DEPTHWISE, 2)


def hunted(*found: Comparison, gone: tuple[Comparison, ...] = (), ratio: float = 1.25, plan: str = "odd") -> Hunted:
    verdict = Verdict(Code.SLOWER, Reason(ReasonCode.PROVED, "told"), Interval(ratio, 1.2, 1.3))
    shown = tuple(Counterexample(one, verdict, (Plan("even"), Plan(plan))) for one in found)
    return Hunted(9, 9, {}, 0, 0, 1.0, shown, (), gone)


def records(kept: KeptExamples) -> list[dict[str, object]]:
    return [json.loads(line) for line in kept.path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def kept(tmp_path: Path) -> KeptExamples:
    return KeptExamples(tmp_path / "examples", fingerprint(), "never-slower")


def test_what_is_kept_comes_back(kept: KeptExamples) -> None:
    assert kept.load() == ([], [])
    assert kept.save(hunted(ONE, OTHER, THIRD)) == [f"kept: {one.id}" for one in (ONE, OTHER, THIRD)]
    assert kept.load() == ([ONE, OTHER, THIRD], [])
    assert kept.path.name == "scripted@board-tm-4c.never-slower.jsonl"


def test_a_line_says_what_was_found_and_where(kept: KeptExamples) -> None:
    kept.save(hunted(ONE))
    assert records(kept) == [
        {
            "reference": problem(16).key,
            "candidate": problem(15).key,
            "side": "out",
            "verdict": "SLOWER",
            "ratio": 1.25,
            "plan": "even → odd",
            "version": "1.2",
        }
    ]


def test_what_is_gone_is_dropped_and_told(kept: KeptExamples) -> None:
    kept.save(hunted(ONE, OTHER))
    assert kept.save(hunted(THIRD, gone=(ONE,))) == [f"kept: {THIRD.id}", f"gone: {ONE.id}"]
    assert kept.load() == ([OTHER, THIRD], [])


def test_what_was_never_kept_is_not_told_as_gone(kept: KeptExamples) -> None:
    assert kept.save(hunted(gone=(ONE,))) == []
    assert not kept.path.exists()


def test_an_example_that_is_found_again_is_kept_once_and_rests(kept: KeptExamples) -> None:
    kept.save(hunted(ONE))
    before = kept.path.read_text(encoding="utf-8")
    assert kept.save(hunted(ONE, ratio=1.31)) == []
    assert kept.path.read_text(encoding="utf-8") == before


def test_with_another_version_or_plan_the_line_is_written_anew(kept: KeptExamples) -> None:
    kept.save(hunted(ONE, OTHER))
    upgraded = KeptExamples(kept.folder, fingerprint("2.0"), "never-slower")
    assert upgraded.save(hunted(ONE, ratio=1.5)) == []
    assert [(one["version"], one["ratio"]) for one in records(kept)] == [("2.0", 1.5), ("1.2", 1.25)]
    upgraded.save(hunted(ONE, plan="new"))
    assert [one["plan"] for one in records(kept)] == ["even → new", "even → odd"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "7",
        "null",
        "[]",
        "{}",
        '{"reference": 1, "candidate": 2, "side": "out"}',
        json.dumps({"reference": problem(16).key, "candidate": problem(15).key, "side": "up"}),
        json.dumps({"reference": problem(16).key, "candidate": problem(16).key, "side": "out"}),
        json.dumps({"reference": problem(16).key, "candidate": problem(17).key, "side": "out"}),
        json.dumps({"reference": problem(16).key, "candidate": DEPTHWISE.key, "side": "out"}),
        json.dumps({"reference": DEPTHWISE.key, "candidate": problem(4).key, "side": "out"}),
        json.dumps({"reference": problem(16).key, "candidate": "mb1_ic", "side": "out"}),
        "[" * 100_000,
        '{"reference": "mb1_g1ic1oc2_ih1oh1kh1sh1ph0-float32-NCHW", "candi',
    ],
)
def test_a_damaged_line_costs_a_warning_and_stays_as_it_is(kept: KeptExamples, line: str) -> None:
    kept.save(hunted(ONE))
    with kept.path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    found, warnings = kept.load()
    assert found == [ONE]
    (warning,) = warnings
    assert f"{kept.path}: {line[:60]!r} is no example" in warning
    assert "\n" not in warning
    kept.save(hunted(OTHER))
    assert kept.load() == ([ONE, OTHER], [warning])
    assert line in kept.path.read_text(encoding="utf-8").splitlines()


def test_a_file_that_is_no_text_costs_warnings(kept: KeptExamples) -> None:
    kept.folder.mkdir()
    kept.path.write_bytes(b"\xff\xfe\x00\n\x80")
    found, warnings = kept.load()
    assert found == []
    assert warnings
    kept.save(hunted(ONE))
    assert b"\xff\xfe" in kept.path.read_bytes()


def test_a_file_that_cannot_be_read_is_not_taken_for_an_empty_one(kept: KeptExamples) -> None:
    kept.path.mkdir(parents=True)
    with pytest.raises(NeverSlowerError, match="can't be read: Is a directory"):
        kept.load()
    with pytest.raises(NeverSlowerError, match="can't be read"):
        kept.save(hunted(ONE))


def test_a_failure_is_kept_too(kept: KeptExamples) -> None:
    crash = Verdict(Code.CRASHED, Reason(ReasonCode.WORKER_DIED, "signal 11"))
    failed = (Counterexample(ONE, crash, (None, None)),)
    kept.save(Hunted(1, 0, {}, 0, 0, 1.0, (), failed, ()))
    assert kept.load() == ([ONE], [])
    assert records(kept)[0]["verdict"] == "CRASHED"


def test_nothing_half_written_is_left(kept: KeptExamples, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.save(hunted(ONE))
    before = kept.path.read_text(encoding="utf-8")

    def full(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(NeverSlowerError, match="No space left"):
        kept.save(hunted(OTHER))
    assert [path.name for path in kept.folder.iterdir()] == [kept.path.name]
    assert kept.path.read_text(encoding="utf-8") == before
