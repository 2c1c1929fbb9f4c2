"""Upper bounds that an operator sets: open launches, and the videos and jobs of one owner. 0 is no bound."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LaunchLimits:
    """How many launches may be open: of all owners together, and of one owner."""

    total: int = 0
    per_owner: int = 0


@dataclass(frozen=True, slots=True)
class OpenLaunches:
    """How many launches are open: of all owners together, and of one owner."""

    total: int = 0
    of_owner: int = 0


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one owner may have: bytes of videos, and jobs that are not final."""

    bytes: int = 0
    jobs_in_flight: int = 0

    @property
    def is_limited(self) -> bool:
        """Whether there is a bound to check."""
        return bool(self.bytes or self.jobs_in_flight)
