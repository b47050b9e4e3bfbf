"""Keep pytest from taking the value of one of the suite's options for a path to collect, and its folder for the root.

pytest looks for its root before it has loaded the conftest.py that brings the suite's options: `--resume FILE` is an
unknown flag and a path to it then, and a FILE elsewhere leads it away from this checkout. So this plugin is an entry
point, which is loaded in every environment where the suite is installed, and does nothing outside of its checkout. It
writes `--resume FILE` as `--resume=FILE`, which pytest never takes for a path.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Collection, Generator, Sequence
from pathlib import Path
from typing import Any

import pluggy


# A wrapper, and so called before pytest's own one redirects what is printed.
@pluggy.HookimplMarker("pytest")(wrapper=True)
def pytest_load_initial_conftests(early_config: Any, args: list[str]) -> Generator[None, object, object]:
    """Join options and values; where the root was misled already, start pytest anew with them joined."""
    _join(early_config, args)
    return (yield)


def _join(early_config: Any, args: list[str]) -> None:
    root = _checkout(Path(early_config.invocation_params.dir))
    if root is None:
        return
    flags = value_flags()
    given = [str(argument) for argument in early_config.invocation_params.args]
    if Path(early_config.rootpath) != root and joined(given, flags) != given and given == sys.argv[1:]:
        sys.stdout.flush()
        sys.stderr.flush()
        before = sys.orig_argv[: len(sys.orig_argv) - len(given)]
        os.execv(sys.executable, [*before, *joined(given, flags)])
    values = set(_values(args, flags))
    args[:] = joined(args, flags)
    known = early_config.known_args_namespace
    known.file_or_dir = [path for path in known.file_or_dir if path not in values]


def joined(arguments: Sequence[str], flags: Collection[str]) -> list[str]:
    """Return a command line in which each of `flags` that is followed by a value has it behind `=`."""
    result: list[str] = []
    for argument in arguments:
        if result and result[-1] in flags and not argument.startswith("-"):
            result[-1] = f"{result[-1]}={argument}"
        else:
            result.append(argument)
    return result


def _values(arguments: Sequence[str], flags: Collection[str]) -> list[str]:
    return [value for flag, value in itertools.pairwise(arguments) if flag in flags and not value.startswith("-")]


def _checkout(folder: Path) -> Path | None:
    """Return the nearest folder from `folder` up that holds this suite, None outside of any."""
    for root in (folder, *folder.parents):
        if (root / "pytest.ini").is_file() and (root / "tests" / "test_never_slower.py").is_file():
            return root
    return None


def value_flags() -> set[str]:
    """Return the suite's options that take a value."""
    from neverslower.option_table import OPTIONS

    return {option.flag for option in OPTIONS if option.keywords.get("action") != "store_true"}
