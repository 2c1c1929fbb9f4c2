"""Players, and sessions that name them by id, through a real `jobs` on a real PostgreSQL."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from google.protobuf import field_mask_pb2

from crease.jobs.v1 import player_pb2
from tests.integration.jobs.test_outbox import wait_until
from tests.integration.jobs.test_people import People, database_url, people, refused, run  # noqa: F401 (fixtures)

GONE = ("NOT_FOUND", "PLAYER_NOT_FOUND")
THIS_YEAR = datetime.now(UTC).year


def create(to: People, subject: str = "coach-1", **fields: Any) -> player_pb2.Player:
    values = {"name": "Ann Lee"} | fields
    return to.players.CreatePlayer(player_pb2.CreatePlayerRequest(**values), metadata=to.laptop.person(subject))


def read(to: People, player_id: str) -> player_pb2.Player:
    return to.players.GetPlayer(player_pb2.GetPlayerRequest(player_id=player_id), metadata=to.coach)


def listed(to: People, subject: str = "coach-1", **fields: Any) -> player_pb2.ListPlayersResponse:
    return to.players.ListPlayers(player_pb2.ListPlayersRequest(**fields), metadata=to.laptop.person(subject))


def update(to: People, player_id: str, *paths: str, **fields: Any) -> player_pb2.Player:
    request = player_pb2.UpdatePlayerRequest(
        player=player_pb2.Player(player_id=player_id, **fields), update_mask=field_mask_pb2.FieldMask(paths=paths)
    )
    return to.players.UpdatePlayer(request, metadata=to.coach)


def delete(to: People, player_id: str) -> None:
    to.players.DeletePlayer(player_pb2.DeletePlayerRequest(player_id=player_id), metadata=to.coach)


def test_a_player_is_read_as_it_was_written(people: People) -> None:  # noqa: F811
    """Only the name is needed; its spaces are single ones."""
    whole = create(people, name="  Ann \t Lee ", height_cm=171, birth_year=2011, hand="HAND_LEFT")
    assert (whole.name, whole.height_cm, whole.birth_year, whole.hand) == ("Ann Lee", 171, 2011, player_pb2.HAND_LEFT)
    assert (whole.owner_type, whole.owner_id) == ("coach", "coach-1")
    bare = create(people, name="X")
    assert (bare.height_cm, bare.birth_year, bare.hand) == (0, 0, player_pb2.HAND_UNSPECIFIED)
    assert [read(people, player.player_id) for player in (whole, bare)] == [whole, bare]


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""}, {"name": " \t"}, {"name": "x" * 101}, {"name": "a\0"}, {"height_cm": 49}, {"height_cm": 251},
        {"height_cm": -1}, {"birth_year": 1899}, {"birth_year": THIS_YEAR + 1}, {"hand": 99},
    ],
)  # fmt: skip
def test_a_value_out_of_bounds_is_refused_and_named(people: People, fields: dict[str, Any]) -> None:  # noqa: F811
    """By a create and by an update alike; the update writes nothing."""
    before = create(people)
    [field] = fields
    code, _, sentence = refused(partial(create, people, **fields))
    assert (code, sentence.partition(":")[0]) == ("INVALID_ARGUMENT", field)
    code, _, sentence = refused(partial(update, people, before.player_id, field, **fields))
    assert (code, sentence.partition(":")[0]) == ("INVALID_ARGUMENT", f"player.{field}")
    assert read(people, before.player_id) == before


def test_a_repeated_request_id_makes_one_player(people: People) -> None:  # noqa: F811
    """Also by ten calls at once; with other content it is refused, and another person's is another player."""
    same = str(uuid.uuid4())
    with ThreadPoolExecutor(10) as pool:
        made = {player.player_id for player in pool.map(lambda _: create(people, request_id=same), range(10))}
    assert len(made) == 1
    assert refused(partial(create, people, request_id=same, name="Bo"))[:2] == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert create(people, "coach-2", request_id=same).player_id not in made
    assert refused(partial(create, people, request_id="again"))[0] == "INVALID_ARGUMENT"


def test_players_are_listed_by_name_in_pages(people: People) -> None:  # noqa: F811
    """Each of the coach's players once, in capital or small letters alike, equal names too, and nobody else's."""
    names = ["bea", "Ann", "Émile", "ann", "Cal", "Bea"]
    made = {create(people, name=name).player_id for name in names}
    create(people, "coach-2", name="Ann")
    found: list[player_pb2.Player] = []
    token = ""
    while page := listed(people, page_size=2, page_token=token):
        found += page.players
        token = page.next_page_token
        if not token:
            break
    assert [player.name.casefold() for player in found] == ["ann", "ann", "bea", "bea", "cal", "émile"]
    assert {player.player_id for player in found} == made
    assert len(found) == len(made)


def test_a_prefix_finds_the_names_that_begin_with_it(people: People) -> None:  # noqa: F811
    """Whatever its letters and accents are; characters of patterns stand for themselves."""
    for name in ("Ann Lee", "anna", "Émile", "100% Bo", "A_b"):
        create(people, name=name)

    def names(prefix: str) -> list[str]:
        return [player.name for player in listed(people, name_prefix=prefix).players]

    assert names("AN") == ["Ann Lee", "anna"]
    assert names("E\u0301M") == ["Émile"]
    assert names("lee") == names("%") == names("_") == names("100_") == []
    assert names("100%") == ["100% Bo"]
    token = listed(people, name_prefix="an", page_size=1).next_page_token
    assert refused(partial(listed, people, name_prefix="b", page_token=token))[0] == "INVALID_ARGUMENT"
    assert refused(partial(listed, people, name_prefix="x" * 101))[0] == "INVALID_ARGUMENT"


def test_a_name_of_any_length_has_a_next_page(people: People) -> None:  # noqa: F811
    """Its position fits into the token, though one character becomes eighteen when it is sorted."""
    for _ in range(3):
        create(people, name="\ufdfa" * 100)
    first = listed(people, page_size=2)
    assert len(listed(people, page_size=2, page_token=first.next_page_token).players) == 1


def test_an_update_writes_the_fields_of_its_mask_and_the_etag_protects_them(people: People) -> None:  # noqa: F811
    """As for sessions; a renamed player is found by the new name."""
    before = create(people, height_cm=150, hand="HAND_RIGHT")
    after = update(people, before.player_id, "name", "height_cm", name="Ann Roe", hand="HAND_LEFT", etag=before.etag)
    assert (after.name, after.height_cm, after.hand) == ("Ann Roe", 0, player_pb2.HAND_RIGHT)
    assert after.etag != before.etag
    stale = partial(update, people, before.player_id, "name", name="X", etag=before.etag)
    assert refused(stale)[:2] == ("ABORTED", "ETAG_MISMATCH")
    assert refused(partial(update, people, before.player_id, "owner_id", owner_id="x"))[0] == "INVALID_ARGUMENT"
    assert list(listed(people, name_prefix="ann r").players) == [after]
    assert list(listed(people, name_prefix="ann l").players) == []


def test_notes_are_written_later_and_leave_the_player_s_own_calls_never(people: People) -> None:  # noqa: F811
    """A session names its players without them, for the analyzer too; too long a text is refused."""
    ann = create(people)
    after = update(people, ann.player_id, "notes", notes="Left knee sore in May.\nAsk her father.")
    assert after.notes == "Left knee sore in May.\nAsk her father."
    assert read(people, ann.player_id) == after
    assert list(listed(people).players) == [after]
    session = people.session(player_ids=[ann.player_id])
    people.queued(session_id=session.session_id)
    [launch] = people.open()
    people.confirm(launch)
    for seen in (session, people.seen(session.session_id), people.start(launch).session):
        assert [(player.name, player.notes) for player in seen.players] == [("Ann Lee", "")]
    code, _, sentence = refused(partial(update, people, ann.player_id, "notes", notes="x" * 5001))
    assert (code, sentence.partition(":")[0]) == ("INVALID_ARGUMENT", "player.notes")
    assert update(people, ann.player_id, "notes").notes == ""


def test_a_session_names_players_by_id_and_by_free_text(people: People) -> None:  # noqa: F811
    """Every read of the session has the players, in its order; a free text and another's player stay what they are."""
    ann, bo, other = create(people, name="Ann"), create(people, name="Bo"), create(people, "coach-2", name="Secret")
    ids = [bo.player_id, "p-1", other.player_id, ann.player_id]
    made = people.session(player_ids=ids)
    assert list(made.player_ids) == ids
    assert list(made.players) == [bo, ann]
    assert people.seen(made.session_id) == made
    assert list(people.page().sessions) == [made]
    after = people.update(made.session_id, player_ids=[ann.player_id])
    assert list(after.players) == [ann]
    assert "players" not in {field.name for field, _ in people.session(player_ids=["p-1"]).ListFields()}


def test_an_analyzer_gets_the_players_of_its_session(people: People) -> None:  # noqa: F811
    """With name and height, for its report."""
    ann = create(people, name="Ann", height_cm=160)
    people.queued(session_id=people.session(player_ids=[ann.player_id]).session_id)
    [launch] = people.open()
    people.confirm(launch)
    assert list(people.start(launch).session.players) == [ann]


def test_jobs_of_one_player_are_compared_by_its_id(people: People) -> None:  # noqa: F811
    """The answer names the player."""
    ann = create(people, name="Ann")
    jobs = [people.analysed({}, player_ids=[ann.player_id]) for _ in range(2)]
    compared = people.compare(*jobs)
    assert (list(compared.player_ids), list(compared.players)) == ([ann.player_id], [ann])


def hide(to: People, player_id: str) -> None:
    to.players.DeletePlayer(player_pb2.DeletePlayerRequest(player_id=player_id, undoable=True), metadata=to.coach)


def undo(to: People, player_id: str, subject: str = "coach-1") -> player_pb2.Player:
    request = player_pb2.UndeletePlayerRequest(player_id=player_id)
    return to.players.UndeletePlayer(request, metadata=to.laptop.person(subject))


def test_a_deletion_of_a_player_is_undone_within_a_minute(people: People, database_url: str) -> None:  # noqa: F811
    """Meanwhile nothing names the player; afterwards the sessions do again, but not those that were erased."""
    ann, ben = create(people, height_cm=171), create(people, name="Ben")
    both, alone, erased = (
        people.session(player_ids=[player.player_id for player in players]).session_id
        for players in ((ann, ben), (ann,), (ann,))
    )
    hide(people, ann.player_id)
    for call in (read, hide, partial(update, name="X")):
        assert refused(partial(call, people, ann.player_id))[:2] == GONE
    assert [player.name for player in listed(people).players] == ["Ben"]
    assert list(people.seen(both).player_ids) == [ben.player_id]
    assert list(people.seen(alone).player_ids) == []
    people.delete(erased)
    assert refused(partial(undo, people, ann.player_id, "coach-2"))[0] == "PERMISSION_DENIED"
    for _ in range(2):
        assert undo(people, ann.player_id) == ann
    assert list(people.seen(both).player_ids) == [ben.player_id, ann.player_id]
    assert [player.name for player in people.seen(alone).players] == ["Ann Lee"]
    assert run(database_url, "SELECT player_ids FROM video_sessions WHERE id = %s", erased) == [([],)]


def test_a_player_is_erased_after_the_minute(people: People, database_url: str) -> None:  # noqa: F811
    """The row goes, and cannot come back, from the end of the minute on."""
    ann = create(people)
    hide(people, ann.player_id)
    run(database_url, "UPDATE players SET undo_until = clock_timestamp()")
    assert refused(partial(undo, people, ann.player_id))[:2] == GONE
    wait_until(lambda: run(database_url, "SELECT count(*) FROM players") == [(0,)])
    assert refused(partial(undo, people, str(uuid.uuid4())))[:2] == GONE


def test_a_deleted_player_is_named_by_no_session(people: People, database_url: str) -> None:  # noqa: F811
    """The sessions stay with their other players; no row of the database has the player."""
    ann, bo = create(people, name="Secret"), create(people, name="Bo")
    both = people.session(title="Nets", player_ids=[ann.player_id, bo.player_id, "p-1"])
    alone = people.session(player_ids=[ann.player_id])
    delete(people, ann.player_id)
    gone = ("NOT_FOUND", "PLAYER_NOT_FOUND", "Player not found")
    for call in (read, delete, partial(update, name="X")):
        assert refused(partial(call, people, ann.player_id)) == gone
    assert list(people.seen(both.session_id).player_ids) == [bo.player_id, "p-1"]
    assert people.seen(both.session_id).etag != both.etag
    assert list(people.seen(alone.session_id).player_ids) == []
    assert run(database_url, "SELECT name FROM players") == [("Bo",)]
    assert run(database_url, "SELECT count(*) FROM video_sessions WHERE %s = ANY (player_ids)", ann.player_id) == [(0,)]


def test_the_players_of_an_organisation_are_seen_by_its_people_alone(people: People) -> None:  # noqa: F811
    """As its sessions are."""
    boss = people.laptop.person("boss", role="org_pro", organisation_id="o-1")
    request = player_pb2.CreatePlayerRequest(name="Ann")
    made = people.players.CreatePlayer(request, metadata=boss)
    assert (made.owner_type, made.owner_id) == ("org", "o-1")
    second = people.laptop.person("second", role="org_pro", organisation_id="o-1")
    rival = people.laptop.person("rival", role="org_pro", organisation_id="o-2")
    for metadata, seen in ((second, [made]), (rival, []), (people.coach, [])):
        assert list(people.players.ListPlayers(player_pb2.ListPlayersRequest(), metadata=metadata).players) == seen
    root = people.laptop.person("root", role="superuser")
    create(people)
    assert len(people.players.ListPlayers(player_pb2.ListPlayersRequest(), metadata=root).players) == 2


def test_an_owner_has_a_bounded_number_of_players(people: People, database_url: str) -> None:  # noqa: F811
    """The bound names the field; a repeated request_id still finds its player."""
    same = str(uuid.uuid4())
    made = create(people, request_id=same)
    run(
        database_url,
        "INSERT INTO players (owner_type, owner_id, created_by, name, name_key)"
        " SELECT 'coach', 'coach-1', 'coach-1', 'x', 'x' FROM generate_series(2, 10000)",
    )
    assert refused(partial(create, people))[:2] == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert create(people, request_id=same) == made
    assert create(people, "coach-2").name == "Ann Lee"
