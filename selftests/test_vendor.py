"""The case for a library's maintainers: everything that they need, and nothing about who measured it where."""

from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path

import pytest

from neverslower import cli
from neverslower.report.vendor import _without_paths
from selftests.support import ROOT

JOURNAL = ROOT / "bench/data/journals/map-cudnn-h200-L16-L24.jsonl.xz"
CASE = "cudnn-resnet50.L16-float16-NHWC-out127"
PRIVATE = ("secret-host", "alice", "/home/alice/work", "/opt/secret dir/lib.so")


def written(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["vendor-report", *arguments]) == 0
    return capsys.readouterr().out


def test_a_case_has_what_a_maintainer_needs(capsys: pytest.CaptureFixture[str]) -> None:
    page = written(capsys, CASE, "--journal", str(JOURNAL))
    for part in (
        "# cudnn 9.19.0: a convolution with fewer channels is slower (127 of 128 output channels)",
        "**1.774× [1.326, 1.816]**",
        "- device: NVIDIA H200",
        "- driver: 580.159.04",
        "plan `eng45_k2=5_k5=4_k14=4`",
        "nhwcAddPaddingKernel",
        "Likely cause: alignment",
        "| 120 | 1.000× [0.748, 1.020], fine |",
        "| 3 | 7.11, 7.11",
        "All rounds: 7.09 µs",
    ):
        assert part in page
    script = page.rpartition('```\n"')[2].partition("\n```")[0]
    compile(f'"{script}', "script", "exec")
    assert "neverslower" not in page


def test_nobody_is_told_who_measured_it_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A journal that holds a host, a user and paths in every field that a backend fills in."""
    plan = {"name": f"tuned from {PRIVATE[2]}/db", "steps": [f"kernel from {PRIVATE[3]} grid=1"], "options": []}
    identity = {"backend": "scripted", "id": "scripted-tiny-float32-NCHW-out15"}
    keys = {
        f"{side}": f"mb1_g1ic8oc{n}_ih6oh6kh3sh1ph1-float32-NCHW" for side, n in (("reference", 16), ("candidate", 15))
    }
    reason = {"code": "proved", "text": f"proved on {PRIVATE[0]} by {PRIVATE[1]} in {PRIVATE[2]}"}
    examined = {"error": None, "tolerance": 0.01, "seconds_per_call": 1e-3, "cache": {"kind": "hot", "share": 0.1}}
    fingerprint = {
        "backend": "scripted",
        "device": "board",
        "version": "1.0",
        "build": "0",
        "hardware": {"hostname": PRIVATE[0], "cores": "4"},
        "state": {"user": PRIVATE[1], "log": f"{PRIVATE[2]}/log"},
        "software": {"prefix": PRIVATE[2], "library": f"loaded from {PRIVATE[3]}", "python": "3.12"},
    }
    ratio = {"estimate": 1.5, "low": 1.4, "high": 1.6}
    events = [
        {"event": "fingerprint", **fingerprint},
        *(
            {"event": "examined", "backend": "scripted", "problem": key, "plan": plan, **examined}
            for key in keys.values()
        ),
        {"event": "verdict", **identity, **keys, "code": "SLOWER", "reason": reason, "ratio": ratio},
        {"event": "explained", **identity, **keys, "cause": "alignment", "evidence": [f"see {PRIVATE[3]}"]},
    ]
    journal = tmp_path / "journal.jsonl"
    journal.write_text("".join(f"{json.dumps(event)}\n" for event in events), encoding="utf-8")
    output = tmp_path / "case.md"
    written(capsys, identity["id"], "--journal", str(journal), "--output", str(output))
    page = output.read_text(encoding="utf-8")
    assert "- cores: 4" in page
    assert "tuned from <path>" in page
    here = [socket.gethostname(), str(Path.home()), str(ROOT), str(tmp_path)]
    user = getpass.getuser()
    for private in (*PRIVATE, "secret", *here, *([user] if user not in ("root", "runner") else [])):
        assert private not in page


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("in /home/alice/x.py, line 3", "in <path>, line 3"),
        ("~/work", "<path>"),
        ("by ../old/bin/python", "by <path>"),
        (r"C:\Users\alice\x.dll", "<path>"),
        ("1/2 of a/b, 3 µs/call", "1/2 of a/b, 3 µs/call"),
        ("n // 2 and x / y", "n // 2 and x / y"),
        ("Kernel<a::b> grid=1x1x1", "Kernel<a::b> grid=1x1x1"),
    ],
)
def test_paths_are_cut_out_and_nothing_else(text: str, clean: str) -> None:
    assert _without_paths(text) == clean


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["cudnn-resnet50.L16-float16-NHWC-out120", "--journal", str(JOURNAL)], "it is SAME there; slower are cudnn-"),
        (["cudnn-nothing", "--journal", str(JOURNAL)], "it is not there; slower are cudnn-"),
        ([CASE, "--journal", str(JOURNAL), "--backend", "onednn"], "the case is of cudnn"),
        ([CASE, "--journal", "nowhere.jsonl"], "nowhere.jsonl: No such file"),
        ([CASE, "--output", "case.txt"], "case.txt"),
    ],
)
def test_a_mistake_gets_one_line(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["vendor-report", *arguments]) == 2
    assert why in capsys.readouterr().err
