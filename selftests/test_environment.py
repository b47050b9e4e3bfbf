import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverslower.device.fingerprint import Fingerprint, slug
from neverslower.device.readers import cpu

NOW = Fingerprint(
    backend="onednn",
    device="Intel Xeon 2c",
    version="3.7.1",
    build="8d263e69",
    hardware={"cpu": "Intel Xeon", "cores": "2"},
    state={"governor": "performance", "threads": "1"},
    software={"torch": "2.9.0", "python": "3.11.7"},
)

XEON = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R) CPU @ 2.20GHz
stepping\t: 7
bugs\t\t: spectre_v1 spectre_v2
power management:

processor\t: 1
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R) CPU @ 2.20GHz
stepping\t: 7
power management:

"""
CORE = "model name\t: Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz\n"
NAMED_XEON = "model name\t: Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz\n"
EPYC = "vendor_id\t: AuthenticAMD\nmodel\t\t: 49\nmodel name\t: AMD EPYC 7B12\n"
JETSON = """\
processor\t: 0
model name\t: ARMv8 Processor rev 1 (v8l)
BogoMIPS\t: 62.50
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd42
CPU revision\t: 1
"""
SERVER_ARM = """\
processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

"""
RASPBERRY = """\
processor\t: 0
BogoMIPS\t: 108.00
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

Hardware\t: BCM2835
Revision\t: c03114
Serial\t\t: 1000000012345678
Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""
HIKEY = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd03\n\nHardware\t: HiKey970\n"


@pytest.mark.parametrize(
    ("cpuinfo", "model"),
    [
        (XEON, "Intel Xeon"),
        (CORE, "Intel Core i7-8700K"),
        (NAMED_XEON, "Intel Xeon E5-2680 v4"),
        (EPYC, "AMD EPYC 7B12"),
        (JETSON, "ARMv8 Processor rev 1 (v8l)"),
        (SERVER_ARM, "0x41 0xd0c"),
        (RASPBERRY, "Raspberry Pi 4 Model B Rev 1.4"),
        (HIKEY, "HiKey970"),
    ],
    ids=["xeon", "core", "named xeon", "epyc", "jetson", "server arm", "raspberry", "hikey"],
)
def test_the_processor_is_named_as_its_cpuinfo_does(cpuinfo, model):
    assert cpu.model(cpuinfo) == model


def test_an_empty_field_does_not_take_the_next_line():
    assert cpu.model("Hardware\t:\nmodel name\t: AMD EPYC 7B12\n") == "AMD EPYC 7B12"
    assert cpu.model("power management:\nmodel name\t: AMD EPYC 7B12\n") == "AMD EPYC 7B12"


@pytest.mark.parametrize("cpuinfo", ["", "nonsense\n", ":\n:\n"])
def test_without_a_name_the_platforms_word_is_taken(monkeypatch, cpuinfo):
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert cpu.model(cpuinfo) == "riscv64"


def test_the_hardware_is_told_in_words():
    hardware = cpu.hardware()
    assert set(hardware) == {"cpu", "cpu id", "arch", "cores"}
    assert int(hardware["cores"]) >= 1
    assert all(isinstance(value, str) for value in hardware.values())


def _tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_the_state_is_read_from_sysfs(tmp_path):
    files = {
        "cpu0/cpufreq/scaling_governor": "performance\n",
        "cpufreq/boost": "0\n",
        "intel_pstate/no_turbo": "1\n",
        "smt/control": "off\n",
        "cpu0/cpufreq/scaling_cur_freq": "1200000\n",
    }
    state = cpu.settings(_tree(tmp_path, files))
    assert state == {"governor": "performance", "boost": "0", "no_turbo": "1", "smt": "off"}


def test_state_that_is_absent_or_empty_is_left_out(tmp_path):
    assert cpu.settings(_tree(tmp_path, {"smt/control": "notsupported\n", "cpufreq/boost": "\n"})) == {
        "smt": "notsupported"
    }
    assert cpu.settings(tmp_path / "nowhere") == {}


def test_state_that_cannot_be_read_is_left_out(tmp_path):
    (tmp_path / "smt/control").mkdir(parents=True)
    assert cpu.settings(tmp_path) == {}


def test_a_fingerprint_is_no_obstacle_to_itself():
    assert NOW.obstacles(NOW) == []
    assert NOW.confounders(NOW) == []


@pytest.mark.parametrize(
    ("changes", "obstacles"),
    [
        ({"device": "Jetson"}, ["device name: Jetson → Intel Xeon 2c"]),
        ({"hardware": {"cpu": "Intel Xeon", "cores": "4"}}, ["hardware cores: 4 → 2"]),
        ({"hardware": {"cpu": "Intel Xeon"}}, ["hardware cores: absent → 2"]),
        (
            {"state": {"governor": "powersave", "threads": "1", "boost": "1"}},
            ["state boost: 1 → absent", "state governor: powersave → performance"],
        ),
    ],
)
def test_another_device_or_state_is_an_obstacle_by_name(changes, obstacles):
    stored = replace(NOW, **changes)
    assert NOW.obstacles(stored) == obstacles
    assert NOW.confounders(stored) == []


@pytest.mark.parametrize("changes", [{"version": "3.6"}, {"build": "0"}, {"software": {"torch": "2.8.0"}}])
def test_the_software_under_test_is_no_obstacle(changes):
    assert NOW.obstacles(replace(NOW, **changes)) == []


def test_differing_software_is_a_confounder_by_name():
    stored = replace(NOW, software={"torch": "2.8.0", "driver": "550"})
    assert NOW.confounders(stored) == [
        "software driver: 550 → absent",
        "software python: absent → 3.11.7",
        "software torch: 2.8.0 → 2.9.0",
    ]


def test_a_fingerprint_survives_json():
    assert Fingerprint.from_dict(json.loads(json.dumps(NOW.as_dict()))) == NOW


def test_a_processor_that_onednn_calls_otherwise_is_the_same_hardware():
    """On one Xeon 3.7.1 says AVX-512 with float16 and 3.12.0 AVX10.1; older records have that name as hardware."""
    stored = NOW.as_dict()
    stored["hardware"] = {**NOW.hardware, "isa": "AVX-512"}
    upgraded = replace(NOW, software={**NOW.software, "onednn isa": "AVX10.1"})
    read = Fingerprint.from_dict(stored)
    assert upgraded.obstacles(read) == []
    assert upgraded.confounders(read) == ["software onednn isa: AVX-512 → AVX10.1"]
    assert Fingerprint.from_dict(json.loads(json.dumps(read.as_dict()))) == read


def test_the_folder_is_backend_at_device():
    assert NOW.folder == "onednn@intel-xeon-2c"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Intel Xeon 2c", "intel-xeon-2c"),
        ("ARMv8 Processor rev 1 (v8l)", "armv8-processor-rev-1-v8l"),
        ("a -- b", "a-b"),
        ("3.7.1_rc", "3.7.1_rc"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "unknown"),
        ("", "unknown"),
        ("日本", "unknown"),
    ],
)
def test_a_slug_keeps_what_is_safe(text, name):
    assert slug(text) == name


@given(st.text())
def test_any_slug_is_one_safe_path_component_and_its_own_slug(text):
    name = slug(text)
    assert name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert not name.startswith((".", "-"))
    assert "--" not in name
    assert slug(name) == name
