"""What `jobs` must be told."""

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, SecretStr, ValidationInfo, field_validator

from services.jobs.store.fair_queue import Limits
from services.jobs.store.quotas import Quotas
from services.settings import ServerSettings, Settings, WatchedSettings


class DatabaseSettings(Settings):
    # postgresql://user:password@host:port/name
    database_url: SecretStr


class RelaySettings(DatabaseSettings, WatchedSettings):
    # URL of the SQS queue. Empty: nothing is sent to SQS.
    queue_url: str = Field("", validation_alias="SQS_VIDEO_ANALYSIS_QUEUE_URL")
    # The region of the queue.
    region: str = Field("", validation_alias="AWS_REGION", validate_default=True)
    # http(s)://host:port of another server than AWS. Empty: AWS.
    sqs_endpoint: str = ""
    # How often new events are looked for.
    poll_seconds: PositiveFloat = 0.25

    @field_validator("region")
    @classmethod
    def _is_given_for_a_queue(cls, region: str, info: ValidationInfo) -> str:
        if info.data.get("queue_url") and not region:
            raise ValueError("a queue needs a region")
        return region


class JobsSettings(DatabaseSettings, ServerSettings):
    # Whether a deep analysis follows the quick one.
    deep_enabled: bool = Field(True, validation_alias="COACH_PLUS_DEEP_ANALYSIS_ENABLED")
    # Connections that this process may hold.
    pool_size: PositiveInt = 10
    # A launch that was offered and not confirmed for this long is offered again.
    confirm_seconds: PositiveFloat = 30.0
    # A lease that was not renewed for this long is lost.
    lease_seconds: PositiveFloat = 30.0
    # Launches that no pod has started are lost with a cluster whose controller was silent for this long.
    cluster_silence_seconds: PositiveFloat = 300.0
    # How many launches may be open at once. 0: any number.
    max_open_launches: NonNegativeInt = 0
    # How many launches of one owner may be open at once. 0: any number.
    max_open_launches_per_owner: NonNegativeInt = 0
    # How many bytes of videos one owner may have. 0: any number.
    owner_bytes: NonNegativeInt = 0
    # How many jobs of one owner may be neither done, failed nor cancelled. 0: any number.
    owner_jobs_in_flight: NonNegativeInt = 0
    # Uploads never completed fail after this long.
    upload_ttl_seconds: PositiveFloat = 86400.0
    # How often expired uploads and lost leases are looked for.
    sweep_seconds: PositiveFloat = 1.0
    # Events are kept for this long, and until the relay has sent them.
    event_ttl_seconds: PositiveFloat = 604800.0
    # How often the gauges of all jobs are read, by one replica, if metrics are on.
    gauge_seconds: PositiveFloat = 10.0
    # A stream whose client makes no room for the next message in this time is dropped.
    write_seconds: PositiveFloat = 30.0
    # How often watchers look for what other replicas changed: so that they hear of it within 250 ms.
    poll_seconds: PositiveFloat = 0.2

    @property
    def quotas(self) -> Quotas:
        """What one owner may have."""
        return Quotas(self.owner_bytes, self.owner_jobs_in_flight)

    @property
    def limits(self) -> Limits:
        """How many launches may be open."""
        return Limits(self.max_open_launches, self.max_open_launches_per_owner)
