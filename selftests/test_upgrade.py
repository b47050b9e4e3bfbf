"""What `upgrade` says of journals: of counts that were timed, and of those whose outputs alone can be compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from neverslower import cli

LAYER = "mb1_ic4oc16_ih6kh3ph1"
CACHE = {"kind": "hot", "share": 0.1}
OUT_OF_TIME = ("UNDECIDED", "time_budget")
WRONG = ("INVALID", "wrong_output")


def key(channels: int) -> str:
    return f"mb1_g1ic4oc{channels}_ih6oh6kh3sh1ph1-float32-NCHW"


def side(
    version: str,
    errors: Mapping[int, float],
    codes: Mapping[int, tuple[str, str]],
    instructions: Mapping[int, int] | None = None,
    **more: Any,
) -> Iterator[dict[str, Any]]:
    """The lines of one library: the error of each output that was right, and the verdict on each channel count."""
    device = {"backend": "scripted", "device": "board", "version": version, "build": "0"}
    yield {"event": "fingerprint", **device, "hardware": {}, "state": {}, "software": {}, **more}
    for channels, error in errors.items():
        counted = {"instructions": instructions[channels]} if instructions else {}
        plan = {"name": "p", "steps": [], "options": []}
        seen = {"plan": plan, "error": error, "tolerance": 1e-3, "seconds_per_call": 1e-5, "cache": CACHE} | counted
        yield {"event": "examined", "backend": "scripted", "problem": key(channels), **seen, **more}
    for channels, (code, why) in codes.items():
        named = {"id": f"scripted-{LAYER}-float32-NCHW-out{channels}", "reference": key(16), "candidate": key(channels)}
        said = {"code": code, "reason": {"code": why, "text": f"{code} it is"}, "ratio": None}
        yield {"event": "verdict", "backend": "scripted", **named, **said, **more}


OLD = ({16: 1e-7, 15: 1e-7, 13: 1e-7}, {15: OUT_OF_TIME, 13: OUT_OF_TIME, 9: WRONG})
NEW = ({16: 1e-7, 15: 3e-5}, {15: OUT_OF_TIME, 13: WRONG, 9: WRONG})


def written(path: Path, *lines: Mapping[str, Any]) -> str:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return str(path)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert cli.main(["upgrade", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


OUTPUTS = [
    "2 channel counts have no times of both libraries to compare: their outputs are compared",
    "outputs that are wrong or missing with the newer library alone: 1",
    f"  scripted-{LAYER}-float32-NCHW-out13: INVALID: INVALID it is",
    "outputs that are 10 times less exact, or more: 1",
    f"  scripted-{LAYER}-float32-NCHW-out15: output less exact: error 1.0e-07 became 3.0e-05 of the largest value",
]


def test_outputs_of_counts_that_were_not_timed_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = written(tmp_path / "run.jsonl", *side("2", *NEW), *side("1", *OLD, side="before"))
    assert said(capsys, journal) == OUTPUTS


def test_two_journals_are_compared_by_their_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = written(tmp_path / "old.jsonl", *side("1", *OLD))
    new = written(tmp_path / "new.jsonl", *side("2", *NEW))
    assert said(capsys, old, new) == ["scripted@board: 1 (0) → 2 (0)", *OUTPUTS]
    assert said(capsys, new, new)[1:] == [
        "1 channel count has no times of both libraries to compare: their outputs are compared",
        "no output is wrong or missing, none is 10 times less exact, and nothing needs much more memory",
    ]
    elsewhere = written(tmp_path / "elsewhere.jsonl", *side("2", *NEW, device="phone"))
    assert cli.main(["upgrade", old, elsewhere]) == 2
    assert "is of scripted@board, and " in capsys.readouterr().err
    assert cli.main(["upgrade", old, written(tmp_path / "empty.jsonl")]) == 2
    assert "no backend has measured anything in it" in capsys.readouterr().err
    other = written(tmp_path / "other.jsonl", *side("2", {}, {14: OUT_OF_TIME}))
    assert cli.main(["upgrade", old, other]) == 2
    assert "have no channel count in common" in capsys.readouterr().err
    gemm, direct = (
        written(tmp_path / f"{method}.jsonl", *side("1", *OLD, state={"evidence": "instructions", "method": method}))
        for method in ("gemm", "direct")
    )
    assert cli.main(["upgrade", gemm, direct]) == 2
    assert "are no two runs of one kind: state method: gemm → direct" in capsys.readouterr().err


def test_what_was_never_computed_was_not_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = side("1", {16: 1e-7}, {13: OUT_OF_TIME}, side="before")
    journal = written(tmp_path / "run.jsonl", *side("2", {16: 1e-7}, {13: WRONG}), *old)
    assert said(capsys, journal) == [
        "no output is wrong or missing, none is 10 times less exact, and nothing needs much more memory"
    ]


def test_counted_instructions_have_a_table_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes, errors = {15: ("SAME", "counted")}, {16: 1e-7, 15: 1e-7}
    new = side("2", errors, codes, {16: 1000, 15: 1100})
    old = side("1", errors, codes, {16: 1000, 15: 1000}, side="before")
    printed = said(capsys, written(tmp_path / "run.jsonl", *new, *old))
    assert printed[0] == "instructions, new against old: 1 more, 0 fewer, 0 the same (of 1 channel count)"
    assert "| layer | with more instructions | with fewer instructions | the most, new / old |" in printed[-3]
    assert printed[-1].startswith(f"| {LAYER} float32 NCHW | 1 | 0 | 15 of 16, 1.100× | – → – |")


def test_a_journal_of_one_library_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["upgrade", written(tmp_path / "run.jsonl", *side("2", *NEW))]) == 2
    assert "holds no run with --against" in capsys.readouterr().err
