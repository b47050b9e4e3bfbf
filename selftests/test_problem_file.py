"""Files of problems: benchdnn's batch files and CSV, with the names that they give."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from neverslower.errors import NeverSlowerError
from neverslower.models import problem_file
from neverslower.problem.convolution import ConvProblem, parse_descriptor
from neverslower.problem.model import LeftOut, Model
from selftests.conftest import SuiteRunner


def read(folder: Path, text: str, name: str = "shapes_net") -> Model:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return problem_file.read(path)


def named(model: Model) -> dict[str, ConvProblem]:
    return {layer.name: layer.problem for layer in model.layers}


def test_a_batch_file_has_comments_options_and_names(tmp_path: Path) -> None:
    text = """
    # a comment, then options
    --reset --dir=FWD_I --dt=f32
    ic8oc8_ih8kh3ph1n"first"   # two images, as benchdnn has it
    --mb=4
    mb256_ic8oc16_ih8kh3ph1n"net:se#cond" ic8oc8_iw100kw3pw1
    --mb=0
    ic4oc4_ih8kh1
    """
    assert named(read(tmp_path, text)) == {
        "first": parse_descriptor("mb2_ic8oc8_ih8kh3ph1"),
        "net:se#cond": parse_descriptor("mb4_ic8oc16_ih8kh3ph1"),
        "mb4_g1ic8oc8_ih1oh1kh1sh1ph0_iw100ow100kw3sw1pw1": parse_descriptor("mb4_ic8oc8_iw100kw3pw1"),
        "mb2_g1ic4oc4_ih8oh8kh1sh1ph0": parse_descriptor("mb2_ic4oc4_ih8kh1"),
    }


def test_a_batch_file_includes_another_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").write_text('ic8oc8_ih8kh3n"inner"\n', encoding="utf-8")
    assert list(named(read(tmp_path, '--batch=inner\nic4oc4_ih4kh1n"outer"\n'))) == ["inner", "outer"]
    with pytest.raises(NeverSlowerError, match="--batch leads in a circle"):
        read(tmp_path, "--batch=shapes_net\n")


def test_what_can_t_be_measured_is_left_out_with_its_work(tmp_path: Path) -> None:
    text = """ic8oc8_ih8kh3n"plain"
    mb1_ic2oc4_id5kd3n"cube"
    --dt=u8:s8:s32
    mb1_ic8oc8_ih8kh3n"bytes"
    --dt=f16
    mb1_ic8oc8_ih8kh3n"half"
    """
    model = read(tmp_path, text)
    assert list(named(model)) == ["plain", "half"]
    assert model.left_out == (
        LeftOut("cube", "3-D convolution", 2 * 4 * 27 * 27),
        LeftOut("bytes", "quantised convolution", 8 * 8 * 9 * 36),
    )


def test_a_batch_file_says_what_follows_its_convolutions(tmp_path: Path) -> None:
    text = """ic8oc8_ih8kh3n"plain"
    --bia-dt=f32 --attr-post-ops=sum+relu
    ic8oc8_ih8kh3n"both"
    --attr-post-ops= --bia-dt=undef --dir=FWD_B
    ic8oc8_ih8kh3n"biased"
    --dir=FWD_I --attr-post-ops=swish:1
    ic8oc8_ih8kh3
    --attr-post-ops=tanh
    mb1_ic8oc8_ih8kh3n"other"
    --attr-post-ops=swish
    mb1_ic8oc8_ih8kh3n"half"
    --reset
    ic8oc8_ih8kh3n"again"
    """
    model = read(tmp_path, text)
    described = "mb2_g1ic8oc8_ih8oh6kh3sh1ph0"
    swished = f"{described}-swish:1"
    assert {name: str(problem.epilogue) for name, problem in named(model).items()} == {
        "plain": "",
        "both": "bias+sum+relu",
        "biased": "bias",
        swished: "swish:1",
        "again": "",
    }
    assert [(left.place, left.what) for left in model.left_out] == [
        ("other", "convolution with post-ops tanh"),
        ("half", "convolution with post-ops swish"),
    ]
    sources = {layer.name: layer.source for layer in model.layers}
    assert sources["both"] == ("--problem", f'{described}n"both"', "--bias", "--post-ops=sum+relu")
    assert sources[swished] == ("--problem", f'{described}n"{swished}"', "--post-ops=swish:1")


def test_options_hold_for_included_files_and_theirs_for_what_follows(tmp_path: Path) -> None:
    (tmp_path / "inner").write_text('ic8oc8_ih8kh3n"inner"\n--mb=8 --attr-post-ops=\n', encoding="utf-8")
    model = read(tmp_path, '--mb=4 --dir=FWD_B --attr-post-ops=relu --batch=inner\nic4oc4_ih4kh1n"behind"\n')
    assert {name: (problem.batch, str(problem.epilogue)) for name, problem in named(model).items()} == {
        "inner": (4, "bias+relu"),
        "behind": (8, "bias"),
    }


def test_a_list_of_values_is_a_problem_each(tmp_path: Path) -> None:
    text = """--bia-dt=undef,f32 --dir=fwd_i --attr-post-ops=,relu --mb=1,4 --dt=f32,f16
    ic8oc8_ih8kh3n"conv"
    --attr-post-ops= --mb=1
    ic8oc8_ih9kh3
    """
    assert {name: (problem.batch, str(problem.epilogue)) for name, problem in named(read(tmp_path, text)).items()} == {
        "conv-mb1": (1, ""),
        "conv-mb1-relu": (1, "relu"),
        "conv-mb1-bias": (1, "bias"),
        "conv-mb1-bias+relu": (1, "bias+relu"),
        "conv-mb4": (4, ""),
        "conv-mb4-relu": (4, "relu"),
        "conv-mb4-bias": (4, "bias"),
        "conv-mb4-bias+relu": (4, "bias+relu"),
        "mb1_g1ic8oc8_ih9oh7kh3sh1ph0": (1, ""),
        "mb1_g1ic8oc8_ih9oh7kh3sh1ph0-bias": (1, "bias"),
    }


def test_what_is_no_forward_convolution_is_left_out(tmp_path: Path) -> None:
    text = """--dir=FWD_B,BWD_D,BWD_WB
    mb1_ic8oc8_ih8kh3n"both"
    --dir=FWD_D --dt=f32,u8:s8:f32
    mb1_ic8oc8_ih8kh3n"bytes"
    """
    model = read(tmp_path, text)
    assert {name: str(problem.epilogue) for name, problem in named(model).items()} == {"both": "bias", "bytes": ""}
    assert [(left.place, left.what) for left in model.left_out] == [
        ("both", "backward convolution"),
        ("bytes", "quantised convolution"),
    ]


def test_one_shape_with_two_epilogues_is_two_layers(tmp_path: Path) -> None:
    text = "--attr-post-ops=relu\nic8oc8_ih8kh3\n--attr-post-ops=sum\nic8oc8_ih8kh3\n--reset ic8oc8_ih8kh3\n"
    described = "mb2_g1ic8oc8_ih8oh6kh3sh1ph0"
    assert list(named(read(tmp_path, text))) == [f"{described}-relu", f"{described}-sum", described]


def test_csv_has_a_column_a_number_by_long_names_or_benchdnns(tmp_path: Path) -> None:
    long = """name,in_channels,out_channels,height,kernel,padding,stride,dilation,groups
    # dilation counts from 1
    a,8,16,28,3,1,1,2,1
    b,16,16,28,3,1,2,,16
    """
    assert named(read(tmp_path, long, "net.csv")) == {
        "a": parse_descriptor("mb1_ic8oc16_ih28kh3dh1ph1"),
        "b": parse_descriptor("mb1_g16ic16oc16_ih28kh3sh2ph1"),
    }
    assert named(read(tmp_path, "mb,ic,oc,iw,kw\n2,8,8,100,3\n", "net.csv")) == {
        "mb2_g1ic8oc8_ih1oh1kh1sh1ph0_iw100ow98kw3sw1pw0": parse_descriptor("mb2_ic8oc8_iw100kw3")
    }
    described = read(tmp_path, "name,descriptor\nx,mb1_ic8oc8_ih8kh3\n", "net.csv")
    assert named(described) == {"x": parse_descriptor("mb1_ic8oc8_ih8kh3")}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("f", "ic8oc8\n", r"f:1: descriptor 'ic8oc8', character 7: ih is missing"),
        ("f", "\n# nothing\n", "no problem in it; a line reads"),
        ("f", "--mb=x\n", "f:1: --mb=x is not a number"),
        ("f", "--mb=1,\n", "f:1: --mb=1, is not a number, nor a list of numbers as in --mb=1,8"),
        ("f", "--dir=FWD_B,up\n", "f:1: --dir=FWD_B,up: 'UP' is none of FWD_D, FWD_I, FWD_B, BWD_D"),
        ("f", "--dir=BWD_D\nmb1_ic8oc8_ih8kh3\n", "f: no 2-D forward convolution in it, .* 1 × backward convolution"),
        (
            "f",
            'ic8oc8_ih8kh3n"a"\nic4oc8_ih8kh3n"a"\n',
            r"f:2: a is there twice, as mb2_g1ic8oc8.* and as mb2_g1ic4oc8",
        ),
        (
            "f",
            "ic64ih28oc32oh56kh4sh2ph1\n",
            r"f:1: .* takes 85 rows of padding below, so it describes a deconvolution",
        ),
        ("f.csv", "ic,oc,colour\n1,2,3\n", "f.csv:1: unknown column 'colour'; known are name"),
        ("f.csv", "ic,ic\n1,2\n", "f.csv:1: a column is there twice"),
        ("f.csv", "ic,oc,ih,kh\n1,2,3\n", "f.csv:2: 3 cells, and 4 columns"),
        ("f.csv", "ic,oc,ih,kh\n1,2.5,3,1\n", "f.csv:2: oc is '2.5', not a whole number"),
        ("f.csv", "ic,oc,ih\n1,2,3\n", "f.csv:2: .*kh is missing"),
    ],
)
def test_a_mistake_names_the_line(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(NeverSlowerError, match=told):
        read(tmp_path, text, name)


def test_what_is_no_file_of_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(NeverSlowerError, match="this is a directory; name a file"):
        problem_file.read(tmp_path)
    with pytest.raises(NeverSlowerError, match="absent can't be read: No such file"):
        problem_file.read(tmp_path / "absent")
    (tmp_path / "weights").write_bytes(b"\x80\x02\xff")
    with pytest.raises(NeverSlowerError, match="not a text file"):
        problem_file.read(tmp_path / "weights")


def test_a_run_takes_a_file_and_each_failure_measures_its_problem_again(runner: SuiteRunner) -> None:
    (runner.path / "shapes").write_text('mb1_ic4oc16_ih6kh3ph1n"first layer"\n', encoding="utf-8")
    slow = {"when": "out_channels == 15", "times": 2.0}
    result = runner.run({"rules": [slow]}, "--problems", "shapes", "--strict-verdicts", problem="")
    result.stdout.fnmatch_lines(
        [
            "shapes: 1 convolution, 1 distinct, *",
            "*first layer on scripted, 15 of 16 output channels (distance 1)",
            "*again*--problem 'mb1_g1ic4oc16_ih6oh6kh3sh1ph1n\"first layer\"' *",
        ]
    )
    again = runner.run({"rules": [slow]}, problem='mb1_g1ic4oc16_ih6oh6kh3sh1ph1n"first layer"')
    again.stdout.fnmatch_lines(["*scripted-first layer-float32-NCHW-out15*"])


def test_a_problem_that_is_named_after_what_follows_is_measured_again_by_that_name(runner: SuiteRunner) -> None:
    (runner.path / "shapes").write_text("--attr-post-ops=relu,silu\nmb1_ic4oc16_ih6kh3ph1\n", encoding="utf-8")
    slow = {"when": "out_channels == 15 and post_ops == 'swish:1'", "times": 2.0}
    result = runner.run({"rules": [slow]}, "--problems", "shapes", "--strict-verdicts", problem="")
    (again,) = [line.partition("again     pytest ")[2] for line in result.outlines if "  again     " in line]
    once_more = runner.run({"rules": [slow]}, *shlex.split(again), problem="")
    assert once_more.ret == 1
    once_more.stdout.fnmatch_lines(["*1 failed*"])
