"""What a coach reads: nothing of a command line, nothing that the film does not show, no advice beside its reason."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.analyzer import film_notes
from services.analyzer.biomechanics.events import SIGNED
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.biomechanics.model import Obstacle
from services.analyzer.coaching.findings import LOOK_CLOSER, find
from services.analyzer.coaching.summary import compose, level_sentence
from services.analyzer.film_notes import describe_first_look, first_look_extent
from services.naming import DISCIPLINES
from services.rules.options import Correction, option_of
from testing.data import motions
from testing.data.reports import GIVEN_THROW, STROKES, strokes, with_margins

ANALYZER = Path(film_notes.__file__).parent
# Programs read and write these: their sentences are for operators.
OF_PROGRAMS = ("__main__.py", "worker", "sandbox", "video", "pose")
OF_A_COMMAND_LINE = re.compile(r"--[a-z]|`?crease [a-z]+`?|\bflag\b|command line")
NUMBERS = {"no": 0, "one": 1, "two": 2, "three": 3, "four": 4, "both": 2}
HEAD, KNEE, BALANCE, ELBOW = (
    "head_stability_score", "front_knee_brace_score", "balance_drift_score", "elbow_drop_score",
)  # fmt: skip


def sentences(file: Path) -> Iterator[str]:
    """The texts of a module that are no docstring."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_no_sentence_for_a_coach_names_a_command() -> None:
    """A coach has a camera and a page: in the modules, in the advice and in the templates of the report."""
    rooms = [file for file in ANALYZER.rglob("*.py") if file.relative_to(ANALYZER).parts[0] not in OF_PROGRAMS]
    found = [(file.name, text) for file in rooms for text in sentences(file) if OF_A_COMMAND_LINE.search(text)]
    for file in (*(ANALYZER / "knowledge").glob("*.yaml"), ANALYZER / "report" / "templates" / "report.html"):
        found += [(file.name, hit) for hit in OF_A_COMMAND_LINE.findall(file.read_text(encoding="utf-8"))]
    assert found == []
    assert len(rooms) > 40


@pytest.mark.parametrize("correction", Correction)
def test_a_correction_that_a_remedy_names_has_its_control_in_the_page(correction: Correction) -> None:
    """By the same word, and with the option for those who have a command line."""
    template = ANALYZER.parent / "web" / "templates" / "session_body.html"
    assert f"{{{{ corrections.{correction.name}.control }}}}" in template.read_text(encoding="utf-8")
    assert option_of(f"Say it: {correction.place}.") == correction.option
    assert option_of("Film from the side.") == ""


@pytest.mark.parametrize("discipline", DISCIPLINES)
@pytest.mark.parametrize("margins", [{HEAD: 0.1, KNEE: 0.1, BALANCE: 0.1, ELBOW: 0.01}, {HEAD: -0.2, KNEE: 0.1}])
def test_the_counts_of_a_level_are_of_all_measured_numbers(discipline: str, margins: dict[str, float]) -> None:
    """`both numbers reach our mark; two are too close to call` would be four of two; no other number stands there."""
    measured = with_margins(discipline, **margins)
    findings = find(measured, discipline)
    words = level_sentence(measured, findings, discipline).split(": ", 1)[1].split()
    counts = [NUMBERS[word] for word in words if word in NUMBERS]
    present, close, missed = len(measured.present()), len(findings.too_close), len(findings.findings)
    said = missed or present - close
    assert counts == ([said] if said == present else [said, present]) + ([close] if close else [])
    assert not re.search(r"\d", " ".join(words))


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_the_plan_of_a_film_that_is_not_assessed_asks_for_no_more_than_the_summary(discipline: str) -> None:
    """The remedy may be a control of the page, or patience: the plan does not ask for another film beside it."""
    measured = replace(
        with_margins(discipline, **{HEAD: 0.1}), obstacle=Obstacle("nobody knows who plays", "Choose the player.")
    )
    made = compose(measured, find(measured, discipline), discipline)
    assert made.summary.endswith(" Choose the player.")
    assert [day for day in made.one_week_plan if "film again" in day.focus.lower() or day.drills] == []


@pytest.mark.parametrize("discipline", sorted(set(DISCIPLINES) - set(SIGNED)))
@pytest.mark.parametrize("margin", [0.2, -0.2])
def test_a_throw_or_a_take_is_judged_only_where_the_client_gives_it(discipline: str, margin: float) -> None:
    """A delivery before this camera looks like a throw: neither praise nor blame follows, nor a level or a drill."""
    given = with_margins(discipline, **{HEAD: margin, KNEE: margin, BALANCE: margin})
    assert find(given, discipline).overall_level
    for other in (
        replace(given, repetitions=()),
        replace(given, repetitions=(replace(GIVEN_THROW, given=frozenset()),)),
    ):
        findings = find(other, discipline)
        assert (findings.overall_level, findings.findings) == (None, ())
        assert Correction.MOMENT.place in findings.remedy
        assert compose(other, findings, discipline).drills == ()


def test_a_first_look_blames_neither_the_film_nor_its_rate() -> None:
    """It takes few frames of a film that may be good: what it misses is no reason to film again."""
    poses = motions.delivery(10)
    measured = describe_first_look(measure(poses, [], "bowling"))
    reasons = {metric.absent_reason for metric in measured.everything.values() if metric.absent_reason}
    assert "a first look takes too few frames for it" in reasons
    assert not any("a second around the action" in reason for reason in reasons)
    unsure = with_margins("bowling", **{HEAD: 0.1})
    standing = measure(motions.still(30), [], "bowling")
    absent = measure(motions.undetected(30), [], "bowling", extent=first_look_extent(60.0, 30.0))
    for seen in (unsure, standing, absent):
        findings = find(seen, "bowling", first_look=True)
        assert findings.not_assessed_reason
        assert (findings.remedy, findings.findings) == (LOOK_CLOSER, ())
        assert find(seen, "bowling").remedy != LOOK_CLOSER


def test_a_first_look_speaks_of_the_part_that_it_saw() -> None:
    """The delivery may come in the second minute."""
    assert first_look_extent(29.0, 30.0) == "this film"
    part = first_look_extent(120.0, 30.0)
    for poses in (motions.still(30), motions.undetected(30)):
        obstacle = measure(poses, [], "bowling", extent=part).obstacle
        assert obstacle
        assert "in the first 30 seconds" in obstacle.reason
        assert "this film" not in obstacle.reason


def test_a_reason_for_no_action_is_one_clause() -> None:
    """`no stroke: lacks this sign: the bat comes down` made the reader take three clauses apart."""
    for discipline in SIGNED:
        obstacle = measure(motions.still(30), [], discipline).obstacle
        assert obstacle
        assert obstacle.reason.count(":") <= 1
    room = ANALYZER / "biomechanics"
    clauses = [text for file in room.rglob("*.py") for text in sentences(file) if "this sign" in text]
    assert clauses == []


def test_a_note_counts_the_actions_by_their_noun() -> None:
    """One noun for a thing: the summary speaks of strokes."""
    _, _, measured = strokes()
    assert f"{STROKES} strokes were counted; each number is the median over them." in measured.notes
