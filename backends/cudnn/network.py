"""A whole network on the GPU, by torch: its calls in a CUDA graph where it can be captured, else one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from backends.gpu.replay import HEAD_START, Replay
from neverslower.errors import NeverSlowerError, OutOfMemory, Unsupported
from neverslower.evidence.observation import Cache, Plan
from neverslower.models import whole
from neverslower.problem.convolution import DType
from neverslower.problem.whole import Network

if TYPE_CHECKING:
    from backends.cudnn import CuDNN

WARM_UP = 3
"""Calls before a capture: libraries load and allocate in the first ones, which a capture does not allow."""
GRAPHED, ONE_BY_ONE = "in a CUDA graph", "call by call"
Running = Callable[[], AbstractContextManager[None]]
"""Within it a network is called: with its own modules and settings, its errors turned into what they mean."""


def prepare(gpu: CuDNN, network: Network) -> GpuNetwork:
    """Build a network on a GPU, where torch runs it; `best` lets torch try the algorithms of each convolution.

    Raises Unsupported, with the user's own traceback where their code failed, OutOfMemory, or DeviceLost.
    """
    torch, choice = gpu.torch, gpu._choice
    if choice.cache == "cold":
        raise Unsupported("a whole network is measured hot: its calls find in the cache what the call before left")

    def set_up() -> None:
        torch.backends.cudnn.benchmark = choice.policy is choice.policy.tuned
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = network.dtype is DType.TF32

    def call() -> None:
        set_up()  # At each call, for other prepared problems set them too.
        with torch.no_grad():
            built.call()

    @contextlib.contextmanager
    def running() -> Iterator[None]:
        with _users_errors(gpu), built.running():
            yield

    set_up()
    with _users_errors(gpu):
        built = whole.build(torch, network, "cuda")
    with running():
        return GpuNetwork(torch, gpu.stream, call, built.bytes, running)


@contextlib.contextmanager
def _users_errors(gpu: CuDNN) -> Iterator[None]:
    """Refuse a network whose code fails; after an error that stays with the device, that is lost."""
    try:
        yield
    except OutOfMemory:
        gpu.torch.cuda.empty_cache()
        raise
    except NeverSlowerError as error:
        gpu.require_device(error)
        raise Unsupported(str(error)) from error


def _leave_capture(torch: Any) -> None:
    """Give the GPU's random numbers a state of their own: after a capture that failed, theirs still waits for its end.

    Whatever draws from it then, as dropout or another network's weights do, would raise.
    """
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    generator.graphsafe_set_state(torch.Generator(device=generator.device).graphsafe_get_state())


class GpuNetwork:
    """A network that has run once, by its call on the current stream; `way` says how its calls are timed."""

    cache = Cache()
    least_iterations = 1

    def __init__(self, torch: Any, stream: Any, call: Callable[[], None], size: int, running: Running) -> None:
        self._torch, self._stream, self._call, self.bytes = torch, stream, call, size
        self._running = running
        self._replay = Replay(torch, stream, lambda _: call())
        self._events = tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(WARM_UP):
            call()
        torch.cuda.synchronize()
        self.way = GRAPHED if self._can_be_captured() else ONE_BY_ONE

    def _can_be_captured(self) -> bool:
        """Return whether calls can be captured: not where one waits for the GPU, as control flow on values does.

        Raises RuntimeError where the device is lost, or the network does not run any more after the attempt.
        """
        try:
            self._replay.captured(1)
        except self._torch.cuda.OutOfMemoryError:
            raise
        except Exception:  # noqa: BLE001  (whatever the user's code raises there, call by call it may run)
            self._torch.cuda.synchronize()
            _leave_capture(self._torch)
            self._call()
            self._torch.cuda.synchronize()
            return False
        return True

    def plan(self) -> Plan:
        """Return how the network is run: torch chooses a plan for each of its layers."""
        return Plan(f"torch {self.way}")

    def run(self, iterations: int) -> float:
        """Return the seconds of that many calls, by the GPU's clock; call by call what the host takes is in them."""
        with self._running():
            return self._replay.run(iterations) if self.way == GRAPHED else self._one_by_one(iterations)

    def _one_by_one(self, iterations: int) -> float:
        begin, end = self._events
        self._torch.cuda._sleep(HEAD_START)
        begin.record(self._stream)
        for _ in range(iterations):
            self._call()
        end.record(self._stream)
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3
