"""`python -m services.web`: serves the page."""

import asyncio

import uvicorn

from crease_client.channels import open_aio_client_channel
from services import logs, metrics
from services.auth import Verifier
from services.web.app import build
from services.web.calls import open_stubs
from services.web.live import Live
from services.web.settings import WebSettings
from services.web.visit import Shared
from services.web.visitors import BearerSignIn, LaptopSignIn, SignIn


async def run(settings: WebSettings) -> None:
    """Serves until SIGTERM or SIGINT."""
    log = logs.configure("web", settings.log_level)
    metrics.start(settings.metrics_listen, log)
    async with (
        open_aio_client_channel(settings.jobs_endpoint) as jobs,
        open_aio_client_channel(settings.upload_endpoint) as upload,
    ):
        stubs = open_stubs(jobs, upload)
        app = build(settings, Shared(stubs, _sign_in(settings), Live(stubs), settings.s3_origin))
        host, _, port = settings.listen.rpartition(":")
        config = uvicorn.Config(
            app,
            host=host.strip("[]"),
            port=int(port),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # Open streams end at once; the browser opens them again.
            timeout_graceful_shutdown=int(settings.drain_seconds),
        )
        log.info("serving", listen=settings.listen)
        await uvicorn.Server(config).serve()


def _sign_in(settings: WebSettings) -> SignIn:
    if settings.sign_in_folder and settings.token_file:
        return LaptopSignIn(settings.sign_in_folder, settings.token_file, settings.origin)
    return BearerSignIn(Verifier(settings.issuers, settings.audience, settings.issuer_keys_seconds))


def main() -> None:
    asyncio.run(run(WebSettings.load()))


if __name__ == "__main__":
    main()
