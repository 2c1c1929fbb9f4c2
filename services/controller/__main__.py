"""`python -m services.controller`: wires the controller and runs it until SIGTERM or SIGINT."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import grpc.aio

from services import logs, metrics, naming, traces
from services.auth import Caller, Verifier
from services.clients import open_aio_channel
from services.controller.core.jobs_client import Jobs
from services.controller.core.metrics import export_cache_ages
from services.controller.core.reconciler import Reconciler
from services.controller.kubernetes.launcher import start_kubernetes
from services.controller.local.launcher import LocalLauncher
from services.controller.settings import KubernetesSettings, LocalSettings, load
from services.errors import PermissionDenied
from services.metrics import Loop, Loops
from services.serving import CallInterceptor, serve


def main() -> None:
    """Exit code 0 after SIGTERM or SIGINT; the analyses keep running."""
    settings = load()
    asyncio.run(run(settings, logs.configure("controller", settings.log_level)))


async def run(settings: LocalSettings | KubernetesSettings, log: logs.Logger) -> None:
    """Serves health and reconciles concurrently; if one fails, both end."""
    metrics.start(settings.metrics_listen, log)
    traces.start("controller", settings.otlp_endpoint, settings.trace_share)
    verifier = Verifier(settings.issuers, settings.audience, settings.issuer_keys_seconds)
    interceptor = CallInterceptor(verifier, _refuse, lambda _: None, log, limits=settings.caller_limits)
    loops = Loops(reconcile=settings.tick_seconds)
    loops.export()
    async with (
        open_aio_channel(settings.jobs_endpoint) as channel,
        _reconciler(settings, channel, loops["reconcile"], log) as reconciler,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(reconciler.run())
        await serve(
            settings,
            interceptor,
            lambda _: None,
            (),
            log,
            is_ready=lambda: reconciler.is_ready() and loops.are_alive(),
            stopping=reconciler.stop,
        )


@asynccontextmanager
async def _reconciler(
    settings: LocalSettings | KubernetesSettings, channel: grpc.aio.Channel, loop: Loop, log: logs.Logger
) -> AsyncIterator[Reconciler]:
    reconciler = partial(
        Reconciler,
        log=log,
        limits=settings.limits,
        tick_seconds=settings.tick_seconds,
        parallel=settings.parallel,
        completed=loop.complete,
    )
    jobs = partial(Jobs, channel, settings.token_file, settings.cluster)
    if isinstance(settings, LocalSettings):
        drained = (settings.state_folder / naming.DRAINED_FILE).exists
        yield reconciler(_local_launcher(settings), jobs(), drained=drained)
        return
    woken = asyncio.Event()
    async with start_kubernetes(settings, woken.set, log) as (launcher, leader):
        export_cache_ages(lambda: launcher.cache_ages)
        owned = jobs(owner=lambda: launcher.owner)
        yield reconciler(launcher, owned, woken=woken, leads=lambda: leader.leads, drained=lambda: leader.drained)


def _local_launcher(settings: LocalSettings) -> LocalLauncher:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "CREASE_JOBS_ENDPOINT": settings.jobs_endpoint,
        "CREASE_UPLOAD_ENDPOINT": settings.upload_endpoint,
    }
    if settings.otlp_endpoint:
        environment["CREASE_OTLP_ENDPOINT"] = settings.otlp_endpoint
    if settings.mediapipe_pose_model_path:
        environment["MEDIAPIPE_POSE_MODEL_PATH"] = str(settings.mediapipe_pose_model_path.resolve())
    return LocalLauncher(
        settings.state_folder.resolve(),
        settings.analyzer_command,
        environment,
        settings.issuer_folder,
        keep=timedelta(seconds=settings.keep_launches_seconds),
    )


def _refuse(method: str, caller: Caller | None) -> None:
    raise PermissionDenied(f"{method} is not allowed for {caller or 'anonymous callers'}", reason="NO_SUCH_RIGHT")


if __name__ == "__main__":
    main()
