"""Read files of problems: benchdnn's batch files, and CSV with a column a number.

A batch file holds a descriptor a line, options of benchdnn, and comments (oneDNN, tests/benchdnn/doc/knobs_common.md,
`--batch`). Only `--mb`, `--batch`, `--attr-post-ops`, `--bia-dt`, `--dt` and `--dir` say anything about problems; the
other options are passed over. An option may list several values, and each descriptor is then run with each of them.
"""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neverslower.errors import InvalidProblem, NeverSlowerError
from neverslower.problem.convolution import parse_descriptor
from neverslower.problem.descriptor import descriptor_name
from neverslower.problem.epilogue import PLAIN, Epilogue, post_ops
from neverslower.problem.model import LeftOut, Model
from neverslower.problem.networks import Layer

_LONG = {
    "batch": "mb",
    "groups": "g",
    "in_channels": "ic",
    "out_channels": "oc",
    "height": "ih",
    "width": "iw",
    **{f"{name}{axis}": f"{short}{letter}" for name, short in (("kernel", "k"), ("stride", "s"), ("padding", "p"))
       for axis, letter in (("", "h"), ("_h", "h"), ("_w", "w"))},
}  # fmt: skip
_DILATION = {"dilation": "dh", "dilation_h": "dh", "dilation_w": "dw"}
"""Columns that count from 1 for a dense kernel, as torch does; benchdnn's own `dh` counts from 0."""
_SHORT = ("mb", "g", "ic", "oc", *(f"{kind}{letter}" for kind in "ioksdp" for letter in "hw"))
_DEEP = re.compile(r"(?:^|[_\d])[ik]d(\d+)")
_INTEGERS = re.compile(r"[us]8|[us]4|s32")
_DIRECTIONS = ("FWD_D", "FWD_I", "FWD_B", "BWD_D", "BWD_W", "BWD_WB")
_DEEPEST = 8
"""How many files may include one another; more is a circle."""
Line = tuple[str, str, str, Epilogue]
"""(file:line, descriptor, why it is not measured or "", epilogue) of one problem."""


def read(path: Path) -> Model:
    """Return the problems of a file as the layers of a model without a name. Raises NeverSlowerError, with the line."""
    text = _text(path)
    lines = _from_csv(path, text) if _is_csv(path, text) else _from_batch_file(path, text, _Knobs())
    layers: dict[str, Layer] = {}
    left_out: list[LeftOut] = []
    for where, described, unmeasured, epilogue in lines:
        try:
            if why := unmeasured or ("3-D convolution" if _DEEP.search(described.partition("n")[0]) else ""):
                left_out.append(LeftOut(_place(described), why, _macs(described)))
                continue
            layer = _layer(described, epilogue)
        except InvalidProblem as error:
            raise NeverSlowerError(f"--problems {where}: {error}") from None
        other = layers.setdefault(layer.name, layer)
        if other.problem != layer.problem:
            raise NeverSlowerError(
                f"--problems {where}: {layer.name} is there twice, as {other.problem} and as {layer.problem}; "
                "give one another name"
            )
    if not layers:
        raise NeverSlowerError(f"--problems {path}: {_nothing(left_out)}")
    return Model("", tuple(layers.values()), tuple(left_out), ("--problems", str(path)))


def _nothing(left_out: Sequence[LeftOut]) -> str:
    """Return why a file without a layer gives none."""
    if not left_out:
        return 'no problem in it; a line reads mb1_ic64oc64_ih56kh3ph1n"conv1"'
    counted = Counter(left.what for left in left_out)
    listed = ", ".join(f"{count} × {what}" for what, count in counted.items())
    return f"no 2-D forward convolution in it, and nothing else is measured; it has {listed}"


def _layer(described: str, epilogue: Epilogue) -> Layer:
    """Return a layer; without a name it is named after its descriptor and what follows."""
    problem, name = replace(parse_descriptor(described), epilogue=epilogue), descriptor_name(described)
    plain = problem.descriptor
    if epilogue and not name:
        name = f"{plain}-{epilogue}"
    options = ["--problem", f'{plain}n"{name}"' if name else plain, *(["--bias"] if epilogue.bias else [])]
    options += [f"--post-ops={'+'.join(map(str, epilogue.post_ops))}"] if epilogue.post_ops else []
    return Layer("", None, name or plain, problem, source=tuple(options))


def _place(described: str) -> str:
    """Return the name at the end of a descriptor that may be of more axes than can be read, else all of it."""
    name = re.search(r'n"?([^"]+)"?$', described)
    return name[1] if name else described


def _macs(described: str) -> int:
    """Return the multiply-accumulates of a descriptor of any number of axes; missing numbers as benchdnn has them."""
    fields = {
        name: int(number)
        for name, number in re.findall(r"(mb|g|[io]c|[ioksdp][dhw])(\d+)", described.partition("n")[0])
    }
    work = fields.get("mb", 2) * fields.get("ic", 0) * fields.get("oc", 0) // max(1, fields.get("g", 1))
    given = [letter for letter in "dhw" if f"i{letter}" in fields]
    for letter in "dhw" if "d" in given else given if given == ["w"] else "hw":
        own = letter if letter in given else (given or ["h"])[0]  # A cube or a square is named by its first axis.
        size, kernel, stride = (fields.get(f"{kind}{own}", 1) for kind in "iks")
        dilation, padding = (fields.get(f"{kind}{own}", 0) for kind in "dp")
        out = (size + 2 * padding - (kernel - 1) * (dilation + 1) - 1) // max(1, stride) + 1
        work *= kernel * max(1, fields.get(f"o{own}", out))
    return work


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except IsADirectoryError:
        raise NeverSlowerError(f"--problems {path}: this is a directory; name a file") from None
    except UnicodeDecodeError:
        raise NeverSlowerError(f"--problems {path}: not a text file") from None
    except OSError as error:
        raise NeverSlowerError(f"--problems {path} can't be read: {error.strerror}") from None


# benchdnn's batch files


@dataclass(frozen=True)
class _Knobs:
    """The values of benchdnn's options that hold for the descriptors behind them; an unknown option changes nothing."""

    batches: tuple[str, ...] = ("0",)
    dtypes: tuple[str, ...] = ("",)
    bias_types: tuple[str, ...] = ("",)
    directions: tuple[str, ...] = ("",)
    post_ops: tuple[str, ...] = ("",)

    def after(self, where: str, flag: str, value: str) -> _Knobs:
        """Return the options behind one more. Raises NeverSlowerError."""
        listed = tuple(value.split(","))
        match flag:
            case "--reset":
                return _Knobs()
            case "--mb":
                _require_numbers(where, value, listed)
                return replace(self, batches=listed)
            case "--dt" | "--cfg":
                return replace(self, dtypes=listed)
            case "--bia-dt":
                return replace(self, bias_types=listed)
            case "--dir":
                listed = tuple(map(str.upper, listed))
                _require_directions(where, value, listed)
                return replace(self, directions=listed)
            case "--attr-post-ops":
                return replace(self, post_ops=listed)
        return self

    def lines(self, where: str, described: str) -> Iterator[Line]:
        """Yield each distinct problem that a descriptor stands for.

        Where several are measured, a name gets their number of images and what follows behind it, to tell them apart.
        """
        kinds = itertools.product(self.dtypes, self.directions, self.bias_types, self.post_ops)
        meanings = list(dict.fromkeys(_meant(*kind) for kind in kinds))
        several = sum(not why for why, _ in meanings) > 1
        batches = list(dict.fromkeys(self.batches))
        for batch, (why, epilogue) in itertools.product(batches, meanings):
            images = f"mb{batch}" if batches[1:] and batch.strip("0") else ""
            follows = str(epilogue) if several else ""
            behind = "-".join(word for word in (images, follows) if word)
            yield where, _with_name_behind(_with_batch(described, batch), behind), why, epilogue


def _meant(dtype: str, direction: str, bias_type: str, steps: str) -> tuple[str, Epilogue]:
    """Return (why the convolution is not measured or "", its epilogue) of one value of each option."""
    if direction.startswith("BWD"):
        return "backward convolution", PLAIN
    if _INTEGERS.search(dtype):
        return "quantised convolution", PLAIN
    try:
        return "", Epilogue(bias_type not in ("", "undef") or direction == "FWD_B", post_ops(steps) if steps else ())
    except InvalidProblem:
        return f"convolution with post-ops {steps}", PLAIN


def _from_batch_file(path: Path, text: str, knobs: _Knobs, depth: int = 0) -> Generator[Line, None, _Knobs]:
    """Yield the problems of a file and return the options behind it.

    As in benchdnn, options hold for the files that are included behind them, and theirs hold for what follows.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        for word in _words(line):
            where = f"{path}:{number}"
            flag, _, value = word.partition("=")
            if flag == "--batch":
                if depth == _DEEPEST:
                    raise NeverSlowerError(f"--problems {where}: --batch leads in a circle")
                included = path.parent / value
                knobs = yield from _from_batch_file(included, _text(included), knobs, depth + 1)
            elif word.startswith("--"):
                knobs = knobs.after(where, flag, value)
            else:
                yield from knobs.lines(where, word)
    return knobs


def _words(line: str) -> list[str]:
    """Return the words of a line; a comment begins with #, and a free name may hold spaces in quotation marks."""
    return re.findall(r'(?:[^\s"#]|"[^"]*")+', re.sub(r'^((?:[^"#]|"[^"]*")*)#.*', r"\1", line))


def _require_numbers(where: str, value: str, listed: Sequence[str]) -> None:
    if not all(re.fullmatch("[0-9]+", number) for number in listed):
        raise NeverSlowerError(
            f"--problems {where}: --mb={value} is not a number, nor a list of numbers as in --mb=1,8"
        )


def _require_directions(where: str, value: str, listed: Sequence[str]) -> None:
    for direction in listed:
        if direction not in _DIRECTIONS:
            raise NeverSlowerError(
                f"--problems {where}: --dir={value}: {direction!r} is none of {', '.join(_DIRECTIONS)}"
            )


def _with_batch(described: str, batch: str) -> str:
    """Return a descriptor for so many images, as benchdnn's --mb replaces the number of images of each but for 0."""
    if not batch.strip("0"):
        return described
    return f"mb{batch}_{re.sub(r'^mb[0-9]+_?', '', described)}"


def _with_name_behind(described: str, text: str) -> str:
    """Return a descriptor with a text behind its free name; one without a name, or for no text, as it is."""
    shape, named, name = described.partition("n")
    name = name.strip('"')
    return f'{shape}n"{name}-{text}"' if named and text else described


# CSV


def _is_csv(path: Path, text: str) -> bool:
    """Return whether a file is CSV: by its name, or by a comma in its first line where that is no list of an option."""
    first = (text.strip().splitlines() or [""])[0].partition("#")[0]
    return path.suffix.lower() == ".csv" or ("," in first and not first.startswith("--"))


def _from_csv(path: Path, text: str) -> Iterator[Line]:
    rows = csv.reader(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    header = [name.strip().lower() for name in next(rows, [])]
    _require_columns(path, header)
    for number, row in enumerate(rows, start=2):
        if not any(cell.strip() for cell in row):
            continue
        where = f"{path}:{number}"
        if len(row) != len(header):
            raise NeverSlowerError(f"--problems {where}: {len(row)} cells, and {len(header)} columns")
        yield where, _described(where, dict(zip(header, (cell.strip() for cell in row), strict=True))), "", PLAIN


def _require_columns(path: Path, header: Sequence[str]) -> None:
    known = {"name", "descriptor", *_LONG, *_DILATION, *_SHORT}
    listed = f"name, descriptor, or {', '.join((*_LONG, *_DILATION))}, or benchdnn's own such as ic, oc, ih, kh"
    for name in header:
        if name not in known:
            raise NeverSlowerError(f"--problems {path}:1: unknown column {name!r}; known are {listed}")
    if len(set(header)) < len(header):
        raise NeverSlowerError(f"--problems {path}:1: a column is there twice")


def _described(where: str, row: Mapping[str, str]) -> str:
    """Return the descriptor of a row; where no batch is given, it is one image."""
    name = f'n"{row["name"]}"' if row.get("name") else ""
    if row.get("descriptor"):
        return f"{row['descriptor']}{'' if _place(row['descriptor']) != row['descriptor'] else name}"
    fields = {"mb": "1"}
    for column, cell in row.items():
        if column == "name" or not cell:
            continue
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if not number.is_integer():
            raise NeverSlowerError(f"--problems {where}: {column} is {cell!r}, not a whole number")
        short = _LONG.get(column) or _DILATION.get(column) or column
        fields[short] = str(int(number) - 1 if column in _DILATION else int(number))
    return f"{'_'.join(f'{short}{number}' for short, number in fields.items())}{name}"
