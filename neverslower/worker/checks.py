"""Checks what a backend computes, next to the device: only deviations travel, and the outputs stay here."""

from __future__ import annotations

from backends.base import Backend, Tensor
from neverslower.problem import numerics
from neverslower.problem.convolution import ConvProblem, kept_channels
from neverslower.problem.epilogue import Added
from neverslower.problem.subject import Subject

Checked = tuple[float, float]
"""(deviation, tolerance): each a fraction of the largest value that was expected."""


class OutputChecks:
    """Compares a backend's outputs with a float64 reference, and a pruned layer's with the unpruned one's.

    References and outputs of recent layers are kept, so that nothing is computed twice in a row.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._references = numerics.References()
        self._outputs = numerics.Outputs()

    def error(self, subject: Subject, tensors: tuple[Tensor, Tensor], output: Tensor) -> tuple[float, float]:
        """Return (an output's deviation from the reference, the fraction of it that was compared).

        The library's own output is kept for `agree`; that of another policy is not.
        """
        if not subject.policy:
            self._outputs.keep(subject.problem, output)
        return self._references.error(subject.problem, *tensors, output)

    def agree(self, whole: ConvProblem, part: ConvProblem) -> Checked:
        """Return (deviation, tolerance) of the pruned layer's output from the kept channels of the unpruned one's."""
        if both := self._outputs.of_same_tensors(whole, part):
            return _from_slice(both[1], both[0], whole, part)
        whole_tensors, part_tensors = numerics.pruned_tensors(whole, part)
        whole_added, part_added = numerics.pruned_added_tensors(whole, part)
        output = self._output(part, part_tensors, part_added)
        return _from_slice(output, self._output(whole, whole_tensors, whole_added), whole, part)

    def check(self, whole: ConvProblem, part: ConvProblem) -> dict[str, Checked]:
        """Return (deviation, tolerance) of the pruned layer's output from each thing that it must equal."""
        whole_tensors, part_tensors = numerics.pruned_tensors(whole, part)
        whole_added, part_added = numerics.pruned_added_tensors(whole, part)
        output = self._output(part, part_tensors, part_added)
        expected = numerics.convolve(part, *part_tensors, part_added)
        error = numerics.deviation(output, expected, numerics.typical_output(part))
        kept, padded = (
            _from_slice(output, self._output(whole, tensors, whole_added), whole, part)
            for tensors in (whole_tensors, numerics.padded_tensors(whole, part, part_tensors))
        )
        return {
            "float64": (error, numerics.TOLERANCES[part.dtype]),
            "slice": kept,
            "zero-padded": padded,
        }

    def _output(self, problem: ConvProblem, tensors: tuple[Tensor, Tensor], added: Added) -> Tensor:
        return self._backend.prepare(problem, *tensors, added=added).output()


def _from_slice(output: Tensor, unpruned: Tensor, whole: ConvProblem, part: ConvProblem) -> Checked:
    """Return (deviation, tolerance) of `part`'s output from the channels of `whole`'s that it keeps."""
    expected = unpruned[:, kept_channels(whole, part)[1]]
    error = numerics.deviation(output, expected, numerics.typical_output(part))
    # Both sides may be off by the tolerance, in opposite directions.
    return error, 2 * numerics.TOLERANCES[part.dtype]
