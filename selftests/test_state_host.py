"""What any Linux machine tells of itself: clocks, heat, throttling, and who else computes."""

from __future__ import annotations

import os

import pytest

from neverslower.device.readers import cpu, mali
from neverslower.device.readers.host import Host
from neverslower.device.readers.load import Load, family, processes
from neverslower.device.readers.thermal import Thermal
from neverslower.device.state import State, Trouble, Unsound
from selftests.support import needs_proc, tree
from selftests.test_state_arm import HIKEY_960, POLICIES, RK3588

ZONE = "sys/class/thermal/thermal_zone0"
OWN, COORDINATOR, SHELL = 30, 20, 10


def process(number: int, parent: int, ticks: int, name: str = "python") -> dict[str, str]:
    """/proc/PID/stat as proc(5) has it: utime and stime are the 14th and 15th field."""
    return {f"proc/{number}/stat": f"{number} ({name}) S {parent} 0 0 0 0 0 0 0 0 0 {ticks} 0 0 0\n"}


RUN = process(OWN, COORDINATOR, 0) | process(COORDINATOR, SHELL, 0) | process(SHELL, 1, 0) | process(1, 0, 0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def load(root, clock: Clock, cores: int = 2, threads: int = 1) -> Load:
    return Load(threads, root, OWN, cores, clock)


def test_policies_that_are_alike_are_told_once(tmp_path):
    found = cpu.look(tree(tmp_path, RK3588))
    assert found.settings == {
        "cores online": "0-7",
        "cpu governor": "schedutil, performance",
        "cpu clock": "1008 to 1800 MHz, 1200 to 2400 MHz",
    }
    assert found.readings == {"policy0 MHz": 1416.0, "policy4 MHz": 2400.0}


def test_a_governor_that_moves_a_clock_is_a_warning(tmp_path):
    (one,) = cpu.look(tree(tmp_path, RK3588)).unsound
    assert (one.trouble, one.grave) == (Trouble.CLOCKS, False)
    assert "schedutil" in one.text
    assert one.remedy.startswith("sudo cpupower")


def test_a_clock_whose_bounds_are_equal_does_not_move(tmp_path):
    fixed = {f"{POLICIES}/policy0/scaling_min_freq": "1800000\n"}
    assert cpu.look(tree(tmp_path, RK3588 | fixed)).unsound == ()
    assert cpu.look(tree(tmp_path / "hikey", HIKEY_960)).unsound == ()


def test_not_every_core_of_a_large_machine_is_asked_for_its_clock(tmp_path):
    files = {f"{POLICIES}/policy{n}/scaling_cur_freq": "1000000\n" for n in range(64)}
    assert len(cpu.look(tree(tmp_path, files)).readings) == cpu.MOST_CLOCKS


def test_a_virtual_machine_without_cpufreq_is_sound(tmp_path):
    assert cpu.look(tmp_path) == State()
    assert Thermal(tmp_path).look() == State()


@pytest.mark.parametrize(
    ("type_", "degrees", "unsound"),
    [("passive", "84000", False), ("passive", "85000", True), ("active", "85000", False), ("critical", "85000", False)],
)
def test_a_start_near_the_point_where_clocks_are_lowered_is_hot(tmp_path, type_, degrees, unsound):
    """Zones and trip points as Linux's Documentation/driver-api/thermal/sysfs-api.rst writes them."""
    files = {
        f"{ZONE}/type": "soc-thermal\n",
        f"{ZONE}/temp": f"{degrees}\n",
        f"{ZONE}/trip_point_0_type": f"{type_}\n",
        f"{ZONE}/trip_point_0_temp": "90000\n",
    }
    found = Thermal(tree(tmp_path, files)).look()
    assert found.readings == {"soc-thermal °C": int(degrees) / 1000}
    assert [one.trouble for one in found.grave] == [Trouble.HOT] * unsound


@pytest.mark.parametrize("temp", ["-256000\n", "\n", "N/A\n"])
def test_a_sensor_that_is_off_is_left_out(tmp_path, temp):
    """jetson-stats tells -256 °C of such a one (jtop/core/temperature.py)."""
    files = {f"{ZONE}/type": "gpu-thermal\n", f"{ZONE}/temp": temp}
    assert Thermal(tree(tmp_path, files)).look() == State()


def test_a_trip_point_that_nobody_set_is_none(tmp_path):
    files = {
        f"{ZONE}/temp": "45000\n",
        f"{ZONE}/trip_point_0_type": "passive\n",
        f"{ZONE}/trip_point_0_temp": "0\n",
    }
    assert Thermal(tree(tmp_path, files)).look().unsound == ()


@pytest.mark.parametrize(
    ("name", "throttled"),
    [
        ("cpufreq-cpu0", True),
        ("thermal-cpufreq-0", True),
        ("devfreq-fb000000.gpu", True),
        ("Processor", True),
        ("gpu-throttle-alert", True),
        ("pwm-fan", False),
        ("intel_powerclamp", False),
        ("hot-surface-alert", False),
    ],
)
def test_a_cooling_device_that_lowers_clocks_throttles(tmp_path, name, throttled):
    device = "sys/class/thermal/cooling_device0"
    found = Thermal(tree(tmp_path, {f"{device}/type": f"{name}\n", f"{device}/cur_state": "2\n"})).look()
    assert [one.trouble for one in found.grave] == [Trouble.THROTTLED] * throttled


def test_an_x86_processors_throttling_is_counted_over_its_cores(tmp_path):
    counters = [f"sys/devices/system/cpu/cpu{n}/thermal_throttle/core_throttle_count" for n in range(2)]
    watch = Thermal(tree(tmp_path, dict.fromkeys(counters, "7\n")))
    tree(tmp_path, dict.fromkeys(counters, "9\n"))
    (one,) = watch.look().grave
    assert "core_throttle_count counted 4 more" in one.text


def test_a_worker_its_coordinator_and_all_that_they_started_are_one_run(tmp_path):
    others = process(31, OWN, 0) | process(21, COORDINATOR, 0) | process(22, 21, 0) | process(11, SHELL, 0)
    known = processes(tree(tmp_path, RUN | others))
    assert family(known, OWN) == {OWN, COORDINATOR, SHELL, 31, 21, 22}


def test_a_worker_that_is_a_containers_first_process_is_not_somebody_else(tmp_path):
    known = processes(tree(tmp_path, process(1, 0, 0) | process(7, 1, 0) | process(9, 0, 0)))
    assert family(known, 1) == {1, 7}


def test_a_heavy_process_is_named_and_nobody_is_told_to_kill_it(tmp_path):
    clock, tick = Clock(), os.sysconf("SC_CLK_TCK")
    watch = load(tree(tmp_path, RUN | process(11, SHELL, 0, "stress (1)")), clock)
    clock.now = 2.0
    tree(tmp_path, process(11, SHELL, 3 * tick, "stress (1)"))
    found = watch.look()
    (one,) = found.grave
    assert one.text == "busy with stress (1) (process 11, 150% of a core)"
    assert one.remedy.startswith("wait for it to end")
    assert found.readings["cores that others use"] == 1.5


def test_a_heavy_process_is_a_warning_where_cores_are_left(tmp_path):
    clock, tick = Clock(), os.sysconf("SC_CLK_TCK")
    watch = load(tree(tmp_path, RUN | process(11, 1, 0)), clock, cores=4, threads=2)
    clock.now = 1.0
    tree(tmp_path, process(11, 1, 2 * tick))
    (one,) = watch.look().unsound
    assert not one.grave


def test_a_crowd_of_light_processes_is_busy_too(tmp_path):
    clock, tick = Clock(), os.sysconf("SC_CLK_TCK")
    crowd = range(40, 44)
    watch = load(tree(tmp_path, {k: v for n in crowd for k, v in process(n, 1, 0).items()} | RUN), clock)
    clock.now = 10.0
    tree(tmp_path, {k: v for n in crowd for k, v in process(n, 1, 4 * tick + 50 - n, f"job{n}").items()})
    (one,) = watch.look().grave
    assert one.text == "busy with job40 (process 40, 41% of a core)"


def test_a_runs_own_work_is_not_somebody_elses(tmp_path):
    clock, tick = Clock(), os.sysconf("SC_CLK_TCK")
    watch = load(tree(tmp_path, RUN | process(31, OWN, 0)), clock)
    clock.now = 1.0
    tree(tmp_path, process(OWN, COORDINATOR, tick) | process(COORDINATOR, SHELL, tick) | process(31, OWN, tick))
    assert watch.look().unsound == ()


def test_a_short_while_tells_nothing_and_is_counted_with_the_next(tmp_path):
    clock, tick = Clock(), os.sysconf("SC_CLK_TCK")
    watch = load(tree(tmp_path, RUN | process(11, 1, 0) | {"proc/loadavg": "0.57 0.40 0.33 1/345 4711\n"}), clock)
    clock.now = 0.1
    tree(tmp_path, process(11, 1, tick))
    assert watch.look() == State(readings={"load of the last minute": 0.57})
    clock.now = 1.0
    assert watch.look().readings["cores that others use"] == 1.0


def test_a_malis_moving_clock_is_a_warning(tmp_path):
    found = mali.look(tree(tmp_path, RK3588))
    (one,) = found.unsound
    assert (one.trouble, one.grave) == (Trouble.CLOCKS, False)
    assert one.remedy == "echo performance | sudo tee /sys/class/devfreq/fb000000.gpu/governor"
    assert found.readings == {"gpu MHz": 850.0}
    assert mali.look(tree(tmp_path / "hikey", HIKEY_960)).unsound == ()


def test_a_board_is_read_by_all_its_readers(tmp_path):
    found = Host(root=tree(tmp_path, RK3588)).look()
    assert {"cpu governor", "gpu governor", "cores online"} <= set(found.settings)
    assert [one.trouble for one in found.unsound] == [Trouble.CLOCKS, Trouble.CLOCKS]


@needs_proc
def test_this_machine_can_be_read():
    found = Host().look()
    assert "load of the last minute" in found.readings
    assert State.from_dict(found.as_dict()) == found


def test_a_state_survives_the_way_from_a_worker():
    unsound = (Unsound(Trouble.HOT, "hot", "wait"), Unsound(Trouble.CLOCKS, "free", "fix", grave=False))
    state = State({"a": "1"}, {"b MHz": 2.0}, unsound)
    assert State.from_dict(state.as_dict()) == state
    assert state.grave == unsound[:1]


def test_what_changed_is_a_setting_or_a_new_trouble():
    before = State({"clock": "1"}, {}, (Unsound(Trouble.BUSY, "busy", "wait"),))
    assert State({"clock": "1"}, {"x": 1.0}, before.unsound).changes(before) == []
    now = State({"clock": "2"}, {}, tuple(Unsound(one, f"now {one}", "") for one in Trouble))
    assert now.changes(before) == ["state clock: 1 → 2", "now throttled"]
