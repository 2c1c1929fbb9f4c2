-- The schema after the last migration: types, functions, tables, constraints, indexes, triggers.
-- Written by `make schema` from the migrations; a test holds it against them. Nothing runs it.

CREATE TYPE video_analysis_job_status AS ENUM (
    'awaiting_upload',
    'queued',
    'quick_running',
    'quick_done',
    'deep_running',
    'done',
    'processing',
    'completed',
    'failed',
    'cancelled'
);

-- Keeps the job's `launched`: whether a launch of it is open.
CREATE FUNCTION launch_opened_or_ended() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        DECLARE
            is_open boolean := TG_OP <> 'DELETE' AND NEW.ended_at IS NULL;
        BEGIN
            UPDATE video_analysis_jobs SET launched = is_open
            WHERE id = coalesce(NEW.job_id, OLD.job_id) AND launched <> is_open;
            RETURN NULL;
        END $$;

-- Sets `status_since` when the status changes.
CREATE FUNCTION video_analysis_job_entered() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        BEGIN
            NEW.status_since := clock_timestamp();
            RETURN NEW;
        END $$;

-- Writes the outbox event of each new job and each transition.
CREATE FUNCTION video_analysis_job_event() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        BEGIN
            INSERT INTO events (xid, job_id, session_id, from_status, to_status, failure_code, sample_fps,
                                include_frames)
            VALUES (NEW.event_xid, NEW.id, NEW.session_id, CASE WHEN TG_OP = 'UPDATE' THEN OLD.status::text END,
                    NEW.status::text, NEW.failure_code, NEW.sample_fps, NEW.include_frames);
            RETURN NULL;
        END $$;

-- Keeps `event_xid`, so that a job's events stay in the order of its transitions.
CREATE FUNCTION video_analysis_job_place() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        BEGIN
            NEW.event_xid := greatest(NEW.event_xid, pg_current_xact_id()::text::bigint);
            RETURN NEW;
        END $$;

-- Sets when the cleanup of the job's S3 objects is due.
CREATE FUNCTION video_analysis_job_rubbish() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        BEGIN
            NEW.sweep_at := CASE
                WHEN NEW.deleted_at IS NOT NULL THEN coalesce(NEW.undo_until, clock_timestamp())
                WHEN NEW.etag <> '' THEN clock_timestamp() + interval '15 minutes'
                WHEN NEW.status = 'failed' AND NEW.failure_code <> 'UPLOAD_EXPIRED'
                    THEN clock_timestamp() + interval '1 day'
                ELSE clock_timestamp() END;
            RETURN NEW;
        END $$;

-- Counts `version`, and sets `updated_at`, `queued_at` and `owner`.
CREATE FUNCTION video_analysis_job_stamp() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        BEGIN
            IF TG_OP = 'UPDATE' THEN
                -- That a launch has ended is no news of the job; what follows from it is.
                IF NEW.launched = OLD.launched OR NEW.launch_count <> OLD.launch_count THEN
                    NEW.version := OLD.version + 1;
                    NEW.updated_at := clock_timestamp();
                END IF;
                -- Brought back by hand, it is a job like any other.
                IF OLD.status = 'cancelled' AND NEW.status <> 'cancelled' THEN
                    NEW.cancel_requested_at := NULL;
                END IF;
            END IF;
            IF NEW.status = 'queued' AND (TG_OP = 'INSERT' OR OLD.status <> 'queued') THEN
                NEW.queued_at := clock_timestamp();
            END IF;
            IF NEW.owner = '' AND (TG_OP = 'INSERT' OR NEW.status = 'queued') THEN
                SELECT owner_type || '/' || owner_id INTO NEW.owner FROM video_sessions WHERE id = NEW.session_id;
            END IF;
            RETURN NEW;
        END $$;

CREATE TABLE clusters (
    name text NOT NULL,
    seen_at timestamptz NOT NULL,
    owner text DEFAULT ''::text NOT NULL
);

CREATE TABLE deliveries (
    subscription_id bigint NOT NULL,
    xid bigint NOT NULL,
    event_id bigint NOT NULL,
    stream uuid NOT NULL,
    until timestamptz NOT NULL
);

CREATE TABLE event_positions (
    name text NOT NULL,
    xid bigint NOT NULL,
    id bigint NOT NULL,
    moved_at timestamptz DEFAULT now() NOT NULL
);

CREATE TABLE events (
    xid bigint DEFAULT ((pg_current_xact_id())::text)::bigint NOT NULL,
    id bigint NOT NULL,
    job_id uuid NOT NULL,
    session_id uuid NOT NULL,
    from_status text,
    to_status text NOT NULL,
    failure_code text NOT NULL,
    sample_fps integer NOT NULL,
    include_frames boolean NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE launches (
    job_id uuid NOT NULL,
    launch_no integer NOT NULL,
    cluster text NOT NULL,
    memory_factor double precision DEFAULT 1 NOT NULL,
    kubernetes_uid text DEFAULT ''::text NOT NULL,
    placed_on text DEFAULT ''::text NOT NULL,
    placement_reason text DEFAULT ''::text NOT NULL,
    pod_name text DEFAULT ''::text NOT NULL,
    pod_uid text DEFAULT ''::text NOT NULL,
    lease_hash bytea,
    lease_expires_at timestamptz,
    ending text DEFAULT ''::text NOT NULL,
    ending_message text DEFAULT ''::text NOT NULL,
    opened_at timestamptz DEFAULT now() NOT NULL,
    offered_at timestamptz DEFAULT now() NOT NULL,
    confirmed_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    CONSTRAINT launches_check CHECK (((ending = ''::text) = (ended_at IS NULL))),
    CONSTRAINT launches_check1 CHECK (((started_at IS NULL) = (lease_hash IS NULL))),
    CONSTRAINT launches_launch_no_check CHECK ((launch_no > 0))
);

CREATE TABLE players (
    id text DEFAULT (gen_random_uuid())::text NOT NULL,
    owner_type text NOT NULL,
    owner_id text NOT NULL,
    created_by text NOT NULL,
    name text NOT NULL,
    name_key text NOT NULL COLLATE pg_catalog."C",
    height_cm integer DEFAULT 0 NOT NULL,
    birth_year integer DEFAULT 0 NOT NULL,
    hand text DEFAULT ''::text NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    request_id uuid,
    request_sha256 text DEFAULT ''::text NOT NULL,
    notes text DEFAULT ''::text NOT NULL,
    undo_until timestamptz,
    undo_sessions uuid[],
    CONSTRAINT players_owner_type_check CHECK ((owner_type = ANY (ARRAY['coach'::text, 'org'::text])))
);

CREATE TABLE shares (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    owner_type text NOT NULL,
    owner_id text NOT NULL,
    created_by text NOT NULL,
    secret_hash bytea NOT NULL,
    job_ids uuid[] NOT NULL,
    with_names boolean NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    expires_at timestamptz NOT NULL,
    request_id uuid,
    request_sha256 text DEFAULT ''::text NOT NULL,
    CONSTRAINT shares_owner_type_check CHECK ((owner_type = ANY (ARRAY['coach'::text, 'org'::text])))
);

CREATE TABLE subscriptions (
    id bigint NOT NULL,
    service text NOT NULL,
    name text NOT NULL,
    types text[] NOT NULL,
    owner text NOT NULL,
    session_id uuid,
    xid bigint NOT NULL,
    event_id bigint NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL
);

ALTER TABLE subscriptions ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME subscriptions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE tellers (
    what text NOT NULL,
    who uuid NOT NULL,
    until timestamptz NOT NULL
);

CREATE TABLE video_analysis_jobs (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    session_id uuid NOT NULL,
    status video_analysis_job_status DEFAULT 'queued'::video_analysis_job_status NOT NULL,
    stage text DEFAULT 'QUEUED'::text NOT NULL,
    progress_pct integer DEFAULT 0 NOT NULL,
    error_message text DEFAULT ''::text NOT NULL,
    sample_fps integer DEFAULT 10 NOT NULL,
    include_frames boolean DEFAULT false NOT NULL,
    deep_enabled boolean DEFAULT true NOT NULL,
    s3_bucket text NOT NULL,
    s3_key text NOT NULL,
    sqs_message_id text,
    results jsonb,
    created_at timestamptz DEFAULT now() NOT NULL,
    started_at timestamptz,
    completed_at timestamptz,
    failure_code text DEFAULT ''::text NOT NULL,
    accelerator text DEFAULT 'auto'::text NOT NULL,
    athlete_box jsonb,
    content_type text DEFAULT ''::text NOT NULL,
    content_length bigint DEFAULT 0 NOT NULL,
    etag text DEFAULT ''::text NOT NULL,
    version_id text DEFAULT ''::text NOT NULL,
    sha256 text DEFAULT ''::text NOT NULL,
    created_by text DEFAULT ''::text NOT NULL,
    request_id uuid,
    results_stage text,
    artifacts jsonb DEFAULT '[]'::jsonb NOT NULL,
    launch_count integer DEFAULT 0 NOT NULL,
    memory_factor double precision DEFAULT 1 NOT NULL,
    not_before timestamptz,
    version bigint DEFAULT 1 NOT NULL,
    queued_at timestamptz,
    updated_at timestamptz DEFAULT now() NOT NULL,
    retries_from_launch integer DEFAULT 0 NOT NULL,
    source_job_id uuid,
    owner text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    launched boolean DEFAULT false NOT NULL,
    cancel_requested_at timestamptz,
    event_xid bigint DEFAULT 0 NOT NULL,
    part_bytes bigint DEFAULT 0 NOT NULL,
    upload_id text DEFAULT ''::text NOT NULL,
    parts_sha256 text DEFAULT ''::text NOT NULL,
    deleted_at timestamptz,
    sweep_at timestamptz,
    cleared_at timestamptz,
    status_since timestamptz DEFAULT now() NOT NULL,
    trace_parent text DEFAULT ''::text NOT NULL,
    anonymous boolean DEFAULT false NOT NULL,
    discipline text DEFAULT ''::text NOT NULL,
    capture_fps double precision DEFAULT 0 NOT NULL,
    events jsonb DEFAULT '[]'::jsonb NOT NULL,
    acted_by text DEFAULT ''::text NOT NULL,
    level text DEFAULT ''::text NOT NULL,
    undo_until timestamptz,
    CONSTRAINT job_done_is_whole CHECK (((status <> 'done'::video_analysis_job_status) OR (progress_pct = 100))),
    CONSTRAINT job_progress_in_range CHECK (((progress_pct >= 0) AND (progress_pct <= 100))),
    CONSTRAINT job_status_is_current CHECK ((status <> ALL (ARRAY['processing'::video_analysis_job_status, 'completed'::video_analysis_job_status])))
);

CREATE TABLE video_sessions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    owner_type text NOT NULL,
    owner_id text NOT NULL,
    created_by text NOT NULL,
    title text DEFAULT ''::text NOT NULL,
    player_ids text[] DEFAULT '{}'::text[] NOT NULL,
    notes text DEFAULT ''::text NOT NULL,
    discipline text DEFAULT 'batting'::text NOT NULL,
    camera_view text DEFAULT ''::text NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    deleted_at timestamptz,
    request_id uuid,
    request_sha256 text DEFAULT ''::text NOT NULL,
    acted_by text DEFAULT ''::text NOT NULL,
    undo_until timestamptz,
    CONSTRAINT video_sessions_owner_type_check CHECK ((owner_type = ANY (ARRAY['coach'::text, 'org'::text])))
);

ALTER TABLE ONLY clusters
    ADD CONSTRAINT clusters_pkey PRIMARY KEY (name);

ALTER TABLE ONLY deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (subscription_id, xid, event_id);

ALTER TABLE ONLY event_positions
    ADD CONSTRAINT event_positions_pkey PRIMARY KEY (name);

ALTER TABLE ONLY events
    ADD CONSTRAINT events_pkey PRIMARY KEY (xid, id);

ALTER TABLE ONLY launches
    ADD CONSTRAINT launches_pkey PRIMARY KEY (job_id, launch_no);

ALTER TABLE ONLY players
    ADD CONSTRAINT players_pkey PRIMARY KEY (id);

ALTER TABLE ONLY shares
    ADD CONSTRAINT shares_pkey PRIMARY KEY (id);

ALTER TABLE ONLY subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (id);

ALTER TABLE ONLY subscriptions
    ADD CONSTRAINT subscriptions_service_name_key UNIQUE (service, name);

ALTER TABLE ONLY tellers
    ADD CONSTRAINT tellers_pkey PRIMARY KEY (what);

ALTER TABLE ONLY video_analysis_jobs
    ADD CONSTRAINT video_analysis_jobs_pkey PRIMARY KEY (id);

ALTER TABLE ONLY video_sessions
    ADD CONSTRAINT video_sessions_pkey PRIMARY KEY (id);

CREATE INDEX deliveries_by_stream ON deliveries USING btree (stream);

CREATE INDEX jobs_by_age ON video_analysis_jobs USING btree (created_at DESC, id DESC);

CREATE INDEX jobs_by_key ON video_analysis_jobs USING btree (s3_bucket, s3_key COLLATE "C", id);

CREATE INDEX jobs_by_owner ON video_analysis_jobs USING btree (owner, created_at DESC, id DESC) INCLUDE (content_length) WHERE (deleted_at IS NULL);

CREATE UNIQUE INDEX jobs_by_request ON video_analysis_jobs USING btree (created_by, request_id) WHERE (request_id IS NOT NULL);

CREATE INDEX jobs_by_session ON video_analysis_jobs USING btree (session_id, created_at DESC, id DESC);

CREATE INDEX jobs_by_status ON video_analysis_jobs USING btree (status, created_at);

CREATE INDEX jobs_deleted ON video_analysis_jobs USING btree (deleted_at) WHERE ((deleted_at IS NOT NULL) AND (sweep_at IS NULL));

CREATE INDEX jobs_in_turn ON video_analysis_jobs USING btree (owner, queued_at, id) WHERE ((status = 'queued'::video_analysis_job_status) AND (NOT launched));

CREATE INDEX jobs_launched ON video_analysis_jobs USING btree (owner) WHERE launched;

CREATE INDEX jobs_rubbish ON video_analysis_jobs USING btree (sweep_at) WHERE (sweep_at IS NOT NULL);

CREATE INDEX jobs_since ON video_analysis_jobs USING btree (status, status_since, launched);

CREATE INDEX jobs_undoable ON video_analysis_jobs USING btree (undo_until) WHERE (undo_until IS NOT NULL);

CREATE INDEX jobs_waiting ON video_analysis_jobs USING btree (queued_at, id) WHERE (status = 'queued'::video_analysis_job_status);

CREATE INDEX launches_lease ON launches USING btree (lease_expires_at) WHERE (ended_at IS NULL);

CREATE UNIQUE INDEX launches_one_open ON launches USING btree (job_id) WHERE (ended_at IS NULL);

CREATE INDEX launches_open_by_cluster ON launches USING btree (cluster, job_id) WHERE (ended_at IS NULL);

CREATE INDEX players_by_name ON players USING btree (name_key, id);

CREATE INDEX players_by_owner ON players USING btree (owner_type, owner_id, name_key, id);

CREATE UNIQUE INDEX players_by_request ON players USING btree (created_by, request_id) WHERE (request_id IS NOT NULL);

CREATE INDEX players_undoable ON players USING btree (undo_until) WHERE (undo_until IS NOT NULL);

CREATE INDEX sessions_by_age ON video_sessions USING btree (created_at DESC, id DESC);

CREATE INDEX sessions_by_owner ON video_sessions USING btree (owner_type, owner_id, created_at DESC);

CREATE INDEX sessions_by_player ON video_sessions USING gin (player_ids);

CREATE UNIQUE INDEX sessions_by_request ON video_sessions USING btree (created_by, request_id) WHERE (request_id IS NOT NULL);

CREATE INDEX sessions_deleted ON video_sessions USING btree (deleted_at) WHERE (deleted_at IS NOT NULL);

CREATE INDEX sessions_undoable ON video_sessions USING btree (undo_until) WHERE (undo_until IS NOT NULL);

CREATE INDEX shares_by_age ON shares USING btree (created_at DESC, id DESC);

CREATE INDEX shares_by_end ON shares USING btree (expires_at);

CREATE INDEX shares_by_owner ON shares USING btree (owner_type, owner_id, created_at DESC, id DESC);

CREATE UNIQUE INDEX shares_by_request ON shares USING btree (created_by, request_id) WHERE (request_id IS NOT NULL);

CREATE UNIQUE INDEX shares_by_secret ON shares USING btree (secret_hash);

CREATE TRIGGER deleted AFTER DELETE ON launches FOR EACH ROW WHEN ((old.ended_at IS NULL)) EXECUTE FUNCTION launch_opened_or_ended();

CREATE TRIGGER ended AFTER UPDATE OF ended_at ON launches FOR EACH ROW WHEN ((old.ended_at IS DISTINCT FROM new.ended_at)) EXECUTE FUNCTION launch_opened_or_ended();

CREATE TRIGGER entered BEFORE UPDATE OF status ON video_analysis_jobs FOR EACH ROW WHEN ((old.status <> new.status)) EXECUTE FUNCTION video_analysis_job_entered();

CREATE TRIGGER event_of_insert AFTER INSERT ON video_analysis_jobs FOR EACH ROW EXECUTE FUNCTION video_analysis_job_event();

CREATE TRIGGER event_of_transition AFTER UPDATE ON video_analysis_jobs FOR EACH ROW WHEN ((old.status IS DISTINCT FROM new.status)) EXECUTE FUNCTION video_analysis_job_event();

CREATE TRIGGER opened AFTER INSERT ON launches FOR EACH ROW WHEN ((new.ended_at IS NULL)) EXECUTE FUNCTION launch_opened_or_ended();

CREATE TRIGGER place_of_insert BEFORE INSERT ON video_analysis_jobs FOR EACH ROW EXECUTE FUNCTION video_analysis_job_place();

CREATE TRIGGER place_of_transition BEFORE UPDATE ON video_analysis_jobs FOR EACH ROW WHEN ((old.status IS DISTINCT FROM new.status)) EXECUTE FUNCTION video_analysis_job_place();

CREATE TRIGGER rubbish BEFORE UPDATE ON video_analysis_jobs FOR EACH ROW WHEN ((((old.deleted_at IS NULL) <> (new.deleted_at IS NULL)) OR ((old.status <> new.status) AND (((new.status = ANY (ARRAY['failed'::video_analysis_job_status, 'cancelled'::video_analysis_job_status])) AND (new.etag = ''::text)) OR ((new.status = ANY (ARRAY['done'::video_analysis_job_status, 'failed'::video_analysis_job_status, 'cancelled'::video_analysis_job_status])) AND ((new.launch_count > 0) OR (new.part_bytes > 0))))))) EXECUTE FUNCTION video_analysis_job_rubbish();

CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON video_analysis_jobs FOR EACH ROW EXECUTE FUNCTION video_analysis_job_stamp();

ALTER TABLE ONLY deliveries
    ADD CONSTRAINT deliveries_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id) ON DELETE CASCADE;

ALTER TABLE ONLY launches
    ADD CONSTRAINT launches_job_id_fkey FOREIGN KEY (job_id) REFERENCES video_analysis_jobs(id);

ALTER TABLE ONLY video_analysis_jobs
    ADD CONSTRAINT video_analysis_jobs_session_id_fkey FOREIGN KEY (session_id) REFERENCES video_sessions(id);
