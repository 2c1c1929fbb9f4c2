"""Defines the metadata of a video that its report shows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metadata:
    """Words of the session and the file, from people. Empty fields are left out of the report.

    analysed_at: ISO 8601; a browser shows it in the zone of its reader. height_cm: of the player; lengths
    are then in centimetres too. under_18: whether the player may be; the report does not say so.
    """

    title: str = ""
    players: tuple[str, ...] = ()
    discipline: str = ""
    camera_view: str = ""
    file_name: str = ""
    analysed_at: str = ""
    notes: str = ""
    height_cm: float | None = None
    under_18: bool = False
