"""Scripts that time one problem without never-slower: every backend writes one, or says why it can't."""

from __future__ import annotations

import pytest

import backends
from neverslower import cli
from neverslower.problem.convolution import parse_descriptor

KEY = parse_descriptor("mb1_ic4oc4_ih6kh3ph1").key


@pytest.mark.parametrize("argument", ["tvm", "acl", "onednn:torch"])
def test_a_script_of_what_a_backend_refuses_is_refused_alike(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["script", "--backend", argument, f"{KEY}-bias+relu"]) == 2
    told = capsys.readouterr().err
    assert (
        "takes a bias and no post-ops" if "torch" in argument else "no bias and no post-ops in the same call"
    ) in told


@pytest.mark.parametrize("argument", ["onednn", "onednn:torch", "cudnn", "cudnn:torch", "tvm", "acl"])
def test_a_script_knows_its_problem_and_not_this_suite(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["script", "--backend", argument, KEY]) == 0
    script = capsys.readouterr().out
    assert KEY.partition("-")[0] in script
    assert "import neverslower" not in script
    if not argument.startswith("acl"):
        compile(script, "script", "exec")
    called = "return torch.conv2d" in script or "return torch.nn.functional.conv2d" in script
    assert called == argument.endswith(":torch")


def test_every_backend_is_asked() -> None:
    assert {name for name in backends.TABLE if name != backends.FOR_TESTING} == {"onednn", "cudnn", "tvm", "acl"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--backend", "scripted", KEY], "for scripted: it has no library"),
        (["--backend", "onednn", parse_descriptor("mb1_ic4oc4_ih6oh6kh2ph0").key], "onednn: no asymmetric padding"),
        (["--backend", "onednn:best", KEY], "'best' is not torch"),
        (["--backend", "cudnn:bets", KEY], "'bets' is not one of"),
        (["--backend", "onednm", KEY], "unknown backend 'onednm'; did you mean onednn?"),
    ],
)
def test_why_there_is_no_script_is_one_clear_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["script", *arguments]) == 2
    assert told in capsys.readouterr().err
