from dataclasses import replace
from typing import Any

import pytest

from backends import scripted, tvm
from neverslower import option_values as read
from neverslower.errors import CannotPrune, DescriptorError, InvalidProblem, NeverSlowerError, UnknownName
from neverslower.option_table import OPTIONS
from neverslower.options import plan
from neverslower.outcome.tuned_log import Kind
from neverslower.problem.comparison import pruning_distances
from neverslower.problem.convolution import DType, Layout, Side, parse_descriptor
from neverslower.problem.model import Model
from neverslower.problem.networks import NETWORKS, Layer, network
from neverslower.problem.selection import PROFILES, Keep, Selection
from neverslower.run_plan import RunPlan

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
    found = chosen(problem=["mb1_ic4oc16_ih6kh3ph1"], keep=["10", "3", "10"]).comparisons
    assert [one.candidate.out_channels for one in found] == [16, 10, 3]
    assert [one.telling for one in found if one.distance] == [1, 2]


def test_named_counts_are_those_of_each_side():
    found = chosen(problem=["mb1_ic8oc16_ih6kh3ph1"], keep=["5"], side="both").comparisons
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
    comparisons = run_plan.comparisons
    assert {(comparison.layer.name, comparison.candidate.out_channels) for comparison in comparisons} == {
        (wide, 64),
        (wide, 32),
    }
    assert run_plan.notes() == [f"--keep 32: 1 of 2 layers can't keep 32 output channels: {narrow} (16)"]


def test_a_range_holds_up_to_the_layers_own_channels():
    run_plan = chosen(problem=["mb1_ic4oc16_ih6kh3ph1"], keep=["14-17"])
    assert _kept(run_plan.comparisons) == [14, 15]
    (note,) = run_plan.notes()
    assert note == "--keep 14-17: 1 of 1 layer can't keep each of 14-17 output channels: mb1_ic4oc16_ih6kh3ph1 (16)"


def test_counts_that_every_layer_has_need_no_remark():
    assert chosen(problem=["mb1_ic4oc16_ih6kh3ph1"], keep=["14"]).notes() == []


def test_an_option_about_causes_that_has_no_effect_is_said_once():
    asked = {"problem": ["mb1_ic4oc16_ih6kh3ph1"], "backend": ["onednn", "cudnn", "scripted"]}
    (note,) = chosen(**asked, explain=True, **{"explain-budget": "5s"}).notes()
    assert note == (
        "--explain, --explain-budget: no effect on onednn, which can't say why a layer is slower; cudnn can"
    )
    assert chosen(**asked | {"backend": ["cudnn"]}, explain=True).notes() == chosen(**asked).notes() == []


def test_a_study_leaves_out_the_layers_that_do_not_have_the_count():
    cases = chosen(backend=["tvm"], layer=["resnet50.L1", "resnet50.L16"], keep=["96"]).tuned_log_cases
    assert {case.shown.layer.name for case in cases} == {"resnet50.L16"}


def test_what_decides_a_verdict_is_repeated_and_nothing_else():
    given = {"baselines": "mine", "strict_verdicts": True, "preset": "quick", "journal": "j", "layer": ["resnet50.L1"]}
    assert set(chosen(**given).repeated) == {"--baselines=mine", "--strict-verdicts", "--preset=quick"}


@pytest.mark.parametrize("trials", ["0", "-1", "1001"])
def test_trials_out_of_reason_are_refused(trials):
    with pytest.raises(NeverSlowerError, match=rf"^--trials {trials}: from 1 to 1000$"):
        chosen(trials=trials)


def test_trials_are_those_of_every_search():
    cases = chosen(trials="7", layer=["resnet50.L1"]).tuned_log_cases
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
    assert {one.layer.name for one in found.comparisons if one.backend == "tvm"} == set(tvm.CAPABILITIES.quick_layers)
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
    cases = chosen(backend=["tvm", "onednn", "scripted"], profile=profile).tuned_log_cases
    for name, capabilities in (("tvm", tvm.CAPABILITIES), ("scripted", scripted.CAPABILITIES)):
        assert {case.shown.layer.name for case in cases if case.shown.backend == name} == set(capabilities.tuned_layers)
    assert "onednn" not in {case.shown.backend for case in cases}


def test_a_study_is_of_the_layers_sides_counts_and_formats_that_are_named():
    values = {"layer": ["resnet50.L1", "resnet50.L5"], "side": "both", "keep": ["33"], "layout": ["NCHW", "NHWC"]}
    cases = chosen(backend=["tvm"], **values).tuned_log_cases
    assert len({case.id for case in cases}) == len(cases) == 2 * 2 * 2 * len(Kind)
    assert {case.shown.layer.name for case in cases} == {"resnet50.L1", "resnet50.L5"}
    assert {case.shown.candidate.channels(case.shown.side) for case in cases} == {33}


# A user's own layers


def own(*descriptors: str, name: str = "net") -> Model:
    """A model whose layers are called block.0.conv, block.1.conv and so on."""
    source = ("--model", f"{name}.py:build", "--input", "1x3x8x8")
    layers = [
        Layer(name, None, f"block.{index}.conv", parse_descriptor(text), source=source)
        for index, text in enumerate(descriptors)
    ]
    return Model(name, tuple(layers), source=source)


SMALL, LARGE = "mb1_ic8oc16_ih8kh3ph1", "mb1_ic16oc64_ih8kh3ph1"


def test_a_model_s_layers_are_chosen_all_or_by_their_own_names():
    selection = Selection(models=(own(SMALL, SMALL, LARGE),))
    assert [layer.name for layer in selection.places()] == ["net.block.0.conv", "net.block.1.conv", "net.block.2.conv"]
    for pattern in ("block.[12].conv", "net.block.[12].conv"):
        chosen_layers = replace(selection, layers=(pattern,)).places()
        assert [layer.place for layer in chosen_layers] == ["block.1.conv", "block.2.conv"]


def test_equal_shapes_of_a_model_are_measured_once_and_named_at_every_place():
    first, second = Selection(models=(own(SMALL, SMALL, LARGE),)).distinct([PLAIN])
    assert (first.name, first.places) == ("net.block.0.conv", ("net.block.0.conv", "net.block.1.conv"))
    assert second.places == ("net.block.2.conv",)


def test_a_pattern_that_no_layer_of_a_model_matches_names_some_that_are_there():
    with pytest.raises(UnknownName, match=r"no layer matches 'block\.7\.conv'; the model has such as block\.\d\.conv"):
        Selection(models=(own(SMALL, LARGE),), layers=("block.7.conv",)).places()


def test_a_layer_says_by_which_options_a_run_selects_it_again():
    (layer,) = Selection(models=(own(SMALL),), batches=(8,)).places()
    assert layer.options == [
        "--model",
        "net.py:build",
        "--input",
        "1x3x8x8",
        "--layer",
        "net.block.0.conv",
        "--batch",
        "8",
    ]
    (named,) = Selection(problems=(f'{SMALL}n"first"',)).places()
    assert (named.name, named.options) == ("first", ["--problem", f'{SMALL}n"first"'])


def test_one_name_for_two_problems_is_refused():
    with pytest.raises(InvalidProblem, match=r"first names two problems, .*; give one another name"):
        Selection(problems=(f'{SMALL}n"first"', f'{LARGE}n"first"')).places()


@pytest.mark.parametrize(
    ("pattern", "place"),
    [
        ("resnet50.layer2.0.downsample.0", "layer2.0.downsample"),
        ("vgg16.features.28", "conv5_3"),
        ("mobilenet_v2.features.2.conv.1.0", "block2.depthwise"),
        ("mobilenet_v2.features.18.0", "last"),
    ],
)
def test_the_catalogue_answers_to_torchvisions_names(pattern, place):
    (layer,) = Selection(layers=(pattern,)).places()
    assert layer.place == place


def test_a_count_for_one_layer_leaves_the_others_at_the_standard_distances():
    keep = (Keep((8, 4), "block.0.*"),)
    comparisons = Selection(models=(own(SMALL, LARGE),), keep=keep).comparisons("onednn", [PLAIN])
    kept = [one.candidate.out_channels for one in comparisons if one.layer.place == "block.0.conv" and one.distance]
    assert kept == [8, 4]
    assert len(comparisons) == 2 + 2 + len(pruning_distances(parse_descriptor(LARGE), Side.OUT))


def test_a_count_for_a_place_that_shares_its_shape_holds_for_the_layer_that_is_measured():
    selection = Selection(models=(own(SMALL, SMALL, LARGE),), keep=(Keep((8,), "block.1.conv"),), batches=(2,))
    comparisons = selection.comparisons("onednn", [NHWC])
    kept = {
        one.layer.name: one.candidate.out_channels
        for one in comparisons
        if one.distance and one.reference.out_channels == 16
    }
    assert kept == {"net.block.0.conv@2": 8}


def test_a_bare_count_holds_where_it_fits_and_says_where_it_does_not():
    selection = Selection(models=(own(SMALL, LARGE),), keep=(Keep((48,)),))
    comparisons = selection.comparisons("onednn", [PLAIN])
    assert [(one.layer.place, one.candidate.out_channels) for one in comparisons] == [
        ("block.1.conv", 64),
        ("block.1.conv", 48),
    ]
    note = "--keep 48: 1 of 2 layers can't keep 48 output channels: net.block.0.conv (16)"
    assert selection.notes(selection.distinct([PLAIN]))[-1] == note


def test_a_bare_count_is_not_for_the_layers_that_have_counts_of_their_own():
    selection = Selection(models=(own(SMALL, LARGE),), keep=(Keep((48,)), Keep((8,), "block.0.*")))
    layers = selection.distinct([PLAIN])
    selection.require_kept(layers)
    assert [line for line in selection.notes(layers) if line.startswith("--keep")] == []


@pytest.mark.parametrize(
    ("keep", "told"),
    [
        (
            Keep((8, 48), "block.*"),
            r"--keep block.\*=8,48: 1 of 2 layers that match can't keep that \(net.block.0.conv has 16 output "
            r"channels, and can keep 1 to 15\)",
        ),
        (Keep((64,)), r"--keep 64: no chosen layer can keep that \(net.block.0.conv has 16 output channels"),
        (Keep((4,), "block.9.*"), r"--keep block.9.\*=4: no chosen layer matches 'block.9.\*'"),
    ],
)
def test_a_count_that_fits_nowhere_or_not_the_layer_that_it_names_is_refused(keep, told):
    selection = Selection(models=(own(SMALL, LARGE),), keep=(keep,))
    with pytest.raises((CannotPrune, UnknownName), match=told):
        selection.require_kept(selection.distinct([PLAIN]))


def test_a_layer_that_can_t_be_pruned_at_all_says_on_which_side():
    image = "mb1_ic3oc64_ih8kh3ph1"
    told = "has 64 output channels, and --side together prunes none of them"
    with pytest.raises(CannotPrune, match=told):
        chosen(problem=[image], side="together", keep=["32"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("48", Keep((48,))),
        ("92-94", Keep((92, 93, 94))),
        ("48,56-57", Keep((48, 56, 57))),
        ("layer1.0.conv1=48,56", Keep((48, 56), "layer1.0.conv1")),
    ],
)
def test_counts_to_keep_are_read(text, expected):
    assert read.keep(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["", "a", "5-3", "=", "=48", "conv=", "conv=a", "48,", "48,,5"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(
        NeverSlowerError, match=r"^--keep .*(a channel count such as 96|--keep 3-5|channel counts such as 48, 48,56)"
    ):
        read.keep(text)


def test_each_batch_is_a_layer_of_its_own():
    layers = Selection(layers=("resnet50.L16",), batches=(1, 8)).distinct([PLAIN])
    assert [(layer.name, layer.problem.batch) for layer in layers] == [("resnet50.L16", 1), ("resnet50.L16@8", 8)]
    assert layers[1].places[1] == "resnet50.L19@8 layer2.2.conv2"
    assert len({one.id for one in Selection(layers=("resnet50.L16",), batches=(1, 8)).comparisons("a", [PLAIN])}) == 20


@pytest.mark.parametrize("batch", ["0", "-1", "65537"])
def test_a_batch_out_of_reason_is_refused(batch):
    with pytest.raises(NeverSlowerError, match=rf"^--batch {batch}: from 1 to 65536$"):
        chosen(batch=[batch])


# Both sides at once


def test_both_sides_are_pruned_in_one_step_by_one_share():
    comparisons = Selection(problems=(LARGE,), sides=(Side.TOGETHER,)).comparisons("onednn", [PLAIN])
    counts = [(one.candidate.out_channels, one.candidate.in_channels) for one in comparisons if one.distance]
    # 12 % of 64 and of 16 are 7 and 1; 1, 3 and 7 of 64 are less than one of 16, and at least one goes.
    assert counts == [(63, 15), (61, 15), (57, 15), (49, 13), (48, 12), (33, 9), (32, 8), (1, 1)]
    assert comparisons[1].id == "onednn-mb1_ic16oc64_ih8kh3ph1-float32-NCHW-together63"
    assert comparisons[1].channels == "63 of 64 output and 15 of 16 input channels"


@pytest.mark.parametrize(("name", "pruned", "whole"), [("resnet50", 52, 53), ("mobilenet_v2", 51, 52)])
def test_every_layer_but_the_one_that_reads_the_image_is_pruned_together(name, pruned, whole):
    able = [layer for layer in network(name) if pruning_distances(layer.problem, Side.TOGETHER)]
    assert (len(able), len(network(name))) == (pruned, whole)
    dense = [layer for layer in able if not layer.problem.depthwise]
    assert len(dense) == {"resnet50": 52, "mobilenet_v2": 34}[name]


def test_a_grouped_layer_loses_whole_groups_together():
    grouped = parse_descriptor("mb1_g32ic128oc256_ih8kh3ph1")
    pruned = grouped.prune(2 * 8, Side.TOGETHER)
    assert (pruned.groups, pruned.in_channels, pruned.out_channels) == (30, 120, 240)
    assert {distance % 8 for distance, _ in pruning_distances(grouped, Side.TOGETHER)} == {0}


def test_twelve_per_cent_of_each_side_are_what_pruning_a_network_takes():
    problem = parse_descriptor("mb1_ic256oc64_ih56kh1")
    twelve = problem.prune(int(64 * 0.12), Side.TOGETHER)
    assert (twelve.out_channels, twelve.in_channels) == (64 - 7, 256 - 30)


def test_the_path_of_a_python_is_a_worker_s_spec(tmp_path):
    python = tmp_path / "python"
    python.touch()
    found = chosen(backend=["scripted"], against=str(python), worker="popen")
    assert found.against["scripted"].execnet == f"popen//python={python}"
    assert found.backends["scripted"].execnet == "popen"
    assert chosen(worker="ssh=board").backends["scripted"].execnet == "ssh=board"
