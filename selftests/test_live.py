"""The bench of real slowdowns: the additional calls are made, and told from none."""

from __future__ import annotations

from pathlib import Path

from bench.live import EVERY, Asked, Campaign, table
from neverslower.files.journal import Journal, replay
from neverslower.judge.sequential import STANDARD_PRESET
from neverslower.judge.verdict import Code
from selftests.support import problem, script


def test_one_call_more_in_so_many_is_as_much_slower(tmp_path: Path) -> None:
    path = script(tmp_path, noise=0.005, process_effect=0.001, rules=[{"seconds": 1e-5}])
    journal = Journal(tmp_path / "live.jsonl")
    asked = [Asked(number, problem(16).key, every) for every in EVERY for number in range(3)]
    passes, verdicts = Campaign(f"scripted:{path}", STANDARD_PRESET, journal, 0).run(asked)
    size = journal.path.stat().st_size
    assert Campaign(f"scripted:{path}", STANDARD_PRESET, journal, 0).run(asked)[1] == verdicts
    assert journal.path.stat().st_size == size  # Going on with a whole run draws nothing anew.
    journal.close()
    for one, verdict in verdicts.items():
        assert verdict.ratio is not None
        assert abs(verdict.ratio.estimate - (1 + (1 / one.every if one.every else 0))) < 0.005
        assert verdict.code is (Code.SLOWER if one.every else Code.SAME)
    events: list[str] = []
    replay(journal.path, lambda line: events.append(line["event"]))
    assert events.count("live") == sum(len(one) for one in passes.values())
    assert events.count("fingerprint") == 1
    assert [line.split(" | ")[2] for line in list(table(passes, verdicts))[2:]] == ["0 of 3", *["3 of 3"] * 3]
