"""Evidence for an action: independent signs, each with its margin to the boundary between an action and none.

An action is claimed when every sign that the film shows lies inside its boundary. The action is as sure as its weakest
sign, because one sign that fails makes it something else.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# What a sign that the film does not show is worth: less than a clear one, more than one near its boundary.
UNSEEN_MARGIN = 0.5
# Confidence of an action whose weakest sign lies at its boundary; a clear one has the whole confidence of its rate.
BOUNDARY_CONFIDENCE = 0.4
# An action whose evidence is weaker than this is doubtful.
CLEAR_EVIDENCE = 0.5


@dataclass(frozen=True)
class Sign:
    """One measured sign. value: NaN where the film does not show it.

    boundary: the value at which it stops speaking for the action; clear: the value from which it is beyond doubt.
    """

    name: str
    value: float
    boundary: float
    clear: float

    @property
    def is_seen(self) -> bool:
        return bool(np.isfinite(self.value))

    @property
    def margin(self) -> float:
        """0 at the boundary, 1 where the sign is beyond doubt, negative on the other side; at most 1."""
        if not self.is_seen:
            return UNSEEN_MARGIN
        return min(1.0, (self.value - self.boundary) / (self.clear - self.boundary))


def weakest(signs: Iterable[Sign]) -> Sign:
    """The sign with the least margin. Raises ValueError without signs."""
    return min(signs, key=lambda sign: sign.margin)


def confidence(signs: Iterable[Sign]) -> float:
    """0..1 by the weakest sign; 0 where one speaks against the action."""
    margin = weakest(signs).margin
    return 0.0 if margin < 0 else BOUNDARY_CONFIDENCE + (1 - BOUNDARY_CONFIDENCE) * margin


class Evidenced:
    """An action with its evidence."""

    signs: tuple[Sign, ...]

    @property
    def confidence(self) -> float:
        return confidence(self.signs)

    @property
    def strength(self) -> float:
        """Orders actions near each other: the sum of their margins."""
        return sum(sign.margin for sign in self.signs)
