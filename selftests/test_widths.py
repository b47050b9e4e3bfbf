"""The widths of a model for a budget: budgets, importance, the integer program, and advice that is verified."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from neverslower.errors import NeverSlowerError
from neverslower.judge.verdict import Code, Interval, Reason, ReasonCode, Verdict
from neverslower.maps.grid import unpruned_pair
from neverslower.models.coupling import Group, Member
from neverslower.problem.convolution import ConvProblem, parse_descriptor
from neverslower.problem.model import Model
from neverslower.problem.networks import Layer
from neverslower.report.widths import modules, ratio_of, ratios
from neverslower.widths import budget, importance, solving
from neverslower.widths.budget import Budget, Resource
from neverslower.widths.building import question_of, work_of
from neverslower.widths.problem import Choice, Item, Plan, Price, Question, Total
from neverslower.widths.solving import Goal, solve
from neverslower.widths.structure import pairs_at, structure_of, wanted_pairs
from neverslower.widths.verifying import around, verified
from selftests.support import known
from selftests.width_models import CHAIN, CONCATENATED, DEPTHWISE, PARTLY_HELD, grid_by, known_of

LATENCY = Resource.LATENCY


# Budgets and scores


def test_budgets_are_shares_of_the_unpruned_model():
    assert budget.parse([]) == (Budget(LATENCY, 0.7),)
    assert budget.parse(["latency=.5x,macs=0.25x"]) == (Budget(LATENCY, 0.5), Budget(Resource.MACS, 0.25))
    assert str(Budget(Resource.PARAMS, 0.7)) == "params=0.7x"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("latency=0.7", "write such as latency=0.7x"),
        ("time=0.7x", r"write such as latency=0.7x \(resources: latency, params, macs\)"),
        ("macs=1.5x", "from above 0x to below 1x"),
        ("macs=0x", "from above 0x to below 1x"),
        ("macs=0.5x,macs=0.6x", "macs has two budgets; give one"),
    ],
)
def test_a_budget_that_is_none_is_named(text, why):
    with pytest.raises(NeverSlowerError, match=why):
        budget.parse([text])


GROUP = Group("a", 3, (Member("a", "out", 0), Member("b", "out", 1), Member("c", "in", 0)))


def test_a_channel_is_worth_what_all_filters_that_make_it_are_worth():
    norms = importance.normalised({"a": [1.0, 2.0, 3.0], "b": [9.0, 30.0, 30.0, 51.0]})
    assert norms["a"] == [0.5, 1.0, 1.5]
    assert importance.of_group(GROUP, norms) == pytest.approx([0.5 + 1.0, 1.0 + 1.0, 1.5 + 1.7])
    assert importance.kept([1.0, 3.0, 2.0]) == (0.0, 3.0, 5.0, 6.0)
    assert importance.normalised({"zeros": [0.0, 0.0]}) == {"zeros": [1.0, 1.0]}


def test_a_member_with_two_filters_a_channel_is_worth_both():
    group = Group("a", 2, (Member("a", "out", 0, width=2),))
    assert importance.of_group(group, {"a": [1.0, 2.0, 3.0, 4.0]}) == [3.0, 7.0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[1]", "not an object of lists"),
        ('{"a": [1, "x"]}', "a is 'x'"),
        ('{"a": [1, -2]}', "a has -2.0; scores are 0 or more"),
        ("{", "not whole JSON"),
    ],
)
def test_scores_that_are_none_are_named_with_their_file(tmp_path, content, why):
    path = tmp_path / "scores.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(NeverSlowerError, match=why) as raised:
        importance.load(path)
    assert str(path) in str(raised.value)


def test_scores_fit_their_layer_or_are_refused():
    with pytest.raises(NeverSlowerError, match="a has 2, and 3 channels"):
        importance.of_group(GROUP, {"a": [1.0, 2.0]})
    with pytest.raises(NeverSlowerError, match=r"no scores for the channels of a \(give them for one of a, b"):
        importance.of_group(GROUP, {"d": [1.0]})


def test_scores_that_are_missing_or_of_nothing_are_all_named():
    groups = [GROUP, replace(GROUP, name="x", members=(Member("x", "out", 0),))]
    with pytest.raises(NeverSlowerError, match=r"of a \(give them for one of a, b.*\), x \(give them for one of x\)"):
        importance.of_groups(groups, {"z": [1.0]})
    with pytest.raises(NeverSlowerError, match=r"scores: layer1\.conv is no layer .* \(it has layer1\.conv1\)"):
        importance.require_known({"layer1.conv": [1.0]}, ["stem", "layer1.conv1"])


# The integer program


def drawn(seed: int, gaps: float = 0.0) -> Question:
    """A chain of three groups with random prices, some of them missing, and a total of two of them."""
    chance = random.Random(seed)
    choices = tuple(
        Choice(name, (2, 4, 6), importance.kept([chance.random() for _ in range(6)])) for name in ("a", "b", "c")
    )

    def price() -> Price:
        return Price(chance.uniform(1, 10), chance.uniform(1, 10), chance.uniform(1, 10))

    pairs = list(itertools.product((2, 4, 6), repeat=2))
    items = [
        Item(f"{one}{two}", (one, two), {p: price() for p in pairs if p == (6, 6) or chance.random() >= gaps})
        for one, two in (("a", "b"), ("b", "c"))
    ]
    items += [Item("a", ("a",), {(width,): price() for width in (2, 4, 6)}), Item("fixed", (), {(): price()})]
    total = Total("t", ("a", "c"), 1, (5, 9, 13))
    items.append(Item("sum", ("t", "b"), {pair: price() for pair in itertools.product((5, 9, 13), (2, 4, 6))}))
    return Question(choices, tuple(items), (total,), price())


def by_hand(question: Question, goal: Goal) -> float | None:
    """The best value of a goal among all widths, None where nothing satisfies it."""
    best: float | None = None
    for widths in itertools.product(*(choice.widths for choice in question.choices)):
        chosen = {choice.name: width for choice, width in zip(question.choices, widths, strict=True)}
        try:
            price = question.price_at(chosen)
        except KeyError:
            continue
        within = all(price.of(resource) <= limit * (1 + 1e-9) for resource, limit in goal.limits.items())
        if within and question.kept_by(chosen) >= goal.importance - 1e-9:
            value = -question.kept_by(chosen) if goal.least is None else price.of(goal.least)
            best = value if best is None else min(best, value)
    return best


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("gaps", [0.0, 0.5])
def test_the_plan_is_the_best_of_all_widths(seed, gaps):
    question = drawn(seed, gaps)
    whole = question.price_at(question.unpruned)
    goals = [
        Goal({LATENCY: share * whole.latency}) for share in (0.6, 0.8, 1.0)
    ] + [
        Goal({LATENCY: 0.9 * whole.latency, Resource.MACS: 0.8 * whole.macs}),
        Goal(importance=0.7 * question.importance, least=LATENCY),
        Goal(least=Resource.PARAMS),
    ]  # fmt: skip
    for goal in goals:
        plan, best = solve(question, goal), by_hand(question, goal)
        if best is None:
            assert plan is None
            continue
        value = -known(plan).importance if goal.least is None else known(plan).price.of(goal.least)
        assert value == pytest.approx(best, rel=1e-3)
        assert known(plan).gap <= solving.GAP


def test_groups_that_are_worth_nothing_lose_nothing():
    choice = Choice("a", (2, 4), importance.kept([0.0] * 4))
    question = Question((choice,), (Item("a", ("a",), {(2,): Price(1.0), (4,): Price(2.0)}),))
    assert known(solve(question, Goal({LATENCY: 1.5}))).widths == {"a": 2}
    assert (choice.share(2), question.share_kept({"a": 2})) == (1.0, 1.0)


def test_a_question_without_choices_is_refused():
    with pytest.raises(NeverSlowerError, match="nothing to choose"):
        solve(Question((), ()), Goal())


def test_where_scipy_is_missing_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.optimize", None)
    with pytest.raises(NeverSlowerError, match=r"need scipy's milp .*pip install"):
        solve(drawn(0), Goal())


# From a model to the question


def test_residual_sums_and_depthwise_layers_hang_on_one_group():
    structure = structure_of(DEPTHWISE.model, DEPTHWISE.groups)
    wanted = wanted_pairs(DEPTHWISE.model, structure, 16, 16)
    pairs = {layer.place: pairs for layer, pairs in wanted.items()}
    assert pairs["expand"] == [(16, 8 * n) for n in (2, 4, 6, 8)]  # What it reads is held.
    assert pairs["depthwise"] == [(8 * n, 8 * n) for n in (2, 4, 6, 8)]
    assert structure.held == {"stem": "it reads the model's input", "project": "it is an output of the model"}


def test_a_layer_that_reads_two_groups_is_priced_by_their_total():
    data = known_of(CONCATENATED)
    question = question_of(data)
    (total,) = question.totals
    assert (total.groups, total.constant) == (("left", "right"), 0)
    whole = question.price_at(question.unpruned)
    assert whole.macs == sum(layer.problem.macs for layer in data.model.layers)
    assert whole.params == sum(weights.parameters for weights in data.weights.values())
    part = question.price_at({"left": 16, "right": 32, "join": 32})
    join = next(layer for layer in data.model.layers if layer.place == "join").problem
    pruned = replace(join, in_channels=48, out_channels=32)
    left, right = (data.model.layers[place].problem for place in (0, 1))
    macs = pruned.macs + left.prune(16).macs + right.macs + data.model.layers[3].problem.macs // 2
    assert part.macs == macs
    assert known(solve(question, Goal({Resource.MACS: 0.6 * whole.macs}))).price.macs <= 0.6 * whole.macs


def test_what_is_taken_back_has_no_price():
    data = known_of(CHAIN)
    question = question_of(data, {(data.model.layers[1].problem.key, (48, 48))})
    assert question.price_at({"first": 48, "second": 64}).latency > 0
    with pytest.raises(KeyError):
        question.price_at({"first": 48, "second": 48})


def test_what_is_taken_back_between_two_counts_of_the_grid_leaves_the_larger_one():
    data = known_of(CONCATENATED)
    join = data.model.layers[2].problem
    costs = data.grid.layers[join.key].costs
    assert (56, 64) not in costs
    question = question_of(data, {(join.key, (56, 64))})
    assert question.prices_at(question.unpruned)["join"].latency == costs[64, 64]
    with pytest.raises(KeyError):
        question.price_at({"left": 24, "right": 32, "join": 64})
    assert question.prices_at({"left": 24, "right": 32, "join": 48})["join"].latency == costs[64, 48]
    assert solve(question, Goal({Resource.MACS: 0.95 * question.price_at(question.unpruned).macs})) is not None


def test_a_ratio_is_of_all_channels_of_its_module_the_held_ones_too():
    data = known_of(PARTLY_HELD)
    assert modules(data, {"left": 24})["sum"] == {"out_before": 48, "out": 40}
    assert ratios(data, {"left": 24}) == {"left": 0.25, "sum": ratio_of(48, 40)}


def test_a_group_that_is_written_next_to_another_is_held():
    model = Model("m", (layer("both", "mb1_ic8oc32_ih6kh1"), layer("next", "mb1_ic32oc32_ih6kh1")))
    halves = tuple(
        Group(name, 16, (Member("both", "out", start), Member("next", "in", start)))
        for name, start in (("first", 0), ("second", 16))
    )
    structure = structure_of(model, halves)
    assert structure.held == dict.fromkeys(("first", "second"), "both writes several groups side by side")
    assert structure.axes["next"][0].at({}) == 32


def test_what_is_slower_by_the_grid_or_was_not_measured_is_not_planned():
    data = known_of(CHAIN)
    costs = dict(data.grid.layers[CHAIN.model.layers[1].problem.key].costs)
    assert (16, 32) in costs
    slow = grid_by(CHAIN, lambda problem, pair: 9.0 if pair[1] == 16 else 1.0 + pair[1] / 64)
    half = grid_by(CHAIN, lambda problem, pair: None if pair[0] == 48 else 1.0)
    assert all(pair[-1] != 16 for pair in question_of(replace(data, grid=slow)).items[1].prices)
    planned = question_of(replace(data, grid=half))
    assert 48 not in {pair[0] for pair in planned.items[1].prices}
    assert 48 not in next(choice.widths for choice in planned.choices if choice.name == "first")


def test_linear_layers_count_for_parameters_and_macs():
    data = known_of(CHAIN)
    whole = question_of(data).price_at({"first": 64, "second": 64})
    assert whole.params == sum(weights.parameters for weights in data.weights.values())
    assert whole.macs == data.model.macs
    half = question_of(data).price_at({"first": 64, "second": 32})
    assert whole.params - half.params == 64 * 32 * 9 + 32 + 32 * 10
    assert whole.macs - half.macs == 64 * 32 * 9 * 36 + 32 * 10


def test_the_grid_is_refined_half_way_to_the_neighbours():
    question = Question((Choice("a", (16, 32, 48, 64), ()), Choice("b", (8, 16), ()), Choice("c", (5,), ())), ())
    plan = Plan({"a": 32, "b": 16, "c": 5}, 0.0, Price(), 0.0)
    assert around(structure_of(CHAIN.model, CHAIN.groups), question, plan, 8) == {
        "a": [24, 32, 40],
        "b": [16],
        "c": [5],
    }
    options = {"first": [24, 32], "second": [64]}
    pairs = pairs_at(CHAIN.model, structure_of(CHAIN.model, CHAIN.groups), options)
    assert {one.place: row for one, row in pairs.items()} == {
        "first": [(3, 24), (3, 32)],
        "second": [(24, 64), (32, 64)],
    }


@pytest.mark.parametrize("small", [CHAIN, DEPTHWISE, CONCATENATED])
def test_the_work_at_any_widths_is_that_of_the_question(small):
    data = known_of(small)
    question = question_of(data)
    for keep in (1.0, 0.5):
        widths = {name: int(channels * keep) for name, channels in question.unpruned.items()}
        priced, work = question.price_at(widths), work_of(data, widths)
        assert (priced.params, priced.macs) == pytest.approx((work.params, work.macs))


# Advice is a verdict


def layer(place: str, descriptor: str) -> Layer:
    return Layer("m", None, place, parse_descriptor(descriptor))


def verdict_of(code: Code, ratio: float = 0.5) -> Verdict:
    return Verdict(code, Reason(ReasonCode.PROVED, "as scripted"), Interval(ratio, ratio - 0.1, ratio + 0.1))


def choose(share: float):
    """Choose the best plan within a share of the latency."""

    def plan(question: Question) -> Plan:
        whole = question.price_at(question.unpruned).latency
        found = solve(question, Goal({LATENCY: share * whole}))
        if found is None:
            raise NeverSlowerError("no widths fit")
        return found

    return plan


def measuring(slow):
    """A measure that is SLOWER for problems that match, FASTER else; and the rounds that were asked of it."""
    rounds: list[list[ConvProblem]] = []

    def verdict(problem):
        return verdict_of(Code.SLOWER, 1.5) if slow(problem) else verdict_of(Code.FASTER)

    def measure(comparisons):
        rounds.append([comparison.candidate for comparison in comparisons])
        return {comparison.identity[1:]: verdict(comparison.candidate) for comparison in comparisons}

    return measure, rounds


def test_every_layer_that_changes_is_measured_and_what_is_slower_is_planned_again():
    data = known_of(CHAIN)
    first = choose(0.7)(question_of(data))
    pair = first.widths["first"], first.widths["second"]
    measure, rounds = measuring(lambda problem: unpruned_pair(problem) == pair)
    advised = verified(data, "scripted", choose(0.7), measure)
    assert [one.pair for one in advised.taken_back] == [pair]
    assert len(rounds) == 2
    assert (advised.plan.widths["first"], advised.plan.widths["second"]) != pair
    assert {one.verdict.code for one in advised.checked} == {Code.FASTER}
    assert {one.layer.place for one in advised.checked} == {"first", "second"}
    asked = [problem for row in rounds for problem in row]
    assert len(asked) == len(set(asked))  # What is known is not measured again.


def test_a_plan_that_exceeds_its_budget_by_the_verdicts_is_made_again():
    data = known_of(CHAIN)
    whole = question_of(data).price_at({"first": 64, "second": 64}).latency
    first = choose(0.7)(question_of(data)).widths
    rounds: list[int] = []

    def measure(comparisons):
        rounds.append(len(comparisons))
        lucky = len(rounds) == 1  # What was chosen first had only looked that fast.
        return {one.identity[1:]: verdict_of(Code.FASTER, 0.95 if lucky else 0.6) for one in comparisons}

    advised = verified(data, "scripted", choose(0.7), measure, limit=0.7 * whole)
    assert advised.latency <= 0.7 * whole
    assert advised.plan.widths != first
    assert advised.taken_back == ()
    rounds.clear()
    only = verified(data, "scripted", choose(0.7), measure, rounds=1, limit=0.7 * whole)
    assert only.plan.widths == first
    assert only.latency == pytest.approx(0.95 * whole)


def test_layers_that_stay_slower_are_not_advised():
    measure, rounds = measuring(lambda problem: problem.out_channels < 64)
    with pytest.raises(NeverSlowerError, match=r"after 2 rounds there are still layers .* such as m\..* SLOWER"):
        verified(known_of(CHAIN), "scripted", choose(0.7), measure, rounds=2)
    assert len(rounds) == 2


@pytest.mark.parametrize("code", [Code.CRASHED, Code.UNSUPPORTED, Code.INVALID])
def test_what_could_not_be_measured_is_not_advised(code):
    def measure(comparisons):
        return {comparison.identity[1:]: verdict_of(code) for comparison in comparisons}

    with pytest.raises(NeverSlowerError, match=f"could not be measured, such as .* {code}"):
        verified(known_of(CHAIN), "scripted", choose(0.7), measure, rounds=1)


def test_a_layer_without_a_verdict_is_named():
    with pytest.raises(NeverSlowerError, match="has no verdict"):
        verified(known_of(CHAIN), "scripted", choose(0.7), lambda comparisons: {})


def test_a_layer_for_which_the_time_did_not_last_is_not_advised():
    out_of_time = Verdict(Code.UNDECIDED, Reason(ReasonCode.TIME_BUDGET, "the time budget ended"))
    with pytest.raises(NeverSlowerError, match="has no verdict: the time budget ended; give it more time"):
        verified(
            known_of(CHAIN), "scripted", choose(0.7), lambda asked: {one.identity[1:]: out_of_time for one in asked}
        )
