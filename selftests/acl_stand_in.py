"""Stands in for QEMU and the runner that it runs: answers as the runner does, or fails as the tests ask for.

What it is to do stands in the file that ACL_STAND_IN names, as {"hello": {…}, "when": {"15": "SIGILL"}}: by the number
of output channels the name of a signal, "hang", "refuse", "error", "noise" (no JSON), or a count of instructions.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.numerics import convolve

SCRIPT: dict[str, Any] = json.loads(Path(os.environ["ACL_STAND_IN"]).read_text(encoding="utf-8"))
HELLO = {
    "protocol": 1,
    "acl": "20.08",
    "build": "arm_compute_version=v20.08 stand-in",
    "headers": "20.08 to 21.02",
    "evidence": "instructions",
    "target": "neon",
    "threads": 1,
    "tuner": False,
    "opencl": True,
    "gpu": None,
}


def argument(name: str, default: str = "") -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def problem_of(told: dict[str, Any]) -> ConvProblem:
    channels, height, width = told["in"]
    return ConvProblem(
        in_channels=channels,
        out_channels=told["out"][0],
        height=height,
        width=width,
        kernel=tuple(told["kernel"]),
        padding=tuple(told["padding"]),
        stride=tuple(told["stride"]),
        dtype=DType(told["dtype"]),
        layout=Layout(told["layout"]),
    )


class StandIn:
    def __init__(self) -> None:
        self.prepared: dict[int, dict[str, Any]] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        number = request["id"]
        if request["op"] == "prepare":
            self.prepared[number] = request
        told = self.prepared[number]
        fate = SCRIPT.get("when", {}).get(str(told["problem"]["out"][0]))
        if request["op"] == "prepare" and isinstance(fate, str) and (found := self.fail(fate)):
            return {"id": number} | found
        return {"id": number, "ok": getattr(self, request["op"])(request, told, fate)}

    def fail(self, fate: str) -> dict[str, Any] | None:
        if fate.startswith("SIG"):
            os.write(2, b"the last words of a library\n")
            os.kill(os.getpid(), getattr(signal, fate))
        if fate == "hang":
            time.sleep(600)
        if fate == "noise":
            os.write(1, b"ACL says hello\n")
        return {"refuse": {"refused": "weights are too wide"}, "error": {"error": "std::bad_alloc"}}.get(fate)

    def prepare(self, request: dict[str, Any], told: dict[str, Any], fate: Any) -> dict[str, Any]:
        if "inputs" in told:  # They are gone once this is answered.
            problem = problem_of(told["problem"])
            shapes = {"inputs": problem.input_shape, "weights": problem.weight_shape}
            told["tensors"] = [np.fromfile(told[name], np.float32).reshape(shape) for name, shape in shapes.items()]
        return {"chosen": told["method"].upper() if told["method"] != "auto" else "GEMM"}

    def output(self, request: dict[str, Any], told: dict[str, Any], fate: Any) -> dict[str, Any]:
        output = convolve(problem_of(told["problem"]), *told["tensors"])
        output.astype(np.float32).tofile(request["file"])
        return {}

    def count(self, request: dict[str, Any], told: dict[str, Any], fate: Any) -> dict[str, Any]:
        count = fate if isinstance(fate, int) else problem_of(told["problem"]).macs
        plugin = argument("-plugin")
        with open(plugin.partition("out=")[2], "a", encoding="utf-8") as file:
            file.write(json.dumps({"instructions": count}) + "\n")
        return {"instructions": None}

    def dispatch(self, request: dict[str, Any], told: dict[str, Any], fate: Any) -> dict[str, Any]:
        blocks = -(-told["problem"]["out"][0] // 4)
        kernel = {"name": "mm", "options": " -DN=4  -cl-std=CL2.0 ", "global": [blocks, 8, 1], "local": [2, 2, 1]}
        return {"kernels": [{"name": "im2col", "options": "", "global": [9, 9, 1], "local": None}, kernel]}

    def profile(self, request: dict[str, Any], told: dict[str, Any], fate: Any) -> dict[str, Any]:
        return {"kernels": [{"name": "im2col", "seconds": 1e-4}, {"name": "mm", "seconds": 3e-4}]}

    def run(self, request: dict[str, Any], told: dict[str, Any], fate: Any) -> dict[str, Any]:
        return {"seconds": request["iterations"] * 1e-3}

    def drop(self, request: dict[str, Any], told: dict[str, Any], fate: Any) -> dict[str, Any]:
        del self.prepared[request["id"]]
        return {}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    if "--version" in sys.argv:
        say("qemu-aarch64 version 7.2.22 (stand-in)")
        return
    if "-h" in sys.argv:
        say(SCRIPT.get("help", "-plugin file=<file>"))
        return
    target = argument("--target", "neon")
    gpu = {"name": "Mali-G72", "driver": "never-slower null OpenCL 1", "target": "g72", "type": "gpu"}
    hello = HELLO | {"target": target, "gpu": gpu if target == "opencl" else None} | SCRIPT.get("hello", {})
    say(json.dumps({"hello": hello}))
    stand_in = StandIn()
    for line in sys.stdin:
        say(json.dumps(stand_in.answer(json.loads(line))))


main()
