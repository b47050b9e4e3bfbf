"""How far rules reach that are mined from maps: fitted on some layers, tested on the others.

    python -m bench.mining

Layers are dealt to four groups in the order of their names; three are fitted and the fourth is tested, four times, and
the counts of the four tests are added. Last, the rules of one device's map are tested on the same layers on another.
Nothing is timed: the maps are those in baselines/.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path

from neverslower.maps import cases
from neverslower.rules.mining import Case, Coverage, coverages, mine

BASELINES = Path(__file__).resolve().parent.parent / "baselines"
H100, H200 = BASELINES / "cudnn@nvidia-h100-80gb-hbm3/maps", BASELINES / "cudnn@nvidia-h200/maps"
FLOAT16 = ("resnet50-float16-NHWC.json.xz", "vgg16-alexnet-float16-NHWC.json.xz")
TF32 = ("resnet50-tf32-NCHW.json.xz", "vgg16-alexnet-tf32-NCHW.json.xz")
FOLDS, MOST = 4, 20
SHOWN = (1, 2, 3, 4, 6, 8, 12, 16, 20)


def main() -> None:
    """Print a table for each format, for both together, and for another device."""
    maps = {"float16 NHWC": FLOAT16, "tf32 NCHW": TF32, "both formats": (*FLOAT16, *TF32)}
    for title, names in maps.items():
        every = [case for name in names for case in cases.load(H100 / name)[1]]
        hazards = sum(case.hazard for case in every)
        print(f"\n{title}, H100: {hazards:,} hazards of {len(every):,}, tested on layers that were not fitted\n")
        print("\n".join(table(across_layers(every))))
    fitted, tested = (cases.load(folder / FLOAT16[0])[1] for folder in (H100, H200))
    print("\nfloat16 NHWC, ResNet-50, fitted on the H100 and tested on the H200\n")
    print("\n".join(table(curve(fitted, tested))))


def across_layers(every: Sequence[Case]) -> list[Coverage]:
    """Return the coverage of 1 to 20 rules, of layers that they were not fitted on."""
    names = sorted({case.comparison.layer.name for case in every})
    group = {name: number % FOLDS for number, name in enumerate(names)}
    total = [Coverage(0, 0, 0, 0)] * MOST
    for fold in range(FOLDS):
        fitted = [case for case in every if group[case.comparison.layer.name] != fold]
        tested = [case for case in every if group[case.comparison.layer.name] == fold]
        total = [_sum(before, added) for before, added in zip(total, curve(fitted, tested), strict=True)]
    return total


def curve(fitted: Sequence[Case], tested: Sequence[Case]) -> list[Coverage]:
    """Return the coverage of `tested` by the first 1 to 20 rules of `fitted`; where there are fewer, by all."""
    found = list(coverages(tested, [rule.when for rule in mine(fitted, MOST)]))
    return [*found, *repeat(found[-1], MOST - len(found))]


def _sum(one: Coverage, other: Coverage) -> Coverage:
    return Coverage(
        one.hazards + other.hazards,
        one.covered + other.covered,
        one.harmless + other.harmless,
        one.false + other.false,
    )


def table(found: Sequence[Coverage]) -> Iterator[str]:
    """Yield the coverage by the number of rules."""
    yield "| rules | hazards covered | wrongly covered, of all covered | wrongly covered, of all without a hazard |"
    yield "|---|---|---|---|"
    for number in SHOWN:
        coverage = found[number - 1]
        shares = (coverage.coverage, coverage.false_share, coverage.harmless_share)
        yield f"| {number} | {' | '.join(f'{share:.1%}' for share in shares)} |"


if __name__ == "__main__":
    main()
