"""The settings of `upload`."""

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from services.rules import film_limits
from services.settings import ServerSettings
from services.upload.s3.parts import MAX_PART_BYTES, MAX_PARTS_PER_UPLOAD
from services.upload.s3.settings import StorageSettings


class UploadSettings(StorageSettings, ServerSettings):
    # host:port at which the server listens.
    listen: str = "127.0.0.1:50052"
    # host:port of jobs, https:// before it for TLS.
    jobs_endpoint: str
    # How long a call to jobs may take.
    jobs_timeout_seconds: PositiveFloat = 10.0
    # File with the token that authenticates upload to jobs.
    token_file: Path
    # The largest video accepted. Its upper bound is 10,000 parts, S3's maximum.
    max_content_length: int = Field(default=5_000_000_000, gt=0, le=MAX_PART_BYTES * MAX_PARTS_PER_UPLOAD)
    # The longest video that clients send: the analyzer's limit, which has the same name there.
    max_video_seconds: PositiveFloat = film_limits.MAX_VIDEO_SECONDS
    # The largest picture, width times height, likewise.
    max_video_pixels: PositiveInt = film_limits.MAX_VIDEO_PIXELS
    # The most frames, likewise.
    max_video_frames: PositiveInt = film_limits.MAX_VIDEO_FRAMES
    # Videos of this size and more are uploaded in parts. S3 accepts at most 5 GiB in one PUT.
    multipart_from_bytes: int = Field(default=100_000_000, gt=0, le=5 * 2**30)
    # How often the health check calls S3.
    s3_check_seconds: PositiveFloat = 10.0
    # How often upload asks jobs for objects to delete.
    sweep_seconds: PositiveFloat = 30.0
