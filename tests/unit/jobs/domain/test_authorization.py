"""Ownership: which owners' sessions each role sees, and whose a new session is."""

import pytest

from services.auth import Person
from services.jobs.domain import authorization
from services.jobs.domain.records import Owner, OwnerType

COACH = Person("coach-1", "coach_pro_plus", organisation_id="o-1")
ORG_PRO = Person("boss", "org_pro", organisation_id="o-1")
ORG_PRO_ALONE = Person("boss", "org_pro")
SUPERUSER = Person("root", "superuser")


def coach(subject: str) -> Owner:
    return Owner(OwnerType.COACH, subject)


def organisation(key: str) -> Owner:
    return Owner(OwnerType.ORGANISATION, key)


@pytest.mark.parametrize(
    ("person", "owner", "sees"),
    [
        (COACH, coach("coach-1"), True),
        (COACH, coach("coach-2"), False),
        (COACH, organisation("o-1"), False),
        (ORG_PRO, organisation("o-1"), True),
        (ORG_PRO, organisation("o-2"), False),
        (ORG_PRO, coach("boss"), True),
        (ORG_PRO, coach("o-1"), False),
        (ORG_PRO_ALONE, organisation(""), False),
        (SUPERUSER, organisation("o-2"), True),
        (SUPERUSER, coach("coach-2"), True),
    ],
)
def test_a_person_sees_their_own_and_their_organisations_sessions(person: Person, owner: Owner, sees: bool) -> None:
    """Only `org_pro` sees the organisation's; a superuser sees all."""
    assert authorization.may_see(person, owner) is sees


@pytest.mark.parametrize("person", [COACH, ORG_PRO, ORG_PRO_ALONE, SUPERUSER])
def test_a_person_sees_the_session_that_they_create(person: Person) -> None:
    """Whatever its owner is."""
    assert authorization.may_see(person, authorization.owner_of_new_session(person))
