"""Whatever a descriptor or a baseline file holds: it is read, or refused in one line, and the file stays as it is.

The default profile takes 200 examples of each; `--hypothesis-profile=thorough` takes 10,000.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_benchmark.storage.file import FileStorage
from pytest_benchmark.table import TableResults
from pytest_benchmark.utils import DEFAULT_COLUMNS, NAME_FORMATTERS, report_noprogress

from neverslower import cli, options
from neverslower.baseline import folders, timed
from neverslower.baseline.entry import Baseline
from neverslower.baseline.folders import BaselineChoice
from neverslower.campaign.progress import silent
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.option_table import OPTIONS
from neverslower.outcome.tally import Questions
from neverslower.problem.convolution import ConvProblem, DType, Layout, parse_descriptor
from neverslower.problem.selection import Selection
from neverslower.report import terminal
from neverslower.run import Run
from neverslower.run_acceptance import accept_run
from selftests.strategies import problems
from selftests.support import script

EXAMPLES = max(200, settings().max_examples)
FUZZ = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
Tree = Any


def one_line(error: NeverSlowerError) -> None:
    assert len(str(error).splitlines()) == 1, repr(str(error))


def told(arguments: list[str]) -> None:
    """The command does what it is asked, or says in one line why not."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(arguments)
    assert (code, len(err.getvalue().splitlines()), bool(out.getvalue())) in ((0, 0, True), (2, 1, False))


# Descriptors

SYMBOLS = st.sampled_from([*"mbgicohkspdwn_0123456789-+.\"'\\ \n\t\0", "٣", "²", "９", "\ud800", "\u2028", "x" * 5000])
DIGITS = st.integers(0, 10**30).map(str)


@st.composite
def slips(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """A text with a few symbols inserted, dropped, replaced or swapped, or a number that grew."""
    symbols = list(draw(texts))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(symbols) - 1)))
        kind = draw(st.sampled_from(["insert", "drop", "replace", "swap", "grow"]))
        if kind in ("insert", "grow"):
            symbols.insert(at, draw(SYMBOLS if kind == "insert" else DIGITS))
        elif kind == "swap":
            symbols[at : at + 2] = reversed(symbols[at : at + 2])
        else:
            symbols[at : at + 1] = [draw(SYMBOLS)] if kind == "replace" else []
    return "".join(symbols)


def reads_or_refuses(read: Callable[[str], ConvProblem], text: str) -> None:
    try:
        problem = read(text)
    except NeverSlowerError as error:
        one_line(error)
    else:
        assert parse_descriptor(problem.descriptor, problem.dtype, problem.layout) == problem
        assert ConvProblem.from_key(problem.key) == problem


@FUZZ
@given(st.one_of(st.text(), slips(problems().map(lambda one: one.descriptor))))
def test_any_descriptor_is_read_or_refused_in_one_line(text: str) -> None:
    reads_or_refuses(parse_descriptor, text)


@FUZZ
@given(st.one_of(st.text(), slips(problems().map(lambda one: one.key))))
def test_any_key_is_read_or_refused_in_one_line(text: str) -> None:
    reads_or_refuses(ConvProblem.from_key, text)


@FUZZ
@given(slips(problems().map(lambda one: one.descriptor)))
def test_any_descriptor_on_a_command_line_is_explained_or_refused_in_one_line(text: str) -> None:
    told(["problem", "--", text])
    try:
        comparisons = Selection(problems=(text,)).comparisons("scripted", [(DType.FLOAT32, Layout.NCHW)])
    except NeverSlowerError as error:
        one_line(error)
    else:
        assert all(one.id.isprintable() for one in comparisons)


# Baselines


@dataclass(frozen=True)
class Stored:
    """An accepted run: its folder of baselines, its own file in there, and the run itself, to be compared again."""

    root: Path
    path: Path
    run: Run = field(repr=False)
    fingerprint: Fingerprint
    text: str = field(repr=False)

    @property
    def tree(self) -> Tree:
        """The file's content."""
        return json.loads(self.text)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """Two runs of one script, the older one accepted for a lower version; the newer one is what gets changed."""
    folder = tmp_path_factory.mktemp("accepted")
    for version in ("1.0", "1.1"):
        rules = [{"when": "out_channels == 5", "times": 2.0}]
        path = script(folder, fixed=1e-4, noise=0.002, version=version, rules=rules)
        run = accepted(folder / "baselines", f"scripted:{path}")
    (path,) = (folder / "baselines").glob("*/0002_1.1+0.json")
    text = path.read_text(encoding="utf-8")
    return Stored(folder / "baselines", path, run, run.fingerprints["scripted"], text)


def accepted(root: Path, backend: str) -> Run:
    chosen = {"backend": [backend], "problem": ["mb1_ic4oc6_ih6kh3ph1"], "passes": "2", "blocks": "12"}
    defaults = {option.key: option.default for option in OPTIONS}
    run = Run(options.plan(defaults | chosen), root, root / "journal", compare=True)
    run.recorded = {one.identity: f"tests/test_latency.py::test_latency[{one.id}]" for one in run.plan.comparisons}
    run.run(Questions(recorded=run.plan.comparisons, checked=run.plan.comparisons), silent)
    assert accept_run(run, "a reason"), run.acceptance
    return run


def places(tree: Tree, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON tree, of long lists the first three."""
    if path:
        yield path
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree[:3]) if isinstance(tree, list) else ()
    for name, value in inner:
        yield from places(value, (*path, name))


def deep(depth: int) -> Tree:
    tree: Tree = []
    for _ in range(depth):
        tree = [tree]
    return tree


NUMBERS = [0, -1, 1, 10**9, 10**400, 0.5, -0.5, 1e-13, 1e6, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")]
WORDS = ["", "x", "scripted", "SAME", "out", "in", "two\nlines", "\u2028", "\ud800", "\0", "1.0", "not a version"]
OTHERS = [None, True, False, [], {}, [[]], [None], {"": None}, [1e-4] * 48, [1, 2, 3], [12, 12], deep(50), "x" * 10_000]
VALUES = st.one_of(
    st.sampled_from([*NUMBERS, *WORDS]),
    st.sampled_from(range(len(OTHERS))).map(lambda index: copy.deepcopy(OTHERS[index])),
    st.floats(),
    st.text(max_size=5),
)


def change(data: st.DataObject, tree: Tree) -> None:
    """One edit: a value replaced, dropped, copied or moved to another place, a name changed, an element repeated."""
    path = place(data, tree)
    holder = follow(tree, path[:-1])
    kind = data.draw(st.sampled_from(["replace", "drop", "copy", "rename", "repeat"]))
    if kind == "replace":
        holder[path[-1]] = data.draw(VALUES)
    elif kind == "copy":
        holder[path[-1]] = copy.deepcopy(follow(tree, place(data, tree)))
    elif kind == "repeat" and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[int(path[-1])]))
    else:
        value = holder.pop(path[-1])
        if kind == "rename" and isinstance(holder, dict):
            holder[data.draw(st.sampled_from([*holder, "x", "\n", ""]))] = value


def place(data: st.DataObject, tree: Tree) -> tuple[str | int, ...]:
    found = list(places(tree))
    return found[data.draw(st.integers(0, len(found) - 1))]


def follow(tree: Tree, path: tuple[str | int, ...]) -> Tree:
    for step in path:
        tree = tree[step]
    return tree


@st.composite
def edits(draw: st.DrawFn) -> Callable[[str], bytes]:
    """A change of the text that knows nothing of JSON: cut, doubled, overwritten, or begun with nesting."""
    kind = draw(st.sampled_from(["truncate", "flip", "cut", "double", "nest", "name"]))
    where, length = draw(st.floats(0, 1)), draw(st.integers(1, 200))
    other = draw(st.binary(min_size=1, max_size=3))

    def edit(text: str) -> bytes:
        raw = text.encode()
        at = int(where * len(raw))
        return {
            "truncate": raw[:at],
            "flip": raw[:at] + other + raw[at + len(other) :],
            "cut": raw[:at] + raw[at + length :],
            "double": raw[: at + length] + raw[at:],
            "nest": b"[" * (500 * length) + raw,
            "name": raw[:at] + raw[at:].replace(b'": ', b'": 0, "schema": ', 1),
        }[kind]

    return edit


class Screen:
    """Where pytest-benchmark writes its table."""

    def write_line(self, text: str, **_: bool) -> None:
        text.encode()

    write = write_line


def uses(found: Stored, out: Path) -> list[Callable[[], object]]:
    """Everything that reads a baseline."""
    return [
        lambda: compared(found, folders.compare_with(found.path, found.fingerprint)),
        lambda: folders.choose(found.root, found.fingerprint, upgrade=True),
        lambda: told(["report", str(found.path), "--out", str(out / "page.html")]),
        lambda: merged(folders.load(found.path), out / "merged" / "0001_chosen.json"),
    ]


def compared(found: Stored, choice: BaselineChoice) -> None:
    """Set the run against a chosen baseline, in all that a run says of it."""
    run = Run(found.run.plan, found.root, found.run.journal_path, compare=True, findings=found.run.findings)
    run.choices["scripted"] = choice
    assessed = [run.assessment.vanished(one, run.plan.comparisons[0]) for one in run.vanished()]
    for comparison in run.plan.comparisons:
        assessed += [run.assessment.never_slower(comparison), run.assessment.no_regression(comparison)]
    run.regressed("scripted")
    for line in terminal.summary(run.findings, assessed, run.choices):
        line.encode()


def merged(one: Baseline, path: Path) -> None:
    """Let pytest-benchmark read and show what is chosen."""
    timed.merge(path, [one])
    shown(path)
    shown(one.path)


def shown(path: Path) -> None:
    (content,) = [content for _, content in FileStorage(path.parent, logger=None).load(str(path))]
    benchmarks = [{"name": one["fullname"], "source": None} | one["stats"] for one in content["benchmarks"]]
    assert isinstance(content["machine_info"], dict)
    if benchmarks:
        table = TableResults(DEFAULT_COLUMNS, "min", None, NAME_FORMATTERS["normal"], None, scale_unit=in_seconds)
        table.display(Screen(), [(None, benchmarks)], progress_reporter=report_noprogress)


def in_seconds(**_: object) -> tuple[str, float]:
    return "", 1.0


def survives(found: Stored, raw: bytes, out: Path) -> None:
    """With these bytes in the file: each use succeeds, or ends in one line, and changes nothing in the folder."""
    found.path.write_bytes(raw)
    before = {path: path.read_bytes() for path in found.root.rglob("*") if path.is_file()}
    for use in uses(found, out):
        try:
            use()
        except NeverSlowerError as error:
            one_line(error)
    assert {path: path.read_bytes() for path in found.root.rglob("*") if path.is_file()} == before


@FUZZ
@given(data=st.data())
def test_a_changed_baseline_is_read_or_refused_in_one_line(
    stored: Stored, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    tree = stored.tree
    for _ in range(data.draw(st.integers(1, 3))):
        change(data, tree)
    survives(stored, json.dumps(tree).encode(), tmp_path_factory.getbasetemp())


@FUZZ
@given(edit=edits())
def test_a_broken_baseline_is_read_or_refused_in_one_line(
    stored: Stored, tmp_path_factory: pytest.TempPathFactory, edit: Callable[[str], bytes]
) -> None:
    survives(stored, edit(stored.text), tmp_path_factory.getbasetemp())


def test_an_unchanged_baseline_is_read_by_all(stored: Stored, tmp_path: Path) -> None:
    stored.path.write_text(stored.text, encoding="utf-8")
    for use in uses(stored, tmp_path):
        use()
    assert len(folders.load(stored.path).entries) == 3
