"""Going on with an interrupted run: what its journal holds is not measured again, and the verdicts are the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings
from neverslower.campaign.resume import load
from neverslower.campaign.settings import Settings
from neverslower.errors import NeverSlowerError
from neverslower.files.journal import Journal
from neverslower.judge.verdict import Code
from neverslower.worker.process import StartWorker, WorkerSpec
from selftests import in_process
from selftests.support import comparison, known, scripted

SETTINGS = Settings(passes=2, blocks=10)
PAIR = [comparison(1), comparison(3)]
RULES: list[dict[str, Any]] = [{"seconds": 1e-5}, {"when": "out_channels == 15", "times": 2.0}]


def run(
    spec: WorkerSpec,
    journal: Path,
    resume: bool = False,
    settings: Settings = SETTINGS,
    start: StartWorker = in_process.start,
) -> Findings:
    recorded = load(journal) if resume else None
    opened = Journal(journal)
    try:
        return Campaign({"scripted": spec}, settings, opened, recorded=recorded, start=start).run(PAIR)
    finally:
        opened.close()


def noting(found: list[str]) -> StartWorker:
    """Starts workers that note what they are asked to measure."""

    class Noted(in_process.InProcess):
        def measure(self, reference: str, candidate: str, blocks: int, candidate_first=False, afresh=False):
            if not afresh:  # What is measured to explain it is another question.
                found.append(f"{candidate} {blocks}")
            return super().measure(reference, candidate, blocks, candidate_first, afresh)

        def sweep(self, reference: str, candidates: Sequence[str], sweeps: int, seed: str, expected=()):
            found.extend(f"{candidate} {sweeps}" for candidate in candidates)
            return super().sweep(reference, candidates, sweeps, seed, expected)

    return Noted


def cut(journal: Path, event: str, keep: int) -> None:
    """Leave a journal as if the run had been killed after so many events of a kind, in the middle of a line."""
    kept, seen = [], 0
    for line in journal.read_text(encoding="utf-8").splitlines():
        seen += json.loads(line)["event"] == event
        kept.append(line)
        if seen == keep:
            break
    journal.write_text("\n".join(kept) + '\n{"event":"measured","ti', encoding="utf-8")


@pytest.mark.parametrize(
    ("event", "keep", "left"),
    [("examined", 1, 7), ("measured", 1, 6), ("measured", 3, 4), ("measured", 6, 1), ("measured", 7, 0)],
)
def test_only_what_is_missing_is_measured(tmp_path, event, keep, left):
    spec, journal = scripted(tmp_path, noise=0.01, rules=RULES), tmp_path / "journal"
    whole = run(spec, journal)
    cut(journal, event, keep)
    asked: list[str] = []
    resumed = run(spec, journal, resume=True, start=noting(asked))
    assert len(asked) == left
    for one in PAIR:
        assert resumed.results[one.identity].verdict.code is whole.results[one.identity].verdict.code
        passes = [len(findings.results[one.identity].passes) for findings in (resumed, whole)]
        assert passes == [4 if one is PAIR[0] else 3] * 2  # The fourth confirms.


def renumbered(journal: Path, moved: dict[int, int | None]) -> None:
    """Give recorded passes other numbers, as of comparisons that were begun late; None drops them."""
    lines = []
    for line in map(json.loads, journal.read_text(encoding="utf-8").splitlines()):
        if line["event"] == "measured":
            line["pass"] = moved.get(line["pass"], line["pass"])
        if line.get("pass", 0) is not None and line["event"] != "verdict":
            lines.append(json.dumps(line))
    journal.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("moved", "left"), [({0: 2, 1: 3, 2: 4, 3: 5}, 0), ({0: None}, 2)], ids=["begun late", "first dropped"]
)
def test_what_was_begun_late_is_gone_on_with_in_its_order(tmp_path, moved, left):
    """Each recorded pass counts, none twice, and what is measured now comes after them: it may confirm them."""
    spec, journal = scripted(tmp_path, noise=0.01, rules=RULES), tmp_path / "journal"
    run(spec, journal)
    renumbered(journal, moved)
    before = {identity: len(passes) for identity, passes in load(journal).in_order.items()}
    asked: list[str] = []
    resumed = run(spec, journal, resume=True, start=noting(asked))
    assert len(asked) == left
    again = load(journal).in_order
    for one in PAIR:
        starts = [known(one.started) for one in resumed.results[one.identity].passes]
        assert starts == sorted(starts)
        assert len(again[one.identity]) == before[one.identity] + left // 2 == len(starts)


def test_samples_come_back_as_they_were(tmp_path):
    spec, journal = scripted(tmp_path, noise=0.01, rules=RULES), tmp_path / "journal"
    whole = run(spec, journal)
    recorded = load(journal)
    for one in PAIR:
        for number, found in enumerate(whole.results[one.identity].passes):
            again = recorded.passes[one.identity, number]
            assert (again.seconds == found.seconds).all()
            assert (again.iterations, again.clock, again.cache) == (found.iterations, found.clock, found.cache)


def test_what_an_older_run_confirmed_at_the_end_is_one_more_pass(tmp_path):
    spec, journal = scripted(tmp_path, noise=0.01, rules=RULES), tmp_path / "journal"
    whole = run(spec, journal)
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if line["event"] == "measured" and line["pass"] == 3:
            line |= {"event": "confirmed", "pass": 9}  # That was the number of its process.
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert {number for _, number in load(journal).passes} == {0, 1, 2, 3}
    asked: list[str] = []
    resumed = run(spec, journal, resume=True, start=noting(asked))
    assert asked == []
    for one in PAIR:
        assert resumed.results[one.identity].verdict == whole.results[one.identity].verdict


def test_outputs_that_were_compared_are_not_compared_again(tmp_path):
    agreed: list[str] = []

    class Noted(in_process.InProcess):
        def agree(self, unpruned: str, pruned: str) -> tuple[float, float]:
            agreed.append(pruned)
            return super().agree(unpruned, pruned)

    rules = [*RULES, {"when": "out_channels == 13", "fault": "wrong"}]
    found = []
    for resumes in (False, True):
        path = tmp_path / "journal"
        recorded, opened = load(path) if resumes else None, Journal(path)
        spec = scripted(tmp_path, rules=rules)
        campaign = Campaign({"scripted": spec}, SETTINGS, opened, recorded=recorded, start=Noted)
        found.append(campaign.run([], PAIR).agreements)
        opened.close()
    assert len(agreed) == 2
    assert found[0] == found[1]
    assert [one.verdict.code for one in found[1].values()] == [Code.SAME, Code.INVALID]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (Settings(preset="quick", passes=2, blocks=10), "--preset standard, this run has quick"),
        (Settings(passes=2, blocks=11), "--blocks 10, this run has 11"),
        (Settings(passes=2, blocks=10, seed=5), "--seed 0, this run has 5"),
    ],
)
def test_another_way_of_measuring_is_refused(tmp_path, settings, why):
    spec, journal = scripted(tmp_path, rules=RULES), tmp_path / "journal"
    run(spec, journal)
    with pytest.raises(NeverSlowerError, match=why):
        run(spec, journal, resume=True, settings=settings)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"state": {"governor": "powersave"}}, "state governor: absent → powersave"),
        ({"device": "another"}, "device name: scripted → another"),
        ({"version": "2.0"}, "software scripted: 1.0 → 2.0"),
    ],
)
def test_another_device_or_library_is_refused_with_the_field(tmp_path, change, why):
    spec, journal = scripted(tmp_path, rules=RULES), tmp_path / "journal"
    run(spec, journal)
    before = journal.read_text(encoding="utf-8")
    with pytest.raises(NeverSlowerError, match=why):
        run(scripted(tmp_path, rules=RULES, **change), journal, resume=True)
    assert journal.read_text(encoding="utf-8").startswith(before)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no run of never-slower"),
        ("nonsense\n", "holds no run of never-slower"),
        ("{}\n{}\n", "line 1 is not an event of a journal"),
        ('{"event": "measured"}\n{"event": "end"}\n', "line 1 is not an event of a journal"),
        ('{"event": "end"}\n{"a": 1}\n{"event": "end"}\n', "line 2 is not an event of a journal"),
    ],
)
def test_what_is_no_journal_is_refused(tmp_path, text, why):
    path = tmp_path / "journal"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(NeverSlowerError, match=why):
        load(path)


def test_a_run_that_was_killed_twice_goes_on_twice(tmp_path):
    spec, journal = scripted(tmp_path, noise=0.01, rules=RULES), tmp_path / "journal"
    run(spec, journal)
    cut(journal, "measured", 1)
    run(spec, journal, resume=True)
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"event":"measured","seconds":[[[1.0,')
    assert len(run(spec, journal, resume=True).results) == 2


def test_of_two_runs_in_one_journal_that_measured_in_another_way_the_last_counts(tmp_path):
    spec, journal = scripted(tmp_path, noise=0.01, rules=RULES), tmp_path / "journal"
    run(spec, journal)
    run(spec, journal, settings=Settings(blocks=20))
    assert {len(found.seconds) for found in load(journal).passes.values()} == {20}


def test_a_journal_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NeverSlowerError, match=r"--resume .*nowhere: No such file"):
        load(tmp_path / "nowhere")


@pytest.mark.processes
def test_the_option_goes_on_with_a_run(runner):
    script = {"rules": [{"when": "out_channels % 8 != 0", "times": 2.0}]}
    journal = runner.path / "run.jsonl"
    first = runner.run(script, "--journal", str(journal), "--passes", "2", "--blocks", "12")
    counts = journal.read_text(encoding="utf-8").count('"measured"')
    again = runner.run(script, "--resume", str(journal), "--passes", "2", "--blocks", "12")
    assert again.parseoutcomes() == first.parseoutcomes()
    assert journal.read_text(encoding="utf-8").count('"measured"') == counts
    other = runner.run(script, "--resume", str(journal), "--preset", "quick", "--blocks", "12")
    other.stderr.fnmatch_lines(["ERROR: --resume *it was measured with --preset standard, this run has quick*"])


def test_what_a_throttled_device_spoiled_before_the_interruption_stays_spoiled(tmp_path):
    spec, journal = scripted(tmp_path, noise=0.01, rules=RULES, throttled=0.5), tmp_path / "journal"
    whole = run(spec, journal)
    assert {result.verdict.code for result in whole.results.values()} == {Code.INVALID}
    passes = sum(len(result.passes) for result in whole.results.values())
    cut(journal, "measured", passes - 1)
    resumed = run(spec, journal, resume=True)
    for one in PAIR:
        assert resumed.results[one.identity].verdict == whole.results[one.identity].verdict
