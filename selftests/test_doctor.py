"""`python -m neverslower doctor`: what a newcomer is told first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neverslower import cli
from neverslower.calibration.stored import save
from neverslower.device.fingerprint import Fingerprint
from selftests.conftest import SuiteRunner
from selftests.support import script
from selftests.test_calibration import calibration
from selftests.test_plugin import FLAT

pytestmark = pytest.mark.usefixtures("workers_here")


def doctor(folder: Path, capsys: pytest.CaptureFixture[str], **fields: Any) -> tuple[int, str]:
    code = cli.main(["doctor", f"scripted:{script(folder, **fields)}", "--baselines", str(folder / "baselines")])
    return code, capsys.readouterr().out


@pytest.mark.processes
def test_a_sound_backend_is_ready(tmp_path, capsys):
    looks = [{"settings": {"governor": "performance"}, "readings": {"gpu °C": 40.0}}]
    code, told = doctor(tmp_path, capsys, states=looks, remarks=["a remark"])
    assert code == 0
    assert told.splitlines() == [
        "scripted: scripted 1.0 (0) on scripted",
        "  with: scripted 1.0",
        "  state: governor performance",
        "  now: gpu °C 40",
        "  note: a remark",
        f"  no baseline in {tmp_path}/baselines/scripted@scripted; accept one with --accept-baseline REASON",
        f"  not calibrated; calibrate it: python -m neverslower calibrate scripted:{tmp_path}/script.json",
        "ready: scripted",
    ]


def test_what_is_unsound_is_told_with_what_mends_it(tmp_path, capsys):
    unsound = [
        {"trouble": "throttled", "text": "throttled by hand", "remedy": "let go"},
        {"trouble": "clocks", "text": "clocks move", "remedy": "fix them", "grave": False},
    ]
    code, told = doctor(tmp_path, capsys, states=[{"unsound": unsound}])
    assert code == 1
    assert "  UNSOUND: throttled by hand\n    fix: let go\n" in told
    assert "  warning: clocks move\n    fix: fix them\n" in told
    assert "unsound: scripted; a run refuses to measure there unless it gets --unsound warn\nready: nothing" in told


def test_a_warning_alone_leaves_a_backend_ready(tmp_path, capsys):
    unsound = [{"trouble": "clocks", "text": "clocks move", "remedy": "fix them", "grave": False}]
    code, told = doctor(tmp_path, capsys, states=[{"unsound": unsound}])
    assert (code, told.splitlines()[-1]) == (0, "ready: scripted")


def test_a_missing_backend_is_told_with_the_remedy(tmp_path, capsys):
    code, told = doctor(tmp_path, capsys, unavailable="no GPU; plug one in")
    assert (code, told.splitlines()[0]) == (1, "scripted: not here: no GPU; plug one in")


def test_one_sound_backend_is_enough(tmp_path, capsys):
    (tmp_path / "other").mkdir()
    broken = script(tmp_path / "other", unavailable="gone")
    fine = script(tmp_path)
    assert cli.main(["doctor", f"scripted:{broken}", f"scripted:{fine}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ready: scripted"


def test_what_is_exact_needs_no_state(tmp_path, capsys):
    unsound = [{"trouble": "throttled", "text": "throttled by hand", "remedy": "let go"}]
    code, told = doctor(tmp_path, capsys, evidence="instructions", states=[{"unsound": unsound}])
    assert code == 0
    assert "UNSOUND" not in told
    assert "calibrated" not in told


def test_the_baseline_that_fits_is_named(runner: SuiteRunner, capsys):
    path = runner.accept(FLAT)
    _, told = doctor(runner.path, capsys, **FLAT)
    assert f"  baseline {path.name} (scripted 1.0 (0))" in told
    _, told = doctor(runner.path, capsys, **FLAT, state={"governor": "powersave"})
    assert "measured in another state: state governor: absent → powersave" in told


def test_a_baseline_that_cant_be_read_is_told(runner: SuiteRunner, capsys):
    runner.accept(FLAT).write_text("{")
    code, told = doctor(runner.path, capsys, **FLAT)
    assert code == 0
    assert "not whole JSON" in told


def test_a_calibration_is_seen(tmp_path, capsys):
    found = calibration(Fingerprint("scripted", "scripted", "1.0", "0"))
    save(tmp_path / "baselines", found)
    assert f"  calibrated {found.date}: noise floor 0.5 %, smallest slowdown" in doctor(tmp_path, capsys)[1]
    told = doctor(tmp_path, capsys, state={"governor": "powersave"})[1]
    assert (
        "  not calibrated (calibrated in another state: state governor: absent → powersave); calibrate it: python"
        in told
    )


def test_a_calibration_that_cant_be_read_is_told(tmp_path, capsys):
    path = save(tmp_path / "baselines", calibration(Fingerprint("scripted", "scripted", "1.0", "0")))
    path.write_text("{")
    code, told = doctor(tmp_path, capsys)
    assert code == 0
    assert f"  not calibrated (calibration {path}: not whole JSON" in told


def test_an_unknown_backend_is_a_mistake(capsys):
    assert cli.main(["doctor", "cuddn"]) == 2
    assert "did you mean cudnn?" in capsys.readouterr().err


def test_every_backend_that_is_not_for_testing_is_asked(monkeypatch, capsys):
    monkeypatch.setattr(cli, "what_is_missing", lambda name: f"unavailable: {name}lib is not installed; `get it`")
    assert cli.main(["doctor"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told[:-1]] == ["onednn", "cudnn", "tvm", "acl"]
    assert told[0] == "onednn: not here: onednnlib is not installed; `get it`"
