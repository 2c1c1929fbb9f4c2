"""What S3 need not hold any more: found by `jobs`, removed here, until S3 lists none of it.

TakeRubbish ─▶ delete every version and every unfinished part under its prefix ─▶ SettleRubbish
                 └── S3 away or unwilling: not settled, so handed out again

A URL that was signed before may still bring something: each prefix is looked at once more when none can be left.
"""

import asyncio
from datetime import timedelta

import grpc.aio

from crease.jobs.v1.sweep_pb2 import Rubbish
from services import errors, logs
from services.logs import Logger
from services.upload.jobs_client import Jobs
from services.upload.s3.storage import Storage
from services.upload.settings import UploadSettings

BATCH = 20
# A PUT that began in the URL's last second may take so long.
LAST_PUT_SECONDS = 900.0


async def run(jobs: Jobs, storage: Storage, settings: UploadSettings, log: Logger) -> None:
    """Sweeps for ever, at once again while there is more."""
    url_lives = timedelta(seconds=settings.upload_url_seconds + LAST_PUT_SECONDS)
    while True:
        try:
            taken = await jobs.take_rubbish(BATCH)
        except (grpc.aio.AioRpcError, OSError) as error:
            log.warning("sweep put off", why=logs.error_text(error))
            taken = []
        for rubbish in taken:
            await remove(rubbish, jobs, storage, url_lives, log)
        if len(taken) < BATCH:
            await asyncio.sleep(settings.sweep_seconds)


async def remove(rubbish: Rubbish, jobs: Jobs, storage: Storage, url_lives: timedelta, log: Logger) -> None:
    """Removes what is under one prefix. What fails is said, and left for the next time."""
    try:
        count = await storage.delete_all(rubbish.s3_bucket, rubbish.prefix)
        left = url_lives - rubbish.age.ToTimedelta()
        await jobs.settle_rubbish(rubbish.job_id, left if left > timedelta() else None)
        log.info("swept", job_id=rubbish.job_id, removed=count)
    except errors.ServiceError as fault:
        log.warning("not swept", job_id=rubbish.job_id, prefix=rubbish.prefix, why=fault.message)
    except grpc.aio.AioRpcError as error:
        log.warning("not settled", job_id=rubbish.job_id, why=error.details())
