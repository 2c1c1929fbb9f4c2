"""`python -m services.upload` serves."""

import asyncio

from crease.upload.v1 import upload_pb2, upload_pb2_grpc
from services import logs
from services.auth import Verifier
from services.clients import open_aio_channel
from services.rights import Rights
from services.serving import Edge, serve
from services.upload import rights
from services.upload.jobs import Jobs, translate
from services.upload.service import UploadService
from services.upload.settings import UploadSettings
from services.upload.storage import Storage

SERVICE = upload_pb2.DESCRIPTOR.services_by_name["UploadService"]


async def run(settings: UploadSettings) -> None:
    """Serves until told to stop."""
    log = logs.configure("upload", settings.log_level)
    edge = Edge(Verifier(settings.issuers, settings.audience), Rights(rights.TABLE, [SERVICE]), translate, log)
    storage = Storage(settings)
    async with open_aio_channel(settings.jobs_endpoint) as channel:
        jobs = Jobs(channel, settings.token_file, settings.jobs_timeout_seconds)
        service = UploadService(jobs, storage, settings, log)
        try:
            await serve(
                settings,
                edge,
                lambda server: upload_pb2_grpc.add_UploadServiceServicer_to_server(service, server),
                (SERVICE.full_name,),
                log,
            )
        finally:
            storage.close()


def main() -> None:
    asyncio.run(run(UploadSettings.load()))


if __name__ == "__main__":
    main()
