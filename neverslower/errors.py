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
