"""Jetson boards by files and by jetson-stats' answers; each tree says where it is from. None was read off a board here.

Orin and Thor are what the suite is for; Nano and TX2 show that older boards are read too.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from neverslower.device.readers import host, jetson, jtop
from neverslower.device.readers.host import Host
from neverslower.device.state import Trouble
from selftests.support import tree

DEVFREQ = "sys/class/devfreq"
THERMAL = "sys/class/thermal"
ORIN = {
    # Jetson Linux Developer Guide R36, "Platform Power and Performance"; `17000000.gpu` and the mode's file as there.
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0000\0nvidia,tegra234\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n",
    "var/lib/nvpmodel/status": "pmode:0000 fmode:quiet\n",
    f"{DEVFREQ}/17000000.gpu/min_freq": "1300500000\n",
    f"{DEVFREQ}/17000000.gpu/max_freq": "1300500000\n",
    f"{DEVFREQ}/17000000.gpu/cur_freq": "1300500000\n",
    # Temperatures of an AGX Orin with JetPack 6.4: github.com/laminair/jetson_stats_node_exporter, issue 29.
    f"{THERMAL}/thermal_zone0/type": "cpu-thermal\n",
    f"{THERMAL}/thermal_zone0/temp": "47400\n",
    f"{THERMAL}/thermal_zone1/type": "gpu-thermal\n",
    f"{THERMAL}/thermal_zone1/temp": "43000\n",
    f"{THERMAL}/thermal_zone1/trip_point_0_type": "passive\n",
    f"{THERMAL}/thermal_zone1/trip_point_0_temp": "99000\n",
    f"{THERMAL}/cooling_device0/type": "gpu-throttle-alert\n",
    f"{THERMAL}/cooling_device0/cur_state": "0\n",
    # Counters of soctherm_oc, as Linux for Tegra's tegra23x-oc-event driver names them.
    "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
    "sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon3/oc2_event_cnt": "15\n",
    "sys/class/hwmon/hwmon3/oc3_event_cnt": "37\n",
}
THOR = {
    # github.com/rbonghi/jetson_stats: issue 711 (release, device tree), issue 820 (mode 1 is 120W),
    # issue 885 (`gpu-gpc-0`, `gpu-nvd-0`), and jtop/core/memory.py (`bwmgr`). The frequencies are placeholders.
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0",
    "etc/nv_tegra_release": "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n",
    "var/lib/nvpmodel/status": "pmode:0001\n",
    f"{DEVFREQ}/gpu-gpc-0/min_freq": "300000000\n",
    f"{DEVFREQ}/gpu-gpc-0/max_freq": "1500000000\n",
    f"{DEVFREQ}/gpu-nvd-0/min_freq": "100000000\n",
    f"{DEVFREQ}/gpu-nvd-0/max_freq": "900000000\n",
    f"{DEVFREQ}/bwmgr/min_freq": "600000000\n",
    f"{DEVFREQ}/bwmgr/max_freq": "4200000000\n",
}
NANO = {
    # Clocks: comments in jtop/core/jetson_clocks.py; zones: github.com/MartinMatta/Jetson-Nano-temperature, issue 2.
    "proc/device-tree/compatible": "nvidia,p3450-0000\0nvidia,jetson-nano\0nvidia,tegra210\0",
    f"{DEVFREQ}/57000000.gpu/min_freq": "76800000\n",
    f"{DEVFREQ}/57000000.gpu/max_freq": "921600000\n",
    f"{DEVFREQ}/57000000.gpu/cur_freq": "384000000\n",
    **{f"{THERMAL}/thermal_zone{n}/type": f"{name}\n" for n, name in enumerate(("AO-therm", "CPU-therm", "GPU-therm"))},
    **{f"{THERMAL}/thermal_zone{n}/temp": "41500\n" for n in range(3)},
}
TX2 = {
    # The GPU's name: jtop/core/gpu.py (gp10b); the frequencies are placeholders.
    "proc/device-tree/compatible": "nvidia,p2771-0000\0nvidia,tegra186\0",
    f"{DEVFREQ}/17000000.gp10b/min_freq": "114750000\n",
    f"{DEVFREQ}/17000000.gp10b/max_freq": "1300500000\n",
}


def client(**changes: Any) -> SimpleNamespace:
    """What jtop 4 answers on an Orin, in the shapes that its sources give (see neverslower/device/readers/jtop.py)."""
    mhz = 1000  # jtop's frequencies are in kHz.
    answers: dict[str, Any] = {
        "nvpmodel": SimpleNamespace(id=0, name="MAXN"),
        "jetson_clocks": True,
        "gpu": {"gpu": {"type": "integrated", "freq": {"cur": 1300 * mhz, "min": 1300 * mhz, "max": 1300 * mhz}}},
        "memory": {"EMC": {"cur": 3199 * mhz, "min": 3199 * mhz, "max": 3199 * mhz, "val": 0, "online": True}},
        "temperature": {"gpu": {"temp": 43.0, "online": True}, "cv0": {"temp": -256, "online": False}},
    }
    return SimpleNamespace(**answers | changes)


def troubles(found: Any) -> list[Trouble]:
    return [one.trouble for one in found.unsound]


def test_an_orin_with_fixed_clocks_is_sound(tmp_path):
    found = Host(root=tree(tmp_path, ORIN)).look()
    assert found.settings == {"nvpmodel": "0 MAXN", "gpu clock": "1300 MHz, fixed"}
    assert found.readings == {"cpu-thermal °C": 47.4, "gpu-thermal °C": 43.0, "gpu MHz": 1300.5}
    assert found.unsound == ()


def test_clocks_that_are_not_fixed_are_grave_on_a_jetson(tmp_path):
    found = Host(root=tree(tmp_path, ORIN | {f"{DEVFREQ}/17000000.gpu/min_freq": "306000000\n"})).look()
    (one,) = found.grave
    assert (one.trouble, one.remedy) == (Trouble.CLOCKS, "sudo jetson_clocks")
    assert "gpu clock 306 to 1300 MHz" in one.text


def test_a_processors_clock_counts_on_a_jetson_too(tmp_path):
    policy = "sys/devices/system/cpu/cpufreq/policy0"
    free = {
        f"{policy}/scaling_governor": "schedutil\n",
        f"{policy}/scaling_min_freq": "729600\n",
        f"{policy}/scaling_max_freq": "2201600\n",
    }
    found = Host(root=tree(tmp_path, ORIN | free)).look()
    assert troubles(found) == [Trouble.CLOCKS]
    assert "policy0 clock 729 to 2201 MHz" in found.grave[0].text


@pytest.mark.parametrize(
    ("name", "text", "trouble", "word"),
    [
        (f"{THERMAL}/thermal_zone1/temp", "94000\n", Trouble.HOT, "99 °C"),
        (f"{THERMAL}/cooling_device0/cur_state", "1\n", Trouble.THROTTLED, "gpu-throttle-alert"),
        ("sys/class/hwmon/hwmon3/oc3_event_cnt", "40\n", Trouble.THROTTLED, "oc3_event_cnt counted 3 more"),
    ],
)
def test_heat_and_throttling_are_grave(tmp_path, name, text, trouble, word):
    board = Host(root=tree(tmp_path, ORIN))
    assert board.look().unsound == ()
    tree(tmp_path, {name: text})
    (one,) = board.look().grave
    assert one.trouble is trouble
    assert word in one.text


def test_what_was_counted_before_is_no_news(tmp_path):
    board = Host(root=tree(tmp_path, ORIN))
    tree(tmp_path, {"sys/class/hwmon/hwmon3/oc1_event_cnt": "1\n"})
    assert troubles(board.look()) == [Trouble.THROTTLED]
    assert board.look().unsound == ()


def test_a_thor_is_read(tmp_path):
    root = tree(tmp_path, THOR)
    assert jetson.jetpack(root) == "R38.2.0"
    assert jetson.settings(root) == {
        "nvpmodel": "1 120W",
        "gpu clock": "300 to 1500 MHz",
        "emc clock": "600 to 4200 MHz",
    }
    assert troubles(jetson.look(root)) == [Trouble.CLOCKS]


@pytest.mark.parametrize(("files", "clock"), [(NANO, "76 to 921 MHz"), (TX2, "114 to 1300 MHz")])
def test_older_boards_are_read(tmp_path, files, clock):
    root = tree(tmp_path, files)
    assert jetson.settings(root) == {"gpu clock": clock}
    if files is NANO:
        found = Host(root=root).look()
        assert found.readings == {"AO-therm °C": 41.5, "CPU-therm °C": 41.5, "GPU-therm °C": 41.5, "gpu MHz": 384.0}


def test_jetson_stats_answers_are_read():
    found = jtop.state(client())
    assert found.settings == {
        "nvpmodel": "0 MAXN",
        "jetson_clocks": "on",
        "gpu clock": "1300 MHz, fixed",
        "emc clock": "3199 MHz, fixed",
    }
    assert found.readings == {"gpu MHz": 1300.0, "emc MHz": 3199.0, "gpu °C": 43.0}
    assert found.unsound == ()


def test_a_thors_answers_are_read():
    """github.com/rbonghi/jetson_stats, issue 885: 4.3.2 knows no GPU of a Thor, and tells no memory clock."""
    found = jtop.state(client(gpu={}, memory={"RAM": {}}, nvpmodel=SimpleNamespace(id=1, name="120W")))
    assert found.settings == {"nvpmodel": "1 120W", "jetson_clocks": "on"}


def test_jetson_clocks_that_are_off_are_unsound():
    (one,) = jtop.state(client(jetson_clocks=False)).grave
    assert one.remedy == "sudo jetson_clocks"


def test_a_service_that_stops_answering_ends_nothing():
    class Gone(SimpleNamespace):
        def start(self) -> None:
            pass

    assert jtop.Jtop(Gone()).look().settings == {}


def test_the_services_word_on_clocks_stands_for_all(tmp_path, monkeypatch):
    """Files can't tell the memory clock of an Orin; where the service is there, it tells."""
    answers = client(start=lambda: None, jetson_clocks=False)
    monkeypatch.setattr(jtop, "connected", lambda root: jtop.Jtop(answers))
    found = Host(root=tree(tmp_path, ORIN)).look()
    assert troubles(found) == [Trouble.CLOCKS]
    assert found.settings["emc clock"] == "3199 MHz, fixed"


def test_without_the_service_files_are_read(tmp_path):
    assert jtop.connected(tmp_path) is None


def test_a_service_without_its_client_is_left_alone(tmp_path):
    assert jtop.connected(tree(tmp_path, {jtop.SOCKET: ""})) is None


def test_another_machine_is_no_jetson(tmp_path):
    files = {f"{DEVFREQ}/fb000000.gpu/min_freq": "1\n", f"{DEVFREQ}/fb000000.gpu/max_freq": "2\n"}
    root = tree(tmp_path, files)
    assert (host.settings(root), jetson.look(root).settings) == ({}, {})


def test_a_jetsons_settings_join_every_fingerprint_of_time(tmp_path, monkeypatch):
    governor = {"sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil\n"}
    root = tree(tmp_path, ORIN | governor)
    assert host.settings(root) == {
        "policy0 governor": "schedutil",
        "nvpmodel": "0 MAXN",
        "gpu clock": "1300 MHz, fixed",
    }
    monkeypatch.setattr(jtop, "connected", lambda root: jtop.Jtop(client(start=lambda: None)))
    assert host.settings(root)["emc clock"] == "3199 MHz, fixed"
