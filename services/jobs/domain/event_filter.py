"""Which events a reader gets."""

from dataclasses import dataclass
from uuid import UUID

from services.jobs.domain.records import Event, Owner


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Events of these types, owners and sessions; empty or None: of every one."""

    types: frozenset[str] = frozenset()
    owners: frozenset[Owner] | None = None
    session_id: UUID | None = None

    def matches(self, event: Event) -> bool:
        """Whether a reader gets an event. One whose session is deleted for good has no owner."""
        return (
            (not self.types or event.type in self.types)
            and (self.owners is None or event.owner in self.owners)
            and (self.session_id is None or event.session_id == self.session_id)
        )
