"""Readers of an Arm board's state, on files as users of the boards published them; each says where it is from."""

from __future__ import annotations

import pytest

from neverslower.device.readers import arm, mali
from selftests.support import tree


def core(number: int, part: str, implementer: str = "0x41") -> str:
    return (
        f"processor       : {number}\n"
        "BogoMIPS        : 48.00\n"
        "Features        : fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc\n"
        f"CPU implementer : {implementer}\n"
        "CPU architecture: 8\n"
        "CPU variant     : 0x2\n"
        f"CPU part        : {part}\n"
        "CPU revision    : 0\n"
    )


POLICIES = "sys/devices/system/cpu/cpufreq"
RK3588 = {
    # /proc/cpuinfo of a Radxa Rock 5B: github.com/hrw/arm-socs-table, issue 18 (the list of features is shortened).
    "proc/cpuinfo": "\n".join(core(n, "0xd05" if n < 4 else "0xd0b") for n in range(8)),
    # Names as Linux's rk3588-orangepi-5-plus.dts and cpufreq.rst write them.
    "proc/device-tree/model": "Xunlong Orange Pi 5 Plus\0",
    "sys/devices/system/cpu/online": "0-7\n",
    # Steps of policy0 and policy6: github.com/armbian/linux-rockchip, issue 360; policy4 is policy6's twin.
    f"{POLICIES}/policy0/scaling_governor": "schedutil\n",
    f"{POLICIES}/policy0/scaling_min_freq": "1008000\n",
    f"{POLICIES}/policy0/scaling_max_freq": "1800000\n",
    f"{POLICIES}/policy0/scaling_cur_freq": "1416000\n",
    f"{POLICIES}/policy4/scaling_governor": "performance\n",
    f"{POLICIES}/policy4/scaling_min_freq": "1200000\n",
    f"{POLICIES}/policy4/scaling_max_freq": "2400000\n",
    f"{POLICIES}/policy4/scaling_cur_freq": "2400000\n",
    # Orange Pi 5 Plus and Pro: github.com/warpme/miniarch, issue 145; github.com/batocera-linux/batocera.linux, 15672.
    "sys/class/devfreq/fb000000.gpu/governor": "simple_ondemand\n",
    "sys/class/devfreq/fb000000.gpu/min_freq": "200000000\n",
    "sys/class/devfreq/fb000000.gpu/max_freq": "1000000000\n",
    "sys/class/devfreq/fb000000.gpu/cur_freq": "850000000\n",
}
HIKEY_960 = {
    # Bounds and names of a HiKey 960: Linux's hi3660.dtsi (0xd03 and 0xd09 are Cortex-A53 and A73), and scripts that
    # fix its clocks, for example github.com/ARM-software/Tool-Solutions, issue 2. Its Mali-G71 fixed at 767 MHz.
    "proc/cpuinfo": "\n".join(core(n, "0xd03" if n < 4 else "0xd09") for n in range(8)),
    "sys/devices/system/cpu/online": "0-7\n",
    f"{POLICIES}/policy0/scaling_governor": "performance\n",
    f"{POLICIES}/policy0/scaling_min_freq": "533000\n",
    f"{POLICIES}/policy0/scaling_max_freq": "1844000\n",
    f"{POLICIES}/policy4/scaling_governor": "performance\n",
    f"{POLICIES}/policy4/scaling_min_freq": "2362000\n",
    f"{POLICIES}/policy4/scaling_max_freq": "2362000\n",
    "sys/class/devfreq/e82c0000.mali/governor": "userspace\n",
    "sys/class/devfreq/e82c0000.mali/min_freq": "767000000\n",
    "sys/class/devfreq/e82c0000.mali/max_freq": "767000000\n",
    # As mali_kbase writes its policies: github.com/SmartPack/SmartPack-Kernel-Manager, issue 123.
    "sys/class/devfreq/e82c0000.mali/device/power_policy": "[coarse_demand] always_on\n",
}


def test_a_rock_5_or_orange_pi_5_is_read(tmp_path):
    root = tree(tmp_path, RK3588)
    assert arm.board(root) == "Xunlong Orange Pi 5 Plus"
    assert arm.parts(root) == "4 Cortex-A55, 4 Cortex-A76"
    assert arm.settings(root) == {
        "cores online": "0-7",
        "policy0 governor": "schedutil",
        "policy0 clock": "1008 to 1800 MHz",
        "policy4 governor": "performance",
        "policy4 clock": "1200 to 2400 MHz",
    }
    assert mali.settings(root) == {"gpu governor": "simple_ondemand", "gpu clock": "200 to 1000 MHz"}


def test_a_hikey_960_with_fixed_clocks_is_read(tmp_path):
    root = tree(tmp_path, HIKEY_960)
    assert arm.parts(root) == "4 Cortex-A53, 4 Cortex-A73"
    assert arm.settings(root)["policy4 clock"] == "2362 MHz, fixed"
    assert mali.settings(root) == {
        "gpu governor": "userspace",
        "gpu clock": "767 MHz, fixed",
        "gpu power policy": "coarse_demand",
    }


def test_what_jitters_is_apart_from_what_decides(tmp_path):
    root = tree(tmp_path, RK3588)
    before = arm.settings(root), mali.settings(root)
    assert dict(arm.current_clocks_hz(root)) == {"policy0": 1_416_000_000, "policy4": 2_400_000_000}
    assert mali.current_clock_hz(root) == 850_000_000
    tree(root, {f"{POLICIES}/policy0/scaling_cur_freq": "1008000\n"})
    tree(root, {"sys/class/devfreq/fb000000.gpu/cur_freq": "200000000\n"})
    assert dict(arm.current_clocks_hz(root))["policy0"] == 1_008_000_000
    assert mali.current_clock_hz(root) == 200_000_000
    assert (arm.settings(root), mali.settings(root)) == before


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("sys/devices/system/cpu/online", "0-3\n", "cores online"),
        (f"{POLICIES}/policy0/scaling_governor", "powersave\n", "policy0 governor"),
        (f"{POLICIES}/policy4/scaling_max_freq", "1608000\n", "policy4 clock"),
        ("sys/class/devfreq/fb000000.gpu/governor", "performance\n", "gpu governor"),
        ("sys/class/devfreq/fb000000.gpu/max_freq", "850000000\n", "gpu clock"),
    ],
)
def test_each_field_that_decides_is_seen_to_change(tmp_path, name, text, key):
    root = tree(tmp_path, RK3588)
    before = arm.settings(root) | mali.settings(root)
    tree(root, {name: text})
    after = arm.settings(root) | mali.settings(root)
    assert [field for field in before if before[field] != after[field]] == [key]


def test_policies_are_in_the_order_of_their_cores(tmp_path):
    files = {f"{POLICIES}/policy{first}/scaling_governor": "ondemand\n" for first in (10, 2, 0)}
    assert list(arm.settings(tree(tmp_path, files))) == ["policy0 governor", "policy2 governor", "policy10 governor"]


def test_a_machine_without_any_of_it_has_no_state(tmp_path):
    assert (
        arm.settings(tmp_path),
        dict(arm.current_clocks_hz(tmp_path)),
        arm.parts(tmp_path),
        arm.board(tmp_path),
    ) == (
        {},
        {},
        "",
        "",
    )
    assert (mali.settings(tmp_path), mali.current_clock_hz(tmp_path), mali.driver(tmp_path), mali.model(tmp_path)) == (
        {},
        None,
        "",
        "",
    )


def test_what_is_no_frequency_is_left_out(tmp_path):
    """cpufreq.rst: `scaling_setspeed` and others read `<unsupported>`, a frequency that is not known `<unknown>`."""
    root = tree(tmp_path, RK3588 | {f"{POLICIES}/policy0/scaling_max_freq": "<unknown>\n"})
    assert "policy0 clock" not in arm.settings(root)
    assert "policy0 governor" in arm.settings(root)


@pytest.mark.parametrize(
    ("implementer", "part", "name"),
    [
        ("0x41", "0xd08", "1 Cortex-A72"),
        ("0x41", "0xfff", "1 0x41 0xfff"),
        ("0x51", "0x804", "1 0x51 0x804"),  # Qualcomm's numbers are not Arm's.
        ("0x51", "0xd05", "1 0x51 0xd05"),
    ],
)
def test_a_part_is_named_or_keeps_its_number(tmp_path, implementer, part, name):
    assert arm.parts(tree(tmp_path, {"proc/cpuinfo": core(0, part, implementer)})) == name


def test_cores_that_are_offline_are_not_counted(tmp_path):
    """Linux lists only those online in /proc/cpuinfo."""
    text = "\n".join(core(n, "0xd05") for n in range(4))
    assert arm.parts(tree(tmp_path, {"proc/cpuinfo": text})) == "4 Cortex-A55"


def test_an_x86_processor_has_no_parts(tmp_path):
    text = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Processor\n"
    assert arm.parts(tree(tmp_path, {"proc/cpuinfo": text})) == ""


def test_the_kernel_drivers_release_is_read(tmp_path):
    """A Samsung Chromebook Plus, RK3399: github.com/rockchip-linux/libmali, issue 20."""
    root = tree(tmp_path, {"sys/module/mali_kbase/version": "r22p0-01rel0 (UK version 11.4)\n"})
    assert mali.driver(root) == "r22p0-01rel0"


def test_the_gpu_is_named_by_arms_driver(tmp_path):
    """The form in which mali_kbase writes gpuinfo: name, cores, revision, product number."""
    name = "Mali-G610 4 cores r0p0 0xA867"
    files = RK3588 | {"sys/class/devfreq/fb000000.gpu/device/gpuinfo": f"{name}\n"}
    assert mali.model(tree(tmp_path, files)) == name


@pytest.mark.parametrize(
    ("name", "compatible", "found"),
    [
        # As the bindings of Linux write them: arm,mali-valhall-csf.yaml, nvidia,gk20a.txt, msm/gpu.yaml.
        ("fb000000.gpu", "rockchip,rk3588-mali\0arm,mali-valhall-csf\0", True),
        ("e82c0000.mali", "", True),
        ("17000000.gpu", "nvidia,ga10b\0", False),
        ("3d00000.gpu", "qcom,adreno-660.1\0qcom,adreno\0", False),
        ("dmc", "rockchip,rk3399-dmc\0", False),
    ],
)
def test_other_makers_gpus_are_no_mali(tmp_path, name, compatible, found):
    files = {f"sys/class/devfreq/{name}/governor": "performance\n"}
    if compatible:
        files[f"sys/class/devfreq/{name}/device/of_node/compatible"] = compatible
    assert bool(mali.settings(tree(tmp_path, files))) == found
