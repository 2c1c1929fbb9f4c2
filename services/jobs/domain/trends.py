"""The numbers of one player over time, from the results as stored."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from crease.jobs.v1 import library_pb2, session_pb2
from services.jobs.domain.comparison import Analysis, reading
from services.jobs.domain.protobuf import enum_number, timestamp


@dataclass(frozen=True, slots=True)
class Film:
    """The analysis of one video. `time`: when the video was first analysed."""

    analysis: Analysis
    session_id: str
    time: datetime


def trends(films: Iterable[Film]) -> list[library_pb2.Trend]:
    """Each number by its unit, its plane and the side it was filmed from; videos without a verdict are left out."""
    found: dict[tuple[str, str, str, str], library_pb2.Trend] = {}
    for film in sorted(films, key=lambda film: film.time):
        analysis = film.analysis
        for name in () if analysis.not_assessed_reason else analysis.metrics:
            read = reading(analysis, name)
            if read.absent_reason:
                continue
            key = (name, read.unit, read.plane, analysis.camera_view)
            trend = found.setdefault(key, library_pb2.Trend(name=name, unit=read.unit, plane=read.plane))
            trend.camera_view = enum_number(session_pb2.CameraView, analysis.camera_view)
            point = trend.points.add(
                job_id=analysis.job_id,
                session_id=film.session_id,
                time=timestamp(film.time),
                value=read.value,
                confidence=read.confidence,
                names_others=len(set(analysis.player_ids)) > 1,
            )
            if read.HasField("error"):
                point.error = read.error
            if read.HasField("score"):
                point.score = read.score
            if name in analysis.marks:
                point.mark = analysis.marks[name]
    return list(found.values())
