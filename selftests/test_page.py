"""The account of records, its JSON, and the page: what they hold, that they are whole, and that nothing gets out."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import lzma
import re
import shutil
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from neverslower import cli
from neverslower.calibration.stored import Standing, load, standing
from neverslower.errors import NeverSlowerError
from neverslower.outcome.tally import NEVER_BEGUN
from neverslower.page import html
from neverslower.page.account import UNJUDGED, Account, counted_as, document
from neverslower.page.calibrated import with_calibration
from neverslower.page.first_screen import first_screen
from neverslower.page.journalled import WAYS
from neverslower.page.reading import account_of, records_of
from neverslower.page.wanted import Wanted
from selftests.conftest import SuiteRunner
from selftests.support import ROOT
from selftests.test_plugin import FLAT, HAZARD, LATENCY, NEVER_SLOWER

JOURNALS, BASELINES = ROOT / "bench/data/journals", ROOT / "baselines"
RUN = JOURNALS / "report-cudnn-h200.jsonl.xz"
SURVEY = BASELINES / "cudnn@nvidia-h100-80gb-hbm3/maps/torch-resnet50.L16-float16-NHWC.json.xz"
GRID = ROOT / "bench/data/maps/grid-resnet50-float16-h200.json.xz"
SCHEMA = json.loads((ROOT / "docs/reference/verdicts.schema.json").read_text(encoding="utf-8"))
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}<!--"
NETWORK = re.compile(r"""(?:src|href|action)\s*=\s*["']?(?!#|data:)[^"'#\s>]|url\((?!["']?data:)|@import""")


def plain(*records: Path) -> dict[str, Any]:
    """The account of records as a program reads it."""
    return dict(json.loads(json.dumps(document(account_of(records)))))


def unpacked(text: str) -> dict[str, Any]:
    """What a page holds in its block."""
    block = re.search(r'id="data">([A-Za-z0-9+/=]+)</script>', text)
    assert block
    return dict(json.loads(gzip.decompress(base64.b64decode(block[1]))))


class Seen(HTMLParser):
    """The tags and the text of a page, as a browser takes them apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


# The account


def test_a_journal_says_what_its_run_said() -> None:
    found = plain(RUN)
    assert found["sentence"] == "HAZARDS: 2 slower (2 confirmed), 0 not slower, of 2"
    assert (found["verdict"], found["exit_code"]) == ("HAZARDS", 0)
    assert Counter(case["code"] for case in found["cases"]) == {"SLOWER": 2, "SAME": 1}
    worst = max(found["cases"], key=lambda case: case["ratio"][0])
    assert (worst["channels"], worst["whole"], worst["cause"]["cause"]) == (121, 128, "kernel change")
    assert found["plans"][worst["plan"]]["steps"]
    assert worst["cause"]["remedy"].startswith("pad to 128: 0.547×")
    assert "--keep 121 --dtype float16 --layout NHWC" in worst["again"]
    assert [look["when"] for look in found["sources"][0]["looks"]][-1] == "after"


def test_the_first_screen_counts_as_its_sentence_does(tmp_path: Path) -> None:
    """Verdicts and the last line are enough for that, and the samples of 1300 layers take long to read."""
    path = tmp_path / "ended.jsonl"
    lines = _lines(JOURNALS / "three-networks-cudnn-h200.jsonl.xz")
    kept = [line for line in lines if '"event":"measured"' not in line]
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    account = account_of([path])
    words = "893 slower (759 confirmed), 386 not slower, 21 undecided, of 1300"
    assert account.sentence == f"HAZARDS: {words}"
    (source,) = first_screen(account).sources
    counts = {counted.words: counted.count for counted in source.counts}
    assert [counts[word] for word in ("slower", "slower, not confirmed", "undecided")] == [759, 134, 21]
    assert counts["same"] + counts["faster"] == 386
    assert account_of([path, RUN]).further[0].endswith(words.replace("1300", "1,300"))


def test_what_was_left_out_is_counted_so_on_the_page_too() -> None:
    account = account_of([JOURNALS / "tvm-h200-L16-float16-untimed.jsonl.xz"])
    assert account.sentence.endswith("0 slower, 0 not slower, 9 left out, of 9")
    (source,) = first_screen(account).sources
    assert [(counted.words, counted.count) for counted in source.counts] == [("left out", 9)]
    script = (ROOT / "neverslower/page/assets/data.js").read_text(encoding="utf-8")
    assert f"NEVER_BEGUN = new Set({json.dumps(list(NEVER_BEGUN))})" in script


def test_a_survey_is_not_judged_wherever_the_page_counts_it() -> None:
    """What a survey measured once is no verdict, so none of it is undecided either: more passes were never meant."""
    account = account_of([SURVEY])
    assert account.sentence.endswith("127 channel counts, surveyed once, in one process, and not judged")
    (source,) = first_screen(account).sources
    assert [(counted.code, counted.words, counted.count) for counted in source.counts] == [
        ("NOT_JUDGED", "not judged", 127)
    ]
    assert {(case.code, case.reason) for case in account.cases} == {("UNDECIDED", UNJUDGED)}
    assert 'NOT_JUDGED">127 not judged<' in html.page(account)
    script = (ROOT / "neverslower/page/assets/data.js").read_text(encoding="utf-8")
    assert f'ns.UNJUDGED = "{UNJUDGED}"' in script


def test_a_whole_network_is_called_as_its_run_counts_it(tmp_path: Path) -> None:
    path = tmp_path / "whole.jsonl"
    lines = [json.loads(line) for line in _lines(JOURNALS / "pruned-resnet18-cudnn-h200.jsonl.xz")]
    for line in lines:
        if line["event"] == "verdict" and "-whole-" in line["id"]:
            late = "@32" in line["id"]
            line |= {"code": "UNDECIDED", "reason": {"code": "time_budget" if late else "not_confirmed", "text": ""}}
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    account = account_of([path])
    assert [counted_as(whole) for whole in account.wholes] == ["UNCONFIRMED", "LEFT_OUT"]
    assert "2 whole networks: 1 slower, not confirmed, 1 left out" in account_of([path, RUN]).further[0]
    page = html.page(account)
    for chip in ('UNCONFIRMED">slower, not confirmed<', 'LEFT_OUT">left out<'):
        assert f'<li><span class="chip {chip}/span>' in page


def test_a_run_that_ended_is_whole_though_an_earlier_one_in_its_journal_was_not(tmp_path: Path) -> None:
    """As of `mend`, which may choose otherwise when it continues."""
    cut_short = _lines(JOURNALS / "mend-resnet18-whole-cudnn-h200.jsonl.xz")
    ended = _lines(JOURNALS / "advice-resnet50-whole-cudnn-h200.jsonl.xz")
    ways = json.loads(cut_short[0])
    again = json.dumps(json.loads(ended[0]) | {name: ways[name] for name in WAYS})
    path = tmp_path / "both.jsonl"
    path.write_text("\n".join([*cut_short, again, *ended[1:]]) + "\n", encoding="utf-8")
    words = "6 whole networks: 5 faster, 1 not judged"
    assert account_of([path]).sentence == f"cudnn 9.19.0 on NVIDIA H200: {words}"


def test_samples_are_five_numbers_of_each_process() -> None:
    for case in plain(RUN)["cases"]:
        for sample in case["samples"]:
            for five in (sample["reference"], sample["candidate"], sample["ratio"]):
                assert five == sorted(five)
                assert len(five) == 5
        estimate, low, high = case["ratio"]
        assert low <= estimate <= high
        medians = [sample["ratio"][2] for sample in case["samples"]]
        assert min(medians) * 0.99 <= case["ratio"][0] <= max(medians) * 1.01


@pytest.mark.parametrize(
    ("record", "kind", "evidence", "cases"),
    [
        ("bench/data/journals/acl-20.08-one-filter-less.jsonl.xz", "journal", "instructions", 2),
        ("bench/data/journals/tuned-log-resnet50-L16.jsonl.xz", "journal", "device_time", 14),
        ("bench/data/journals/pruned-resnet18-onednn-two-cores.jsonl.xz", "journal", "device_time", 22),
        ("baselines/acl@mali-g72-recorded/0002_20.08+9ba6076-direct-dispatch.jsonl", "baseline", "dispatch", 232),
        ("baselines/onednn@intel-xeon-processor-2c", "baseline", "device_time", 241),
        (
            "baselines/cudnn@nvidia-h100-80gb-hbm3/maps/torch-resnet50.L16-float16-NHWC.json.xz",
            "map",
            "device_time",
            127,
        ),
    ],
)
def test_records_of_every_kind_fit_the_schema(record: str, kind: str, evidence: str, cases: int) -> None:
    found = plain(ROOT / record)
    jsonschema.validate(found, SCHEMA)
    assert (found["sources"][0]["kind"], found["sources"][0]["evidence"]) == (kind, evidence)
    assert len(found["cases"]) == cases
    for case in found["cases"]:
        assert case.get("plan", 0) < len(found["plans"])
    assert unpacked(html.page(account_of([ROOT / record]))) == found


def test_the_schema_refuses_what_is_not_described() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    found = plain(RUN)
    for spoiled in (
        {**found, "schema": 2},
        {**found, "more": 1},
        {**found, "verdict": "FINE"},
        {**found, "cases": [{**found["cases"][0], "code": "SLOW"}]},
        {**found, "cases": [{**found["cases"][0], "ratio": [1.0, 1.1]}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoiled, SCHEMA)


def test_a_stored_baseline_counts_as_its_record_does() -> None:
    found = plain(BASELINES / "onednn@intel-xeon-processor-2c")
    assert found["sentence"] == (
        "onednn 3.12.0 on Intel Xeon Processor 2c: 30 slower (29 confirmed), 172 not slower, 16 undecided, of 218"
    )
    case = next(case for case in found["cases"] if case["code"] == "SLOWER")
    assert case["samples"]
    assert case["reference_amount"] < case["amount"]


def test_a_baseline_has_the_calibration_of_its_device(tmp_path: Path) -> None:
    theirs = BASELINES / "cudnn@nvidia-h100-80gb-hbm3"
    content = json.loads((theirs / "0001_9.19.0+cuda130.json").read_text(encoding="utf-8"))
    path = tmp_path / theirs.name / "0001_few.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content | {"benchmarks": content["benchmarks"][:2]}), encoding="utf-8")
    shutil.copy(theirs / "calibration.json", path.parent)
    (source,) = account_of([path]).sources
    found, fingerprint = source.calibration, source.fingerprint
    assert found
    assert (found.comparisons, found.slower, found.blocks) == (119, 0, 192)
    assert found.mde == pytest.approx(0.010266, rel=1e-4)
    assert found.slower_bound == pytest.approx(0.02486, rel=1e-3)
    other = replace(fingerprint, state={**fingerprint.state, "power limit": "300 W"})
    moved = with_calibration(replace(source, calibration=None), standing(tmp_path, other))
    assert moved.calibration is None
    assert moved.remarks[0].startswith("its calibration does not hold: calibrated in another state: ")


def test_several_versions_stand_next_to_each_other() -> None:
    paths = [BASELINES / "acl@cortex-a76-emulated" / name for name in ("0001", "0004")]
    found = plain(*(next(path.parent.glob(f"{path.name}*")) for path in paths))
    assert [source["version"] for source in found["sources"]] == ["20.08", "24.11"]
    assert found["sentence"] == "2 records: acl 20.08 on cortex-a76 emulated; acl 24.11 on cortex-a76 emulated"
    assert [line.partition(":")[2] for line in found["further"]] == [
        " 26 with more instructions, 192 with no more, of 218",
        " 4 with more instructions, 214 with no more, of 218",
    ]


def cut(tmp_path: Path, record: Path, keep: int) -> Path:
    """Return the journal of a run that was killed when it had given so many verdicts."""
    lines, given = [], 0
    for line in _lines(record):
        given += '"event":"verdict"' in line
        if given > keep:
            break
        lines.append(line)
    path = tmp_path / "cut.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (0, "it had judged 0 of 3 comparisons; no layer was compared"),
        (2, "it had judged 2 of 3 comparisons; 1 slower, 0 not slower, of 1"),
    ],
)
def test_a_run_that_did_not_end_is_no_clean_result(tmp_path: Path, keep: int, words: str) -> None:
    found = plain(cut(tmp_path, RUN, keep))
    jsonschema.validate(found, SCHEMA)
    assert found["sentence"] == f"cudnn 9.19.0 on NVIDIA H200: this run did not end: {words}"
    assert "verdict" not in found


def test_a_record_of_whole_networks_says_so() -> None:
    found = plain(JOURNALS / "advice-resnet50-whole-cudnn-h200.jsonl.xz")
    assert found["sentence"] == "cudnn 9.19.0 on NVIDIA H200: 5 whole networks: 5 faster"


def test_a_network_that_was_timed_and_not_judged_shows_what_it_took() -> None:
    account = account_of([JOURNALS / "mend-resnet18-whole-cudnn-h200.jsonl.xz"])
    jsonschema.validate(json.loads(json.dumps(document(account))), SCHEMA)
    words = "this run did not end: it had judged 0 of 1 comparison; 1 whole network: 1 not judged"
    assert account.sentence == f"cudnn 9.19.0 on NVIDIA H200: {words}"
    page = re.sub(r"<[^>]+>", "", html.page(account))
    assert "not judged the whole network, cudnn-resnet18-whole-float16-NHWC: the run ended before it was judged" in page
    assert "medians of 1 process: 464 µs → 332 µs" in page


def test_a_run_of_two_backends_keeps_its_verdict(tmp_path: Path) -> None:
    lines = _lines(RUN)
    other = [line.replace('"backend":"cudnn"', '"backend":"onednn"').replace("cudnn-", "onednn-") for line in lines]
    path = tmp_path / "both.jsonl"
    path.write_text("\n".join([*lines[:-1], *other[1:]]) + "\n", encoding="utf-8")
    found = plain(path)
    assert [source["backend"] for source in found["sources"]] == ["cudnn", "onednn"]
    assert (found["verdict"], found["exit_code"]) == ("HAZARDS", 0)
    assert found["sentence"].startswith("HAZARDS: ")
    assert len(found["further"]) == 2
    assert plain(path, RUN)["sentence"].startswith("2 records: ")


def test_advice_names_the_counts_of_a_layer() -> None:
    found = plain(RUN, ROOT / "docs/examples/advice.json")
    jsonschema.validate(found, SCHEMA)
    assert found["advised"] == [
        {
            "name": "advice.json",
            "backend": "scripted",
            "device": "scripted",
            "layer": "first",
            "unpruned": "mb1_g1ic4oc16_ih6oh6kh3sh1ph1-float32-NCHW",
            "counts": [8],
        }
    ]


def test_a_grid_says_that_it_judges_nothing() -> None:
    account = account_of([GRID], "resnet50.layers.2.1.conv2")
    found = dict(json.loads(json.dumps(document(account))))
    jsonschema.validate(found, SCHEMA)
    words = "63 pairs of (input, output) channels of 1 layer, estimates by one process, no verdicts"
    assert found["sentence"] == f"cudnn 9.19.0 on NVIDIA H200: {words}"
    (grid,) = found["grids"]
    assert (grid["whole"], grid["inputs"], len(grid["outputs"])) == ([256, 256], list(range(32, 257, 32)), 8)
    assert grid["costs"][-1][-1] == 7.5655e-06
    assert grid["costs"][6][1] == pytest.approx(1.56 * 7.5655e-06, rel=0.005)  # 224 of 256 inputs, 64 of 256 outputs.
    assert unpacked(html.page(account)) == found
    assert [source.evidence for source in first_screen(account).sources] == ["estimates, no verdicts"]
    with pytest.raises(NeverSlowerError, match=r"no record has such a layer; there are resnet50\.conv1, "):
        account_of([GRID], "vgg16.*")
    (_, of_the_grid) = account_of([SURVEY, GRID], "resnet50.L16").further
    assert of_the_grid == "cudnn 9.19.0 on NVIDIA H200: none of its layers matches --layer"


def test_a_part_of_a_grid_says_what_is_missing(tmp_path: Path) -> None:
    content = json.loads(lzma.decompress(GRID.read_bytes()))
    first = content["layers"][1] | {"refusals": [[32, 16, "out of memory"]]}
    first |= {name: [*first[name][:1], *first[name][2:]] for name in ("pairs", "estimates", "passes")}
    path = tmp_path / "part.json.xz"
    path.write_bytes(
        lzma.compress(json.dumps(content | {"ended_early": "interrupted", "measured": 2, "layers": [first]}).encode())
    )
    found = plain(path)
    jsonschema.validate(found, SCHEMA)
    assert "a part of the grid (interrupted): 2 of 1,229 pairs measured; 14 pairs of" in found["sentence"]
    assert found["notes"] == ["resnet50.layers.0.0.conv1: 1 pair without a cost: out of memory"]
    missing = [place for place, row in enumerate(found["grids"][0]["costs"]) for cost in row if cost is None]
    assert missing == [1]  # The row of 32 input channels.


@pytest.mark.parametrize(
    ("kept", "ended", "words"),
    [
        (0, "", "no layer has a time; the remarks say why, and `map --grid` measures it again"),
        (0, "interrupted", "0 of 1,229 pairs measured; no layer has a time; go on with the same `map --grid` and"),
        (1, "", "1 layer at the unpruned channels alone, so there is nothing to compare; measure it again with a sm"),
    ],
)
def test_a_grid_without_a_pair_says_what_is_missing_and_how_to_get_it(
    tmp_path: Path, kept: int, ended: str, words: str
) -> None:
    content = json.loads(lzma.decompress(GRID.read_bytes()))
    first: dict[str, Any] = content["layers"][0]
    empty: dict[str, Any] = {"pairs": [], "estimates": [], "passes": []}
    refused = first | empty | {"name": "refused", "cost": None, "refusals": [[3, 16, "out of memory"]]}
    layers = [refused, *([first | empty] if kept else [])]
    path = tmp_path / "empty.json.xz"
    path.write_bytes(
        lzma.compress(json.dumps(content | {"ended_early": ended, "measured": 0, "layers": layers}).encode())
    )
    found = plain(path)
    jsonschema.validate(found, SCHEMA)
    assert words in found["sentence"]
    assert "0 pairs" not in found["sentence"]
    assert found["notes"] == ["refused: nothing of it was measured: out of memory"]


# A run


def test_every_form_of_a_run_begins_with_the_same_sentence(
    runner: SuiteRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(runner.path / "step.md"))
    result = runner.run(
        FLAT | {"rules": [HAZARD]}, NEVER_SLOWER, "--report", "out", "--verdicts", "v.json", "--junitxml", "j.xml"
    )
    sentence = "HAZARDS: 1 slower (1 confirmed), 5 not slower, of 6"
    found = json.loads((runner.path / "v.json").read_text(encoding="utf-8"))
    jsonschema.validate(found, SCHEMA)
    assert found["sentence"] == sentence
    assert sentence in result.stdout.str()
    assert f"## never-slower: {sentence}\n" in (runner.path / "step.md").read_text()
    assert f'value="{sentence}"' in (runner.path / "j.xml").read_text()
    text = (runner.path / "out/index.html").read_text(encoding="utf-8")
    assert f"<title>{sentence}</title>" in text
    assert unpacked(text) == found
    slower = [case for case in found["cases"] if case["code"] == "SLOWER"]
    assert [(case["finding"], case["outcome"]) for case in slower] == [
        ("hazard found, not known to a baseline yet", "xfailed")
    ]
    assert found["steps"][0]["how"] == slower[0]["again"]


def test_a_run_has_the_calibration_of_its_device(runner: SuiteRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = load(BASELINES / "cudnn@nvidia-h100-80gb-hbm3/calibration.json")
    monkeypatch.setattr("neverslower.run_summary.standing", lambda root, fingerprint: Standing(stored))
    runner.run(FLAT, NEVER_SLOWER, "--keep", "12", "--verdicts", "v.json")
    found = json.loads((runner.path / "v.json").read_text(encoding="utf-8"))
    jsonschema.validate(found, SCHEMA)
    assert found["sources"][0]["calibration"]["date"] == stored.date


def test_a_run_against_a_baseline_says_what_changed_at_each_count(runner: SuiteRunner) -> None:
    runner.accept(FLAT)
    runner.run(FLAT | {"rules": [HAZARD]}, NEVER_SLOWER, LATENCY, "--benchmark-compare", "--verdicts", "v.json")
    found = json.loads((runner.path / "v.json").read_text(encoding="utf-8"))
    jsonschema.validate(found, SCHEMA)
    assert found["verdict"] == "RED"
    now, then = found["sources"]
    assert (now["kind"], now["compared"], then["kind"]) == ("run", 1, "baseline")
    mine = {case["channels"]: case for case in found["cases"] if case["source"] == 0}
    assert (mine[15]["since"]["code"], mine[15]["outcome"]) == ("SLOWER", "failed")
    assert mine[13]["since"]["code"] == "SAME"
    assert found["steps"][0]["how"] == mine[15]["again"]
    assert len([case for case in found["cases"] if case["source"] == 1]) == len(mine)


def test_a_case_has_every_finding_of_every_item_and_its_journal_too(runner: SuiteRunner) -> None:
    runner.accept(FLAT)
    journal = runner.path / "red.jsonl"
    now = FLAT | {"rules": [HAZARD]}
    runner.run(now, NEVER_SLOWER, LATENCY, "--benchmark-compare", "--verdicts", "v.json", f"--journal={journal}")
    expected = [{"finding": "slower than the baseline", "outcome": "failed"}]
    for found in (json.loads((runner.path / "v.json").read_text(encoding="utf-8")), plain(journal)):
        jsonschema.validate(found, SCHEMA)
        assert found["verdict"] == "RED"
        case = next(case for case in found["cases"] if case["source"] == 0 and case["channels"] == 15)
        assert (case["finding"], case["outcome"], case["also"]) == ("new hazard", "failed", expected)
    assert "new hazard; slower than the baseline" in html.page(account_of([journal]))


def test_a_journal_that_does_not_say_what_failed_says_so(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in _lines(RUN)]
    lines[-1] |= {"verdict": "RED", "failing": {"new hazard": 2}}
    journal = tmp_path / "old.jsonl"
    journal.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    note = f"2 × new hazard: {journal} does not say of which layer; --report on the run itself does"
    assert plain(journal)["notes"] == [note]


@pytest.mark.parametrize(
    ("rules", "arguments", "colour", "word"),
    [([], (), "32", "GREEN"), ([HAZARD], (), "33", "HAZARDS"), ([HAZARD], ("--strict-verdicts",), "31", "RED")],
)
def test_the_verdict_has_its_colour_on_a_terminal(
    runner: SuiteRunner, rules: list[dict[str, Any]], arguments: tuple[str, ...], colour: str, word: str
) -> None:
    said = runner.run(FLAT | {"rules": rules}, NEVER_SLOWER, *arguments, "--color=yes").stdout.str()
    line = next(line for line in said.splitlines() if f"{word}: " in line)
    assert f"\x1b[{colour}m" in line
    assert "\x1b[" not in runner.run(FLAT | {"rules": rules}, NEVER_SLOWER, *arguments, "--color=no").stdout.str()


def test_what_another_run_wrote_into_the_same_journal_is_not_of_this_one(runner: SuiteRunner) -> None:
    journal = ("--journal", "both.jsonl")
    runner.run(FLAT, NEVER_SLOWER, *journal)
    runner.run(FLAT | {"seed": 1}, NEVER_SLOWER, *journal, "--keep", "12", "--verdicts", "v.json")
    found = json.loads((runner.path / "v.json").read_text(encoding="utf-8"))
    assert [case["channels"] for case in found["cases"]] == [12]


def test_a_hunt_has_its_drawn_layers(runner: SuiteRunner) -> None:
    runner.run(FLAT, "-m", "hunt", "--hunt-budget", "1s", "--hypothesis-seed=0", "--verdicts", "v.json", "-k", "slower")
    found = json.loads((runner.path / "v.json").read_text(encoding="utf-8"))
    jsonschema.validate(found, SCHEMA)
    assert found["cases"]  # A second may be enough for one, on a busy machine.
    assert found["sources"][0]["device"] == "scripted"


def test_a_run_that_cannot_judge_has_a_page_too(runner: SuiteRunner) -> None:
    runner.run(FLAT | {"unavailable": "no board"}, NEVER_SLOWER, "--report", "p.html", "--verdicts", "v.json")
    found = json.loads((runner.path / "v.json").read_text(encoding="utf-8"))
    jsonschema.validate(found, SCHEMA)
    assert found["verdict"] == "CANNOT JUDGE"
    assert "CANNOT JUDGE" in (runner.path / "p.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--report=p.pdf", "--report=p.pdf can't be a page: name a file that ends in .html, or a folder"),
        ("--verdicts=v.txt", "--verdicts=v.txt: name a file that ends in .json"),
        ("--report=file/p.html", "--report=file/p.html can't be written: "),
        ("--verdicts=file/v.json", "--verdicts=file/v.json can't be written: "),
        ("--report=a.html", "a.html is a folder: name a file in it, or another one"),
        ("--report=theirs.html", "theirs.html exists, and does not hold a page of never-slower: name another file"),
        ("--verdicts=file.json", "file.json exists, and does not hold verdicts: name another file, or remove it"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_refused_before_measuring(
    runner: SuiteRunner, option: str, words: str
) -> None:
    (runner.path / "file").write_text("")
    (runner.path / "file.json").write_text('{"benchmarks": []}')
    (runner.path / "theirs.html").write_text("<!DOCTYPE html>\n<title>Their coverage</title>\n")
    (runner.path / "a.html").mkdir()
    result = runner.run(FLAT, NEVER_SLOWER, option)
    assert words in result.stderr.str()
    assert not (runner.path / "journal.jsonl").exists()


# The page


def hostile(tmp_path: Path) -> Account:
    """The account of a journal in which every name from outside is hostile."""
    lines = []
    for line in (json.loads(line) for line in _lines(RUN)):
        for name in ("device", "version", "cause"):
            if name in line:
                line[name] = HOSTILE
        if "id" in line:
            line["id"] = line["id"].replace("mb256_ic128oc128_ih19kh3ph1", HOSTILE)
        if "plan" in line:
            line["plan"] |= {"name": HOSTILE, "steps": [HOSTILE, *line["plan"]["steps"]]}
        if line["event"] == "run":
            line["text"] = f"HAZARDS: {HOSTILE}"
        lines.append(json.dumps(line))
    path = tmp_path / "hostile.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return account_of([path])


def _lines(path: Path) -> list[str]:
    return lzma.decompress(path.read_bytes()).decode().splitlines()


def test_names_from_outside_are_text_and_nothing_else(tmp_path: Path) -> None:
    account = hostile(tmp_path)
    text = html.page(account)
    assert HOSTILE in account.sentence
    assert {case.layer for case in account.cases} == {HOSTILE}
    tame, seen = Seen(html.page(account_of([RUN]))), Seen(text)
    assert seen.tags == tame.tags
    assert not seen.handlers
    assert "<img" not in text
    assert "{{ 7 * 7 }}" in "".join(seen.words)  # And no template took it for its own.
    assert unpacked(text)["cases"][0]["layer"] == HOSTILE


def test_the_page_asks_the_network_for_nothing() -> None:
    text = html.page(account_of([RUN]))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    said = policy[1].replace("&#39;", "'")
    assert said.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in said
    assert "connect-src" not in said  # default-src forbids every connection.
    for tag, count in (("script", len(html.SCRIPTS)), ("style", len(html.STYLES))):
        bodies = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(bodies) == count
        for body in bodies:
            assert f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" in said
    markup = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", text, flags=re.DOTALL)
    assert not NETWORK.search(markup)
    for name in (*html.STYLES, *html.SCRIPTS):
        assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|sendBeacon|importScripts|eval)\s*\(", html.asset(name))
        assert "</script" not in html.asset(name)
        assert ".innerHTML" not in html.asset(name) or name.startswith("uPlot")


def test_the_chart_library_is_the_released_one() -> None:
    noted = dict(re.findall(r"sha256 of dist/(\S+)\s+([0-9a-f]{64})", html.asset("uPlot.txt")))
    assert set(noted) == {"uPlot.iife.min.js", "uPlot.min.css"}
    for name, digest in noted.items():
        assert hashlib.sha256(html.asset(name).encode()).hexdigest() == digest
    assert "(v1.6.32)" in html.asset("uPlot.iife.min.js")
    assert html.asset("uPlot.LICENSE").startswith("The MIT License")


def test_the_page_is_small_and_the_same_again() -> None:
    account = account_of([JOURNALS / "cudnn-h200-resnet50-float16.jsonl.xz"])
    text = html.page(account)
    assert len(text.encode()) < 0.5e6
    assert html.page(account) == text


# The command


def test_the_command_writes_both_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, verdicts = tmp_path / "new/p.html", tmp_path / "v.json"
    assert cli.main(["report", str(RUN), "--out", str(page), "--verdicts", str(verdicts)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "HAZARDS: 2 slower (2 confirmed), 0 not slower, of 2"
    assert re.fullmatch(r"page: .*p\.html \(0\.\d\d MB\)", said[1])
    assert unpacked(page.read_text(encoding="utf-8")) == json.loads(verdicts.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.jsonl", "--out", "p.html"], "absent.jsonl: No such file or directory; give journals"),
        (["empty", "--out", "p.html"], "empty: no baseline and no map is in this folder; give journals"),
        (["text.jsonl", "--out", "p.html"], "text.jsonl: no backend has measured anything in it"),
        (["text.jsonl"], "report where? name a page, --out FILE.html, or verdicts, --verdicts FILE.json"),
        (["text.json.xz", "--out", "p.html"], "map text.json.xz: not a compressed JSON file"),
        (["text.jsonl", "--verdicts", "v.html"], "--verdicts=v.html: name a file that ends in .json"),
        (["a.json", "--out", "p.html"], "a.json: not a record that can be reported; give journals"),
        (["v.json", "--out", "p.html"], "v.json: a file of never-slower verdicts, and not a record that can be"),
        (["grid.json.xz", "--out", "p.html"], "grid grid.json.xz: KeyError 'schema'; measure it again"),
        (["old", "--verdicts", "old/0001_1.json"], "0001_1.json is to be read, and would be overwritten: name"),
        (["text.jsonl", "--verdicts", "old/0001_1.json"], "0001_1.json exists, and does not hold verdicts"),
        (["text.jsonl", "--out", "a.html"], "a.html is a folder"),
        (["text.jsonl", "--out", "theirs.html"], "theirs.html exists, and does not hold a page of never-slower"),
        (["a.json", "--verdicts", "a.json"], "a.json is to be read, and would be overwritten: name another file"),
    ],
)
def test_what_cannot_be_reported_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("old", "a.html"):
        (tmp_path / name).mkdir()
    (tmp_path / "old/0001_1.json").write_text('{"benchmarks": []}')
    (tmp_path / "v.json").write_text('{"format": "never-slower verdicts"}')
    (tmp_path / "theirs.html").write_text("<!DOCTYPE html>\n<title>Their coverage</title>\n")
    (tmp_path / "grid.json.xz").write_bytes(lzma.compress(b'{"format": "never-slower grid"}'))
    for name in ("text.jsonl", "text.json.xz", "a.json"):
        (tmp_path / name).write_text("{}\n" if name == "a.json" else "")
    assert cli.main(["report", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_folder_of_maps_alone_stands_for_them() -> None:
    folder = BASELINES / "cudnn@nvidia-h200"
    assert records_of([folder]) == records_of([folder / "maps"]) == [folder / "maps/resnet50-float16-NHWC.json.xz"]


def test_both_are_written_again_and_a_folder_may_have_a_dot(tmp_path: Path) -> None:
    asked = Wanted.of(str(tmp_path / "rep-9.19"), str(tmp_path / "v.json"))
    account = account_of([RUN])
    for _ in range(2):
        asked.probe()
        assert not any("ERROR" in line for line in asked.write(account))
    assert (tmp_path / "rep-9.19/index.html").exists()


def test_a_page_that_cannot_be_written_is_a_line_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wanted = Wanted(page=tmp_path / "file/p.html", verdicts=tmp_path / "v.json")
    lines = list(wanted.write(account_of([RUN])))
    assert lines[0].startswith("ERROR: no page: ")
    assert lines[1].startswith("verdicts: ")
    with pytest.raises(NeverSlowerError, match="can't be written"):
        wanted.probe()


# pytest-benchmark's JSON, as two services read it


def github_action_benchmark(content: dict[str, Any]) -> list[dict[str, Any]]:
    """What github-action-benchmark makes of it with `tool: pytest`: a rate with its deviation, named by fullname."""
    return [
        {
            "name": benchmark["fullname"],
            "value": benchmark["stats"]["ops"],
            "range": benchmark["stats"]["stddev"],
            "mean": benchmark["stats"]["mean"],
            "rounds": benchmark["stats"]["rounds"],
        }
        for benchmark in content["benchmarks"]
    ]


def bencher(content: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """What bencher makes of it with `--adapter python_pytest`: nanoseconds, and the same less and more by the IQR."""
    assert isinstance(content["machine_info"], dict)
    assert isinstance(content["commit_info"], dict)
    found = {}
    for benchmark in content["benchmarks"]:
        value, range_ = benchmark["stats"]["median"] * 1e9, benchmark["stats"]["iqr"] * 1e9
        found[benchmark["fullname"]] = (value - range_, value, value + range_)
    return found


def test_services_read_the_times_of_each_channel_count(runner: SuiteRunner) -> None:
    runner.run(FLAT | {"rules": [HAZARD]}, LATENCY, "--benchmark-json", "b.json")
    content = json.loads((runner.path / "b.json").read_text(encoding="utf-8"))
    rates, times = github_action_benchmark(content), bencher(content)
    names = [rate["name"] for rate in rates]
    assert len(names) == len(set(names)) == len(times) == 7
    assert all(name.startswith("tests/test_latency.py::test_latency[scripted-") for name in names)
    assert all(len(name) <= 1024 for name in names)  # The longest name that bencher takes.
    for rate in rates:
        low, median, high = times[rate["name"]]
        assert 0 < low <= median <= high
        assert rate["value"] == pytest.approx(1 / rate["mean"])
        assert rate["mean"] * 1e9 == pytest.approx(median, rel=0.02)
        assert rate["range"] >= 0
        assert rate["rounds"] > 0
    slow, whole = (next(times[name][1] for name in names if name.endswith(f"out{n}]")) for n in (15, 16))
    assert slow == pytest.approx(2 * whole, rel=0.05)


def test_the_example_of_the_documentation_leaves_out_what_is_compared_with(
    runner: SuiteRunner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = FLAT | {"rules": [HAZARD]}
    runner.accept(slow)
    runner.run(slow, NEVER_SLOWER, "--benchmark-compare", "--verdicts", "verdicts.json")
    found = json.loads((runner.path / "verdicts.json").read_text(encoding="utf-8"))
    assert Counter(case["code"] for case in found["cases"])["SLOWER"] == 2
    text = (ROOT / "docs/reference/verdicts.md").read_text(encoding="utf-8")
    monkeypatch.chdir(runner.path)
    capsys.readouterr()
    exec(text.partition("```python\n")[2].partition("```")[0], {})
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_what_measures_again_names_the_backend_as_the_user_did(runner: SuiteRunner) -> None:
    journal, old = runner.path / "j.jsonl", runner.path / "old.jsonl"
    runner.run(FLAT | {"rules": [HAZARD]}, NEVER_SLOWER, f"--journal={journal}", "--verdicts", "v.json")
    named = f"--backend scripted:{runner.path / 'script.json'} "
    assert named in plain(journal)["cases"][0]["again"]
    assert named in json.loads((runner.path / "v.json").read_text(encoding="utf-8"))["cases"][0]["again"]
    old.write_text(re.sub(r', ?"spec": ?"[^"]*"', "", journal.read_text(encoding="utf-8")), encoding="utf-8")
    assert "again" not in plain(old)["cases"][0]  # Nobody knows which script that was.


def test_a_journal_keeps_the_device_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "second.jsonl"
    lines = [
        line.replace('"backend":"cudnn","device"', '"backend":"cudnn","spec":"cudnn:gpu=1","device"')
        for line in _lines(RUN)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for case, before in zip(plain(path)["cases"], plain(RUN)["cases"], strict=True):
        for name in ("again", "alone"):
            assert case[name] == before[name].replace("--backend cudnn", "--backend cudnn:gpu=1")


def test_what_turns_the_text_around_is_written_out(tmp_path: Path) -> None:
    path = tmp_path / "turned.jsonl"
    lines = [line.replace("mb256_ic128oc128_ih19kh3ph1", "a\\u202eb") for line in _lines(RUN)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    account = account_of([path])
    assert account.cases[0].layer == "a\u202eb"
    text = html.page(account)
    assert "\u202e" not in text
    assert unpacked(text)["cases"][0]["layer"] == "a\\u202eb"


@pytest.mark.parametrize(("name", "value"), [("code", "SLOW"), ("text", 7)])
def test_a_damaged_journal_is_named(tmp_path: Path, name: str, value: object) -> None:
    lines = [json.loads(line) for line in _lines(RUN)]
    for line in lines:
        if line["event"] == {"code": "verdict", "text": "run"}[name]:
            line[name] = value
    path = tmp_path / "damaged.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    with pytest.raises(NeverSlowerError, match=r"damaged.jsonl: damaged \(ValueError"):
        account_of([path])


def test_commands_name_the_other_library_as_the_user_did(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in _lines(RUN)]
    path = tmp_path / "beside.jsonl"
    beside = [line | {"against": "pip:x==1"} if line["event"] == "campaign" else line for line in lines]
    path.write_text("\n".join(map(json.dumps, beside)) + "\n", encoding="utf-8")
    found = plain(path)
    assert found["sources"][0]["settings"]["against"] == "pip:x==1"
    assert all(case["again"].endswith("--against pip:x==1") for case in found["cases"])
