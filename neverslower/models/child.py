"""The child process in which a user's model is read, and the parent's side of it.

A module that fails, exits, prints, or takes the whole memory can't break the run, and torch and onnx stay out of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neverslower.errors import NeverSlowerError
from neverslower.models.words import Input, ModelName, split_name
from neverslower.problem.model import Model

TIME_LIMIT = 600.0
"""Seconds after which a model that is still being read is given up."""
_ROOT = Path(__file__).resolve().parent.parent.parent
TORCH, ONNX = "--model", "--onnx"
LAYERS, CHANNELS, WEIGHTS, PADDED = "layers", "channels", "weights", "padded="
"""What is asked of a model: what it consists of, see Found; which of its channels are coupled, see Group; its Weights;
or, with the path of a script behind it, whether it computes the same when that pads it."""


def read(kind: str, text: str, inputs: Sequence[str], asked: str = LAYERS) -> Mapping[str, Any]:
    """Return what a child process found in a model, by what is asked. Raises NeverSlowerError in the child's words."""
    with tempfile.TemporaryDirectory(prefix="neverslower-") as folder:
        answer = Path(folder) / "answer.json"
        words = [sys.executable, "-m", "neverslower.models.child", str(answer), asked, kind, text, *inputs]
        paths = [str(_ROOT), *([os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        try:
            done = subprocess.run(
                words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIME_LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            text = f"{kind} {text}: it was not read in {TIME_LIMIT:.0f} s; give a smaller --input, or export it to ONNX"
            raise NeverSlowerError(text) from None
        try:
            found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["it wrote nothing"])[-1]
            ended = f"by signal {-done.returncode}" if done.returncode < 0 else f"with exit code {done.returncode}"
            raise NeverSlowerError(f"{kind} {text}: the process that read it ended {ended}: {last}") from None
    if "error" in found:
        raise NeverSlowerError(found["error"])
    return found


def read_again(model: Model, asked: str) -> Mapping[str, Any]:
    """Return what a child process finds in a model that was read before, by what is asked.

    Raises NeverSlowerError in the child's words, or where the model is a list of problems.
    """
    flag, text, *rest = model.source or ("", "")
    if flag not in (TORCH, ONNX, "--pruned"):
        raise NeverSlowerError(
            f"{model.title}: a list of layers does not say how they are connected; name the model by --model or --onnx"
        )
    given = [word for place, word in enumerate(rest) if place and rest[place - 1] == "--input"]
    if flag != TORCH and text.lower().endswith(".onnx"):
        return read(ONNX, text if flag == ONNX else split_name(text)[1], given, asked)
    return read(TORCH, text, given, asked)


def main(arguments: Sequence[str]) -> None:
    """Read a model in this process, and write what was found, or the error's text, to a file."""
    answer, asked, kind, text, *inputs = arguments
    try:
        found = _answer(asked, kind, text, [Input.parse(one) for one in inputs])
    except NeverSlowerError as error:
        found = {"error": str(error)}
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


def _answer(asked: str, kind: str, text: str, inputs: Sequence[Input]) -> Mapping[str, Any]:
    if asked.startswith(PADDED):
        from neverslower.models import agreement

        return agreement.compared(ModelName.parse(text), inputs, Path(asked.removeprefix(PADDED)))
    return {CHANNELS: _coupled, WEIGHTS: _weights}.get(asked, _find)(kind, text, inputs)


def _find(kind: str, text: str, inputs: Sequence[Input]) -> Mapping[str, Any]:
    if kind == TORCH:
        from neverslower.models import torch_module

        return torch_module.find(ModelName.parse(text), inputs).record()
    from neverslower.models import onnx_graph

    return onnx_graph.find(Path(text), inputs).record()


def _coupled(kind: str, text: str, inputs: Sequence[Input]) -> Mapping[str, Any]:
    if kind == TORCH:
        from neverslower.models import torch_channels

        channels = torch_channels.followed(ModelName.parse(text), inputs)
    else:
        from neverslower.models import onnx_channels

        channels = onnx_channels.followed(Path(text), inputs)
    return {"groups": [group.record() for group in channels.groups()]}


def _weights(kind: str, text: str, inputs: Sequence[Input]) -> Mapping[str, Any]:
    if kind == TORCH:
        from neverslower.models import torch_module

        return {"weights": torch_module.filters(ModelName.parse(text))}
    from neverslower.models import onnx_layers

    return {"weights": onnx_layers.filters(Path(text), inputs)}


if __name__ == "__main__":
    main(sys.argv[1:])
    # What the user's module left running, such as threads, is none of ours to wait for.
    sys.stdout.flush()
    os._exit(0)
