"""Mistakes of a user or of an environment, told in one line each; no module below imports from another."""


class NeverSlowerError(Exception):
    """Something that one clear line can tell a person: what is wrong and what mends it."""


class InvalidProblem(NeverSlowerError, ValueError):
    """A convolution problem whose numbers do not fit together."""


class DescriptorError(InvalidProblem):
    """A problem descriptor that cannot be read; `position` is the offending character, from 0."""

    def __init__(self, text: str, position: int, why: str) -> None:
        super().__init__(f"descriptor {text!r}, character {position + 1}: {why}")
        self.position = position


class CannotPrune(NeverSlowerError, ValueError):
    """A pruning that leaves no valid layer."""


class UnknownName(NeverSlowerError, LookupError):
    """A network, layer or backend that does not exist; the message lists what does."""


class BaselineError(NeverSlowerError):
    """A baseline that can't be read, written or accepted."""


class BackendNotStored(BaselineError):
    """A baseline that holds other backends than the one asked for."""


class JournalError(NeverSlowerError):
    """A journal that can't be written."""


class StoreError(NeverSlowerError):
    """A store of things made before that can't be written."""


class CalibrationError(NeverSlowerError):
    """A calibration that can't be read, made or written."""


class WorkerFailure(NeverSlowerError):
    """No answer came from a worker, and none will come from it: it is unavailable, it died, or its adapter failed."""


class WorkerDied(WorkerFailure):
    """The worker is gone: it crashed, or it was ended at its time limit. `last_words` is what it wrote last."""

    def __init__(self, why: str, last_words: str, hung: bool = False) -> None:
        super().__init__(f"{why}{': ' + last_words if last_words else ''}")
        self.why, self.last_words, self.hung = why, last_words, hung


class WorkerError(WorkerFailure):
    """The adapter failed in a way that is no refusal; the text ends in its traceback's last line."""


class Unavailable(WorkerFailure):
    """The backend can't be used here; the text says why, and what brings it."""


class DeviceBusy(Unavailable):
    """Another run keeps the device, so this one can't judge."""


class DeviceLost(NeverSlowerError):
    """The device answers no more in this process, which ends with this text as its last words."""


class Unsupported(NeverSlowerError):
    """The library refuses the problem; the text is the library's own, or the capability that is missing."""


class OutOfMemory(Unsupported):
    """The problem does not fit in the device's memory; the text says its size."""
