"""Maps and staircases: measured on the scripted backend, stored, read, and what they say at most."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace

import numpy as np
import pytest

from neverslower import cli
from neverslower.errors import NeverSlowerError
from neverslower.evidence.kernels import kernels
from neverslower.evidence.observation import Plan
from neverslower.maps.map_file import load, save
from neverslower.maps.mapping import MapMaker, countable
from neverslower.maps.staircase import Staircase, headlines
from neverslower.problem.networks import Layer
from neverslower.report.headline import headline_table
from neverslower.report.staircase import staircase_picture
from selftests.support import ROOT, problem, scripted

RULES = [
    {"seconds": 1e-5, "steps": ["gemm grid=4x1x1 block=128x1x1"]},
    {"when": "out_channels % 8 != 0", "times": 2.0, "plan": "padded",
     "steps": ["addPadding grid=9x1x1 block=64x1x1", "gemm grid=4x1x1 block=128x1x1"]},
]  # fmt: skip
LAYER = Layer("net", 0, "first", problem(out_channels=24))


pytestmark = pytest.mark.usefixtures("workers_here")


def measured(tmp_path, layer=LAYER, **script):
    spec = scripted(tmp_path, **({"rules": RULES} | script))
    document = MapMaker(spec, rounds=5, lookers=2).run([layer])
    path = tmp_path / "map.json.xz"
    save(path, document)
    return path, document


def test_every_count_is_measured_with_plan_and_dispatch(tmp_path):
    path, document = measured(tmp_path)
    assert document["points"] == 24
    (staircase,) = load(path).staircases
    assert staircase.counts == tuple(range(1, 25))
    assert staircase.seconds[-1] == pytest.approx(1e-5)
    assert staircase.ratios[22] == pytest.approx(2.0)
    assert [plan.name for plan in staircase.plans] == ["plain" if n % 8 == 0 else "padded" for n in staircase.counts]
    assert len(kernels(staircase.plans[0])) == 2
    assert {str(cause) for cause in staircase.causes().values()} == {"alignment"}


def test_names_plans_and_launches_are_stored_once(tmp_path):
    _, document = measured(tmp_path)
    assert document["kernels"] == ["addPadding", "gemm"] or document["kernels"] == ["gemm", "addPadding"]
    assert len(document["plans"]) == len(document["dispatches"]) == 2
    (layer,) = document["layers"]
    assert layer["counts"][0] == 24
    assert sorted(layer["counts"][1:]) == list(range(1, 24))
    assert layer["counts"][1:] != sorted(layer["counts"][1:])


@pytest.mark.parametrize("fault", ["unsupported", "out_of_memory"])
def test_what_is_refused_is_named_and_the_rest_is_there(tmp_path, fault):
    path, document = measured(tmp_path, rules=[*RULES, {"when": "out_channels == 5", "fault": fault}])
    assert list(document["layers"][0]["refusals"]) == ["5"]
    assert 5 not in load(path).staircases[0].counts
    assert len(load(path).staircases[0].counts) == 23


def test_a_count_that_kills_the_worker_is_found_and_the_rest_is_measured(tmp_path):
    _, document = measured(tmp_path, rules=[*RULES, {"when": "out_channels == 5", "fault": "crash"}])
    (layer,) = document["layers"]
    assert list(layer["refusals"]) == ["5"]
    assert layer["refusals"]["5"].startswith("crashed: the worker process died")
    assert set(layer["counts"]) == set(range(1, 25)) - {5}


def test_a_disturbed_device_is_measured_again_and_then_refused(tmp_path):
    path, document = measured(tmp_path, throttled=1.0)
    (layer,) = document["layers"]
    assert layer["counts"] == []
    assert set(layer["refusals"].values()) == {"the device was disturbed: scripted throttling"}
    assert len(layer["disturbed"]) == 3
    assert load(path).staircases == ()
    assert len(list(headline_table([load(path)]))) == 2


def test_a_layer_whose_unpruned_self_is_refused_has_no_staircase(tmp_path):
    path, document = measured(tmp_path, rules=[*RULES, {"when": "out_channels == 24", "fault": "unsupported"}])
    assert document["points"] == 23
    assert load(path).staircases == ()


def test_an_interrupted_map_holds_what_was_measured(tmp_path):
    def interrupt(phase, done, total, seconds_left):
        if done > 128:
            raise KeyboardInterrupt

    layer = Layer("net", 0, "first", problem(out_channels=300))
    mapper = MapMaker(scripted(tmp_path, rules=RULES), rounds=3, progress=interrupt)
    document = mapper.run([layer, LAYER])
    assert mapper.ended_early == "interrupted"
    assert 256 <= document["points"] < 324
    path = tmp_path / "map.json.xz"
    save(path, document)
    assert [one.name for one in load(path).staircases] == [layer.name]


def test_grouped_layers_are_not_mapped():
    assert countable(problem(groups=8)) == []
    assert countable(problem(out_channels=4)) == [1, 2, 3]


def test_a_backend_that_can_t_map_says_so():
    from neverslower.worker.process import WorkerSpec

    with pytest.raises(NeverSlowerError, match="onednn can't map whole layers; cudnn can"):
        MapMaker(WorkerSpec("onednn")).run([LAYER])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "another"}, "not a never-slower map"),
        ({"schema": 99}, "schema 99 is newer than 1"),
        ({"layers": [{}]}, "KeyError 'unpruned'"),
        ({"plans": []}, "IndexError"),
        ({"fingerprint": {}}, "TypeError"),
    ],
)
def test_a_damaged_map_is_one_clear_line(tmp_path, change, why):
    path, document = measured(tmp_path)
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


def test_the_worst_of_light_pruning_and_the_best_gain_are_found():
    seconds = [1.0] * 100
    seconds[89] = 1.5  # 90 of 100 channels.
    seconds[49] = 9.0  # Heavy pruning does not count as light.
    one = stairs(seconds)
    assert one.worst() == (1.5, 90)
    assert one.best_gain() == (9.0, 46, 50)
    assert one.hazards == (49, 89)


def test_a_flat_layer_has_neither():
    one = stairs([1.0] * 16)
    assert one.worst()[0] == 1.0
    assert one.best_gain() == (1.0, 16, 16)
    assert stairs([1.0]).worst() == (1.0, 1)


def test_headlines_are_drawn_for_each_network():
    found = headlines([stairs([1.0, 2.0, 1.0], "a.L0"), stairs([1.0] * 9, "b.L0"), stairs([3.0] * 9 + [1.0], "a.L1")])
    assert [(one.network, one.counts, one.slower) for one in found] == [("a", 13, 10), ("b", 9, 0)]
    assert found[0].worst == (3.0, "a.L1", 9, 10)


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
    assert stored.busy_seconds > 0.6 * stored.seconds
    assert all(kernels(plan) for one in stored.staircases for plan in one.plans)


def test_the_committed_records_are_small():
    folders = (ROOT / "baselines").glob("cudnn@*/maps")
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) < 10_000_000


def test_a_picture_shows_every_count_in_the_colour_of_its_cause(tmp_path):
    path, _ = measured(tmp_path)
    stored = load(path)
    text = staircase_picture(stored.staircases[0], stored.fingerprint)
    assert text.count("<title>") == 24
    assert "21 of 23 pruned channel counts" in text
    assert "alignment (21)" in text


@pytest.mark.processes
def test_the_commands_work_together(tmp_path, capsys):
    spec = f"scripted:{scripted(tmp_path, rules=RULES).argument}"
    output, drawn = tmp_path / "m.json.xz", tmp_path / "m.svg"
    shape = "mb1_ic4oc16_ih6kh3ph1"
    assert cli.main(["map", str(output), "--backend", spec, "--problem", shape, "--rounds", "3"]) == 0
    assert "16 channel counts" in capsys.readouterr().out
    assert cli.main(["headline", str(output)]) == 0
    assert "| scripted | – | float32 NCHW |" in capsys.readouterr().out
    assert cli.main(["staircase", str(output), shape, str(drawn)]) == 0
    assert drawn.read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["map", "out.json"], "name a file that ends in .json.xz"),
        (["map", "out.json.xz", "--rounds", "1"], "--rounds 1: from 3 to 1000"),
        (["map", "out.json.xz", "--layer", "resnet50.L999"], "no layer matches"),
        (["map", "out.json.xz", "--backend", "cuddn"], "unknown backend 'cuddn'; did you mean cudnn?"),
        (["headline", "nowhere.json.xz"], "map nowhere.json.xz: No such file"),
        (["script", "--backend", "cudnn", "nonsense"], "is not a problem's key"),
    ],
)
def test_a_wrong_word_is_one_clear_line(capsys, arguments, why):
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err.strip()
    assert why in told
    assert "\n" not in told


def test_an_empty_table_has_its_head_alone():
    assert len(list(headline_table([]))) == 2
