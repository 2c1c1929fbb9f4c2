"""The client's commands about the library, as typed, against a real `jobs` on a real PostgreSQL."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from crease.jobs.v1 import job_pb2
from services import dev_issuer
from services.cli import __main__ as command
from testing.servers.programs import Laptop, Program
from tests.integration.jobs.test_library import reported
from tests.integration.jobs.test_people import People, run

Typed = Callable[..., str]


@pytest.fixture
def people(shared_jobs: Program, laptop: Laptop, empty: str) -> People:
    return People(shared_jobs.endpoint, laptop)


@pytest.fixture
def typed(
    shared_jobs: Program,
    laptop: Laptop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Typed:
    """Types a command; returns its output, or the sentence of its failure."""
    (tmp_path / "token").write_text(dev_issuer.person(laptop.folder, "coach-1"))
    monkeypatch.setenv("CREASE_JOBS_ENDPOINT", shared_jobs.endpoint)
    monkeypatch.setenv("CREASE_UPLOAD_ENDPOINT", shared_jobs.endpoint)
    monkeypatch.setenv("CREASE_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("COLUMNS", "200")

    def one(*arguments: str, fails: bool = False) -> str:
        capfd.readouterr()
        assert (command.main(arguments) != 0) == fails
        out, err = capfd.readouterr()
        return err if fails else out

    return one


def test_a_short_id_from_the_list_names_the_job_in_other_commands(people: People, typed: Typed) -> None:
    """The list shows title, player, discipline and level; the commands take its first word."""
    typed("players", "--add", "Ann Lee", "--height", "160", "--hand", "left")
    job_id = reported(people, {"overall_level": "low"}, title="Nets", discipline="DISCIPLINE_BOWLING")
    short = typed("jobs", "nets").splitlines()[-1].split()[0]
    assert job_id.startswith(short)
    typed("edit", short, "--title", "Match", "--player", "ann lee")
    line = typed("jobs", "--player", "Ann Lee").splitlines()[-1]
    assert re.search(r"Match +Ann Lee +bowling +low +done", line)
    assert line.split()[0] == short
    assert "Match" in typed("sessions", "--discipline", "bowling")
    assert "Ann Lee" in typed("players", "ANN")
    assert "160 cm" in typed("players")
    assert "left" in typed("players")
    session = people.seen(people.job(job_id).session_id)
    assert [player.name for player in session.players] == ["Ann Lee"]


def test_a_player_has_facts_and_notes_that_can_be_changed(people: People, typed: Typed) -> None:
    """A player whom a film names for the first time is made, as the page makes one."""
    assert "No player yet" in typed("players")
    job_id = reported(people, {"overall_level": "low"}, title="Nets")
    typed("edit", job_id[:8], "--player", "Bo Lund")
    typed("players", "--change", "bo lund", "--height-cm", "171", "--notes", "Left knee: ask")
    listed = typed("players", "Bo")
    assert "171 cm" in listed
    assert "Bo Lund: Left knee: ask" in listed
    [player] = people.seen(people.job(job_id).session_id).players
    assert player.height_cm == 171
    typed("players", "--add", "Cy", "--born", "2012", "--hand", "right", "--notes", "New")
    assert re.search(r"2012 +right", typed("players"))
    assert "Cy: New" in typed("players", "Cy")
    assert "Nothing to change" in typed("players", "--change", "Cy", fails=True)
    undo = typed("players", "--delete", "bo lund").splitlines()[-1]
    assert "Bo Lund" not in typed("players")
    typed(*undo.split()[1:])
    assert "Bo Lund" in typed("jobs")


def test_a_deletion_says_how_to_undo_it(people: People, typed: Typed) -> None:
    """Its last line is the command, for a job and for a session."""
    job_id = reported(people, {"overall_level": "low"}, title="Nets")
    session_id = people.job(job_id).session_id
    for options in ((), ("--session",)):
        undo = typed("delete", job_id[:8], *options).splitlines()[-1]
        assert "Nothing found" in typed("jobs")
        typed(*undo.split()[1:])
        assert people.job(job_id).session_id == session_id


def test_an_unknown_or_ambiguous_short_id_is_one_sentence(people: People, typed: Typed, empty: str) -> None:
    """It says what to do."""
    assert "No job of yours begins with beef1234" in typed("edit", "beef1234", "--title", "x", fails=True)
    keys = [f"3f2a91c0-{number}000-4000-8000-000000000000" for number in (1, 2)]
    for key in keys:
        run(empty, "UPDATE video_analysis_jobs SET id = %s WHERE id = %s", key, people.created())
    sentence = typed("edit", "3f2a91c0", "--title", "x", fails=True)
    assert "Several jobs begin with 3f2a91c0" in sentence
    assert all(key in sentence for key in keys)
    assert "No player is called Bo" in typed("players", "--delete", "Bo", fails=True)


def test_a_report_is_shared_and_the_share_is_ended(people: People, typed: Typed) -> None:
    """A report that shows the player only with names; the secret stands on a line of its own."""
    job_id = reported(people, {"overall_level": "low"}, title="Nets")
    assert "crease reanalyze JOB --anonymous" in typed("share", job_id[:8], fails=True)
    lines = typed("share", job_id[:8], "--with-names", "--days", "2").splitlines()
    assert len(lines[1]) == 43
    assert job_id[:8] in typed("share")
    typed(*lines[2].split()[1:])
    assert "Nothing is shared" in typed("share")
    assert people.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id), metadata=people.coach).job_id == job_id
