"""Deletes objects that jobs no longer needs, until S3 lists none of them.

claim a prefix from jobs ─▶ delete every version and every unfinished upload under it ─▶ complete the claim in jobs
                              └── S3 unavailable or refusing: jobs hands out the prefix again

A signed PUT may still arrive after that. Each prefix is cleaned once more after its last URL has expired. Of a finished
job only the artifacts are deleted that its result does not name, of lost launches and of quick after deep, and the
unfinished uploads.
"""

import asyncio
from datetime import timedelta
from functools import partial

import grpc.aio

from crease.cleanup.v1.cleanup_pb2 import Cleanup
from services import errors, logs
from services.logs import Logger
from services.metrics import Loop
from services.upload.jobs_client import Jobs
from services.upload.s3.inventory import folder_of
from services.upload.s3.storage import Storage
from services.upload.settings import UploadSettings

BATCH = 20
# How long a PUT may take that begins just before its URL expires.
LAST_PUT_SECONDS = 900.0


async def run(jobs: Jobs, storage: Storage, settings: UploadSettings, loop: Loop, log: Logger) -> None:
    """Cleans up until cancelled; pauses only when jobs has no full batch. Each call to jobs and S3 has a limit."""
    url_lifetime = timedelta(seconds=settings.upload_url_seconds + LAST_PUT_SECONDS)
    while True:
        try:
            claimed = await jobs.claim_cleanup(BATCH)
            loop.complete()
        except (grpc.aio.AioRpcError, OSError) as error:
            log.warning("cleanup_postponed", why=logs.error_text(error))
            claimed = []
        for cleanup in claimed:
            await remove(cleanup, jobs, storage, url_lifetime, log)
            loop.complete()
        if len(claimed) < BATCH:
            await asyncio.sleep(settings.sweep_seconds)


async def remove(cleanup: Cleanup, jobs: Jobs, storage: Storage, url_lifetime: timedelta, log: Logger) -> None:
    """Deletes everything under one prefix. A failure is logged; jobs hands out the prefix again."""
    try:
        if cleanup.artifacts_only:
            count = await storage.delete_some(cleanup.s3_bucket, cleanup.prefix, partial(is_unnamed, cleanup))
            # The video is whole. A call whose answer was lost began an upload that no row names.
            count += await storage.abort_all(cleanup.s3_bucket, folder_of(cleanup.prefix))
        else:
            count = await storage.delete_all(cleanup.s3_bucket, cleanup.prefix)
        remaining = url_lifetime - cleanup.age.ToTimedelta()
        await jobs.complete_cleanup(cleanup, remaining if remaining > timedelta() else None)
        log.info("cleanup_done", job_id=cleanup.job_id, removed=count)
    except errors.ServiceError as error:
        log.warning("cleanup_failed", job_id=cleanup.job_id, prefix=cleanup.prefix, why=error.message)
    except grpc.aio.AioRpcError as error:
        log.warning("cleanup_not_recorded", job_id=cleanup.job_id, why=error.details())


def is_unnamed(cleanup: Cleanup, key: str) -> bool:
    """Whether a key is an artifact of one of the cleanup's launches that the job's result does not name."""
    launch_no = key[len(cleanup.prefix) :].partition("/")[0]
    return launch_no.isdecimal() and int(launch_no) <= cleanup.launches and key not in cleanup.kept
