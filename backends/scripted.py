"""Scripted latencies, noise, process effects, drift, faults and plans: the reference adapter, for testing the suite.

`--backend scripted:FILE` names a JSON script, and the variable NEVERSLOWER_SCRIPT another one for whoever has it in its
environment, as one of two sides may; without one every call takes `fixed` + `per_mac` × MACs seconds. Its
clock is virtual: no time passes, and the same script and seed give the same samples.

    {"device": "board", "version": "1.2", "seed": 7, "noise": 0.01, "process_effect": 0.002, "drift": 0.0,
     "spikes": [0.01, 4.0], "fixed": 1e-5, "per_mac": 1e-11,
     "rules": [{"when": "out_channels % 8 != 0", "times": 2.0, "plan": "padded"},
               {"when": "out_channels == 5", "fault": "crash", "processes": [0]}]}

`noise` and `process_effect` are standard deviations of log time, `spikes` the chance and the factor of an outlier,
`drift` the fraction by which time per call grows in a virtual second. `processes` limits a rule to the campaign's
first, second, … worker, `policy` to subjects whose policy matches a shell-style pattern (`""` is the default one).
A rule with a `network` is about the whole networks whose builder (/FOLDER/FILE.py:CALLABLE) matches that pattern, and
about nothing else; a network takes `fixed` seconds without one. Its `way` is how the calls of such a network are made.
A rule with the policy `compile` or `tune` is about that step alone. `compiled` names a folder: what has no file
there is yet to be compiled. `steps` of a rule are the kernels that its plan launches, `code` the hash of their code,
and `throttled` the chance that the device is found disturbed after some blocks. `evidence` may be instructions or
dispatch: then rules say how many `instructions` a call executes, and `steps` how it is dispatched. `states` are looks
at the device, each with the `settings`, `readings` and what is `unsound` (see neverslower.device.state); the last one
that names this process, or none, counts. An `exclusive` device is kept from other runs, and one that `waits` lets two
libraries take turns.
An output that is wrong, or no number, is so in its very last value, or in its first one (wrong_first); `off` says by
which fraction of the largest value.
Faults: crash, hang, hang_holding_gil, unsupported, out_of_memory, wrong, wrong_first, nan, error.
"""

from __future__ import annotations

import ctypes
import fnmatch
import json
import math
import os
import signal
import time
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from backends.base import BackendOptions, Capabilities, Offsets, Tensor
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.state import State
from neverslower.errors import OutOfMemory, Unavailable, Unsupported
from neverslower.evidence.observation import Cache, Evidence, Plan, Searched
from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.epilogue import NOTHING, Added
from neverslower.problem.numerics import convolve
from neverslower.problem.predicate import PredicateError, holds
from neverslower.problem.subject import Search, Subject
from neverslower.problem.whole import Network

CAPABILITIES = Capabilities(
    dtypes=frozenset(DType),
    layouts=frozenset(Layout),
    on_request=True,
    exclusive=False,
    compiles=True,
    watches=True,
    explains=True,
    networks=True,
    epilogues=True,
    tuned_layers=("resnet50.L16",),
)

KEYS = {
    "device", "version", "build", "hardware", "state", "software", "unavailable", "seed", "noise", "process_effect",
    "drift", "spikes", "fixed", "per_mac", "remarks", "compiled", "rules", "throttled", "evidence", "states",
    "exclusive", "waits",
}  # fmt: skip
RULE_KEYS = {
    "network",
    "way",
    "when",
    "policy",
    "processes",
    "times",
    "seconds",
    "plan",
    "tuned",
    "fault",
    "steps",
    "instructions",
    "off",
    "code",
}
KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("device", "version", "build", "unavailable", "compiled", "evidence"), str),
    **dict.fromkeys(("when", "network", "way", "policy", "plan", "fault", "code"), str),
    **dict.fromkeys(("hardware", "state", "software"), dict),
    **dict.fromkeys(
        ("noise", "process_effect", "drift", "fixed", "per_mac", "times", "seconds", "throttled", "off"), (int, float)
    ),
    **dict.fromkeys(("spikes", "processes", "remarks", "steps", "states"), list),
    **dict.fromkeys(("seed", "instructions"), int),
    **dict.fromkeys(("exclusive", "waits"), bool),
}
WRONG = 0.05
"""By which fraction of the largest value an output is wrong: by more than any tolerance."""
VARIABLE = "NEVERSLOWER_SCRIPT"
_ANY = ConvProblem(1, 1, 1, 1, (1, 1))
FAULTS = {"crash", "hang", "hang_holding_gil", "unsupported", "out_of_memory", "wrong", "wrong_first", "nan", "error"}


def open(options: BackendOptions) -> Scripted:
    """Read the script. Raises Unavailable where it can't be read, or where it says so itself."""
    script: dict[str, Any] = {}
    path = os.environ.get(VARIABLE, options.argument)
    if path:
        try:
            script = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise Unavailable(f"script {path}: {error}") from error
        if not isinstance(script, dict):
            raise Unavailable(f"script {path}: not a JSON object")
        rules = script.get("rules", [])
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            raise Unavailable(f"script {path}: rules must be a list of objects")
        for what, named, known in (
            ("key", set(script), KEYS),
            ("key of a rule", {key for rule in rules for key in rule}, RULE_KEYS),
            ("fault", {rule["fault"] for rule in rules if "fault" in rule}, FAULTS),
            ("evidence", {script.get("evidence", "device_time")}, {str(evidence) for evidence in Evidence}),
        ):
            if unknown := named - known:
                raise Unavailable(f"script {path}: unknown {what} {', '.join(sorted(map(str, unknown)))}")
        _check_kinds(path, script, rules)
    if "unavailable" in script:
        raise Unavailable(script["unavailable"])
    return Scripted(script, options.process)


def _check_kinds(path: str, script: Mapping[str, Any], rules: list[Mapping[str, Any]]) -> None:
    """Raise Unavailable for a value of the wrong type, and for a predicate that can't be read."""
    for holder in (script, *rules):
        for name, value in holder.items():
            kind = KINDS.get(name)
            if kind and (not isinstance(value, kind) or isinstance(value, bool) != (kind is bool)):
                raise Unavailable(f"script {path}: {name} is {value!r}")
    for rule in rules:
        try:
            holds(rule.get("when", "1"), _ANY)
        except PredicateError as error:
            raise Unavailable(f"script {path}: {error}") from None


def reproduce(problem: ConvProblem, plan: Plan, options: BackendOptions) -> str:
    """Return a line that says what was scripted, since nothing behind a script could be run without never-slower."""
    return f"a scripted latency of {problem.descriptor} (plan {plan})"


def write_script(problem: ConvProblem, plan: str, options: BackendOptions) -> str:
    """Raise Unsupported: nothing behind a script could be run without never-slower."""
    raise Unsupported("it has no library, so nothing could be timed without never-slower; name another --backend")


class Scripted:
    """The backend of one script, in one worker process."""

    clock = "scripted"
    shortest_round = 1e-6

    def __init__(self, script: Mapping[str, Any], process: int) -> None:
        self.script, self.process, self.now = script, process, 0.0
        self.copies: Counter[str] = Counter()
        self.offsets = Offsets("")
        self.evidence = Evidence(script.get("evidence", "device_time"))
        # Two at once, so that selftests see examinations side by side.
        self.at_once, self.exclusive = 2, script.get("exclusive", False)
        self.offers = CAPABILITIES.offers + (("waits",) if script.get("waits") else ())
        self._looks = np.random.default_rng([script.get("seed", 0), process])

    def disturbed(self) -> str:
        """Report throttling as often as the script says."""
        chance = self.script.get("throttled", 0.0)
        return "scripted throttling" if chance and self._looks.random() < chance else ""

    def state(self, machine: State) -> State:
        """Return the state in the script; this machine has no part in it."""
        mine = [look for look in self.script.get("states", ()) if self.process in look.get("processes", [self.process])]
        return State.from_dict(mine[-1] if mine else {})

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint in the script."""
        script = self.script
        return Fingerprint(
            backend="scripted",
            device=script.get("device", "scripted"),
            version=script.get("version", "1.0"),
            build=script.get("build", "0"),
            hardware=script.get("hardware", {}),
            state=script.get("state", {}) | ({"evidence": str(self.evidence)} if self.evidence.exact else {}),
            software={"scripted": script.get("version", "1.0")} | script.get("software", {}),
        )

    def prepare(
        self, problem: ConvProblem, inputs: Tensor, weights: Tensor, policy: str = "", added: Added = NOTHING
    ) -> Prepared:
        """Find the rules that hold for the problem, and commit the fault that one asks for."""
        rules = self._rules(problem, policy)
        fault = next((rule["fault"] for rule in rules if "fault" in rule), None)
        _commit(fault, f"{problem.out_channels} channels", problem.bytes)
        for _ in (inputs, weights):  # It lays nothing out, but says where it would.
            self.offsets.draw(64, 4096)
        return Prepared(self, problem, (inputs, weights, added), rules, fault)

    def prepare_network(self, network: Network) -> PreparedNetwork:
        """Find the rules that hold for the network, and commit the fault that one asks for."""
        rules = [rule for rule in self.script.get("rules", []) if self._is_about(rule, network)]
        fault = next((rule["fault"] for rule in rules if "fault" in rule), None)
        _commit(fault, network.builder, 0)
        return PreparedNetwork(self, network, rules)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return the remarks in the script."""
        return tuple(self.script.get("remarks", ()))

    def missing(self, subjects: list[Subject]) -> list[Subject]:
        """Return the subjects without a file in the script's folder; none if it names no folder."""
        return [subject for subject in subjects if "compiled" in self.script and not self._compiled(subject).exists()]

    def compile(self, subject: Subject) -> None:
        """Leave a file in the script's folder that names this process."""
        self._fail(subject.problem, "compile")
        self._compiled(subject).write_text(str(os.getpid()), encoding="utf-8")

    def tune(self, wanted: Search) -> Searched:
        """Pretend a search that takes no time and finds what the rules say."""
        self._fail(wanted.problem, "tune")
        return Searched(f"{zlib.crc32(str(wanted).encode()):08x}", "scripted", wanted.trials, 1e-3, 0.0, False)

    def _compiled(self, subject: Subject) -> Path:
        return Path(self.script["compiled"]) / f"{zlib.crc32(subject.key.encode()):08x}"

    def _fail(self, problem: ConvProblem, step: str) -> None:
        fault = next((rule["fault"] for rule in self._rules(problem, step) if "fault" in rule), None)
        _commit(fault, f"{problem.out_channels} channels", problem.bytes)

    def _rules(self, problem: ConvProblem, policy: str) -> list[Mapping[str, Any]]:
        return [rule for rule in self.script.get("rules", []) if self._applies(rule, problem, policy)]

    def _is_mine(self, rule: Mapping[str, Any]) -> bool:
        processes = rule.get("processes")
        return processes is None or self.process in processes

    def _is_about(self, rule: Mapping[str, Any], network: Network) -> bool:
        return self._is_mine(rule) and fnmatch.fnmatchcase(network.builder, rule.get("network", ""))

    def _applies(self, rule: Mapping[str, Any], problem: ConvProblem, policy: str) -> bool:
        # A rule that names no policy is about what is measured, under whichever.
        named = fnmatch.fnmatchcase(policy, rule["policy"]) if "policy" in rule else policy not in ("compile", "tune")
        about = "network" not in rule and self._is_mine(rule)
        return about and named and holds(rule.get("when", "1"), problem)


class Invented:
    """What a script times by a name; its noise depends on the script's seed, the process, the name and the copy alone.

    Copies of one problem in one process, as in an A/A comparison, share the process effect but not the noise.
    """

    cache = Cache()
    least_iterations = 1

    def __init__(self, backend: Scripted, name: str, macs: int, rules: list[Mapping[str, Any]]) -> None:
        self._backend, self._rules = backend, rules
        script = backend.script
        # From the name and not from a shared stream: what is prepared in which order must not change samples.
        entropy = [script.get("seed", 0), backend.process, zlib.crc32(name.encode())]
        effect = np.random.default_rng(entropy).normal(0, script.get("process_effect", 0.0))
        self._random = np.random.default_rng([*entropy, backend.copies[name]])
        backend.copies[name] += 1
        seconds = script.get("fixed", 1e-5) + script.get("per_mac", 1e-11) * macs
        for rule in rules:  # In order: a later rule replaces or multiplies what an earlier one made.
            seconds = rule.get("seconds", seconds) * rule.get("times", 1.0)
        self._seconds = seconds * math.exp(effect)

    def plan(self) -> Plan:
        """Return the last plan among the rules that hold."""
        name = next((rule["plan"] for rule in reversed(self._rules) if "plan" in rule), "plain")
        tuned = next((rule["tuned"] for rule in reversed(self._rules) if "tuned" in rule), None)
        steps = next((rule["steps"] for rule in reversed(self._rules) if "steps" in rule), [f"convolution {name}"])
        code = next((rule["code"] for rule in reversed(self._rules) if "code" in rule), "")
        return Plan(name, tuple(steps), tuned, code=code)

    def run(self, iterations: int) -> float:
        """Advance the virtual clock by that many calls; return the seconds by which it moved."""
        script, random = self._backend.script, self._random
        # Drift follows the virtual clock, which all problems of the process share, as a device that warms up does.
        seconds = iterations * self._seconds * (1 + script.get("drift", 0.0) * self._backend.now)
        if noise := script.get("noise", 0.0):
            seconds *= math.exp(random.normal(0, noise))
        chance, factor = script.get("spikes", (0.0, 1.0))
        if chance and random.random() < chance:  # Without spikes nothing is drawn from the stream.
            seconds *= factor
        self._backend.now += seconds
        return float(seconds)


class Prepared(Invented):
    """One problem of a script."""

    def __init__(
        self,
        backend: Scripted,
        problem: ConvProblem,
        tensors: tuple[Tensor, Tensor, Added],
        rules: list[Mapping[str, Any]],
        fault: str | None,
    ) -> None:
        super().__init__(backend, problem.key, problem.macs, rules)
        self._problem, self._tensors, self._fault = problem, tensors, fault

    def instructions(self) -> int:
        """Return the count of the last rule that has one, else one for each multiply-accumulate."""
        return int(
            next((rule["instructions"] for rule in reversed(self._rules) if "instructions" in rule), self._problem.macs)
        )

    def output(self) -> Tensor:
        """Return the right result, unless the script says otherwise."""
        output = convolve(self._problem, *self._tensors).astype(np.float32)
        if self._fault in ("wrong", "wrong_first"):
            off = next((rule["off"] for rule in reversed(self._rules) if "off" in rule), WRONG)
            output.flat[0 if self._fault == "wrong_first" else -1] += off * np.abs(output).max()
        if self._fault == "nan":
            output[-1, -1, -1, -1] = np.nan
        return output


class PreparedNetwork(Invented):
    """One whole network of a script."""

    bytes = 0

    def __init__(self, backend: Scripted, network: Network, rules: list[Mapping[str, Any]]) -> None:
        # Without its folder: the same script gives the same samples wherever it lies.
        super().__init__(backend, network.builder.rpartition("/")[2], 0, rules)
        self.way: str = next((rule["way"] for rule in reversed(rules) if "way" in rule), "as scripted")


def _commit(fault: str | None, what: str, size: int) -> None:
    """Fail in the way that the script asks for."""
    if fault == "crash":
        os.write(2, b"scripted crash: signal 11 follows\n")
        os.kill(os.getpid(), signal.SIGSEGV)
    elif fault == "hang":
        time.sleep(3600)
    elif fault == "hang_holding_gil":
        ctypes.PyDLL(None).sleep(3600)  # PyDLL keeps the GIL, so no thread of the worker can answer.
    elif fault == "unsupported":
        raise Unsupported(f"scripted refusal of {what}")
    elif fault == "out_of_memory":
        raise OutOfMemory(f"scripted: {size} bytes do not fit")
    elif fault == "error":
        raise RuntimeError("scripted error")
