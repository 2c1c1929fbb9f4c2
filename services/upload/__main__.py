"""`python -m services.upload`: serves, cleans up S3 and watches whether S3 answers.

`python -m services.upload allow-origin ORIGIN`: lets the page at ORIGIN send videos from a browser.
"""

import asyncio
import sys

import grpc.aio
from botocore.exceptions import BotoCoreError, ClientError
from grpc_health.v1 import health, health_pb2

from crease.upload.v1 import orphan_pb2, orphan_pb2_grpc, share_pb2, share_pb2_grpc, upload_pb2, upload_pb2_grpc
from services import logs, metrics, traces
from services.auth import Verifier
from services.authorization import Authorizer
from services.clients import open_aio_channel
from services.logs import Logger
from services.metrics import Loop, Loops
from services.serving import CallInterceptor, serve
from services.upload import authorization, cleanup
from services.upload.jobs_client import Jobs, translate
from services.upload.orphans import OrphanService
from services.upload.s3 import cors, storage
from services.upload.s3.settings import StorageSettings
from services.upload.s3.storage import Storage
from services.upload.service import UploadService
from services.upload.settings import UploadSettings
from services.upload.shares import SharedReportService

SERVICES = [
    upload_pb2.DESCRIPTOR.services_by_name["UploadService"],
    orphan_pb2.DESCRIPTOR.services_by_name["OrphanService"],
    share_pb2.DESCRIPTOR.services_by_name["SharedReportService"],
]
# The name under which grpc.health.v1 reports S3. The server stays healthy without S3: signing does not need it.
S3_HEALTH = "s3"


async def run(settings: UploadSettings) -> None:
    """Serves until SIGTERM or SIGINT."""
    log = logs.configure("upload", settings.log_level)
    metrics.start(settings.metrics_listen, log)
    traces.start("upload", settings.otlp_endpoint, settings.trace_share)
    interceptor = CallInterceptor(
        Verifier(settings.issuers, settings.audience, settings.issuer_keys_seconds),
        Authorizer(authorization.TABLE, SERVICES),
        translate,
        log,
        limits=settings.caller_limits,
    )
    storage, checks = Storage(settings), health.aio.HealthServicer()
    loops = Loops(cleanup=settings.sweep_seconds, s3_check=settings.s3_check_seconds)
    loops.export()
    async with open_aio_channel(settings.jobs_endpoint) as channel:
        jobs = Jobs(channel, settings.token_file, settings.jobs_timeout_seconds)
        service = UploadService(jobs, storage, settings, log)

        def add(server: grpc.aio.Server) -> None:
            upload_pb2_grpc.add_UploadServiceServicer_to_server(service, server)
            orphans = OrphanService(jobs, storage, settings.bucket)
            orphan_pb2_grpc.add_OrphanServiceServicer_to_server(orphans, server)
            shared = SharedReportService(jobs, storage, settings.download_url_seconds)
            share_pb2_grpc.add_SharedReportServiceServicer_to_server(shared, server)

        try:
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(cleanup.run(jobs, storage, settings, loops["cleanup"], log)),
                    group.create_task(watch_s3(storage, checks, settings.s3_check_seconds, loops["s3_check"], log)),
                ]
                names = tuple(each.full_name for each in SERVICES)
                await serve(settings, interceptor, add, names, log, is_ready=loops.are_alive, checks=checks)
                for task in background:
                    task.cancel()
        finally:
            storage.close()


async def watch_s3(
    storage: Storage, checks: health.aio.HealthServicer, every_seconds: float, loop: Loop, log: Logger
) -> None:
    """Reports in health whether S3 answers."""
    was_available = None
    while True:
        is_available = await storage.is_available()
        loop.complete()
        if is_available != was_available:
            status = health_pb2.HealthCheckResponse
            await checks.set(S3_HEALTH, status.SERVING if is_available else status.NOT_SERVING)
            log.info("s3_availability_changed", available=is_available)
            was_available = is_available
        await asyncio.sleep(every_seconds)


def allow_origin(origin: str) -> None:
    """Sets the CORS rule of the bucket. Ends the program if S3 refuses it."""
    settings = StorageSettings.load()
    try:
        cors.allow(storage.open_client(settings), settings.bucket, origin)
    except (BotoCoreError, ClientError) as error:
        raise SystemExit(f"S3 refuses the CORS rule for {origin}: {error}") from None


def main() -> None:
    match sys.argv[1:]:
        case []:
            asyncio.run(run(UploadSettings.load()))
        case ["allow-origin", origin]:
            allow_origin(origin)
        case _:
            raise SystemExit("usage: python -m services.upload [allow-origin ORIGIN]")


if __name__ == "__main__":
    main()
