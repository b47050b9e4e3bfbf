"""What the words of `--backend acl:WORD,…` choose: where ACL runs, by which method, and what is looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from neverslower.evidence.observation import Evidence

METHODS = ("auto", "gemm", "direct", "winograd")
EVIDENCE = {"time": Evidence.DEVICE_TIME, "instructions": Evidence.INSTRUCTIONS}
CPU = "cortex-a76"
"""The processor that is emulated: all versions of ACL use its extensions correctly."""
MALIS = (
    "t604", "t628", "t720", "t760", "t830", "t860", "t880", "g31", "g51", "g52", "g57", "g68", "g71", "g72", "g76",
    "g77", "g78", "g310", "g510", "g610", "g615", "g710", "g715", "g720",
)  # fmt: skip
"""Arm GPUs by the names that their drivers give; ACL chooses kernels by the name, and an older ACL knows fewer."""
USAGE = (
    f"neon or opencl, a method ({', '.join(METHODS)}), time or instructions, the name of a Mali such as g72 for what "
    "would be dispatched there, root=FOLDER of another ACL, cpu=NAME to emulate, tuner, fast_math"
)


@dataclass(frozen=True)
class AclOptions:
    """What the words ask for.

    `evidence` is None where it is left to what this machine can give. `gpu` names a GPU that is not there, whose
    dispatch is shown; `root` is the folder of another ACL than the system's, `cpu` the processor to emulate.
    """

    target: str = "neon"
    method: str = "auto"
    evidence: Evidence | None = None
    gpu: str = ""
    root: str = ""
    cpu: str = CPU
    tuner: bool = False
    fast_math: bool = False

    @classmethod
    def parse(cls, text: str) -> AclOptions:
        """Read comma-separated words. Raises ValueError that names the wrong word and what there is."""
        options = cls()
        for word in filter(None, text.split(",")):
            options = options._with(word)
        options._check()
        return replace(options, evidence=Evidence.DISPATCH) if options.gpu else options

    def _check(self) -> None:
        """Raise ValueError where the words do not go together."""
        if self.gpu and self.evidence:
            raise ValueError(
                f"{self.gpu} is not here, so its {self.evidence} can't be measured; its dispatch can be shown"
            )
        if self.target == "opencl" and self.evidence is Evidence.INSTRUCTIONS:
            raise ValueError("instructions are counted on the CPU: use neon")
        if self.tuner and (self.gpu or self.target != "opencl"):
            raise ValueError("the tuner times kernels on a real GPU: use opencl")

    def _with(self, word: str) -> AclOptions:
        """Return these options, changed by one word. Raises ValueError where the word is unknown."""
        name, _, value = word.partition("=")
        if value and name == "root":
            return replace(self, root=value)
        if value and name == "cpu":
            return replace(self, cpu=value)
        if word in METHODS:
            return replace(self, method=word)
        if word in ("neon", "opencl"):
            return replace(self, target=word)
        if word in EVIDENCE:
            return replace(self, evidence=EVIDENCE[word])
        if word in ("tuner", "fast_math"):
            return replace(self, tuner=self.tuner or word == "tuner", fast_math=self.fast_math or word == "fast_math")
        return self._with_mali(word)

    def _with_mali(self, word: str) -> AclOptions:
        mali = re.fullmatch(r"(?:mali-?)?([gt]\d+)", word.lower())
        if mali and mali[1] in MALIS:
            return replace(self, target="opencl", gpu=f"Mali-{mali[1].upper()}")
        what = f"is not one of the Malis known ({', '.join(MALIS)})" if mali else "is unknown"
        raise ValueError(f"{word!r} {what}; it takes {USAGE}")
