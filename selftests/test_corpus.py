"""The corpus of public reports: its file is sound, and a score says what a run said, on runs written down here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import corpus
from bench.corpus import Case, Expect, Result, Status
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.judge.verdict import Code
from selftests.support import ROOT

PAGE = (ROOT / "docs" / "explanation" / "corpus.md").read_text(encoding="utf-8")
CASES = corpus.load()
CASE = Case(
    "some-1", "https://example.org/1", "a library 1.0", "a CPU", "It is slow.",
    asks="Is it?", backend="onednn", problem="mb1_ic16oc64_ih8kh1", keep=63, expect=Expect.SLOWER,
)  # fmt: skip
HERE = Fingerprint("onednn", "a CPU", "3.12.0", "abc", software={"onednn isa": "AVX-512 with bfloat16 support"})


def run(code: str, **fields: Any) -> dict[str, Any]:
    """Return verdicts as a run writes them, of one case at 63 channels."""
    case = {"channels": 63, "code": code, "text": "as it is", "plan": 1, "reference_plan": 0, **fields}
    plans = [
        {"name": "jit", "steps": ["convolution jit"]},
        {"name": "gemm", "steps": ["reorder", "convolution gemm:jit"]},
    ]
    return {"verdict": "HAZARDS", "sentence": "HAZARDS: 1 slower", "cases": [case], "plans": plans}


# The file


def test_the_corpus_has_enough_reports_and_asks_most_of_them() -> None:
    assert len(CASES) >= 15
    assert sum(not case.beyond and not case.needs and not case.against for case in CASES) >= 10


def test_whatever_is_beyond_the_suite_is_in_the_list_of_limits() -> None:
    limits = PAGE.partition("## What can't be asked")[2]
    assert [case.id for case in CASES if case.beyond and f"]({case.link})" not in limits] == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ('link = "http://example.org"', "no https link"),
        ('problem = "mb1_ic16oc64_ih8kw"', "descriptor"),
        ("keep = 64", "can't be pruned"),
        ('expect = "SLOW"', "SLOW"),
        ('expect = "PLAN"', "needs `plan`"),
        ('version = "3.7 or so"', "no range of versions"),
        ('backend = "onedn"', "did you mean onednn"),
        ('beyond = "something"', "has no run"),
        ("colour = 1", "has no field colour"),
    ],
)
def test_a_case_that_is_wrong_is_refused_with_its_id(tmp_path: Path, change: str, complaint: str) -> None:
    fields = {
        "id": '"one"', "link": '"https://example.org/1"', "reported": '"a"', "device": '"a"', "says": '"a"',
        "asks": '"a"', "backend": '"onednn"', "problem": '"mb1_ic16oc64_ih8kh1"', "keep": "63", "expect": '"SLOWER"',
    }  # fmt: skip
    name, _, value = change.partition(" = ")
    lines = [f"{key} = {text}" for key, text in {**fields, name: value}.items()]
    (tmp_path / "corpus.toml").write_text("\n".join(["[[case]]", *lines]))
    with pytest.raises(NeverSlowerError, match=complaint) as caught:
        corpus.load(tmp_path / "corpus.toml")
    assert "case one" in str(caught.value)


def test_an_id_stands_once(tmp_path: Path) -> None:
    text = corpus.PATH.read_text(encoding="utf-8")
    (tmp_path / "corpus.toml").write_text(text + text[text.index("[[case]]") :])
    with pytest.raises(NeverSlowerError, match=r"pytorch-49582.* stands twice"):
        corpus.load(tmp_path / "corpus.toml")


def test_a_name_that_no_case_has_is_refused() -> None:
    assert [case.id for case in corpus.chosen(CASES, ["oneDNN-742*"])] == ["oneDNN-742", "oneDNN-742-padding-3"]
    with pytest.raises(NeverSlowerError, match="oneDNN-743: no such case; there are pytorch-49582"):
        corpus.chosen(CASES, ["oneDNN-743"])


# The score


@pytest.mark.parametrize(
    ("expect", "code", "status"),
    [
        (Expect.SLOWER, Code.SLOWER, Status.FOUND),
        (Expect.SLOWER, Code.SAME, Status.MISSED),
        (Expect.SLOWER, Code.MORE, Status.MISSED),
        (Expect.SLOWER, Code.UNDECIDED, Status.UNDECIDED),
        (Expect.SLOWER, Code.INVALID, Status.MISSED),
        (Expect.SLOWER, Code.CRASHED, Status.MISSED),
        (Expect.SLOWER, Code.UNSUPPORTED, Status.NOT_HERE),
        (Expect.MORE, Code.MORE, Status.FOUND),
        (Expect.MORE, Code.FEWER, Status.MISSED),
        (Expect.SAME, Code.FASTER, Status.FOUND),
        (Expect.SAME, Code.SLOWER, Status.MISSED),
    ],
)
def test_a_verdict_is_scored_by_what_was_expected(expect: Expect, code: Code, status: Status) -> None:
    assert corpus.score(replace(CASE, expect=expect), run(code)).status is status


def test_the_score_says_what_the_run_said() -> None:
    assert corpus.score(CASE, run("SLOWER", ratio=[1.5, 1.4, 1.6])).text == "SLOWER 1.500× [1.400, 1.600]"
    assert corpus.score(CASE, run("UNDECIDED")).text == "UNDECIDED: as it is"


@pytest.mark.parametrize(("plan", "status"), [("gemm:jit", Status.FOUND), ("brgconv", Status.MISSED)])
def test_a_plan_is_found_whatever_noise_leaves_open(plan: str, status: Status) -> None:
    case = replace(CASE, expect=Expect.PLAN, plan=plan)
    scored = corpus.score(case, run("UNDECIDED"))
    assert scored.status is status
    assert f"plan {'convolution gemm:jit' if status is Status.FOUND else 'gemm'}" in scored.text


def test_a_slower_layer_of_another_plan_is_missed() -> None:
    assert corpus.score(replace(CASE, plan="brgconv"), run("SLOWER")).status is Status.MISSED


@pytest.mark.parametrize("expect", [Expect.PLAN, Expect.SLOWER])
def test_a_plan_that_was_not_seen_is_left_open(expect: Expect) -> None:
    seen = run("SLOWER")
    del seen["cases"][0]["plan"]
    assert corpus.score(replace(CASE, expect=expect, plan="gemm"), seen).status is Status.UNDECIDED


def test_an_upgrade_is_scored_by_what_it_did_to_the_pruned_layer() -> None:
    case = replace(CASE, against="pip:torch==2.3.1")
    assert corpus.score(case, run("SAME", since={"code": "SLOWER", "text": ""})).status is Status.FOUND
    assert corpus.score(case, run("SLOWER", since={"code": "SAME", "text": ""})).status is Status.MISSED
    assert corpus.score(case, run("SLOWER")).status is Status.UNDECIDED


@pytest.mark.parametrize(
    ("verdict", "status"),
    [("GREEN", Status.FOUND), ("RED", Status.MISSED), ("CANNOT_JUDGE", Status.UNDECIDED)],
)
def test_outputs_are_scored_by_the_verdict_of_their_run(verdict: str, status: Status) -> None:
    seen = {"verdict": verdict, "sentence": "outputs: …"}
    assert corpus.score(replace(CASE, expect=Expect.RIGHT), seen).status is status


def test_a_run_without_the_case_decides_nothing() -> None:
    seen = {"verdict": "CANNOT_JUDGE", "sentence": "CANNOT JUDGE: the device is busy"}
    assert corpus.score(CASE, seen) == Result(CASE, Status.UNDECIDED, "CANNOT JUDGE: the device is busy")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"needs": "a board"}, "needs a board"),
        ({"version": ">=3.7"}, ""),
        ({"version": "==3.7.1"}, "needs onednn ==3.7.1; here is 3.12.0"),
        ({"isa": "bfloat16"}, ""),
        ({"isa": "float16"}, "needs a processor with float16"),
        ({"against": "pip:torch==2.3.1"}, "needs pip:torch==2.3.1 next to"),
        ({"backend": "cudnn"}, "cudnn is unavailable: no GPU"),
    ],
)
def test_what_a_machine_lacks_is_said(change: dict[str, Any], why: str) -> None:
    said = corpus.absence(replace(CASE, **change), {"onednn": HERE, "cudnn": "unavailable: no GPU"}, releases=False)
    assert said.startswith(why)
    assert bool(said) == bool(why)


def test_a_release_is_compared_with_where_downloads_are_allowed() -> None:
    assert corpus.absence(replace(CASE, against="pip:torch==2.3.1"), {"onednn": HERE}, releases=True) == ""


def test_the_sum_counts_each_status_and_what_passes() -> None:
    statuses = [Status.FOUND, Status.FOUND, Status.UNDECIDED, Status.NOT_HERE, Status.BEYOND]
    results = [Result(CASE, status, "") for status in statuses]
    assert corpus.summary(results) == (
        "2 found, 0 missed, 1 undecided of 3 tried; 1 can't be tried here, 1 can't be asked of the suite"
    )
    assert not corpus.passed(results)
    assert corpus.passed([result for result in results if result.status is not Status.UNDECIDED])
    assert not corpus.passed(results[3:])


def test_the_table_and_the_json_hold_every_result() -> None:
    results = [Result(CASE, Status.FOUND, "SLOWER 1.5× | more")]
    assert "| [some-1](https://example.org/1) | SLOWER | found | SLOWER 1.5× / more |" in list(corpus.table(results))
    assert '"status": "found"' in corpus.as_json(results, {"onednn": HERE})


def test_outputs_alone_are_asked_without_timing_anything(tmp_path: Path) -> None:
    assert "tests/test_numerics.py" in corpus.command(replace(CASE, expect=Expect.RIGHT), tmp_path, 40)
    timed = corpus.command(replace(CASE, against="pip:torch==2.3.1"), tmp_path, 40)
    assert not {"tests/test_numerics.py", "--unsound"} & set(timed)
    assert timed[timed.index("--against") + 1] == "pip:torch==2.3.1"


def test_an_interruption_keeps_what_was_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def ask(case: Case, _: int) -> Result:
        if asked:
            raise KeyboardInterrupt
        asked.append(case.id)
        return Result(case, Status.FOUND, "GREEN")

    cases = [case for case in corpus.load() if not case.beyond][:3]
    monkeypatch.setattr(corpus, "ask", ask)
    monkeypatch.setattr(corpus, "load", lambda: cases)
    monkeypatch.setattr(corpus, "absence", lambda *_: "")
    monkeypatch.setattr(corpus, "machine", lambda _: {})
    path = tmp_path / "score.json"
    monkeypatch.setattr("sys.argv", ["corpus", "--json", str(path)])
    with pytest.raises(SystemExit) as ended:
        corpus.main()
    assert ended.value.code == corpus.INTERRUPTED
    printed = capsys.readouterr()
    assert f"asking {asked[0]}, 1 of 3\n  found\n" in printed.err
    assert "interrupted: 1 of 3 cases were tried" in printed.err
    assert asked[0] in printed.out
    assert asked[0] in path.read_text(encoding="utf-8")
