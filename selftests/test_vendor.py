"""The case for a library's maintainers: everything that they need, and nothing about who measured it where."""

from __future__ import annotations

import getpass
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import backends
from backends.base import BackendOptions
from neverslower import cli
from neverslower.device.fingerprint import Fingerprint
from neverslower.judge.verdict import Code
from neverslower.outcome import record
from neverslower.outcome.record import Record
from neverslower.report import vendor_fault
from neverslower.report.vendor import certainty, scrubbed, without_paths
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
    assert without_paths(text) == clean


def test_a_script_names_no_place_of_this_machine_and_stays_one() -> None:
    home = str(Path.home())
    script = f"#!/bin/sh\nprintf '%s\\n' 1 | run -plugin {home}/.cache/never-slower/acl/count.so,out=/dev/stderr"
    clean = scrubbed(f"{script} /opt/alice/own/runner --log ~/alice/log")
    assert clean.splitlines()[0] == "#!/bin/sh"
    assert "printf '%s\\n' 1 | run -plugin FOLDER/count.so,out=/dev/stderr FOLDER --log FOLDER" in clean
    assert (
        scrubbed('print("a\\n", 1 / 2, 7 // 2)  # https://x.org/a/b')
        == 'print("a\\n", 1 / 2, 7 // 2)  # https://x.org/a/b'
    )


COUNTED = "acl-mb1_ic16oc64_ih56kh3ph1-float32-NHWC-out63"


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    """A journal in which ACL's instructions were counted by one method."""
    keys = {
        side: f"mb1_g1ic16oc{kept}_ih56oh56kh3sh1ph1-float32-NHWC"
        for side, kept in (("reference", 64), ("candidate", 63))
    }
    examined = {"error": None, "tolerance": 0.01, "seconds_per_call": 1e-3, "cache": {"kind": "hot", "share": 0.1}}
    state = {"evidence": "instructions", "target": "neon", "method": "gemm", "tuner": "off", "fast math": "on"}
    plan = {"name": "GEMM", "steps": [], "options": []}
    events = [
        {"event": "campaign", "family_error": 0.05},
        {"event": "fingerprint", **vars(Fingerprint("acl", "cortex-a76 emulated", "20.08", "1", {}, state))},
        *(
            {"event": "examined", "backend": "acl", "problem": key, "plan": plan, "instructions": 10**6, **examined}
            for key in keys.values()
        ),
        {
            "event": "verdict", "backend": "acl", "id": COUNTED, **keys, "code": "MORE",
            "reason": {"code": "counted", "text": "1,022 instructions against 1,000"},
            "ratio": {"estimate": 1.022, "low": 1.022, "high": 1.022},
        },
    ]  # fmt: skip
    path = tmp_path / "counted.jsonl"
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events), encoding="utf-8")
    return path


def test_counted_instructions_are_a_case_by_the_method_that_was_counted(
    counted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    adapter = backends.load("acl")

    def script(_: object, __: object, options: BackendOptions) -> str:
        asked.append(options.argument)
        return "/home/alice/run"

    monkeypatch.setattr(adapter, "write_script", script)
    page = written(capsys, COUNTED, "--journal", str(counted))
    assert "alice" not in page
    assert asked == ["neon,gemm,instructions,fast_math"] * 2
    assert "a convolution with fewer channels needs more instructions (63 of 64 output channels)" in page
    assert "no time was measured" in page
    assert "Counted: 1,022 instructions against 1,000." in page


def test_a_wrong_argument_is_one_line(counted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["vendor-report", COUNTED, "--journal", str(counted), "--backend", "acl:method=bogus"]
    assert cli.main(arguments) == 2
    assert "--backend acl:method=bogus: 'method=bogus' is unknown" in capsys.readouterr().err


def test_the_error_is_that_of_the_run() -> None:
    assert "at an error of 5 % over all" in certainty(Record(Path(), settings={"family_error": 0.05}), False)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            ["cudnn-resnet50.L16-float16-NHWC-out120", "--journal", str(JOURNAL)],
            "it is SAME there; slower or at fault are cudnn-",
        ),
        (["cudnn-nothing", "--journal", str(JOURNAL)], "it is not there; slower or at fault are cudnn-"),
        ([CASE, "--journal", str(JOURNAL), "--backend", "onednn"], "the case is of cudnn"),
        ([CASE, "--journal", "nowhere.jsonl"], "nowhere.jsonl: No such file"),
        ([CASE, "--output", "case.txt"], "case.txt"),
    ],
)
def test_a_mistake_gets_one_line(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["vendor-report", *arguments]) == 2
    assert why in capsys.readouterr().err


# Outputs

FAULTY = "onednn-mb1_ic16oc64_ih56kh3ph1-float32-NCHW-out63"
STEPS = [
    "reorder jit:uni src:abcd dst:aBcd16b",
    "convolution jit:avx512_core src:aBcd16b wei:ABcd16b16a dst:aBcd16b prop:forward_inference",
]
REASON = f"the worker process died: {PRIVATE[0]}: bad thing of {PRIVATE[1]} in {PRIVATE[3]}"


def of_onednn(
    version: str, errors: dict[int, float], code: str, why: str, text: str, **more: str
) -> list[dict[str, Any]]:
    """The lines of one library: errors by channels, and the verdicts on 63 channels, which these say, and on 48."""
    keys = {kept: f"mb1_g1ic16oc{kept}_ih56oh56kh3sh1ph1-float32-NCHW" for kept in (64, 63, 48)}
    plan = {"name": "jit:avx512_core", "steps": STEPS, "options": []}
    known = {"tolerance": 1e-3, "seconds_per_call": 1e-3, "cache": {"kind": "hot", "share": 0.1}, "plan": plan}
    software = {"prefix": PRIVATE[2]}
    fingerprint = Fingerprint("onednn", "cpu", version, "0", {"hostname": PRIVATE[0]}, {"user": PRIVATE[1]}, software)
    examined = {"event": "examined", "backend": "onednn"} | known
    verdict = {"event": "verdict", "backend": "onednn", "reference": keys[64], "ratio": None, **more}
    said = {63: (code, {"code": why, "text": text}), 48: ("UNDECIDED", {"code": "time_budget", "text": "late"})}
    return [
        {"event": "fingerprint", **vars(fingerprint), **more},
        *({**examined, "problem": keys[kept], "error": error, **more} for kept, error in errors.items()),
        *(
            {**verdict, "id": FAULTY.replace("63", str(kept)), "candidate": keys[kept], "code": code, "reason": reason}
            for kept, (code, reason) in said.items()
        ),
    ]


FINE = {64: 1e-7, 63: 2e-7, 48: 1e-7}
LATE = ("UNDECIDED", "time_budget", "late")
OLDER = of_onednn("1.0", FINE, *LATE, side="before")


@pytest.mark.parametrize(
    ("events", "parts"),
    [
        (
            [*of_onednn("2.0", {64: 1e-7, 48: 1e-7}, "CRASHED", "worker_died", REASON), *OLDER],
            [
                "# onednn 1.0 → 2.0: a convolution crashes (63 of 64 output channels)",
                "ends its process with 2.0:",
                "the worker process died: <name>: bad thing of <name> in <path>",
                "With 1.0 the output was right; its error was 2.0e-07.",
                "| `mb1_g1ic16oc63_ih56oh56kh3sh1ph1` | **63** | 2.0e-07 | crashes |",
                "| `mb1_g1ic16oc48_ih56oh56kh3sh1ph1` | 48 | 1.0e-07 | 1.0e-07, fine |",
            ],
        ),
        (
            [*of_onednn("2.0", {64: 1e-7, 48: 1e-7}, "INVALID", "wrong_output", "wrong output: off by 0.5")],
            [
                "# onednn 2.0: a convolution computes something wrong (63 of 64 output channels)",
                "wrong output: off by 0.5",
                "| `mb1_g1ic16oc63_ih56oh56kh3sh1ph1` | **63** | computes something wrong |",
            ],
        ),
        (
            [*of_onednn("2.0", {64: 1e-7, 63: 3e-5, 48: 1e-7}, *LATE), *OLDER],
            [
                "# onednn 1.0 → 2.0: a convolution got less exact (63 of 64 output channels)",
                "output less exact: error 2.0e-07 became 3.0e-05 of the largest value",
                "| `mb1_g1ic16oc63_ih56oh56kh3sh1ph1` | **63** | 2.0e-07 | 3.0e-05 |",
                "--dir=FWD_I --dt=f32:f32:f32 --stag=aBcd16b --wtag=ABcd16b16a --dtag=aBcd16b mb1_g1ic16oc63",
            ],
        ),
    ],
)
def test_an_output_at_fault_is_a_case_that_tells_nothing_private(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], events: list[dict[str, Any]], parts: list[str]
) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text("".join(f"{json.dumps(event)}\n" for event in events), encoding="utf-8")
    page = written(capsys, FAULTY, "--journal", str(journal))
    for part in (*parts, "torch.mkldnn_convolution(x, w, None", "off by {"):
        assert part in page
    assert "benchdnn --mode=C --conv" in page or "jit:avx512_core" not in page
    for private in (*PRIVATE, "neverslower", "never-slower", str(tmp_path)):
        assert private not in page
    assert cli.main(["vendor-report", FAULTY.replace("63", "48"), "--journal", str(journal)]) == 2
    assert f"it is UNDECIDED there; slower or at fault are {FAULTY}\n" in capsys.readouterr().err


def test_what_crashed_when_it_was_measured_again_is_said_to_crash(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    events = [*of_onednn("2.0", FINE, *LATE), *OLDER]
    journal.write_text("".join(f"{json.dumps(event)}\n" for event in events), encoding="utf-8")
    now, before = record.read(journal), record.read(journal, other=True)
    changes = {change.id: change for change in record.changes_in(now, before)}
    changes[FAULTY] = replace(changes[FAULTY], code=Code.CRASHED, reason="it died", broke=True)
    (comparison,) = (one for one in now.comparisons.values() if one.id == FAULTY)
    page = vendor_fault.report(vendor_fault.FaultCase(now, comparison, lambda *_: [], before, changes))
    assert page.startswith("# onednn 1.0 → 2.0: a convolution crashes")
    assert "```\nit died\n```" in page
    assert "| 2.0e-07 | crashes |" in page
