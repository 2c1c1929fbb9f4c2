-- Claims launches for a cluster: those not confirmed in time again, then new ones in the order of the fair queue.
-- It is one statement, because a round trip costs as much as the rest.
-- {waiting}: the condition of a job that waits for a launch. {assigned}: the columns that a launch takes from its job.
WITH RECURSIVE
-- Open launches of the cluster that were handed out and not confirmed in time, the longest overdue first. One handed out
-- in the future was so before the clock leapt back.
overdue AS (
    SELECT launches.job_id, launches.launch_no FROM launches
    JOIN video_analysis_jobs AS job ON job.id = launches.job_id
    WHERE launches.ended_at IS NULL AND launches.cluster = %(cluster)s AND launches.confirmed_at IS NULL
      AND job.cancel_requested_at IS NULL
      AND launches.offered_at NOT BETWEEN
          clock_timestamp() - %(confirm_seconds)s * interval '1 second' AND clock_timestamp()
    ORDER BY launches.offered_at LIMIT %(capacity)s FOR UPDATE OF launches SKIP LOCKED),
-- Those launches, handed out again under the same number.
again AS (
    UPDATE launches SET offered_at = clock_timestamp() FROM overdue
    WHERE launches.job_id = overdue.job_id AND launches.launch_no = overdue.launch_no RETURNING launches.*),
-- The owners that have open launches, and how many.
busy AS (SELECT owner, count(*) AS open FROM video_analysis_jobs WHERE launched GROUP BY owner),
-- The oldest waiting jobs of all owners.
oldest AS (
    SELECT owner, queued_at, id FROM video_analysis_jobs
    WHERE {waiting} ORDER BY queued_at, id LIMIT 4 * %(examined)s),
-- Of these, the oldest job of each owner without an open launch.
idle AS (
    SELECT DISTINCT ON (owner) oldest.* FROM oldest LEFT JOIN busy USING (owner) WHERE open IS NULL
    ORDER BY owner, queued_at, id),
-- Unless `idle` suffices: the oldest waiting job of every owner, by one probe of the index for each.
heads AS (
    (SELECT owner, queued_at, id FROM video_analysis_jobs
     WHERE {waiting} AND (SELECT count(*) FROM idle) < %(examined)s ORDER BY owner, queued_at, id LIMIT 1)
    UNION ALL
    SELECT following.* FROM heads, LATERAL (
        SELECT owner, queued_at, id FROM video_analysis_jobs WHERE {waiting} AND owner > heads.owner
        ORDER BY owner, queued_at, id LIMIT 1) AS following),
-- The owners that come first, with the number of their open launches.
first AS (
    SELECT owner, coalesce(open, 0) AS open
    FROM (SELECT * FROM heads UNION ALL SELECT * FROM idle WHERE (SELECT count(*) FROM idle) >= %(examined)s) AS heads
    LEFT JOIN busy USING (owner)
    WHERE coalesce(open, 0) < %(limit)s ORDER BY open, queued_at, id LIMIT %(examined)s),
-- How many jobs of each owner to read: if as many owners wait as are examined, no place beyond the last head is needed.
reaching AS (
    SELECT owner, open, least(%(limit)s - open, CASE
        WHEN count(*) OVER () = %(examined)s THEN max(open) OVER () + 1 - open ELSE %(examined)s END) AS reach
    FROM first),
-- The jobs in the order of their places; `own_rank` counts from 1 within the owner's queue.
candidates AS (
    SELECT own.id, own.queued_at, reaching.open + own.own_rank AS place FROM reaching, LATERAL (
        SELECT id, queued_at, row_number() OVER (ORDER BY queued_at, id) AS own_rank FROM video_analysis_jobs
        WHERE {waiting} AND owner = reaching.owner ORDER BY queued_at, id LIMIT reaching.reach) AS own
    ORDER BY place, queued_at, id LIMIT %(examined)s),
-- The jobs to launch, locked; the condition is checked again on rows that another transaction has just released.
next AS (
    SELECT job.id FROM candidates JOIN video_analysis_jobs AS job USING (id)
    WHERE job.status = 'queued' AND NOT job.launched
    ORDER BY candidates.place, candidates.queued_at, job.id
    LIMIT least(%(new)s, %(capacity)s - (SELECT count(*) FROM again)) FOR UPDATE OF job SKIP LOCKED),
-- The same jobs, with their launches counted.
counted AS (
    UPDATE video_analysis_jobs AS job SET launch_count = job.launch_count + 1, launched = true
    FROM next WHERE job.id = next.id RETURNING job.*),
-- The new launches.
opened AS (
    INSERT INTO launches (job_id, launch_no, cluster, memory_factor)
    SELECT id, launch_count, %(cluster)s, memory_factor FROM counted RETURNING *)
SELECT launch.*, {assigned}, false AS is_new, (SELECT count(*) FROM candidates) AS candidates
FROM again AS launch JOIN video_analysis_jobs AS job ON job.id = launch.job_id
UNION ALL
SELECT launch.*, {assigned}, true, (SELECT count(*) FROM candidates)
FROM opened AS launch JOIN counted AS job ON job.id = launch.job_id
