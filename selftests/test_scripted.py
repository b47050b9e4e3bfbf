"""The scripted backend: what a script says is what happens, deterministically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import scripted
from backends.base import BackendOptions
from neverslower.errors import OutOfMemory, Unavailable, Unsupported
from neverslower.problem import numerics
from neverslower.problem.convolution import ConvProblem
from selftests.support import problem, script


def backend(process: int = 0, **fields: Any) -> scripted.Scripted:
    return scripted.Scripted(fields, process)


def prepared(one: scripted.Scripted, of: ConvProblem) -> scripted.Prepared:
    return one.prepare(of, *numerics.tensors(of))


def rounds(one: scripted.Scripted, count: int = 200, of: ConvProblem | None = None) -> np.ndarray:
    """Seconds per call of so many rounds of four calls."""
    held = prepared(one, of or problem())
    return np.array([held.run(4) / 4 for _ in range(count)])


def test_without_a_script_a_call_takes_time_by_its_macs() -> None:
    assert rounds(backend(), 2) == pytest.approx(1e-5 + 1e-11 * problem().macs)


@given(
    seed=st.integers(0, 2**32),
    noise=st.floats(0, 0.5),
    effect=st.floats(0, 0.5),
    chance=st.floats(0, 1),
    process=st.integers(0, 9),
)
def test_equal_seeds_give_equal_samples(seed: int, noise: float, effect: float, chance: float, process: int) -> None:
    fields = {"seed": seed, "noise": noise, "process_effect": effect, "spikes": [chance, 3.0], "drift": 0.1}
    assert np.array_equal(rounds(backend(process, **fields), 5), rounds(backend(process, **fields), 5))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"seed": 1}, {"seed": 2}),
        ({"process": 0}, {"process": 1}),
    ],
)
def test_seed_and_process_change_the_noise(one: dict[str, int], other: dict[str, int]) -> None:
    assert not np.array_equal(rounds(backend(noise=0.1, **one), 5), rounds(backend(noise=0.1, **other), 5))


def test_each_problem_has_noise_of_its_own() -> None:
    one = backend(noise=0.1, rules=[{"seconds": 1e-5}])
    assert not np.array_equal(rounds(one, 5), rounds(one, 5, problem(15)))


def test_two_copies_of_a_problem_have_noise_of_their_own_and_one_process_effect() -> None:
    noisy, effect = backend(noise=0.1), backend(process_effect=0.1)
    assert not np.array_equal(rounds(noisy, 5), rounds(noisy, 5))
    assert np.array_equal(rounds(effect, 5), rounds(effect, 5))


def test_noise_is_the_deviation_of_log_time() -> None:
    logs = np.log(rounds(backend(noise=0.05), 4000))
    assert np.std(logs) == pytest.approx(0.05, rel=0.1)


def test_a_process_effect_is_constant_within_a_process_and_varies_between_them() -> None:
    taken = [rounds(backend(process, process_effect=0.05), 3) for process in range(500)]
    assert all(np.ptp(one) == 0 for one in taken)
    assert np.std([np.log(one[0]) for one in taken]) == pytest.approx(0.05, rel=0.2)


def test_drift_grows_with_virtual_time() -> None:
    taken = rounds(backend(rules=[{"seconds": 1.0}], drift=0.25), 3)
    assert taken == pytest.approx([1.0, 2.0, 4.0])


def test_spikes_come_as_often_and_as_high_as_the_script_says() -> None:
    taken = rounds(backend(rules=[{"seconds": 1e-5}], spikes=[0.1, 4.0]), 2000)
    high = np.isclose(taken, 4e-5)
    assert np.all(high | np.isclose(taken, 1e-5))
    assert 0.07 < np.mean(high) < 0.13


@pytest.mark.parametrize(
    ("rules", "seconds"),
    [
        ([{"seconds": 3e-5}], 3e-5),
        ([{"seconds": 3e-5, "times": 2.0}], 6e-5),
        ([{"seconds": 3e-5}, {"times": 2.0}, {"times": 2.0}], 12e-5),
        ([{"seconds": 3e-5}, {"when": "out_channels == 15", "times": 2.0}], 3e-5),
        ([{"seconds": 3e-5}, {"when": "out_channels % 8 == 0", "times": 2.0}], 6e-5),
        ([{"seconds": 3e-5}, {"processes": [1, 2], "times": 2.0}], 3e-5),
        ([{"seconds": 3e-5}, {"processes": [0], "times": 2.0}], 6e-5),
    ],
)
def test_rules_that_hold_set_and_multiply_the_time_in_order(rules: list[dict[str, Any]], seconds: float) -> None:
    assert rounds(backend(rules=rules), 1) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("rules", "plan"),
    [
        ([], "plain"),
        ([{"plan": "padded"}], "padded"),
        ([{"plan": "padded"}, {"plan": "direct"}, {"times": 2.0}], "direct"),
        ([{"plan": "padded"}, {"when": "groups > 1", "plan": "direct"}], "padded"),
    ],
)
def test_the_last_plan_that_holds_is_the_plan(rules: list[dict[str, Any]], plan: str) -> None:
    assert prepared(backend(rules=rules), problem()).plan().name == plan


@pytest.mark.parametrize(
    ("fault", "raised"), [("unsupported", Unsupported), ("out_of_memory", OutOfMemory), ("error", RuntimeError)]
)
def test_a_fault_that_raises(fault: str, raised: type[Exception]) -> None:
    with pytest.raises(raised, match="scripted"):
        prepared(backend(rules=[{"fault": fault}]), problem())


@pytest.mark.parametrize(("fault", "right"), [(None, True), ("wrong", False), ("nan", False)])
def test_a_fault_that_spoils_the_output(fault: str | None, right: bool) -> None:
    one = prepared(backend(rules=[{"fault": fault}] if fault else []), problem())
    expected = numerics.convolve(problem(), *numerics.tensors(problem()))
    assert (numerics.deviation(one.output(), expected) < 1e-4) is right


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"nois": 0.1, "sed": 1}, "unknown key nois, sed"),
        ({"rules": [{"fault": "explode"}]}, "unknown fault explode"),
        ({"rules": [{"tims": 2.0}]}, "unknown key of a rule tims"),
        ({"unavailable": "the board is off"}, "the board is off"),
    ],
)
def test_a_script_with_a_mistake_is_unavailable_and_the_mistake_named(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(Unavailable, match=words):
        scripted.open(BackendOptions(str(script(tmp_path, **fields))))


@pytest.mark.parametrize("text", ["{", "[1, 2]", "3", ""])
def test_a_script_that_is_no_json_object_is_unavailable_and_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Unavailable, match=r"broken\.json"):
        scripted.open(BackendOptions(str(path)))


def test_a_missing_script_is_unavailable_and_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"absent\.json: .*No such file"):
        scripted.open(BackendOptions(str(tmp_path / "absent.json")))


def test_every_documented_fault_is_known_and_no_other() -> None:
    documented = (scripted.__doc__ or "").rsplit("Faults:", 1)[1].strip().rstrip(".")
    assert {word.strip() for word in documented.split(",")} == scripted.FAULTS


def test_the_fingerprint_is_what_the_script_says() -> None:
    found = backend(device="board", version="1.2", hardware={"cores": "2"}, software={"driver": "9"}).fingerprint()
    assert (found.device, found.version, found.hardware) == ("board", "1.2", {"cores": "2"})
    assert found.software == {"scripted": "1.2", "driver": "9"}
