"""Errors that a user or an environment causes, each explained in one line; no module below imports another."""


class NeverSlowerError(Exception):
    """The base of all errors here: its one line says what is wrong and what fixes it."""


class InvalidProblem(NeverSlowerError, ValueError):
    """A convolution problem whose numbers do not fit together."""


class DescriptorError(InvalidProblem):
    """A problem descriptor that cannot be read; `position` is the offending character, counted from 0."""

    def __init__(self, text: str, position: int, why: str) -> None:
        super().__init__(f"descriptor {text!r}, character {position + 1}: {why}")
        self.position = position


class CannotPrune(NeverSlowerError, ValueError):
    """A pruning that leaves no valid layer."""


class UnknownName(NeverSlowerError, LookupError):
    """A network, layer or backend that does not exist; the message lists those that do."""


class BaselineError(NeverSlowerError):
    """A baseline that can't be read, written or accepted."""


class BackendNotStored(BaselineError):
    """A baseline that does not hold the backend asked for."""


class JournalError(NeverSlowerError):
    """A journal that can't be written."""


class KeptFolderError(NeverSlowerError):
    """A folder of things kept between runs can't be written."""


class ReleaseError(NeverSlowerError):
    """A release of a library that can't be had; the text names it, and says why and what to do."""


class Unreachable(ReleaseError):
    """No index answers, so nobody knows what it has."""


class AdviceError(NeverSlowerError):
    """A file of advice can't be read, or holds something impossible."""


class RuleError(NeverSlowerError):
    """A file of rules about known hazards can't be read or written; the message gives file, line and column."""


class CalibrationError(NeverSlowerError):
    """A calibration that can't be read, made or written."""


class WorkerFailure(NeverSlowerError):
    """A worker gave no answer and will give none: it is unavailable, it died, or its adapter failed."""


class WorkerDied(WorkerFailure):
    """The worker is gone: it crashed, or it was killed at its time limit. `last_words` is what it wrote last.

    `subject` is the key of what it was preparing among others when it died, where that is known.
    """

    def __init__(self, why: str, last_words: str, hung: bool = False, subject: str = "") -> None:
        super().__init__(f"{why}{': ' + last_words if last_words else ''}")
        self.why, self.last_words, self.hung, self.subject = why, last_words, hung, subject


class WorkerError(WorkerFailure):
    """The adapter failed, and not by refusing the problem; the text ends in the last line of its traceback."""


class Unavailable(WorkerFailure):
    """The backend can't be used here; the text says why, and how to get it."""


class DeviceBusy(Unavailable):
    """Another run holds the device, so this run can't judge."""


class DeviceLost(NeverSlowerError):
    """The device no longer answers in this process, which ends with this text as its last words."""


class Unsupported(NeverSlowerError):
    """The library refuses the problem; the text is the library's own, or names the missing capability."""


class OutOfMemory(Unsupported):
    """The problem does not fit in the device's memory; the text says its size."""
