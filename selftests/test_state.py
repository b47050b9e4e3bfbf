"""Readers of device state: NVML's answers as an NVIDIA H100 gave them, and Jetson's files as NVIDIA documents them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from neverslower.device.readers import jetson
from neverslower.device.readers.nvml import Neighbour, Nvml
from neverslower.device.state import Trouble
from selftests.support import tree


class NVMLError(Exception):
    pass


H100: dict[str, Any] = {
    # Answers of driver 580.159.04 through nvidia-ml-py 13.610 on an NVIDIA H100 80GB HBM3, while it was busy.
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=85520809984),
    "nvmlDeviceGetEnforcedPowerLimit": 700000,
    "nvmlDeviceGetEccMode": [1, 1],
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetApplicationsClock": 1980,
    "nvmlDeviceGetMaxClockInfo": 2619,
    "nvmlDeviceGetCurrentClocksEventReasons": 0,
    "nvmlDeviceGetClockInfo": 1980,
    "nvmlDeviceGetDefaultApplicationsClock": 1980,
    "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=512, usedGpuMemory=None)],
}


class Library:
    """nvidia-ml-py with given answers; what is None or left out is not supported."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2

    def __init__(self, answers: dict[str, Any], known: bool = True) -> None:
        self._answers, self._known = answers, known

    def nvmlInit(self):  # noqa: N802
        pass

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        return "580.159.04"

    def nvmlDeviceGetHandleByUUID(self, identifier):  # noqa: N802
        if not self._known:
            raise NVMLError("Not Found")
        return identifier

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def __getattr__(self, name: str):
        if name not in H100 and name not in self._answers:
            raise AttributeError(name)

        def answer(*_: object):
            if self._answers.get(name) is None:
                raise NVMLError("Not Supported")
            return self._answers[name]

        return answer


def gpu(**changes: Any) -> Nvml:
    return Nvml(Library(H100 | changes), "GPU-6feaab23", 0)


def test_an_h100s_state_is_what_stands_still():
    assert gpu().hardware() == {"memory": "80 GiB"}
    assert gpu().driver() == "580.159.04"
    assert gpu().settings() == {
        "power limit": "700 W",
        "ecc": "on",
        "mig": "off",
        "sm clock asked for": "1980 MHz",
        "memory clock": "2619 MHz",
    }


def test_what_a_board_does_not_answer_is_left_out():
    silent = Nvml(Library({}), "GPU-6feaab23", 0)
    assert (silent.hardware(), silent.settings(), silent.neighbours(), silent.slowdowns()) == ({}, {}, [], [])
    assert silent.blind
    assert not gpu().blind


def test_a_part_of_a_gpu_is_found_by_its_index():
    assert Nvml(Library(H100, known=False), "GPU-?", 3)._device == 3


@pytest.mark.parametrize(
    ("reasons", "clock", "found"),
    [
        (0x0, 1980, []),
        (0x1, 1980, []),
        (0x2, 1980, []),
        (0x2, 900, []),
        (0x4, 1980, ["power cap"]),
        (0x28, 1980, ["hardware slowdown", "thermal slowdown (software)"]),
        (0x40, 1980, ["thermal slowdown (hardware)"]),
        (0x80, 1980, ["power brake"]),
        (0x0, 1485, []),
        (0x0, 1484, ["clock at 1484 of 1980 MHz"]),
        (0x4, 345, ["power cap", "clock at 345 of 1980 MHz"]),
    ],
)
def test_slowdowns_are_named(reasons, clock, found):
    changed = gpu(nvmlDeviceGetCurrentClocksEventReasons=reasons, nvmlDeviceGetClockInfo=clock)
    assert changed.slowdowns() == found


def test_an_older_driver_is_asked_by_the_older_name():
    answers = H100 | {"nvmlDeviceGetCurrentClocksEventReasons": None}
    library = Library(answers)
    vars(library)["nvmlDeviceGetCurrentClocksThrottleReasons"] = lambda _: 0x4
    assert Nvml(library, "", 0).slowdowns() == ["power cap"]


def test_a_gpus_look_tells_what_decides_from_what_jitters():
    found = gpu(nvmlDeviceGetTemperature=31, nvmlDeviceGetPowerUsage=68_500).look(own={512})
    assert found.settings == gpu().settings()
    assert found.readings == {"sm MHz": 1980.0, "memory MHz": 1980.0, "gpu °C": 31.0, "gpu W": 68.5}
    assert found.unsound == ()


@pytest.mark.parametrize(
    ("changes", "trouble", "grave"),
    [
        ({"nvmlDeviceGetCurrentClocksEventReasons": 0x40}, Trouble.THROTTLED, True),
        ({"nvmlDeviceGetCurrentClocksEventReasons": 0x4}, Trouble.THROTTLED, False),
        ({"nvmlDeviceGetTemperature": 85, "nvmlDeviceGetTemperatureThreshold": 92}, Trouble.HOT, True),
        ({"nvmlDeviceGetProcessUtilization": [SimpleNamespace(pid=512, smUtil=40)]}, Trouble.BUSY, True),
    ],
)
def test_what_is_unsound_of_a_gpu_is_told(changes, trouble, grave):
    (one,) = gpu(**changes).look(own={1}).unsound
    assert (one.trouble, one.grave) == (trouble, grave)


@pytest.mark.parametrize(
    "changes",
    [
        # An idle GPU's clock (reason 0x1), a cool one, and neighbours that do nothing, or are this process.
        {"nvmlDeviceGetCurrentClocksEventReasons": 0x1, "nvmlDeviceGetClockInfo": 345},
        {"nvmlDeviceGetTemperature": 60, "nvmlDeviceGetTemperatureThreshold": 92},
        {"nvmlDeviceGetProcessUtilization": [SimpleNamespace(pid=512, smUtil=3)]},
        {"nvmlDeviceGetProcessUtilization": [SimpleNamespace(pid=1, smUtil=90)]},
    ],
)
def test_what_is_sound_of_a_gpu_is_not_told(changes):
    assert gpu(**changes).look(own={1}).unsound == ()


def test_another_worker_of_the_same_run_is_no_neighbour():
    """It loads its library on the same GPU while the first one examines."""
    busy = gpu(nvmlDeviceGetProcessUtilization=[SimpleNamespace(pid=512, smUtil=40)])
    assert [one.trouble for one in busy.look(own={1}).unsound] == [Trouble.BUSY]
    assert busy.look(own={1, 512}).unsound == ()


def test_neighbours_are_named_with_what_they_keep():
    assert gpu().neighbours() == [Neighbour(512, None)]
    assert str(Neighbour(512, None)) == "process 512"
    assert str(Neighbour(7, 1_200_000_000)) == "process 7 (1,200 MB of its memory)"


ORIN = {
    # As the Jetson Linux Developer Guide (R36) and Linux's devfreq documentation write them; not read off a board.
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0000\0nvidia,tegra234\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n",
    "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1300500000\n",
}


def test_an_orin_is_read(tmp_path):
    root = tree(tmp_path, ORIN)
    assert jetson.is_jetson(root)
    assert jetson.module(root) == "NVIDIA Jetson AGX Orin Developer Kit"
    assert jetson.jetpack(root) == "R36.4.3"
    assert jetson.settings(root) == {"nvpmodel": "2 MODE_30W", "gpu clock": "306 to 1300 MHz"}


def test_fixed_clocks_are_told_from_free_ones(tmp_path):
    fixed = {
        "sys/class/devfreq/17000000.gpu/min_freq": "1300500000\n",
        "sys/class/devfreq/emc/min_freq": "3199000000",
        "sys/class/devfreq/emc/max_freq": "3199000000",
    }
    state = jetson.settings(tree(tmp_path, ORIN | fixed))
    assert (state["gpu clock"], state["emc clock"]) == ("1300 MHz, fixed", "3199 MHz, fixed")


def test_a_machine_that_is_no_jetson_has_none_of_it(tmp_path):
    assert not jetson.is_jetson(tmp_path)
    assert (jetson.settings(tmp_path), jetson.jetpack(tmp_path)) == ({}, "unknown")


def test_an_unknown_power_mode_keeps_its_number(tmp_path):
    root = tree(tmp_path, ORIN | {"var/lib/nvpmodel/status": "pmode:0007\n"})
    assert jetson.settings(root)["nvpmodel"] == "7"
