from dataclasses import replace
from typing import Any

import pytest

from backends import scripted, tvm
from neverslower.errors import CannotPrune, DescriptorError, NeverSlowerError, UnknownName
from neverslower.option_table import OPTIONS
from neverslower.options import RunPlan, plan
from neverslower.outcome.tuned_log import Kind
from neverslower.problem.comparison import pruning_distances
from neverslower.problem.convolution import DType, Layout, Side, parse_descriptor
from neverslower.problem.networks import NETWORKS, network
from neverslower.problem.selection import PROFILES, Selection

PLAIN = (DType.FLOAT32, Layout.NCHW)
NHWC = (DType.FLOAT32, Layout.NHWC)


def _kept(comparisons, side=Side.OUT):
    return [one.candidate.channels(side) for one in comparisons if not one.against_itself]


def test_nothing_chosen_means_the_profiles_networks():
    assert Selection().places() == list(network("resnet50"))
    assert len(Selection(PROFILES["full"]).places()) == sum(len(network(name)) for name in NETWORKS)


@pytest.mark.parametrize(
    "chosen", [{"networks": ("vgg16",)}, {"layers": ("vgg16.*",)}], ids=["by network", "by pattern"]
)
def test_what_is_chosen_replaces_the_profiles_networks(chosen):
    assert Selection(**chosen).places() == list(network("vgg16"))


def test_networks_layers_and_problems_add_up():
    selection = Selection(networks=("alexnet",), layers=("resnet50.L16",), problems=("mb1ic8oc8ih8kh3",))
    names = [layer.name for layer in selection.places()]
    assert names == [*(f"alexnet.L{index}" for index in range(5)), "resnet50.L16", "mb1ic8oc8ih8kh3"]


def test_a_problem_is_its_descriptors():
    text = "mb1_g1ic128oc128_ih28oh28kh3sh1ph1"
    (layer,) = Selection(problems=(text,)).places()
    assert (layer.name, layer.problem) == (text, parse_descriptor(text))


def test_an_unreadable_problem_is_refused():
    with pytest.raises(DescriptorError):
        Selection(problems=("mb1ic8",)).places()


def test_an_unknown_network_is_refused():
    with pytest.raises(UnknownName, match="did you mean vgg16"):
        Selection(networks=("vgg",)).places()


@pytest.mark.parametrize(
    ("pattern", "indices"),
    [
        ("resnet50.L16", [16]),
        ("resnet50.L1", [1]),
        ("resnet50.L1?", list(range(10, 20))),
        ("resnet50.layer2.1.conv2", [16]),
        ("resnet50.layer2.*.conv2", [12, 16, 19, 22]),
        ("resnet50.*downsample", [4, 14, 27, 46]),
        ("*.L52", [52]),
    ],
)
def test_a_pattern_matches_names_and_places(pattern, indices):
    found = [layer for layer in Selection(layers=(pattern,)).places() if layer.network == "resnet50"]
    assert [layer.index for layer in found] == indices


def test_a_pattern_reaches_across_networks():
    assert {layer.network for layer in Selection(layers=("*.L0",)).places()} == set(NETWORKS)


@pytest.mark.parametrize(
    ("pattern", "known"),
    [
        ("resnet50.L53", "resnet50 has resnet50.L0 to resnet50.L52"),
        ("vgg16.l0", "vgg16 has vgg16.L0 to vgg16.L12"),
        ("transformer.L0", "networks: alexnet, vgg16, resnet50, mobilenet_v1, mobilenet_v2"),
        ("L16", "networks: alexnet"),
        ("", "networks: alexnet"),
    ],
)
def test_a_pattern_that_matches_nothing_says_what_there_is(pattern, known):
    with pytest.raises(UnknownName, match="no layer matches") as caught:
        Selection(layers=("resnet50.L0", pattern)).places()
    assert repr(pattern) in str(caught.value)
    assert known in str(caught.value)


def test_shapes_that_networks_share_are_measured_once():
    alone = [len(Selection(networks=(name,)).distinct([PLAIN])) for name in ("mobilenet_v1", "mobilenet_v2")]
    together = Selection(networks=("mobilenet_v1", "mobilenet_v2")).distinct([PLAIN])
    assert len(together) == sum(alone) - 2
    shared = [layer for layer in together if len({place.split(".")[0] for place in layer.places}) == 2]
    assert [layer.name for layer in shared] == ["mobilenet_v1.L0", "mobilenet_v1.L1"]
    assert shared[0].places == ("mobilenet_v1.L0 conv1", "mobilenet_v2.L0 conv1")


def test_a_layer_that_is_chosen_twice_is_there_once():
    selection = Selection(networks=("resnet50",), layers=("resnet50.L16", "resnet50.L*"))
    assert [layer.index for layer in selection.distinct([PLAIN])] == [
        layer.index for layer in Selection(networks=("resnet50",)).distinct([PLAIN])
    ]


def test_two_spellings_of_one_problem_are_one_layer():
    spellings = ("mb1ic8oc8ih8oh8kh3ph1", "mb1_g1ic8oc8_ih8kh3ph1")
    assert len(Selection(problems=spellings).distinct([PLAIN])) == 1


def test_every_layer_is_there_in_every_format():
    layers = Selection(layers=("resnet50.L16", "resnet50.L0")).distinct([PLAIN, NHWC])
    assert [(layer.index, layer.problem.layout) for layer in layers] == [
        (16, Layout.NCHW),
        (0, Layout.NCHW),
        (16, Layout.NHWC),
        (0, Layout.NHWC),
    ]


def test_a_layer_is_compared_with_itself_and_at_every_distance():
    comparisons = Selection(layers=("resnet50.L16",)).comparisons("onednn", [PLAIN])
    assert [one.against_itself for one in comparisons].count(True) == 1
    assert sorted(one.distance for one in comparisons) == [0, 1, 3, 7, 15, 31, 32, 63, 64, 127]
    assert {one.backend for one in comparisons} == {"onednn"}
    assert {one.side for one in comparisons} == {Side.OUT}


def test_a_comparison_carries_the_rank_of_its_distance():
    comparisons = Selection(layers=("resnet50.L16",)).comparisons("onednn", [PLAIN])
    assert {one.distance: one.telling for one in comparisons if one.distance} == dict(
        pruning_distances(network("resnet50")[16].problem, Side.OUT)
    )


def test_input_channels_are_pruned_when_asked():
    comparisons = Selection(layers=("resnet50.L17",), sides=(Side.IN,)).comparisons("onednn", [PLAIN])
    assert _kept(comparisons, Side.IN) == [127, 125, 121, 113, 97, 96, 65, 64, 1]
    assert {one.candidate.out_channels for one in comparisons} == {512}


def test_both_sides_share_the_comparison_with_itself():
    comparisons = Selection(layers=("resnet50.L16",), sides=(Side.OUT, Side.IN)).comparisons("onednn", [PLAIN])
    assert len(comparisons) == 1 + 9 + 9


def test_a_depthwise_layer_pruned_on_either_side_is_one_comparison():
    pattern = ("mobilenet_v1.L1",)
    both = Selection(layers=pattern, sides=(Side.OUT, Side.IN)).comparisons("onednn", [PLAIN])
    assert both == Selection(layers=pattern).comparisons("onednn", [PLAIN])
    assert _kept(both) == [31, 29, 25, 24, 17, 16, 1]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("mb1g4ic16oc128_ih8kh3ph1", [124, 120, 112, 96, 64]),
        ("mb1g3ic9oc96_ih8kh3ph1", [93, 87, 84, 81, 72, 63, 48, 33]),
        ("mb1g2ic4oc6_ih8kh3ph1", [4, 2]),
        ("mb1g4ic4oc8_ih8kh3ph1", [6, 4]),
    ],
)
def test_distances_of_a_grouped_layer_are_rounded_up_to_valid_ones(text, kept):
    comparisons = Selection(problems=(text,)).comparisons("onednn", [PLAIN])
    assert _kept(comparisons) == kept
    assert len(comparisons) == 1 + len(kept)


def test_no_comparison_is_repeated_over_everything_there_is():
    selection = Selection(PROFILES["full"], sides=tuple(Side))
    comparisons = selection.comparisons("onednn", [PLAIN, NHWC])
    assert len({one.identity for one in comparisons}) == len(comparisons)
    assert len({one.id for one in comparisons}) == len(comparisons)


def test_the_quick_profile_is_the_papers_23_layers_at_every_distance():
    comparisons = Selection().comparisons("onednn", [PLAIN])
    layers = {one.layer.index: one.reference for one in comparisons}
    assert len(layers) == 23
    assert len(comparisons) == 23 + sum(len(pruning_distances(problem, Side.OUT)) for problem in layers.values())


def test_a_layers_format_is_its_pruned_selfs():
    comparisons = Selection(layers=("resnet50.L16",)).comparisons("onednn", [NHWC])
    for one in comparisons:
        assert one.candidate == replace(one.candidate, layout=Layout.NHWC)


def test_a_layer_chosen_alone_carries_all_its_places():
    (layer,) = Selection(layers=("resnet50.L16",)).distinct([PLAIN])
    assert [place.split()[0] for place in layer.places] == ["resnet50.L16", "resnet50.L19", "resnet50.L22"]


# The options that say so


def chosen(**values: Any) -> RunPlan:
    """The plan of some options, by flag with underscores; the others as they are by default."""
    defaults = {option.key: option.default for option in OPTIONS}
    return plan(defaults | {"backend": ["scripted"]} | {name.replace("_", "-"): one for name, one in values.items()})


def test_named_counts_replace_the_standard_distances():
    found = chosen(problem=["mb1_ic4oc16_ih6kh3ph1"], keep=["10", "3", "10"]).comparisons()
    assert [one.candidate.out_channels for one in found] == [16, 10, 3]
    assert [one.telling for one in found if one.distance] == [1, 2]


def test_named_counts_are_those_of_each_side():
    found = chosen(problem=["mb1_ic8oc16_ih6kh3ph1"], keep=["5"], side="both").comparisons()
    assert [(one.candidate.in_channels, one.candidate.out_channels) for one in found] == [(8, 16), (8, 5), (5, 16)]


@pytest.mark.parametrize(
    ("layer", "keep", "possible"),
    [
        ("mb1_ic4oc16_ih6kh3ph1", "16", "1 to 15"),
        ("mb1_ic4oc16_ih6kh3ph1", "0", "1 to 15"),
        ("mb1_ic4oc16_ih6kh3ph1", "16-20", "1 to 15"),
        ("mb1_g4ic8oc16_ih6kh3ph1", "10", "multiples of 4 below 16"),
        ("mb1_g8ic8oc16_ih6kh3ph1", "3", "multiples of 2 below 16"),
    ],
)
def test_a_count_that_no_layer_can_be_pruned_to_is_refused_at_once(layer, keep, possible):
    with pytest.raises(CannotPrune) as caught:
        chosen(problem=[layer], keep=[keep])
    has = f"{layer} has 16 output channels, and can keep {possible}"
    assert str(caught.value) == f"--keep {keep}: no chosen layer can keep that ({has})"


def test_a_count_that_some_layers_have_holds_for_those_and_says_so():
    narrow, wide = "mb1_ic4oc16_ih6kh3ph1", "mb1_ic4oc64_ih6kh3ph1"
    run_plan = chosen(problem=[narrow, wide], keep=["32"])
    comparisons = run_plan.comparisons()
    assert {(comparison.layer.name, comparison.candidate.out_channels) for comparison in comparisons} == {
        (wide, 64),
        (wide, 32),
    }
    assert run_plan.remarks == [f"--keep: 1 of 2 layers have all these counts; not {narrow} (16 output channels)"]


def test_a_range_holds_up_to_the_layers_own_channels():
    run_plan = chosen(problem=["mb1_ic4oc16_ih6kh3ph1"], keep=["14-17"])
    assert _kept(run_plan.comparisons()) == [14, 15]
    assert run_plan.remarks


def test_counts_that_every_layer_has_need_no_remark():
    assert chosen(problem=["mb1_ic4oc16_ih6kh3ph1"], keep=["14"]).remarks == []


def test_a_study_leaves_out_the_layers_that_do_not_have_the_count():
    cases = chosen(backend=["tvm"], layer=["resnet50.L1", "resnet50.L16"], keep=["96"]).tuned_log_cases()
    assert {case.shown.layer.name for case in cases} == {"resnet50.L16"}


def test_what_decides_a_verdict_is_repeated_and_nothing_else():
    given = {"baselines": "mine", "strict_verdicts": True, "preset": "quick", "journal": "j", "layer": ["resnet50.L1"]}
    assert set(chosen(**given).repeated) == {"--baselines=mine", "--strict-verdicts", "--preset=quick"}


@pytest.mark.parametrize("trials", ["0", "-1", "1001"])
def test_trials_out_of_reason_are_refused(trials):
    with pytest.raises(NeverSlowerError, match=rf"^--trials {trials}: from 1 to 1000$"):
        chosen(trials=trials)


def test_trials_are_those_of_every_search():
    cases = chosen(trials="7", layer=["resnet50.L1"]).tuned_log_cases()
    assert {log.search.trials for case in cases for one in case.comparisons for log in one.tuned_logs} == {7}


@pytest.mark.parametrize(("text", "seconds"), [(None, 600.0), ("90s", 90.0), ("0", None)])
def test_the_tuning_budget_is_ten_minutes_unless_told_otherwise(text, seconds):
    assert chosen(tuning_budget=text).settings.tuning_budget == seconds


@pytest.mark.parametrize("flag", ["dtype", "layout"])
def test_a_format_that_no_chosen_backend_has_is_refused_with_those_they_have(flag, monkeypatch):
    narrow = replace(tvm.CAPABILITIES, layouts=frozenset({Layout.NCHW}))
    monkeypatch.setattr(tvm, "CAPABILITIES", narrow)
    wanted, has = ("tf32", "bfloat16, float16, float32") if flag == "dtype" else ("NHWC", "NCHW")
    with pytest.raises(NeverSlowerError) as caught:
        chosen(backend=["tvm"], **{flag: [wanted]})
    assert str(caught.value) == f"--{flag} {wanted}: no chosen backend can do that (tvm has {has})"
    shared = chosen(backend=["tvm", "scripted"], layer=["resnet50.L16"], **{flag: [wanted.upper()]})
    assert set(shared.formats) == {"tvm", "scripted"}


def test_a_slow_backend_measures_a_few_layers_unless_told_otherwise():
    found = chosen(backend=["tvm", "onednn"])
    assert {one.layer.name for one in found.comparisons() if one.backend == "tvm"} == set(tvm.CAPABILITIES.quick_layers)
    assert found.selections["onednn"].places() == list(network("resnet50"))


@pytest.mark.parametrize(
    "values", [{"layer": ["resnet50.L0"]}, {"network": ["alexnet"]}, {"problem": ["mb1ic8oc8ih8kh3"]}]
)
def test_layers_that_are_named_are_every_backends(values):
    found = chosen(backend=["tvm", "onednn"], **values)
    assert found.selections["tvm"] == found.selections["onednn"]


def test_the_full_profile_leaves_no_layer_out_for_slowness():
    found = chosen(backend=["tvm", "onednn"], profile="full")
    assert found.selections["tvm"].places() == found.selections["onednn"].places()


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_study_of_nothing_named_is_of_the_backends_own_choice(profile):
    cases = chosen(backend=["tvm", "onednn", "scripted"], profile=profile).tuned_log_cases()
    for name, capabilities in (("tvm", tvm.CAPABILITIES), ("scripted", scripted.CAPABILITIES)):
        assert {case.shown.layer.name for case in cases if case.shown.backend == name} == set(capabilities.tuned_layers)
    assert "onednn" not in {case.shown.backend for case in cases}


def test_a_study_is_of_the_layers_sides_counts_and_formats_that_are_named():
    values = {"layer": ["resnet50.L1", "resnet50.L5"], "side": "both", "keep": ["33"], "layout": ["NCHW", "NHWC"]}
    cases = chosen(backend=["tvm"], **values).tuned_log_cases()
    assert len({case.id for case in cases}) == len(cases) == 2 * 2 * 2 * len(Kind)
    assert {case.shown.layer.name for case in cases} == {"resnet50.L1", "resnet50.L5"}
    assert {case.shown.candidate.channels(case.shown.side) for case in cases} == {33}
