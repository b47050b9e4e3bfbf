"""The words that say how cuDNN chooses a plan and how it is measured: `torch,cold,gpu=1`. Needs no GPU."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from backends.gpu import CACHES, HOT
from neverslower.enums import StrEnum


class Policy(StrEnum):
    """Ways of choosing a plan.

    `heuristic`: the first plan that builds, in the order of cuDNN's own heuristic. `fallback`: the same of its fallback
    heuristic, which is meant to run everywhere and not to be fast. `best`: the fastest of all plans that the heuristic
    offers, which is what autotuning gets. `torch`: torch's own convolution, including its layout kernels; and
    `torch_best`: the same with `torch.backends.cudnn.benchmark` on.
    """

    HEURISTIC = "heuristic"
    FALLBACK = "fallback"
    BEST = "best"
    TORCH = "torch"
    TORCH_BEST = "torch_best"

    @property
    def through_torch(self) -> bool:
        """Return whether torch's convolution is called instead of cuDNN itself."""
        return self in (Policy.TORCH, Policy.TORCH_BEST)

    @property
    def tuned(self) -> Policy:
        """Return the policy that picks the fastest plan in the same way, through torch or not."""
        return Policy.TORCH_BEST if self.through_torch else Policy.BEST


@dataclass(frozen=True)
class CudnnOptions:
    """How plans are chosen, whether calls find their tensors in the L2 cache, and on which GPU they run."""

    policy: Policy = Policy.HEURISTIC
    cache: str = HOT
    gpu: int = 0

    def with_words(self, text: str) -> CudnnOptions:
        """Return these options, changed by comma-separated words. Raises ValueError naming the word and the known ones.

        `best` alone means the fastest plan on the way that is set: through torch if that is how it is measured.
        """
        choice = self
        for word in filter(None, text.split(",")):
            if word == Policy.BEST:
                choice = replace(choice, policy=choice.policy.tuned)
            elif word in set(map(str, Policy)):
                choice = replace(choice, policy=Policy(word))
            elif word in CACHES:
                choice = replace(choice, cache=word)
            elif match := re.fullmatch(r"gpu=(\d{1,3})", word):
                choice = replace(choice, gpu=int(match[1]))
            else:
                known = ", ".join([*map(str, Policy), *CACHES, "gpu=N"])
                raise ValueError(
                    f"{word!r} is not one of {known}; several are joined by commas, as in cudnn:torch,cold"
                )
        return choice
