"""How far rules reach that are mined from maps: fitted on some layers, tested on the others.

    python -m bench.mining

Layers are dealt to four groups in the order of their names; three are fitted and the fourth is tested, four times, and
the counts of the four tests are added. Next to that stand other tests: in TF32, of each layer by the rules of all
others; and two that are easier, of other counts of the layers that were fitted, and of what was fitted itself. Last,
the rules of one device's map are tested on the same layers on another, and the hazards of each layer of the TF32 maps
are counted. Nothing is timed: the maps are those in baselines/.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from neverslower.maps import cases
from neverslower.problem.convolution import ConvProblem
from neverslower.rules.mining import Case, Coverage
from neverslower.rules.reach import across_layers, curve

BASELINES = Path(__file__).resolve().parent.parent / "baselines"
H100, H200 = BASELINES / "cudnn@nvidia-h100-80gb-hbm3/maps", BASELINES / "cudnn@nvidia-h200/maps"
FLOAT16 = ("resnet50-float16-NHWC.json.xz", "vgg16-alexnet-float16-NHWC.json.xz")
TF32 = ("resnet50-tf32-NCHW.json.xz", "vgg16-alexnet-tf32-NCHW.json.xz")
MOST, BLOCK, ALIGNED = 20, 16, 4
SHOWN = (1, 2, 3, 4, 6, 8, 12, 16, 20)


def main() -> None:
    """Print a table for each format, for both together, for another device, and for the layers in TF32."""
    maps = {"float16 NHWC": FLOAT16, "tf32 NCHW": TF32, "both formats": (*FLOAT16, *TF32)}
    for title, names in maps.items():
        every = of_maps(names)
        print(f"\n{title}, H100: {sum(case.hazard for case in every):,} hazards of {len(every):,}\n")
        tests = {"other layers": across_layers(every, MOST)}
        if names is TF32:
            tests["each layer"] = across_layers(every, MOST, len(every))
        tests["other counts"] = across_counts(every)
        print("\n".join(table(tests | {"what was fitted": curve(every, every, MOST)})))
    fitted, tested = (cases.load(folder / FLOAT16[0])[1] for folder in (H100, H200))
    print("\nfloat16 NHWC, ResNet-50, fitted on the H100\n")
    print("\n".join(table({"the H200": curve(fitted, tested, MOST)})))
    print(f"\ntf32 NCHW, H100: hazards among the counts that are no multiple of {ALIGNED}, and among the others\n")
    print("\n".join(by_layer(of_maps(TF32))))


def of_maps(names: Iterable[str]) -> list[Case]:
    """Return the cases of some of the H100's maps."""
    return [case for name in names for case in cases.load(H100 / name)[1]]


def across_counts(every: Sequence[Case]) -> list[Coverage]:
    """Return the coverage of every other block of 16 counts of each layer, by rules of the blocks between them."""
    odd = [case for case in every if case.comparison.candidate.out_channels // BLOCK % 2]
    even = [case for case in every if case.comparison.candidate.out_channels // BLOCK % 2 == 0]
    once, again = curve(odd, even, MOST), curve(even, odd, MOST)
    return [one + other for one, other in zip(once, again, strict=True)]


def table(tests: Mapping[str, Sequence[Coverage]]) -> Iterator[str]:
    """Yield the coverage by the number of rules, of each test."""
    yield f"| rules | {' | '.join(f'{name}: covered | no hazard | harmless covered' for name in tests)} |"
    yield f"|---|{'---|' * (3 * len(tests))}"
    for number in SHOWN:
        found = [test[number - 1] for test in tests.values()]
        shares = [share for one in found for share in (one.coverage, one.false_share, one.harmless_share)]
        yield f"| {number} | {' | '.join(f'{share:.1%}' for share in shares)} |"


def by_layer(every: Sequence[Case]) -> Iterator[str]:
    """Yield how many counts of each layer are hazards, apart by alignment; the plain matrix products come last."""
    layers: dict[ConvProblem, list[Case]] = {}
    for case in every:
        layers.setdefault(case.comparison.reference, []).append(case)
    yield "| layer | unpruned | no multiple, hazards | multiples, hazards |"
    yield "|---|---|---|---|"
    for problem in sorted(layers, key=lambda problem: (problem.kernel[0] * problem.stride[0] == 1, problem.kernel)):
        found: Counter[tuple[bool, bool]] = Counter()
        for case in layers[problem]:
            found[case.comparison.candidate.out_channels % ALIGNED != 0, case.hazard] += 1
        cells = [f"{found[odd, True]} of {found[odd, True] + found[odd, False]}" for odd in (True, False)]
        yield f"| {layers[problem][0].comparison.layer.name} | `{problem.descriptor}` | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
