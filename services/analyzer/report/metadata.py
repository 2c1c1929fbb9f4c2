"""What a report says of its film, beside what was found in it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class About:
    """Who, what and when. Whatever is empty is left out. analysed_at: as it should be read."""

    title: str = ""
    players: tuple[str, ...] = ()
    discipline: str = ""
    camera_view: str = ""
    file_name: str = ""
    analysed_at: str = ""
    notes: str = ""
    versions: dict[str, str] = field(default_factory=dict)
