"""Which way imports go, read from the sources: the layers hold, and vendor libraries stay in their adapters."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import backends
from selftests.support import ROOT

FLOORS = (
    {"counted", "enums", "errors"},
    {"evidence", "device"},
    {"files", "problem", "judge"},
    {"models"},
    {"backends"},
    {"worker"},
    {"releases"},
    {"campaign"},
    {"baseline", "hunt", "rules"},
    {"outcome", "calibration", "maps", "mending"},
    {"widths", "tracing"},
    {"report"},
    {"page"},
    {"option_table", "option_values"},
    {"run_plan"},
    {"options"},
    {"run"},
    {"run_summary", "run_hunt", "run_acceptance"},
    {"stock"},
    {"cli_shared"},
    {"cli_maps"},
    {"cli_grid"},
    {"cli_advise", "cli_bisect", "cli_explain", "cli_headline", "cli_upgrade", "cli_vendor", "cli_report"},
    {"cli_gridded"},
    {"cli_pairs", "cli_widths"},
    {"cli_mend"},
    {"pytest_items"},
    {"cli", "pytest_plugin", "pytest_root"},
    {"__main__"},
)
"""The rooms, lowest floor first: a room imports from itself and from the floors below it, and from nowhere else."""
ADAPTERS = set(backends.TABLE.values())
VENDORS = {
    "torch": (
        "backends.onednn",
        "backends.cudnn",
        "neverslower.models.torch_module",
        "neverslower.models.padding",
        "neverslower.models.agreement",
    ),
    "onnx": ("neverslower.models.onnx_graph", "neverslower.models.onnx_layers"),
    "tvm": ("backends.tvm",),
    "cudnn": ("backends.cudnn",),
    "pynvml": ("backends.gpu",),
}
SHARED = ("backends.base", "backends.identity", "backends.shared", "backends.gpu")
"""What no adapter owns, and what therefore imports none of them."""
PLUGIN = ("neverslower.pytest_plugin", "neverslower.pytest_items")


@dataclass(frozen=True)
class Import:
    """One imported module; `top` where importing the importer executes it."""

    module: str
    top: bool


def paths() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    found = {}
    for path in sorted([*ROOT.glob("neverslower/**/*.py"), *ROOT.glob("backends/**/*.py")]):
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[dotted.removesuffix(".__init__")] = path
    return found


MODULES = paths()


def read(source: str) -> list[Import]:
    """The imports of a source text; a `from x import y` counts as `x` and as `x.y`, for `y` may be a module."""

    def walk(node: ast.AST, top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "a relative import does not say which way it goes"
                yield Import(str(child.module), top)
                yield from (Import(f"{child.module}.{alias.name}", top) for alias in child.names)
            else:
                inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from walk(child, top and not inside)

    return list(walk(ast.parse(source), True))


IMPORTS = {name: read(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def reaches(found: Import, package: str) -> bool:
    return found.module == package or found.module.startswith(f"{package}.")


def of(prefix: str) -> list[str]:
    return [name for name in MODULES if name == prefix or name.startswith(f"{prefix}.")]


def closure(start: str) -> set[str]:
    """The product's modules that importing `start` executes, itself, late imports and packages among them."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in MODULES:
            continue
        seen.add(name)
        waiting += [name.rpartition(".")[0], *(found.module for found in IMPORTS[name])]
    return seen


def test_the_reader_tells_late_imports_from_early_ones() -> None:
    source = "import a\nif x:\n    from b import c\nclass D:\n    import d\ndef f():\n    import e.f\n"
    found = [(one.module, one.top) for one in read(source)]
    assert found == [("a", True), ("b", True), ("b.c", True), ("d", True), ("e.f", False)]


def room(module: str) -> str:
    """The room that a module lives in; the package itself, which holds the version alone, is in none."""
    first, _, rest = module.partition(".")
    return first if first == "backends" else rest.partition(".")[0]


def leading_up(floors: Sequence[set[str]], rooms: Mapping[str, set[str]]) -> list[str]:
    """Each room's imports from its own floor or from one above it, as `room → other`."""
    floor = {name: number for number, names in enumerate(floors) for name in names}
    return [
        f"{name} → {other}"
        for name, others in sorted(rooms.items())
        for other in sorted(others)
        if other != name and floor[other] >= floor[name]
    ]


def imports_between_rooms() -> dict[str, set[str]]:
    """The rooms that each room imports from."""
    found: dict[str, set[str]] = {}
    for name, imports in IMPORTS.items():
        found.setdefault(room(name), set()).update(room(one.module) for one in imports if one.module in MODULES)
    found.pop("", None)
    return {name: others - {""} for name, others in found.items()}


def test_there_is_something_to_read() -> None:
    assert {"neverslower.campaign.campaign", "neverslower.worker.far_side", "backends.base", *ADAPTERS} <= set(MODULES)
    assert {"neverslower.worker.process", "neverslower.judge.verdict"} <= closure("neverslower.campaign.campaign")


def test_an_import_that_leads_up_is_found() -> None:
    assert leading_up([{"a", "b"}, {"c"}], {"a": {"b"}, "b": {"c"}, "c": {"a", "c"}}) == ["a → b", "b → c"]


def test_no_import_leads_up() -> None:
    rooms = imports_between_rooms()
    assert set(rooms) <= set.union(*FLOORS)
    assert leading_up(FLOORS, rooms) == []


def test_each_room_says_what_lives_there_and_what_never_does() -> None:
    for name in set.union(*FLOORS):
        path = ROOT / "neverslower" / name / "__init__.py"
        if path.exists():
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            assert 2 <= text.count(".") <= 4, name
            assert "othing" in text or "nly this room" in text, name


@pytest.mark.parametrize("name", [name for name in MODULES if name not in PLUGIN])
def test_only_the_plugin_knows_pytest(name: str) -> None:
    banned = ("pytest", "_pytest", "pytest_benchmark", *PLUGIN)
    assert [one for one in IMPORTS[name] for package in banned if reaches(one, package)] == []


@pytest.mark.parametrize("name", of("backends"))
def test_one_backend_knows_no_other(name: str) -> None:
    adapter = ".".join(name.split(".")[:2])
    others = [one for one in IMPORTS[name] if one.module in MODULES and reaches(one, "backends")]
    mine = (*SHARED, adapter)
    strange = [one for one in others if one.module != "backends" and not any(reaches(one, place) for place in mine)]
    assert strange == [] or name == "backends"


def test_what_adapters_share_knows_none_of_them() -> None:
    assert {one.module for name in of("backends.gpu") for one in IMPORTS[name] if reaches(one, "backends")} <= {
        "backends.base",
        "backends.base.Offsets",
        "backends.shared",
        "backends.shared.first_line",
        "backends.shared.not_installed",
        "backends.shared.python_version",
    }


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_an_adapter_does_not_know_the_table(name: str) -> None:
    assert [one for one in IMPORTS[name] if one.module == "backends"] == []


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendor_library_is_imported_late_and_in_its_adapter_only(name: str, vendor: str) -> None:
    found = [one for one in IMPORTS[name] if reaches(one, vendor)]
    assert not found or name.startswith(VENDORS[vendor])
    assert not any(one.top for one in found)


def test_the_logic_knows_no_backend() -> None:
    knowing = {name for name, others in imports_between_rooms().items() if "backends" in others}
    assert knowing - {"backends"} <= {
        "worker",
        "releases",
        "option_table",
        "run_plan",
        "options",
        "cli",
        "cli_explain",
        "cli_maps",
        "cli_vendor",
        "cli_shared",
        "cli_widths",
        "pytest_items",
        "pytest_plugin",
    }


@pytest.mark.parametrize("name", MODULES)
def test_scipy_stats_is_never_imported_early(name: str) -> None:
    assert [one for one in IMPORTS[name] if one.top and reaches(one, "scipy.stats")] == []


def test_only_what_draws_knows_hypothesis() -> None:
    knowing = {name for name in MODULES if any(reaches(one, "hypothesis") for one in IMPORTS[name])}
    assert knowing == {"neverslower.hunt.strategies", "neverslower.hunt.hunting", "neverslower.hunt.profiles"}


@pytest.mark.parametrize(
    "start", ["neverslower.campaign.campaign", "neverslower.worker.far_side", "neverslower.hunt.oracle"]
)
def test_what_measures_does_not_know_who_draws(start: str) -> None:
    assert (
        closure(start) & {"neverslower.hunt.strategies", "neverslower.hunt.hunting", "neverslower.hunt.examples"}
        == set()
    )


@pytest.mark.parametrize("start", ["neverslower.worker.far_side", *sorted(ADAPTERS)])
def test_the_far_side_needs_numpy_at_most(start: str) -> None:
    needed = {
        one.module.partition(".")[0]
        for name in closure(start)
        for one in IMPORTS[name]
        if one.top and one.module.partition(".")[0] not in sys.stdlib_module_names
    }
    assert needed <= {"numpy", "neverslower", "backends"}


@pytest.mark.parametrize(
    ("module", "below"),
    [
        (
            "neverslower.problem.convolution",
            {f"neverslower.{name}" for name in ("enums", "errors", "problem.descriptor", "problem.epilogue")},
        ),
        ("neverslower.problem.descriptor", {"neverslower.errors"}),
        ("neverslower.judge.stats", set()),
        ("neverslower.device.fingerprint", set()),
        ("neverslower.errors", set()),
    ],
)
def test_the_lowest_modules_stand_on_the_standard_library_and_numpy(module: str, below: set[str]) -> None:
    assert closure(module) <= {module, module.rpartition(".")[0], "neverslower", *below}


def test_no_two_modules_import_each_other() -> None:
    packages = {name for name in MODULES if MODULES[name].name == "__init__.py"}
    early = {
        name: {one.module for one in found if one.top and one.module in MODULES and one.module not in packages}
        for name, found in IMPORTS.items()
    }

    def below(name: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(early[name])
        while waiting:
            other = waiting.pop()
            if other not in seen:
                seen.add(other)
                waiting += early[other]
        return seen

    assert [name for name in MODULES if name in below(name)] == []


@pytest.mark.parametrize(
    "module", ["neverslower.campaign.campaign", "neverslower.problem.selection", "backends.onednn", "backends.tvm"]
)
def test_importing_loads_no_vendor_library_nor_scipy_stats(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "print(sorted({'torch', 'tvm', 'cudnn', 'scipy.stats', 'pytest', 'hypothesis'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
