"""The command line as a table: every option of ours in groups, with its help, its default, and how argparse takes it.

Values stay the words that the user wrote; `option_values` reads them, so that every mistake gets one clear line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import backends
from neverslower.judge.sequential import PRESETS
from neverslower.problem.networks import NETWORKS
from neverslower.problem.selection import PROFILES
from neverslower.worker.process import LOCAL

UNSOUND = ("refuse", "warn")
SIDES = ("out", "in", "both", "together")
EXIT_CODES = ("pytest", "bisect")
CLOSE = 0.75
"""How alike a word and an option must be, as difflib counts it, for the one to be a slip of the other."""


@dataclass(frozen=True)
class Option:
    """One command-line option: its flag, its help line, and what argparse's `add_argument` takes with them.

    One that is `repeated` decides what a verdict is, so that a command which measures something again repeats it.
    """

    flag: str
    help: str
    keywords: Mapping[str, Any]
    repeated: bool = False

    @property
    def key(self) -> str:
        """Return the flag without its dashes."""
        return self.flag.strip("-")

    @property
    def name(self) -> str:
        """Return the attribute under which the parsed value is stored."""
        return "neverslower_" + self.key.replace("-", "_")

    @property
    def default(self) -> Any:
        """Return the value of an option that was not given."""
        return self.keywords.get("default", False)


@dataclass(frozen=True)
class Group:
    """Options that `pytest -h` lists under one title."""

    name: str
    title: str
    options: tuple[Option, ...] = field(default_factory=tuple)


def _many(flag: str, metavar: str, help: str, default: str) -> Option:
    text = f"{help} (repeatable); default: {default}"
    return Option(flag, text, {"action": "append", "default": [], "metavar": metavar})


def _one(flag: str, metavar: str, help: str, default: str, value: str | None = None, repeated: bool = False) -> Option:
    """Return an option of one word; `default` says what happens without it, `value` is what is then read."""
    return Option(flag, f"{help}; default: {default}", {"default": value, "metavar": metavar}, repeated)


def _switch(flag: str, help: str, repeated: bool = False) -> Option:
    return Option(flag, f"{help}; default: off", {"action": "store_true"}, repeated)


def _among(words: tuple[str, ...]) -> str:
    return f"{{{','.join(words)}}}"


GROUPS = (
    Group(
        "never-slower",
        "never-slower, the five options to begin with",
        (
            _many(
                "--backend",
                "NAME",
                f"measure this library: {', '.join(name for name in backends.TABLE if name != backends.FOR_TESTING)}; "
                "some take more after a colon: tvm:FOLDER (a MetaSchedule work folder), tvm:cuda, onednn:torch, "
                "cudnn:best, cudnn:fallback, cudnn:torch, cudnn:cold or cudnn:gpu=1, joined by commas",
                "every one that is installed",
            ),
            _many(
                "--layer",
                "PATTERN",
                "measure these layers: resnet50.L16, resnet50.layer2.1.conv2, 'vgg16.L*'",
                "all of ResNet-50, or a few small layers where the library is slow to compile",
            ),
            _one(
                "--time-budget",
                "TIME",
                "stop measuring after 90s, 5m or 1h30m, the cheapest comparisons first; 0: no limit",
                "270s, without limit in --profile full",
            ),
            _one(
                "--against",
                "SPEC",
                "measure another version of the library next to this one and say what got slower: "
                "'pip:apache-tvm==0.25.0', deb:PACKAGE/SUITE, root:FOLDER, ../old/bin/python, "
                "or an execnet spec such as 'popen//python=docker run -i old python3'",
                "this library alone",
                repeated=True,
            ),
            _switch(
                "--strict-verdicts",
                "for CI: also fail on a hazard that no baseline knows, and on what is undecided, changed or not "
                "comparable",
                repeated=True,
            ),
        ),
    ),
    Group(
        "never-slower-what",
        "never-slower, what to measure",
        (
            _many("--require-backend", "NAME", "like --backend, but a run without it exits with 6", "none"),
            _many("--network", "NAME", f"measure every layer of {', '.join(NETWORKS)}", "see --layer"),
            _many(
                "--problem",
                "DESCRIPTOR",
                "measure one convolution, written as oneDNN's benchdnn does: mb1_ic64oc64_ih56kh3ph1; its free name "
                '(n"conv1") names it',
                "see --layer",
            ),
            _many(
                "--keep",
                "N",
                "prune to these channel counts where a layer has them: 48, 48,56 or 92-97; layer1.0.conv1=48,56 is for "
                "the layers that match",
                "1, 3, 7, 15, 31, 63, 127 channels fewer, and 12, 25, 50 %% fewer",
            ),
            _many(
                "--advised",
                "ADVICE.json",
                "assert that the channel counts in this file are worth pruning to: each faster than the next larger",
                "none",
            ),
            _one(
                "--side",
                _among(SIDES),
                "prune the layer's output channels, its input channels (as when the layer before it was pruned), both "
                "in turn, or together: in one step, as pruning a whole network does",
                "out",
                "out",
            ),
            _many("--batch", "N", "measure every chosen layer for this many images at once", "the layer's own number"),
            _switch("--bias", "give every chosen layer a bias", repeated=True),
            _one(
                "--post-ops",
                "OPS",
                "measure every chosen layer with what follows it in the same call, as benchdnn's --attr-post-ops: "
                "relu, silu (which is swish:1), sum (a residual is added), or sum+relu",
                "the layer's own: none, or what --fused or a file says",
                repeated=True,
            ),
            _many("--dtype", "DTYPE", "float32, tf32, float16 or bfloat16", "the backend's own"),
            _many("--layout", "LAYOUT", "NCHW or NHWC", "the backend's own"),
            _one(
                "--profile",
                _among(tuple(sorted(PROFILES))),
                "how much to measure: quick (ResNet-50, in five minutes) or full (every network and format)",
                "quick",
                "quick",
            ),
        ),
    ),
    Group(
        "never-slower-models",
        "never-slower, your own model",
        (
            _many(
                "--model",
                "CALLABLE",
                "measure the convolutions of a torch.nn.Module: FILE.py:CALLABLE or package.module:callable, which "
                "returns it when called without arguments; NAME=… names it",
                "none",
            ),
            _many("--onnx", "FILE", "measure the convolutions of an ONNX file; its weights are not needed", "none"),
            _one(
                "--pruned",
                "SPEC",
                "set the pruned version of the one --model or --onnx against it, layer by layer: FILE.py:CALLABLE, "
                "package.module:callable or FILE.onnx; NAME=… names it",
                "none",
            ),
            _many(
                "--input",
                "SHAPE",
                "the shape of a model's input, 1x3x224x224; of an ONNX file only where its axes are dynamic, and by "
                "name if it has several inputs: images=1x3x224x224",
                "what an ONNX file says; --model needs one",
            ),
            _switch(
                "--fused",
                "let the convolutions of --model and --onnx carry what follows them in the same call: the bias, a "
                "batch normalisation (as a bias), a residual, ReLU or SiLU",
            ),
            _many(
                "--problems", "FILE", "measure the problems of a file: one of benchdnn's batch files, or CSV", "none"
            ),
        ),
    ),
    Group(
        "never-slower-how",
        "never-slower, how to measure",
        (
            _one(
                "--preset",
                _among(tuple(PRESETS)),
                "how long to measure what is hard to decide: up to 64, 192 or 384 blocks of four rounds",
                "standard",
                repeated=True,
            ),
            _one(
                "--passes",
                "N",
                "measure each comparison in at least this many fresh processes",
                "1; 4 (quick) or 6 (full) where times are compared with, or stored as, a baseline",
                repeated=True,
            ),
            _one("--blocks", "N", "interleaved blocks of four rounds in each process", "8", repeated=True),
            _one(
                "--family-error",
                "P",
                "the chance that the whole run holds any false red",
                "0.01",
                repeated=True,
            ),
            _one("--time-limit", "TIME", "end a worker that takes longer for one problem", "120s", repeated=True),
            _one(
                "--unsound",
                _among(UNSOUND),
                "what to do on a device that is throttled, hot, busy, or (a Jetson) without fixed clocks: refuse with "
                "exit code 6, or warn and measure anyway",
                "refuse",
                "refuse",
                repeated=True,
            ),
            _one("--threads", "N", "CPU threads that a library may use", "1", repeated=True),
            _one(
                "--worker",
                "SPEC",
                "where workers run: an execnet spec such as ssh=HOST, or the path of a Python",
                "popen, on this machine",
                LOCAL,
                repeated=True,
            ),
            _one("--seed", "N", "seed of the order in which comparisons are measured", "0"),
            _one(
                "--explain-budget", "TIME", "look for causes for up to this long, the worst first; 0: no limit", "60s"
            ),
            _switch("--explain", "find the cause of every channel count's time, not of hazards alone (cudnn)"),
        ),
    ),
    Group(
        "never-slower-stored",
        "never-slower, baselines, journals and exit codes",
        (
            _one(
                "--accept-baseline", "REASON", "store this run as the device's baseline, for this reason", "store none"
            ),
            _one(
                "--baselines",
                "DIR",
                "folder of the baselines",
                "baselines, next to pytest.ini",
                repeated=True,
            ),
            _one(
                "--hazards",
                "FILE",
                "the rules about known hazards, each with an owner",
                "hazards.toml in the folder of the baselines, where there is one",
                repeated=True,
            ),
            _one(
                "--least-decided",
                "SHARE",
                "with --strict-verdicts: pass if this much was decided and the time budget left out the rest",
                "95%%",
            ),
            _one("--journal", "FILE", "append raw results to this file", "a new one in .neverslower"),
            _one(
                "--resume",
                "FILE",
                "go on with the run of this journal, reusing what it measured",
                "start a new run",
            ),
            _one("--report", "FILE.html", "write a page of this run; DIR stands for DIR/index.html", "none"),
            _one("--verdicts", "FILE.json", "write every verdict of this run for programs", "none"),
            _one(
                "--exit-codes",
                _among(EXIT_CODES),
                "pytest's, or those of `git bisect run`: 0 good, 1 bad, 125 cannot judge, above 127 broken",
                "pytest",
                "pytest",
            ),
        ),
    ),
    Group(
        "never-slower-studies",
        "never-slower, the studies that -m hunt and -m tuned_log opt in to",
        (
            _one("--hunt-budget", "TIME", "draw new layers for up to this long in each hunt; 0: no limit", "60s"),
            _one("--trials", "N", "candidates that each search for a schedule times", "16"),
            _one("--tuning-budget", "TIME", "search for schedules for up to this long; 0: no limit", "10m"),
        ),
    ),
)
OPTIONS = tuple(option for group in GROUPS for option in group.options)


def meant(arguments: Iterable[str]) -> str:
    """Return which options of ours those close to them may mean: `--layer (for --layr)`; empty where none is close."""
    flags = [option.flag for option in OPTIONS]
    given = dict.fromkeys(argument.partition("=")[0] for argument in arguments if argument.startswith("--"))
    close = {flag: difflib.get_close_matches(flag, flags, n=1, cutoff=CLOSE) for flag in given if flag not in flags}
    return ", ".join(f"{known[0]} (for {flag})" for flag, known in close.items() if known)
