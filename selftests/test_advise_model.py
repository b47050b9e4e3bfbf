"""The command that advises on a whole model, on the scripted backend: planned, refined, verified, written, refused."""

from __future__ import annotations

import csv
import importlib
import json

import pytest

from neverslower import cli, cli_widths
from neverslower.campaign.findings import Findings
from neverslower.errors import NeverSlowerError
from neverslower.models import reading, weights
from neverslower.problem.model import Model
from neverslower.report.widths import ratio_of
from neverslower.widths import solving
from selftests.support import ROOT, scripted
from selftests.width_models import CHAIN, weights_of

pytestmark = pytest.mark.usefixtures("workers_here")

STEPS = [
    {"seconds": 1e-5},
    {"when": "out_channels <= 48", "times": 0.7},
    {"when": "out_channels % 16 != 0", "times": 2.0},
    {"when": "in_channels <= 32 and in_channels > 3", "times": 0.6},
]


@pytest.fixture(autouse=True)
def _no_child(monkeypatch):
    """The model is one of the selftests' own, so that no process has to read it."""
    monkeypatch.setattr(reading, "models", lambda values: (CHAIN.model,) if values.get("model") else ())
    monkeypatch.setattr(cli_widths, "coupled_groups", lambda model: CHAIN.groups)
    monkeypatch.setattr(cli_widths, "weights_of", lambda model: weights_of(CHAIN))


def advise(tmp_path, *arguments, rules=STEPS, journal="--journal", **script):
    spec = f"scripted:{scripted(tmp_path, 30.0, rules=rules, noise=0.002, **script).argument}"
    model = ["--model", "m.py:build", "--input", "1x3x6x6"]
    where = [journal, str(tmp_path / "w.jsonl")]
    return cli.main(["advise", "--backend", spec, *model, *where, *arguments])


def events(path):
    return [json.loads(line)["event"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_advice_on_a_model_is_verified_and_written(tmp_path, capsys):
    output, table = tmp_path / "w.json", tmp_path / "w.csv"
    assert advise(tmp_path, "--budget", "latency=0.7x", "--output", str(output), "--csv", str(table)) == 0
    told = capsys.readouterr()
    assert "importance is kept (L1 norm" in told.out
    assert " changed: " in told.out
    assert "none is proved slower" in told.out
    assert "held: image: it reads the model's input" in told.out
    assert "refining the grid around" in told.err
    written = json.loads(output.read_text(encoding="utf-8"))
    assert written["planned"]["latency"] <= 0.7 * written["unpruned"]["latency"]
    assert written["layers"]
    assert {layer["verdict"] for layer in written["layers"]} == {"FASTER"}
    keep = {group["name"]: group["keep"] for group in written["groups"]}
    assert written["pruning_ratio"] == {name: 1 - kept / 64 for name, kept in keep.items()}
    assert written["modules"]["bn1"] == {"out_before": 64, "out": keep["first"]} or keep["first"] == 64
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert {row["module"]: int(row["keep"]) for row in rows if row["axis"] == "out"} == {
        name: row["out"] for name, row in written["modules"].items() if "out" in row
    }


def test_what_is_written_follows_the_published_schema(tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    output = tmp_path / "w.json"
    assert advise(tmp_path, "--output", str(output)) == 0
    schema = json.loads((ROOT / "docs/reference/widths.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    written = json.loads(output.read_text(encoding="utf-8"))
    jsonschema.validate(written, schema, cls=jsonschema.Draft202012Validator)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**written, "gap": "none"}, schema)


def test_a_count_that_turns_out_slower_is_taken_back(tmp_path, capsys):
    path = tmp_path / "g.json.xz"
    spec = f"scripted:{scripted(tmp_path, 30.0, rules=STEPS, noise=0.002).argument}"
    shapes = [word for layer in CHAIN.model.layers for word in ("--problem", layer.problem.descriptor)]
    assert (
        cli.main(["map", "--grid", str(path), "--backend", spec, *shapes, "--journal", str(tmp_path / "g.jsonl")]) == 0
    )
    assert advise(tmp_path, "--grid", str(path)) == 0
    planned = capsys.readouterr().out
    assert "taken back" not in planned
    slow = [*STEPS, {"when": "in_channels == 32 and out_channels == 64", "times": 9.0}]
    slow += [{"when": "in_channels == 32 and out_channels == 48", "times": 9.0}]
    again = tmp_path / "again"
    again.mkdir()
    assert advise(again, "--grid", str(path), rules=slow) == 0
    told = capsys.readouterr().out
    assert "taken back: m.second at 32 × " in told
    assert "is SLOWER" in told
    assert "none is proved slower" in told


def test_a_budget_that_cannot_be_met_names_the_least_and_what_holds_it_up(tmp_path, capsys):
    assert advise(tmp_path, "--budget", "latency=0.1x") == 2
    told = capsys.readouterr().err
    assert "no widths fit the budget: latency=0.1x can't be met: the least is latency=0." in told
    assert "the least is latency=0.560x, of which first 0.350x (image held, first " in told
    assert "), second 0.210x (first " in told
    assert "; held: image: it reads the model's input" in told


def test_a_grid_of_other_software_or_of_another_device_is_refused_with_the_field(tmp_path, capsys, monkeypatch):
    path = tmp_path / "g.json.xz"
    spec = f"scripted:{scripted(tmp_path, 30.0, rules=STEPS, noise=0.002).argument}"
    shapes = [word for layer in CHAIN.model.layers for word in ("--problem", layer.problem.descriptor)]
    grid = ["map", "--grid", str(path), "--backend", spec, *shapes, "--points", "4"]
    assert cli.main([*grid, "--journal", str(tmp_path / "g.jsonl")]) == 0
    monkeypatch.setattr(solving, "solve", None)  # All of it is refused before anything is planned.
    for field, named in (
        ({"device": "another"}, "device name: "),
        ({"software": {"driver": "2"}}, "software driver: absent → 2"),
        ({"version": "9.9"}, "software scripted: 1.0 → 9.9"),
        ({"build": "another"}, "library build: 0 → another"),
        ({"state": {"governor": "powersave"}}, "state governor: absent → powersave"),
        ({"hardware": {"cores": "4"}}, "hardware cores: absent → 4"),
    ):
        assert advise(tmp_path, "--grid", str(path), **field) == 2
        assert named in capsys.readouterr().err
        (tmp_path / "w-verified.jsonl").unlink(missing_ok=True)
    for option, value, named in (("--dtype", "float16", "dtype float32"), ("--layout", "NHWC", "layout NCHW")):
        assert advise(tmp_path, "--grid", str(path), option, value) == 2
        assert f"with {named}, and {value} is asked for" in capsys.readouterr().err
    assert advise(tmp_path, "--grid", str(path), journal="--resume") == 2
    assert f"--resume {tmp_path / 'w.jsonl'}: neither" in capsys.readouterr().err


def test_planning_ends_with_the_time_budget(tmp_path, monkeypatch):
    seconds, solve = [], solving.solve

    def solved(question, goal, limit):
        seconds.append(limit)
        return solve(question, goal, limit)

    monkeypatch.setattr(solving, "solve", solved)
    assert advise(tmp_path, "--time-budget", "1000s", "--solve-time", "5000") == 0
    assert max(seconds) <= 1000


def test_what_was_measured_before_an_interruption_is_not_measured_again(tmp_path, capsys):
    assert advise(tmp_path) == 0
    told = capsys.readouterr().out
    files = [tmp_path / name for name in ("w.jsonl", "w-refined.jsonl", "w-verified.jsonl")]
    before = [events(path).count("measured") for path in files]
    assert advise(tmp_path, journal="--resume") == 0
    assert capsys.readouterr().out == told
    assert [events(path).count("measured") for path in files] == before


def test_advice_that_exceeds_its_budget_by_the_verdicts_says_so(tmp_path, capsys):
    path = tmp_path / "g.json.xz"
    spec = f"scripted:{scripted(tmp_path, 30.0, rules=STEPS, noise=0.002).argument}"
    shapes = [word for layer in CHAIN.model.layers for word in ("--problem", layer.problem.descriptor)]
    assert (
        cli.main(["map", "--grid", str(path), "--backend", spec, *shapes, "--journal", str(tmp_path / "g.jsonl")]) == 0
    )
    slower = [*STEPS, {"when": "out_channels <= 48", "times": 1.3}, {"when": "in_channels <= 32", "times": 1.2}]
    assert advise(tmp_path, "--grid", str(path), "--rounds", "1", "--budget", "latency=0.7x", rules=slower) == 0
    assert ", above the budget of 0.7x" in capsys.readouterr().out


def test_every_group_keeps_the_floor(tmp_path):
    output = tmp_path / "w.json"
    assert advise(tmp_path, "--floor", "0.6", "--budget", "latency=0.8x", "--output", str(output)) == 0
    groups = json.loads(output.read_text(encoding="utf-8"))["groups"]
    assert all(group["keep"] >= 0.6 * group["channels"] for group in groups)


def test_a_layer_that_cannot_be_measured_ends_the_command_with_the_reason(tmp_path, capsys):
    refused = {"when": "in_channels > 3", "fault": "unsupported"}
    assert advise(tmp_path, rules=[*STEPS, refused]) == 2
    assert "no advice without the times of all layers: m.second: " in capsys.readouterr().err


def test_advice_from_a_part_of_a_grid_says_how_to_measure_the_rest(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Findings, "left_out", 3)
    refused = {"when": "in_channels == 32", "fault": "unsupported"}
    assert advise(tmp_path, "--budget", "macs=0.8x", rules=[*STEPS, refused]) == 0
    told = capsys.readouterr().out
    assert "pairs (the time budget ended); nothing else is planned with" in told
    assert f"give it more time, and go on with the same command and --resume {tmp_path / 'w.jsonl'}" in told


def test_a_part_of_a_grid_gives_no_advice_on_what_it_has_not_seen(tmp_path, capsys):
    refused = {"when": "in_channels == 32 or in_channels == 16", "fault": "unsupported"}
    output = tmp_path / "w.json"
    assert advise(tmp_path, "--budget", "macs=0.8x", "--output", str(output), rules=[*STEPS, refused]) == 0
    keep = {group["name"]: group["keep"] for group in json.loads(output.read_text(encoding="utf-8"))["groups"]}
    assert keep["first"] not in (16, 32)
    assert "pairs (the others were refused); nothing else is planned with" in capsys.readouterr().out


def test_instructions_give_advice_in_their_own_words(tmp_path, capsys):
    rules = [{"instructions": 1000}, {"when": "out_channels <= 48", "instructions": 700}]
    rules += [{"when": "in_channels <= 32 and in_channels > 3", "instructions": 500}]
    assert advise(tmp_path, "--budget", "latency=0.8x", rules=rules, evidence="instructions") == 0
    told = capsys.readouterr().out
    assert "FEWER: 0." in told
    assert "instructions (estimated sum of its convolutions): 0." in told
    assert "instructions by the verdicts below: 0." in told
    assert "µs" not in told


def test_scores_of_the_user_choose_which_group_is_kept(tmp_path):
    kept = {}
    for favourite, other in (("first", "second"), ("second", "first")):
        scores = tmp_path / f"{favourite}.json"
        scores.write_text(json.dumps({favourite: [9.0] * 64, other: [1.0] * 64}), encoding="utf-8")
        folder = tmp_path / favourite
        folder.mkdir()
        output = folder / "w.json"
        assert advise(folder, "--scores", str(scores), "--budget", "macs=0.6x", "--output", str(output)) == 0
        kept[favourite] = {g["name"]: g["keep"] for g in json.loads(output.read_text(encoding="utf-8"))["groups"]}
    assert kept["first"]["first"] > kept["second"]["first"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--budget", "speed=2x"], "--budget speed=2x: write such as latency=0.7x"),
        (["--problem", "mb1_ic4oc8_ih6kh1"], "--problem has no place next to --budget or --grid"),
        (["--side", "in"], "--side has no place here: a whole model is advised on; name --layer"),
        (["--record", "r.jsonl"], "--record has no place here: a whole model is advised on"),
        (["--layer", "first", "--csv", "w.csv"], "--csv has no place here: layers are advised on by themselves"),
        (["--layer", "first", "--floor", "0.5"], "--floor has no place here: layers are advised on by themselves"),
        (["--rounds", "0"], "--rounds is 1 or more"),
        (["--floor", "1.5"], "--floor 1.5: from 0 to 1"),
        (["--output", "w.txt"], "w.txt can't be widths: name a file that ends in .json"),
        (["--grid", "missing.json.xz"], "grid missing.json.xz: No such file"),
        (["--scores", "missing.json"], "missing.json: No such file"),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path, capsys, arguments, why):
    assert advise(tmp_path, *arguments) == 2
    assert why in capsys.readouterr().err


def test_a_budget_needs_a_model(capsys):
    assert cli.main(["advise", "--budget", "latency=0.7x"]) == 2
    assert "advise on the widths of which model? name one" in capsys.readouterr().err


def test_a_ratio_leaves_what_is_advised_where_a_pruner_rounds_down():
    for channels in range(1, 513):
        for keep in range(1, channels + 1):
            assert int(channels * (1 - ratio_of(channels, keep))) == keep
    assert ratio_of(64, 48) == 0.25


EXAMPLES = ROOT / "docs" / "examples"


def test_the_example_prunes_to_the_advice_with_torch_pruning(monkeypatch):
    pytest.importorskip("torch_pruning")
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = importlib.import_module("prune_to_widths")
    assert len(example.ADVICE["modules"]) == 6
    assert example.differences(example.pruned()) == []
    assert example.differences(example.build()) != []


def test_the_example_follows_the_published_schema():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "docs/reference/widths.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads((EXAMPLES / "widths.json").read_text(encoding="utf-8")), schema)


def test_weights_are_read_in_a_child_process_and_are_the_same_each_time():
    pytest.importorskip("torch")
    source = ("--model", str(EXAMPLES / "original.py:build"), "--input", "1x3x56x56")
    first, second = (weights.weights_of(Model("original", (), source=source)) for _ in range(2))
    assert first == second
    assert first["layer2.0.conv1"].shape == (128, 64, 3, 3)
    assert len(first["layer2.0.conv1"].norms) == 128
    assert not first["conv1"].bias
    with pytest.raises(NeverSlowerError, match="name the model by --model or --onnx"):
        weights.weights_of(Model("m", (), source=("--problems", "m.csv")))
