"""Muon for a network that has convolutions: a filter bank is a matrix too.

The weight of a convolution, (C_out, C_in, P, P), is applied to patches of C_in P P numbers: it is
the matrix (C_out, C_in P P), and Muon can orthogonalize it as such (Jordan et al. 2024). The CNN
and the convolutional stem would otherwise be trained by another optimizer than the Transformer,
and the comparison would be one of optimizers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from tutorial_kit.optimizers import Muon


def as_matrix(filters: Tensor) -> Tensor:
    """(C_out, C_in, P, P) -> (C_out, P P C_in); (R, C) stays as it is.

    The channels come last, so that filters stored "channels last" are not copied: the order of the
    columns is of no importance to Muon.
    """
    return filters if filters.ndim == 2 else filters.permute(0, 2, 3, 1).flatten(1)


class FilterMuon(Muon):
    """Muon for matrices and for filters; filters must be stored "channels last"."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, **options: Any) -> None:
        """Takes weights of linear layers and of convolutions.

        Args:
            parameters: of two or four dimensions.
            lr: length of the update.
            options: of ``Muon``.

        Raises:
            ValueError: a parameter has another number of dimensions.
        """
        parameters = list(parameters)
        filters = [weight for weight in parameters if weight.ndim == 4]
        # Each pair is one memory, seen in two shapes: an update of the matrix moves the filters.
        self.pairs = [(weight, nn.Parameter(as_matrix(weight.detach()))) for weight in filters]
        for weight, matrix in self.pairs:
            assert weight.data_ptr() == matrix.data_ptr(), "filters are not stored channels last"
        twins = {id(weight): matrix for weight, matrix in self.pairs}
        super().__init__([twins.get(id(weight), weight) for weight in parameters], lr, **options)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates every weight that has a gradient."""
        for weight, matrix in self.pairs:
            matrix.grad = None if weight.grad is None else as_matrix(weight.grad)
        super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients, also those of the filters."""
        super().zero_grad(set_to_none)
        for weight, _ in self.pairs:
            weight.grad = None
