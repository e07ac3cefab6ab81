"""What happens to gradients between backward pass and update."""

from __future__ import annotations

from vdcore.arrays import array_namespace
from vdcore.optimizers.optimizer import Optimizer
from vdcore.reporter import report


class WeightDecay:
    """Add ``rate * parameter`` to each gradient, except of log variances.

    Decay would pull a log variance to 0, a variance of 1, and so undo the posterior.
    """

    name = "WeightDecay"

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, optimizer: Optimizer) -> None:
        """Change the gradients of the optimizer's target."""
        for parameter in optimizer.target.params():
            if parameter.decays and parameter.grad is not None:
                parameter.grad = parameter.grad + parameter.array * self.rate


class GradientClipping:
    """Scale all gradients so that their joint L2 norm is at most `threshold`.

    Those of parameters that are not trained do not count.

    Notes
    -----
    Reports, in the name of the optimizer's target, ``grad_norm``, the norm before, and
    ``clipped``, 1 where that was above the threshold and 0 where it was not: in a log
    the average norm, and the fraction of steps that were clipped.
    """

    name = "GradientClipping"

    def __init__(self, threshold: float) -> None:
        if not threshold > 0:
            message = (
                f"GradientClipping: `threshold` must be positive, got {threshold!r}"
            )
            raise ValueError(message)
        self.threshold = threshold

    def __call__(self, optimizer: Optimizer) -> None:
        """Change the gradients of the optimizer's target."""
        parameters = [
            p for p in optimizer.target.params() if p.trainable and p.grad is not None
        ]
        if not parameters:
            return
        xp = array_namespace(parameters[0].grad)
        squares = [xp.sum(xp.square(parameter.grad)) for parameter in parameters]
        norm = xp.sqrt(sum(squares[1:], squares[0]))
        # The factor stays on the device: comparing it here would wait for a GPU.
        factor = self.threshold / xp.maximum(norm, self.threshold)
        for parameter in parameters:
            parameter.grad = parameter.grad * factor
        clipped = xp.astype(norm > self.threshold, norm.dtype)
        report({"grad_norm": norm, "clipped": clipped}, optimizer.target)
