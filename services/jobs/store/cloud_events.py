"""A transition as a CloudEvents 1.0 message."""

from crease.events.v1 import event_pb2
from crease.jobs.v1 import job_pb2
from services.jobs.domain import states
from services.jobs.domain.protobuf import enum_number, timestamp
from services.jobs.domain.records import Event
from services.jobs.store.outbox import Position


def cloud_event(event: Event) -> event_pb2.Event:
    """The envelope, whose id is the event's position in the outbox, around the transition."""
    return event_pb2.Event(
        id=str(Position(event.xid, event.id)),
        source="/crease/jobs",
        specversion="1.0",
        type=states.event_type(event.to_status, event.failure_code),
        subject=str(event.job_id),
        time=timestamp(event.created_at),
        data=event_pb2.JobTransition(
            job_id=str(event.job_id),
            session_id=str(event.session_id),
            from_status=enum_number(job_pb2.JobStatus, event.from_status),
            to_status=enum_number(job_pb2.JobStatus, event.to_status),
            failure_code=event.failure_code,
            sample_fps=event.sample_fps,
            include_frames=event.include_frames,
        ),
    )
