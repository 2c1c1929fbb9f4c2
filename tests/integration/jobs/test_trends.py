"""A player's numbers over time, through a real `jobs` on a real PostgreSQL."""

from functools import partial
from typing import Any

from crease.jobs.v1 import job_pb2, library_pb2, session_pb2
from tests.integration.jobs.test_library import player
from tests.integration.jobs.test_people import People, database_url, people, refused, run  # noqa: F401 (fixtures)

HEAD = {"value": 0.2, "unit": "body_lengths", "score": 0.4, "confidence": 0.9, "plane": "image"}


def trends(to: People, player_id: str, **fields: Any) -> library_pb2.GetTrendsResponse:
    return to.library.GetTrends(library_pb2.GetTrendsRequest(player_id=player_id, **fields), metadata=to.coach)


def filmed(to: People, *players: str, value: float = 0.2, summary: Any = None, **session: Any) -> str:
    """A done job on a video of its own, with one number."""
    return to.analysed({"head": HEAD | {"value": value}}, summary, player_ids=players, **session)


def values(found: library_pb2.GetTrendsResponse) -> list[list[float]]:
    return [[point.value for point in trend.points] for trend in found.trends]


def test_a_number_has_its_value_error_mark_and_time_of_each_video(people: People) -> None:  # noqa: F811
    """Oldest first. The time is that of the video's first job, which a reanalysis replaces."""
    ann = player(people, "Ann")
    first = filmed(people, ann, value=0.3, summary={"marks": {"head": 0.14}})
    second = filmed(people, ann, "Bo", value=0.25, summary={"errors": {}})
    made = people.job(first).created_at
    again = people.reanalyze(first).job_id
    people.finish({"head": HEAD | {"value": 0.1}})
    [trend] = trends(people, ann).trends
    assert (trend.name, trend.unit, trend.plane) == ("head", "body_lengths", "image")
    one, two = trend.points
    assert (one.job_id, one.session_id, one.time) == (again, people.job(first).session_id, made)
    assert (one.value, one.error, one.score, one.confidence) == (0.1, 0.05, 0.4, 0.9)
    assert not one.HasField("mark")
    assert (two.job_id, two.value, two.HasField("error")) == (second, 0.25, False)
    assert (one.names_others, two.names_others) == (False, True)


def test_a_mark_comes_from_the_summary_or_from_an_older_result_s_finding(people: People, database_url: str) -> None:  # noqa: F811
    """The database holds both kinds."""
    ann = player(people, "Ann")
    filmed(people, ann, summary={"marks": {"head": 0.14}})
    assert trends(people, ann).trends[0].points[0].mark == 0.14
    run(
        database_url,
        "UPDATE video_analysis_jobs SET results = jsonb_set(results #- '{pose,pose_summary,marks}', '{findings}',"
        """ '{"findings": [{"metric": "head", "mark": {"value": 0.12}}, 7, {"metric": null}]}')""",
    )
    assert trends(people, ann).trends[0].points[0].mark == 0.12


def test_only_done_jobs_of_that_player_with_a_level_count(people: People, database_url: str) -> None:  # noqa: F811
    """Not of another player, of a failed job, of a deleted one, of another owner's session, or without a verdict."""
    ann, bo = player(people, "Ann"), player(people, "Bo")
    kept = filmed(people, ann, value=0.5)
    filmed(people, bo)
    filmed(people, "Ann")
    deleted, unsure, foreign, failed = (filmed(people, ann) for _ in range(4))
    people.jobs.DeleteJob(job_pb2.DeleteJobRequest(job_id=deleted), metadata=people.coach)
    run(database_url, "UPDATE video_analysis_jobs SET results = jsonb_set(results, '{findings}',"
                      """ '{"not_assessed_reason": "No action"}') WHERE id = %s""", unsure)  # fmt: skip
    run(database_url, "UPDATE video_sessions SET owner_id = 'coach-2' WHERE id ="
                      " (SELECT session_id FROM video_analysis_jobs WHERE id = %s)", foreign)  # fmt: skip
    run(database_url, "UPDATE video_analysis_jobs SET status = 'failed' WHERE id = %s", failed)
    run(database_url, "UPDATE video_analysis_jobs SET s3_key = id::text")
    [[value]] = values(trends(people, ann))
    assert (value, trends(people, ann).trends[0].points[0].job_id) == (0.5, kept)


def test_disciplines_and_sides_are_never_mixed(people: People) -> None:  # noqa: F811
    """The newest job's discipline unless the request says another; a trend for each camera view."""
    ann = player(people, "Ann")
    filmed(people, ann, value=1, camera_view="CAMERA_VIEW_SIDE")
    filmed(people, ann, value=2, camera_view="CAMERA_VIEW_FRONT")
    filmed(people, ann, value=3, camera_view="CAMERA_VIEW_SIDE")
    filmed(people, ann, value=4, discipline="DISCIPLINE_BOWLING")
    newest = trends(people, ann)
    assert (newest.discipline, values(newest)) == (session_pb2.DISCIPLINE_BOWLING, [[4]])
    batting = trends(people, ann, discipline="DISCIPLINE_BATTING")
    assert values(batting) == [[1, 3], [2]]
    assert [trend.camera_view for trend in batting.trends] == [1, 2]
    assert trends(people, ann, discipline="DISCIPLINE_FIELDING").trends == []


def test_a_player_without_a_report_has_no_trend_and_another_s_is_refused(people: People) -> None:  # noqa: F811
    """As each call about a player."""
    assert trends(people, player(people, "Ann")) == library_pb2.GetTrendsResponse()
    assert refused(partial(trends, people, "Ann"))[:2] == ("NOT_FOUND", "PLAYER_NOT_FOUND")
    assert refused(partial(trends, people, player(people, "Bo"), discipline=99))[0] == "INVALID_ARGUMENT"
    stranger = people.laptop.person("coach-2")
    request = library_pb2.GetTrendsRequest(player_id=player(people, "Cal"))
    assert refused(lambda: people.library.GetTrends(request, metadata=stranger))[0] == "PERMISSION_DENIED"
