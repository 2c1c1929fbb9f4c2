"""The artifacts of a job."""

from crease.jobs.v1.job_pb2 import Artifact, Job


def newest_artifacts(job: Job) -> dict[str, Artifact]:
    """Of each name, the artifact of the last stage that made one."""
    return {artifact.name: artifact for artifact in sorted(job.artifacts, key=lambda artifact: artifact.stage)}
