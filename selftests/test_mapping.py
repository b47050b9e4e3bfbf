"""Maps and staircases: measured on the scripted backend, stored, read, and what they say at most."""

from __future__ import annotations

import json
import lzma
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from neverslower import cli
from neverslower.campaign.campaign import Campaign
from neverslower.errors import NeverSlowerError
from neverslower.evidence.kernels import kernels
from neverslower.evidence.observation import Evidence, Plan
from neverslower.files.journal import Journal
from neverslower.judge.verdict import Code, Interval
from neverslower.maps.map_file import document_of, load, save
from neverslower.maps.mapping import comparisons, countable, measure, settings_of
from neverslower.maps.staircase import Staircase, Stored
from neverslower.page.reading import account_of
from neverslower.problem.networks import Layer
from neverslower.report.mapped import mapped_lines
from selftests import in_process
from selftests.support import ROOT, known, problem, scripted

RULES = [
    {"seconds": 1e-5, "steps": ["gemm grid=4x1x1 block=128x1x1"]},
    {"when": "out_channels % 8 != 0", "times": 2.0, "plan": "padded",
     "steps": ["addPadding grid=9x1x1 block=64x1x1", "gemm grid=4x1x1 block=128x1x1"]},
]  # fmt: skip
LAYER = Layer("net", 0, "first", problem(out_channels=24))
SHAPE = "mb1_ic4oc24_ih6kh3ph1"
OLD = ROOT / "baselines/cudnn@nvidia-h100-80gb-hbm3/maps/best-resnet50.L16-tf32-NHWC.json.xz"


pytestmark = pytest.mark.usefixtures("workers_here")


def campaign(tmp_path, progress=None, journal=None, **script):
    """A campaign that makes a map of a script; its noise lets the judge decide what is clear."""
    spec = scripted(tmp_path, 30.0, **({"rules": RULES, "noise": 0.002} | script))
    rest = {"progress": progress} if progress else {}
    return Campaign({"scripted": spec}, settings_of(1), journal, start=in_process.start, **rest)


def measured(tmp_path, layers=(LAYER,), **script):
    document = document_of(measure(campaign(tmp_path, **script), "scripted", layers))
    path = tmp_path / "map.json.xz"
    save(path, document)
    return path, document


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(path, document) of the map of one layer, measured once."""
    return measured(tmp_path_factory.mktemp("map"))


def test_every_count_has_a_verdict_a_plan_and_a_dispatch(whole):
    path, document = whole
    assert document["points"] == document["decided"] == 23
    (staircase,) = load(path).staircases
    assert staircase.counts == tuple(range(1, 25))
    assert staircase.costs[-1] == pytest.approx(1e-5, rel=0.01)
    assert staircase.ratios[22] == pytest.approx(2.0, rel=0.01)
    assert [plan.name for plan in staircase.plans] == ["plain" if n % 8 == 0 else "padded" for n in staircase.counts]
    assert [verdict.code for verdict in staircase.verdicts] == [
        Code.SAME if n % 8 == 0 else Code.SLOWER for n in range(1, 24)
    ]
    for verdict, ratio in zip(staircase.verdicts, staircase.ratios[:-1], strict=True):
        interval = known(verdict.ratio)
        assert interval.low < ratio < interval.high
    assert len(kernels(staircase.plans[0])) == 2
    assert {str(cause) for cause in staircase.causes().values()} == {"alignment"}


def test_names_plans_and_launches_are_stored_once_and_samples_raw(whole):
    _, document = whole
    assert sorted(document["kernels"]) == ["addPadding", "gemm"]
    assert len(document["plans"]) == len(document["dispatches"]) == 2
    (layer,) = document["layers"]
    assert layer["counts"] == list(range(1, 24))
    for ratio, passes in zip(layer["ratio"], layer["passes"], strict=True):
        assert len({process for process, *_ in passes}) == len(passes) >= 2
        for _, (calls, own), reference, candidate in passes:
            assert len(reference) == len(candidate) == 2 * document["settings"]["blocks"]
            assert np.median(candidate) / own / (np.median(reference) / calls) == pytest.approx(ratio[0], rel=0.02)


def test_what_a_count_costs_is_that_of_a_usual_process(tmp_path):
    odd = {"when": "out_channels == 16", "times": 1.5, "processes": [0]}
    path, document = measured(tmp_path, rules=[*RULES, odd])
    (layer,) = document["layers"]
    assert len(layer["passes"][15]) > 2
    assert load(path).staircases[0].ratios[15] == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("fault", ["unsupported", "out_of_memory"])
def test_what_is_refused_is_named_and_the_rest_is_there(tmp_path, fault):
    path, document = measured(tmp_path, rules=[*RULES, {"when": "out_channels == 5", "fault": fault}])
    assert list(document["layers"][0]["refusals"]) == ["5"]
    assert 5 not in load(path).staircases[0].counts
    assert len(load(path).staircases[0].counts) == 23


@pytest.mark.processes
def test_a_count_that_kills_the_worker_is_found_and_the_rest_is_measured(tmp_path):
    _, document = measured(tmp_path, rules=[*RULES, {"when": "out_channels == 5", "fault": "crash"}])
    (layer,) = document["layers"]
    assert list(layer["refusals"]) == ["5"]
    assert layer["refusals"]["5"].startswith("the worker process died")
    assert set(layer["counts"]) == set(range(1, 24)) - {5}


def test_what_a_disturbed_device_takes_is_no_verdict(tmp_path):
    path, document = measured(tmp_path, throttled=1.0)
    (layer,) = document["layers"]
    assert layer["counts"] == []
    assert all("scripted throttling" in text for text in layer["refusals"].values())
    assert load(path).staircases == ()


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ([{"seconds": 1e-5, "fault": "unsupported"}], "UNSUPPORTED, "),
        ([{"seconds": 1e-5}, {"when": "out_channels == 24", "fault": "wrong"}], "INVALID, "),
    ],
)
@pytest.mark.parametrize("command", [["map", "{}/m.json.xz"], ["advise", "--output", "{}/advice.json"]])
def test_where_no_count_is_measured_the_reason_is_the_answer(tmp_path, capsys, command, rules, why):
    spec = ["--backend", f"scripted:{scripted(tmp_path, 30.0, rules=rules, noise=0.002).argument}"]
    shape = ["--problem", SHAPE, "--journal", str(tmp_path / "j.jsonl")]
    assert cli.main([word.format(tmp_path) for word in command] + spec + shape) == 2
    told = capsys.readouterr()
    assert f"no channel count could be measured: {SHAPE}: {why}" in told.err
    assert told.out == ""
    assert not list(tmp_path.glob("*.xz")) + list(tmp_path.glob("advice.json"))


def test_what_was_not_measured_is_not_decided(tmp_path):
    made = measure(
        campaign(tmp_path, rules=[*RULES, {"when": "out_channels == 5", "fault": "unsupported"}]), "scripted", [LAYER]
    )
    assert made.decided == document_of(made)["decided"] == 22
    (line,) = mapped_lines(tmp_path / "m.json.xz", made)
    assert "95.7% decided" in line


def test_an_interruption_before_the_first_worker_is_one_clear_line(tmp_path):
    def interrupted(spec, process=0):
        raise KeyboardInterrupt

    made = campaign(tmp_path)
    with pytest.raises(NeverSlowerError, match=r"^interrupted before anything was measured$"):
        measure(Campaign(made.specs, made.settings, start=interrupted), "scripted", [LAYER])


def test_a_layer_of_which_nothing_was_measured_is_named(tmp_path):
    refused = Layer("net", 1, "second", problem(out_channels=6))
    rules = [*RULES, {"when": "out_channels <= 6", "fault": "unsupported"}]
    made = measure(campaign(tmp_path, rules=rules), "scripted", [LAYER, refused])
    assert list(made.unmeasured()) == ["net.L1"]
    made.require_measured()
    assert any(
        line.startswith("net.L1: nothing of it was measured: UNSUPPORTED") for line in mapped_lines(tmp_path, made)
    )


def test_a_map_knows_every_name_of_a_shape(tmp_path):
    places = ("resnet50.L3 layer1.0.conv3", "resnet50.L7 layer1.1.conv3")
    path, _ = measured(tmp_path, [Layer("resnet50", 3, "layer1.0.conv3", problem(out_channels=24), places)])
    for name in ("resnet50.L3", "resnet50.L7", "resnet50.layer1.1.conv3"):
        assert load(path).staircase(name).name == name
    with pytest.raises(NeverSlowerError, match=r"has no resnet50.L8 \(has resnet50.L3\)"):
        load(path).staircase("resnet50.L8")


def test_a_layer_whose_unpruned_self_is_refused_has_no_staircase(tmp_path):
    path, document = measured(tmp_path, rules=[*RULES, {"when": "out_channels == 24", "fault": "unsupported"}])
    assert document["points"] == 0
    assert load(path).staircases == ()


def test_an_interrupted_map_holds_what_was_measured_and_goes_on(tmp_path):
    from neverslower.campaign import resume

    def interrupt(phase, done, total, seconds_left):
        if "pass 2" in phase and done > 10:
            raise KeyboardInterrupt

    with_journal = Journal(tmp_path / "map.jsonl")
    mapped = measure(campaign(tmp_path, interrupt, with_journal), "scripted", [LAYER])
    with_journal.close()
    assert mapped.ended_early == "interrupted"
    recorded = resume.load(tmp_path / "map.jsonl")
    assert len(recorded.passes) > 23
    again = campaign(tmp_path)
    again = Campaign(again.specs, again.settings, recorded=recorded, start=in_process.start)
    assert document_of(measure(again, "scripted", [LAYER]))["decided"] == 23


def test_counts_of_instructions_make_a_map_too(tmp_path):
    path, _ = measured(tmp_path, evidence="instructions")
    (staircase,) = load(path).staircases
    assert staircase.evidence is Evidence.INSTRUCTIONS
    assert staircase.costs[-1] == LAYER.problem.macs
    assert {verdict.code for verdict in staircase.verdicts} == {Code.FEWER}


def test_dispatches_alone_make_no_map(tmp_path):
    with pytest.raises(NeverSlowerError, match="scripted gives dispatches here, and a map holds times or instructions"):
        measured(tmp_path, evidence="dispatch")


def test_an_undecided_count_is_no_hazard():
    verdicts = (Stored(Code.UNDECIDED, Interval(1.5, 0.9, 2.0)), Stored(Code.SLOWER, Interval(1.2, 1.1, 1.3)))
    one = replace(stairs([1.5, 1.2, 1.0]), verdicts=verdicts)
    assert one.hazards == (1,)


def test_no_process_is_started_for_the_causes_of_a_map(tmp_path):
    numbers = []

    def start(spec, process=0):
        numbers.append(process)
        return in_process.start(spec, process)

    made = campaign(tmp_path)
    mapped = measure(Campaign(made.specs, made.settings, start=start), "scripted", [LAYER])
    assert len(numbers) == max(len(result.passes) for result in mapped.findings.results.values())
    assert len(mapped.findings.explanations) == 21


def test_a_map_whose_time_is_short_has_no_gaps(tmp_path):
    now = [0.0]

    def clock():
        now[0] += 0.01
        return now[0]

    made = campaign(tmp_path)
    short = Campaign(made.specs, settings_of(1, 6.0), start=in_process.start, clock=clock)
    mapped = measure(short, "scripted", [LAYER])
    assert all(result.passes for result in mapped.findings.results.values())


def test_a_depthwise_layer_loses_whole_groups():
    assert countable(problem(in_channels=8, out_channels=8, groups=8)) == list(range(1, 8))
    assert countable(problem(out_channels=4)) == [1, 2, 3]
    assert [one.candidate.out_channels for one in comparisons("scripted", [LAYER])] == list(range(1, 24))


def test_where_time_is_short_counts_that_are_spread_come_first():
    layer = Layer("net", 0, "first", problem(out_channels=256))
    first = [one.candidate.out_channels for one in comparisons("scripted", [layer]) if one.telling == 1]
    assert first == [63, 64, 127, 128, 191, 192, 255]
    assert max(one.telling for one in comparisons("scripted", [layer])) == 6


def test_a_layer_that_can_t_be_pruned_makes_no_map(tmp_path):
    with pytest.raises(NeverSlowerError, match="no layer that was named has a channel count to be pruned to"):
        measured(tmp_path, layers=[Layer("net", 0, "one", problem(out_channels=1))])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "another"}, "not a never-slower map"),
        ({"schema": 99}, "schema 99 is newer than 2"),
        ({"layers": [{}]}, "KeyError 'unpruned'"),
        ({"plans": []}, "IndexError"),
        ({"fingerprint": {}}, "TypeError"),
    ],
)
def test_a_damaged_map_is_one_clear_line(tmp_path, whole, change, why):
    path, (_, document) = tmp_path / "map.json.xz", whole
    path.write_bytes(lzma.compress(json.dumps(document | change).encode()))
    with pytest.raises(NeverSlowerError, match=why) as told:
        load(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", [b"", b"{}", lzma.compress(b"nonsense")[:-9], lzma.compress(b"nonsense")])
def test_what_is_no_map_is_one_clear_line(tmp_path, content):
    path = tmp_path / "map.json.xz"
    path.write_bytes(content)
    with pytest.raises(NeverSlowerError, match=r"map .*not a compressed JSON file"):
        load(path)


def stairs(seconds, name="net.L0"):
    counts = tuple(range(1, len(seconds) + 1))
    unpruned = replace(problem(), out_channels=len(seconds))
    return Staircase(name, unpruned, counts, np.array(seconds, dtype=float), tuple(Plan("any") for _ in counts))


@pytest.mark.parametrize(
    "path",
    [
        "cudnn@nvidia-h100-80gb-hbm3/maps/resnet50-float16-NHWC.json.xz",
        "cudnn@nvidia-h100-80gb-hbm3/maps/resnet50-tf32-NCHW.json.xz",
        "cudnn@nvidia-h200/maps/resnet50-float16-NHWC.json.xz",
    ],
)
def test_the_committed_maps_hold_every_count_of_resnet50(path):
    stored = load(ROOT / "baselines" / path)
    assert len(stored.staircases) == 23
    assert sum(len(one.counts) for one in stored.staircases) == 11_264
    assert stored.seconds < 240
    assert all(kernels(plan) for one in stored.staircases for plan in one.plans)


def test_the_committed_records_are_small():
    folders = (ROOT / "baselines").glob("cudnn@*/maps")
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) < 10_000_000


def test_a_page_has_every_count_with_its_cause_and_its_samples(whole):
    path, _ = whole
    account = account_of([path])
    assert len(account.cases) == 23
    assert account.sentence.endswith(": 21 slower, 2 not slower, of 23")
    assert Counter(case.cause.cause for case in account.cases if case.cause) == {"alignment": 21}
    assert all(case.samples and case.amount and case.reference_amount for case in account.cases)


@pytest.mark.processes
def test_the_commands_work_together(tmp_path, capsys):
    spec = f"scripted:{scripted(tmp_path, rules=RULES).argument}"
    output, drawn = tmp_path / "m.json.xz", tmp_path / "m.html"
    shape = "mb1_ic4oc16_ih6kh3ph1"
    journal = ["--journal", str(tmp_path / "m.jsonl")]
    assert cli.main(["map", str(output), "--backend", spec, "--problem", shape, *journal]) == 0
    assert "15 channel counts" in capsys.readouterr().out
    assert cli.main(["headline", str(output)]) == 0
    assert "| scripted | – | float32 NCHW |" in capsys.readouterr().out
    assert cli.main(["report", str(output), "--layer", shape, "--out", str(drawn)]) == 0
    assert drawn.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["map", "out.json"], "name a file that ends in .json.xz"),
        (["map", "out.json.xz", "--backend", "scripted", "--blocks", "1"], "--blocks 1: from 2 to 64"),
        (["map", "out.json.xz", "--layer", "resnet50.L999", "--backend", "scripted"], "no layer matches"),
        (["map", "out.json.xz", "--backend", "cuddn"], "unknown backend 'cuddn'; did you mean cudnn?"),
        (["headline", "nowhere.json.xz"], "map nowhere.json.xz: No such file"),
        (["headline", str(ROOT / "bench/data/cudnn-h100.npz")], "cudnn-h100.npz: not text; give journals of runs"),
        (["script", "--backend", "cudnn", "nonsense"], "is not a problem's key"),
    ],
)
def test_a_wrong_word_is_one_clear_line(capsys, arguments, why):
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err.strip()
    assert why in told
    assert "\n" not in told
