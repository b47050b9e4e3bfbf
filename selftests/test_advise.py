"""The command that advises, on the scripted backend: drawn from a map, measured again, taken back."""

from __future__ import annotations

import json

import pytest

from neverslower import cli
from neverslower.cli_advise import in_round
from neverslower.judge.verdict import STANDARD
from neverslower.maps import advice_file
from neverslower.maps.map_file import document_of, save
from neverslower.maps.mapping import measure
from neverslower.problem.convolution import Side, parse_descriptor
from neverslower.problem.networks import Layer
from selftests.support import ROOT, scripted
from selftests.test_mapping import SHAPE, campaign

pytestmark = pytest.mark.usefixtures("workers_here")

JOURNAL, VERIFIED = "advice.jsonl", "advice-verified.jsonl"
OF_CUDNN = ROOT / "baselines/cudnn@nvidia-h100-80gb-hbm3/maps/best-resnet50.L16-tf32-NHWC.json.xz"
STEPS = [
    {"seconds": 1e-5},
    {"when": "out_channels % 8 != 0", "times": 2.0},
    {"when": "out_channels <= 16", "times": 0.6},
]


def advise(tmp_path, *arguments, rules=STEPS, journal="--journal", **script):
    """Run the command on a script; `journal` is --resume where it goes on with what it ran before."""
    spec = f"scripted:{scripted(tmp_path, 30.0, rules=rules, noise=0.002, **script).argument}"
    where = [journal, str(tmp_path / JOURNAL)]
    return cli.main(["advise", "--backend", spec, "--problem", SHAPE, *where, *arguments])


def events(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_advice_is_measured_count_against_count(tmp_path, capsys):
    output = tmp_path / "advice.json"
    assert advise(tmp_path, "--output", str(output)) == 0
    told = capsys.readouterr().out
    assert "toothed, 6 treads, teeth at multiples of 8, 0 spikes, 21 hazards, of 24 channel counts" in told
    assert "| 16 | 6.0" in told
    (layer,) = json.loads(output.read_text(encoding="utf-8"))["layers"]
    assert [(row["channels"], row["against"], row["verdict"]) for row in layer["advised"]] == [(16, 24, "FASTER")]
    estimate, low, high = layer["advised"][0]["ratio"]
    assert low <= estimate <= high < 1
    assert layer["unpruned"]["channels"] == 24


def test_advice_is_drawn_from_a_map_and_taken_back_where_it_does_not_hold(tmp_path, capsys):
    path = tmp_path / "m.json.xz"
    spec = scripted(tmp_path, 30.0, rules=STEPS, noise=0.002)
    mapped = ["map", str(path), "--backend", f"scripted:{spec.argument}", "--problem", SHAPE]
    assert cli.main([*mapped, "--journal", str(tmp_path / "map.jsonl")]) == 0
    assert advise(tmp_path, "--map", str(path), rules=[*STEPS, {"when": "out_channels == 16", "times": 2.0}]) == 0
    told = capsys.readouterr().out
    assert "taken back: 16 against 24 is SLOWER" in told
    assert "no pruned count is proved faster than the unpruned 24 channels" in told


def test_advice_on_instructions_keeps_its_own_words(tmp_path, capsys):
    few = [{"instructions": 1000}, {"when": "out_channels <= 16", "instructions": 600}]
    assert advise(tmp_path, evidence="instructions", rules=few) == 0
    told = capsys.readouterr().out
    assert f"{SHAPE}: fewest instructions: " in told
    assert "| 16 | 600 instructions | 0.60 | FEWER than 24: 0.600× |" in told
    assert advise(tmp_path, evidence="instructions", rules=[{"instructions": 1000}]) == 0
    told += capsys.readouterr().out
    assert "no pruned count takes fewer instructions than the unpruned 24 channels" in told
    assert "faster" not in told


def test_input_channels_are_advised_and_asserted_as_such(tmp_path, capsys):
    output, shape = tmp_path / "advice.json", "mb1_ic12oc8_ih6kh3ph1"
    rules = [
        {"seconds": 1e-5},
        {"when": "in_channels % 4 != 0", "times": 2.0},
        {"when": "in_channels <= 8", "times": 0.6},
    ]
    spec = f"scripted:{scripted(tmp_path, 30.0, rules=rules, noise=0.002).argument}"
    words = ["advise", "--backend", spec, "--problem", shape, "--side", "in", "--journal", str(tmp_path / JOURNAL)]
    assert cli.main([*words, "--output", str(output)]) == 0
    told = capsys.readouterr().out
    assert "| input channels | cost |" in told
    assert "| 8 | 6.0" in told
    assert json.loads(output.read_text(encoding="utf-8"))["schema"] == 2  # Older versions would prune the outputs.
    (comparison,) = advice_file.load(output).comparisons
    assert comparison.side is Side.IN
    assert (comparison.reference, comparison.candidate.in_channels) == (parse_descriptor(shape), 8)
    assert cli.main([*words[:-2], "--map", str(OF_CUDNN)]) == 2


def test_advice_needs_a_map_of_this_device(tmp_path, capsys):
    path = tmp_path / "m.json.xz"
    layer = Layer("", None, SHAPE, parse_descriptor(SHAPE))
    save(path, document_of(measure(campaign(tmp_path, rules=STEPS), "scripted", [layer])))
    assert advise(tmp_path, "--map", str(path), device="another") == 2
    assert f"--map {path}: it was measured elsewhere: device" in capsys.readouterr().err
    assert not [line for line in events(tmp_path / VERIFIED) if line["event"] in ("examined", "measured")]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["advise"], "advise on which layers? name them: --layer resnet50.L16"),
        (["advise", "--layer", "resnet50.L16", "--output", "a.txt"], "a.txt can't be advice: name a file that ends in"),
    ],
)
def test_advice_on_nothing_or_nowhere_is_one_clear_line(capsys, arguments, why):
    assert cli.main(arguments) == 2
    assert why in capsys.readouterr().err


SLOW_16 = {"when": "out_channels == 16", "times": 2.0}


def test_what_selected_a_count_does_not_verify_it(tmp_path, capsys):
    assert advise(tmp_path) == 0
    assert "| 16 | 6.0" in capsys.readouterr().out
    (tmp_path / VERIFIED).unlink()  # As where the command was interrupted when the map was done.
    assert advise(tmp_path, journal="--resume", rules=[*STEPS, SLOW_16]) == 0
    assert "taken back: 16 against 24 is SLOWER" in capsys.readouterr().out


def test_what_was_verified_before_an_interruption_is_not_measured_again(tmp_path, capsys):
    output = ["--output", str(tmp_path / "advice.json")]
    assert advise(tmp_path, *output) == 0
    told = capsys.readouterr().out
    before = len(events(tmp_path / VERIFIED))
    assert advise(tmp_path, *output, journal="--resume", rules=[*STEPS, SLOW_16]) == 0
    assert capsys.readouterr().out == told
    assert not [line for line in events(tmp_path / VERIFIED)[before:] if line["event"] == "measured"]


def test_a_command_with_many_counts_of_one_layer_goes_on(tmp_path, capsys):
    slope = [{"seconds": 1e-5}, *({"when": f"out_channels == {count}", "times": count / 24} for count in range(1, 24))]
    assert advise(tmp_path, rules=slope) == 0
    told = capsys.readouterr().out
    assert told.count("FASTER than") > 10
    assert advise(tmp_path, rules=slope, journal="--resume") == 0
    assert capsys.readouterr().out == told
    assert {line["blocks"] for name in (JOURNAL, VERIFIED) for line in events(tmp_path / name) if "blocks" in line} == {
        8
    }


def test_one_that_was_interrupted_before_it_knew_the_device_goes_on(tmp_path):
    assert advise(tmp_path) == 0
    (tmp_path / VERIFIED).write_text("\n".join((tmp_path / VERIFIED).read_text().splitlines()[:1]) + "\n")
    assert advise(tmp_path, journal="--resume") == 0


def test_all_rounds_share_one_chance_of_error(tmp_path):
    path = tmp_path / "m.json.xz"
    rules = [*STEPS, {"when": "out_channels <= 8", "times": 0.7}]
    spec = f"scripted:{scripted(tmp_path, 30.0, rules=rules, noise=0.002).argument}"
    journal = ["--journal", str(tmp_path / "m.jsonl")]
    assert cli.main(["map", str(path), "--backend", spec, "--problem", SHAPE, *journal]) == 0
    assert advise(tmp_path, "--map", str(path), rules=[*rules, SLOW_16]) == 0
    spent = [line["family_error"] for line in events(tmp_path / VERIFIED) if line["event"] == "campaign"]
    assert spent == [STANDARD.family_error / 2, STANDARD.family_error / 6]
    assert sum(in_round(number).family_error for number in range(1, 10_000)) < STANDARD.family_error


def test_all_rounds_end_at_one_deadline(tmp_path, capsys):
    path = tmp_path / "m.json.xz"
    layer = Layer("", None, SHAPE, parse_descriptor(SHAPE))
    save(path, document_of(measure(campaign(tmp_path, rules=STEPS), "scripted", [layer])))
    assert advise(tmp_path, "--map", str(path), "--time-budget", "0.000001s") == 2
    told = capsys.readouterr().err
    assert "--time-budget 0.000001s ended before the advice was verified; give it more time" in told
    assert f"--resume {tmp_path / JOURNAL}" in told


def test_the_map_takes_half_of_the_time_and_verifying_what_is_left(tmp_path):
    assert advise(tmp_path, "--time-budget", "10m") == 0
    (of_the_map,), (left,) = (
        [line["time_budget"] for line in events(tmp_path / name) if line["event"] == "campaign"]
        for name in (JOURNAL, VERIFIED)
    )
    assert of_the_map == 300
    assert 300 < left < 600


def test_a_map_of_another_backend_is_refused_at_once(tmp_path, capsys):
    assert advise(tmp_path, "--map", str(OF_CUDNN)) == 2
    assert "a map of cudnn, and --backend is scripted; name a map of it" in capsys.readouterr().err
    assert not (tmp_path / VERIFIED).exists()


def test_a_journal_that_verified_nothing_is_not_resumed(tmp_path, capsys):
    path = tmp_path / "m.json.xz"
    layer = Layer("", None, SHAPE, parse_descriptor(SHAPE))
    save(path, document_of(measure(campaign(tmp_path, rules=STEPS), "scripted", [layer])))
    assert advise(tmp_path, "--map", str(path), journal="--resume") == 2
    assert f"{tmp_path / VERIFIED} is not there, which would hold what was verified" in capsys.readouterr().err


def test_what_was_wrong_with_the_device_is_reported(tmp_path, capsys):
    hot = {"unsound": [{"trouble": "hot", "text": "85 degrees", "remedy": "cool it"}]}
    assert advise(tmp_path, "--unsound", "warn", states=[hot], remarks=["a remark"]) == 0
    told = capsys.readouterr().out
    assert told.count("scripted: 85 degrees") == 1
    assert "scripted: a remark" in told


def test_a_device_that_changes_is_reported(tmp_path, capsys):
    looks = [{"settings": {"governor": "performance"}}, {"settings": {"governor": "powersave"}, "processes": [1]}]
    assert advise(tmp_path, states=looks) == 0
    told = capsys.readouterr().out
    assert "scripted: the device changed while it was measured: state governor: performance → powersave" in told


def test_a_device_that_becomes_unfit_is_reported(tmp_path, capsys):
    busy = {"unsound": [{"trouble": "busy", "text": "busy with make", "remedy": "wait for it"}], "processes": [1]}
    assert advise(tmp_path, states=[{}, busy]) == 0
    assert "scripted: its device became unfit while it was measured: busy with make" in capsys.readouterr().out


def test_a_layer_that_gives_no_advice_is_named_after_the_advice(tmp_path, capsys):
    other = "mb1_ic4oc25_ih6kh3ph1"
    output = tmp_path / "advice.json"
    rules = [*STEPS, {"when": "out_channels == 25", "fault": "unsupported"}]
    assert advise(tmp_path, "--problem", other, "--output", str(output), rules=rules) == 2
    told = capsys.readouterr()
    assert f"no advice on layers that could not be measured: {other}: UNSUPPORTED" in told.err
    assert "| 16 | 6.0" in told.out
    assert [layer["name"] for layer in json.loads(output.read_text())["layers"]] == [SHAPE]
