"""Settings of `jobs`: of its server, of `migrate` and of the relay to SQS."""

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, SecretStr, ValidationInfo, field_validator

from services.jobs.domain.limits import LaunchLimits, Quotas
from services.settings import ServerSettings, Settings, WatchedSettings


class DatabaseSettings(Settings):
    # postgresql://user:password@host:port/name
    database_url: SecretStr


class RelaySettings(DatabaseSettings, WatchedSettings):
    # URL of the SQS queue; empty: the relay sends no messages.
    queue_url: str = Field("", validation_alias="SQS_VIDEO_ANALYSIS_QUEUE_URL")
    # URL of a second SQS queue, for the events of every type; empty: the relay sends none there.
    events_queue_url: str = ""
    # AWS region of the queues.
    region: str = Field("", validation_alias="AWS_REGION", validate_default=True)
    # URL of an SQS server other than AWS's; empty: AWS.
    sqs_endpoint: str = ""
    # Seconds between two reads of the outbox.
    poll_seconds: PositiveFloat = 0.25

    @field_validator("region")
    @classmethod
    def _is_given_for_a_queue(cls, region: str, info: ValidationInfo) -> str:
        if (info.data.get("queue_url") or info.data.get("events_queue_url")) and not region:
            raise ValueError("a queue needs a region")
        return region


class JobsSettings(DatabaseSettings, ServerSettings):
    # Whether a new job gets a deep stage after its quick stage.
    deep_enabled: bool = Field(True, validation_alias="COACH_PLUS_DEEP_ANALYSIS_ENABLED")
    # Upper bound of this process's connections to PostgreSQL.
    pool_size: PositiveInt = 10
    # Seconds after which jobs hands out a launch again that the controller has not confirmed.
    confirm_seconds: PositiveFloat = 30.0
    # Seconds after which a lease expires unless a heartbeat renews it.
    lease_seconds: PositiveFloat = 30.0
    # Seconds without a call of a cluster's controller after which its launches that no pod has started are lost.
    cluster_silence_seconds: PositiveFloat = 300.0
    # Further seconds of such silence after which a job that is being cancelled there is cancelled without proof.
    unproved_cancel_seconds: PositiveFloat = 86400.0
    # Upper bound of open launches of all owners together; 0: no bound.
    max_open_launches: NonNegativeInt = 0
    # Upper bound of open launches of one owner; 0: no bound.
    max_open_launches_per_owner: NonNegativeInt = 0
    # Upper bound of the bytes of one owner's videos; 0: no bound.
    owner_bytes: NonNegativeInt = 0
    # Upper bound of one owner's jobs that are neither done, failed nor cancelled; 0: no bound.
    owner_jobs_in_flight: NonNegativeInt = 0
    # Seconds after which a job whose upload was never completed fails.
    upload_ttl_seconds: PositiveFloat = 86400.0
    # Seconds between two searches for expired uploads and lost leases.
    sweep_seconds: PositiveFloat = 1.0
    # Seconds for which events are kept; those that the relay has not sent yet are kept longer.
    event_ttl_seconds: PositiveFloat = 604800.0
    # Seconds for which jobs keeps the rows of deleted sessions and jobs, without personal data.
    tombstone_ttl_seconds: PositiveFloat = 2592000.0
    # Seconds between two reads of the gauges of all jobs, by one replica, if metrics are on.
    gauge_seconds: PositiveFloat = 10.0
    # Seconds after which WatchJob sends the job again if it has not changed, so that proxies keep the stream.
    watch_heartbeat_seconds: PositiveFloat = 20.0
    # Seconds after which jobs ends a stream whose client does not accept the next message.
    write_seconds: PositiveFloat = 30.0
    # Seconds between two polls for the commits of other replicas: watchers see them within 250 ms.
    poll_seconds: PositiveFloat = 0.2

    @property
    def quotas(self) -> Quotas:
        """The upper bounds for one owner."""
        return Quotas(self.owner_bytes, self.owner_jobs_in_flight)

    @property
    def launch_limits(self) -> LaunchLimits:
        """The upper bounds of open launches."""
        return LaunchLimits(self.max_open_launches, self.max_open_launches_per_owner)
