"""Entry points of jobs.

python -m services.jobs          the gRPC server, with its background tasks
python -m services.jobs migrate  upgrades the database to the newest revision
python -m services.jobs relay    sends JobQueued events to SQS
"""

import asyncio
import sys
import time
from pathlib import Path

import alembic.command
import alembic.config
import grpc.aio
import psycopg
import sqlalchemy as sa

from crease.analysis.v1 import launch_pb2, launch_pb2_grpc
from crease.cleanup.v1 import cleanup_pb2, cleanup_pb2_grpc
from crease.events.v1 import event_pb2, event_pb2_grpc
from crease.jobs.v1 import (
    intake_pb2,
    intake_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    library_pb2,
    library_pb2_grpc,
    player_pb2,
    player_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    share_pb2,
    share_pb2_grpc,
    sweep_pb2,
    sweep_pb2_grpc,
)
from services import logs, metrics, traces
from services.auth import Verifier
from services.authorization import Authorizer
from services.jobs.background import expiry, retention, table_metrics
from services.jobs.background.job_watch import JobWatcher
from services.jobs.domain import authorization
from services.jobs.notifier import Notifier
from services.jobs.rpc.cleanup_service import CleanupService, SweepService
from services.jobs.rpc.event_service import EventService
from services.jobs.rpc.intake_service import IntakeService
from services.jobs.rpc.job_service import JobService
from services.jobs.rpc.launch_service import LaunchService
from services.jobs.rpc.library_service import LibraryService
from services.jobs.rpc.player_service import PlayerService
from services.jobs.rpc.session_service import SessionService
from services.jobs.rpc.share_service import ShareService
from services.jobs.settings import DatabaseSettings, JobsSettings
from services.jobs.store.database import Database, translate, url
from services.metrics import Loops
from services.serving import CallInterceptor, serve

# For people and internal services; the others are for programs of Crease.
PUBLIC = (session_pb2, player_pb2, library_pb2, share_pb2, job_pb2, event_pb2)
SERVICES = [
    service
    for file in (*PUBLIC, intake_pb2, cleanup_pb2, sweep_pb2, launch_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]
# A migration gives up a lock after two seconds and is tried again, for less than the five minutes that Helm waits.
MIGRATION_TRIES = 30
MIGRATION_PAUSE_SECONDS = 3.0


def migrate(database_url: str, revision: str = "head") -> None:
    """Upgrades the database to a revision. Two migrations at once wait for each other.

    A migration that cannot lock a table is tried again, so that no transaction waits behind it. Raises OperationalError
    after the last try.
    """
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    engine = sa.create_engine(url(database_url), poolclass=sa.NullPool)
    for tries_left in reversed(range(MIGRATION_TRIES)):
        try:
            with engine.connect() as connection:
                config.attributes["connection"] = connection
                alembic.command.upgrade(config, revision)
            break
        except sa.exc.OperationalError as error:
            if not isinstance(error.orig, psycopg.errors.LockNotAvailable) or not tries_left:
                raise
            time.sleep(MIGRATION_PAUSE_SECONDS)


async def run(settings: JobsSettings) -> None:
    """Serves until SIGTERM, with the background tasks. An error in any of them ends the program."""
    log = logs.configure("jobs", settings.log_level)
    metrics.start(settings.metrics_listen, log)
    traces.start("jobs", settings.otlp_endpoint, settings.trace_share)
    database = Database(settings.database_url.get_secret_value(), settings.pool_size)
    verifier = Verifier(settings.issuers, settings.audience, settings.issuer_keys_seconds)
    notifier = Notifier(settings.poll_seconds)
    job_watcher = JobWatcher(database, notifier)
    gauges = {"table_metrics": settings.gauge_seconds} if metrics.is_on() else {}
    loops = Loops(
        expiry=settings.sweep_seconds, job_watch=settings.poll_seconds, retention=retention.IDLE_SECONDS, **gauges
    )
    loops.export()

    def add_services(server: grpc.aio.Server) -> None:
        session_pb2_grpc.add_SessionServiceServicer_to_server(
            SessionService(database, notifier, settings.quotas), server
        )
        library_pb2_grpc.add_LibraryServiceServicer_to_server(LibraryService(database), server)
        share_pb2_grpc.add_ShareServiceServicer_to_server(ShareService(database), server)
        player_pb2_grpc.add_PlayerServiceServicer_to_server(PlayerService(database), server)
        job_service = JobService(
            database,
            notifier,
            job_watcher,
            settings.launch_limits,
            settings.quotas,
            deep_enabled=settings.deep_enabled,
            heartbeat_seconds=settings.watch_heartbeat_seconds,
            cluster_silence_seconds=settings.cluster_silence_seconds,
        )
        job_pb2_grpc.add_JobServiceServicer_to_server(job_service, server)
        intake = IntakeService(database, verifier, notifier, settings.quotas, deep_enabled=settings.deep_enabled)
        intake_pb2_grpc.add_IntakeServiceServicer_to_server(intake, server)
        cleanup = CleanupService(database, verifier)
        cleanup_pb2_grpc.add_CleanupServiceServicer_to_server(cleanup, server)
        sweep_pb2_grpc.add_SweepServiceServicer_to_server(SweepService(cleanup), server)
        launch_pb2_grpc.add_LaunchServiceServicer_to_server(LaunchService(database, settings, notifier), server)
        event_pb2_grpc.add_EventServiceServicer_to_server(EventService(database, notifier, log), server)

    authorizer = Authorizer(authorization.TABLE, SERVICES)
    interceptor = CallInterceptor(
        verifier, authorizer, translate, log, limits=settings.caller_limits, write_seconds=settings.write_seconds
    )
    try:
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(expiry.run(database, settings, notifier, loops["expiry"], log)),
                group.create_task(job_watcher.run(loops["job_watch"], log)),
                group.create_task(retention.run(database, settings, loops["retention"], log)),
            ]
            if gauges:
                reading = table_metrics.run(database, settings, loops["table_metrics"], log)
                background.append(group.create_task(reading))
            names = tuple(service.full_name for service in SERVICES)
            await serve(settings, interceptor, add_services, names, log, is_ready=loops.are_alive)
            for task in background:
                task.cancel()
    finally:
        await database.close()


def main() -> None:
    match sys.argv[1:]:
        case []:
            asyncio.run(run(JobsSettings.load()))
        case ["migrate"]:
            migrate(DatabaseSettings.load().database_url.get_secret_value())
        case ["relay"]:
            # Imported here, because the server's image holds no boto3.
            from services.jobs.background import outbox_relay

            outbox_relay.main()
        case _:
            raise SystemExit("usage: python -m services.jobs [migrate | relay]")


if __name__ == "__main__":
    main()
