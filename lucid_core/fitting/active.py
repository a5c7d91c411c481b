"""Least squares with no coordinate below 0, and perhaps a sum that is given: an active-set method.

It keeps a legal point, and the set of coordinates that are free to be above 0. The best point for these is aimed at;
what would fall below 0 on the way is held at 0, and when nothing does, the coordinate that lowers the sum of squares
most is set free (Lawson and Hanson 1974, chapter 23). It works on normal equations (Bro and de Jong 1997) and starts
with all coordinates free.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lucid_core.errors import RunError

Array = npt.NDArray[np.float64]
STEPS = 5
"""Changes of the set a coordinate before it counts as stuck; fewer than one is usual."""
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Quadratic:
    """u . gram u / 2 - moment . u over u >= 0, with total . u = sum unless total is None.

    The gram matrix is positive definite, and every number of total is above 0.
    """

    gram: Array
    moment: Array
    total: Array | None
    sum: float

    def best(self, free: npt.NDArray[np.bool_]) -> tuple[Array, float]:
        """Return the best point (Q,) whose coordinates are 0 but for the free ones, and the multiplier of the sum."""
        at = np.flatnonzero(free)
        matrix, right = self.gram[np.ix_(at, at)], self.moment[at]
        if self.total is not None:
            edge = self.total[at]
            matrix = np.block([[matrix, edge[:, np.newaxis]], [edge, np.zeros(1)]])
            right = np.append(right, self.sum)
        try:
            found = np.linalg.solve(matrix, right)
        except np.linalg.LinAlgError:
            found = np.linalg.lstsq(matrix, right)[0]
        point = np.zeros(self.moment.size)
        point[at] = found[: at.size]
        return point, float(found[-1]) if self.total is not None else 0.0

    def pull(self, point: Array, multiplier: float) -> tuple[Array, float]:
        """Return how much each coordinate wants to grow, and what of it is rounding."""
        offset = 0.0 if self.total is None else multiplier * self.total
        rounding = 16 * EPS * float((np.abs(self.gram) @ point + np.abs(self.moment) + np.abs(offset)).max())
        return self.moment - self.gram @ point - offset, rounding


def nonnegative(problem: Quadratic) -> Array:
    """Return the best point (Q,). Raises `RunError` where the set does not settle."""
    free = _first(problem)
    point, multiplier = problem.best(free)
    for _ in range(STEPS * free.size + STEPS):
        pull, rounding = problem.pull(point, multiplier)
        wanted = np.flatnonzero(~free & (pull > rounding))
        if not wanted.size:
            return point
        free[wanted[np.argmax(pull[wanted])]] = True
        point, multiplier = _advance(problem, point, free)
    raise RunError(
        f"the nonnegative weights did not settle after {STEPS * free.size} changes: the input hardly determines them; "
        f"give a penalty l2 above 0, or a smaller kernel"
    )


def _first(problem: Quadratic) -> npt.NDArray[np.bool_]:
    """Return free coordinates whose best point is legal: all, less what falls below 0, again and again."""
    free = np.ones(problem.moment.size, np.bool_)
    while free.any():
        below = free & (problem.best(free)[0] < 0)
        if not below.any():
            return free
        free &= ~below
    if problem.total is not None:
        lengths = problem.sum / problem.total
        free[np.argmin(lengths * (np.diag(problem.gram) * lengths / 2 - problem.moment))] = True
    return free


def _advance(problem: Quadratic, point: Array, free: npt.NDArray[np.bool_]) -> tuple[Array, float]:
    """Go from a legal point to the best one of the free coordinates; what would pass 0 is held there, and not free."""
    while True:
        best, multiplier = problem.best(free)
        passing = free & (best < 0)
        if not passing.any():
            return best, multiplier
        way = point[passing] / (point[passing] - best[passing])
        point = point + way.min() * (best - point)
        held = np.flatnonzero(passing)[way <= way.min()]
        free[held], free[free & (point <= 0)] = False, False
        point[~free] = 0.0
