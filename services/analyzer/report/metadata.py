"""Defines the metadata of a video that its report shows."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Metadata:
    """Words of the session and the file, from people. Empty fields are left out of the report.

    analysed_at: as a person reads it. versions: by package; empty for those of this run.
    """

    title: str = ""
    players: tuple[str, ...] = ()
    discipline: str = ""
    camera_view: str = ""
    file_name: str = ""
    analysed_at: str = ""
    notes: str = ""
    versions: dict[str, str] = field(default_factory=dict)
