"""Thresholds without gaps, severities that only grow, and advice from files that a coach can edit."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from services.analyzer.biomechanics.kinematics import Side
from services.analyzer.biomechanics.labels import mark_name
from services.analyzer.biomechanics.model import Evidence, Measurements, Metric, Obstacle, Reliability
from services.analyzer.biomechanics.registry import METRICS, guidance
from services.analyzer.coaching.findings import find
from services.analyzer.coaching.model import FilmCode
from services.analyzer.coaching.summary import compose
from services.analyzer.knowledge import loader
from services.analyzer.knowledge.loader import Guidance, GuidanceError, Mark, Severity, Shared, StatedMark, read, shared
from services.naming import DISCIPLINES
from testing.data.reports import GIVEN_THROW, with_margins

# The promised thresholds: batting, bowling, wicketkeeping, fielding.
PROMISED = {
    "HEAD_MOVEMENT": ("head_stability_score", (0.60, 0.65, 0.58, 0.55)),
    "BALANCE_DRIFT": ("balance_drift_score", (0.55, 0.60, 0.52, 0.50)),
    "KNEE_COLLAPSE": ("front_knee_brace_score", (0.50, 0.55, 0.45, 0.48)),
    "ELBOW_DROP": ("elbow_drop_score", (0.55, 0.60, 0.50, 0.52)),
}
STUDY = {"from": "study", "study": "Smith 2030", "n": 20, "who": "elite men", "plane": "space"}
RANK = {None: 0, "low": 1, "medium": 2, "high": 3}


def measurements(confidence: float = 0.9, rate: float = 100.0, **scores: float) -> Measurements:
    """All metrics at these scores; those not named are absent. The client gives the moment of the action."""
    metrics = {
        spec.name: Metric(spec, scores[spec.name], scores[spec.name], confidence, 20, (Evidence(1.5, 0.2),))
        if spec.name in scores
        else Metric.absent(spec, "not seen")
        for spec in METRICS
    }
    return Measurements(metrics, [], Side.LEFT, None, rate, Reliability.HIGH, 1, repetitions=(GIVEN_THROW,))


def severity(discipline: str, code: str, metric: str, score: float) -> str | None:
    """The severity of the finding with this code; None without a finding."""
    found = find(measurements(**{metric: score}), discipline).findings
    assert all(finding.code == code for finding in found)
    return found[0].severity if found else None


@pytest.mark.parametrize(("place", "discipline"), list(enumerate(DISCIPLINES)))
def test_thresholds_are_the_promised_ones(place: int, discipline: str) -> None:
    """All codes, metrics and thresholds, in every discipline; no fault that no film can show."""
    guide = guidance(discipline)
    assert {code: (f.metric, mark.threshold) for code, f in guide.faults.items() if (mark := guide.mark(f.metric))} == {
        code: (metric, thresholds[place]) for code, (metric, thresholds) in PROMISED.items()
    }


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_title_says_no_more_than_its_number(discipline: str) -> None:
    """One angle, one spread and one mean: none shows a course, a moment or a cause."""
    beyond = r"\b(sinks|drops|gives|folds|collapses|early|late|jerks|bobs|trapped|weight|throwing|caught)\b"
    titles = [fault.title for fault in guidance(discipline).faults.values()]
    assert [title for title in titles if re.search(beyond, title, re.IGNORECASE)] == []


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_every_mark_is_called_ours_until_a_study_gives_it(discipline: str) -> None:
    """In the finding's words and in results.json; the publication behind `why` stands beside no mark."""
    for code, (metric, _) in PROMISED.items():
        found = find(measurements(**{metric: 0.1}), discipline)
        [finding] = found.findings
        assert finding.mark is not None
        assert finding.code == code
        assert mark_name(finding.mark) == "our mark"
        assert "our mark is" in compose(measurements(**{metric: 0.1}), found, discipline).summary


def test_a_mark_from_a_study_is_named_with_its_people() -> None:
    """The study, how many, who, and the plane that they were measured in."""
    stated = StatedMark.model_validate({"value": 150, **STUDY})
    words = mark_name(Mark(150, at_least=True, threshold=0.7, stated=stated))
    assert words == "the mark of Smith 2030 (20 elite men, in space)"


@pytest.mark.parametrize("code", PROMISED)
@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_worse_score_is_never_a_milder_finding(discipline: str, code: str) -> None:
    """Along the whole scale: none, low, medium, high, in this order."""
    metric = PROMISED[code][0]
    ranks = [RANK[severity(discipline, code, metric, k / 1000)] for k in range(1000, -1, -10)]
    assert ranks == sorted(ranks)
    assert set(ranks) >= {0, 1, 2}


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_severity_changes_at_the_promised_shortfalls(discipline: str) -> None:
    """Under 0.05 low, under 0.15 medium, else high; none at the threshold."""
    metric, thresholds = PROMISED["HEAD_MOVEMENT"]
    threshold = thresholds[DISCIPLINES.index(discipline)]
    cases = {0.0: None, 0.001: "low", 0.049: "low", 0.051: "medium", 0.149: "medium", 0.151: "high", 0.4: "high"}
    for shortfall, expected in cases.items():
        assert severity(discipline, "HEAD_MOVEMENT", metric, threshold - shortfall) == expected


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_the_knee_of_a_player_under_18_is_never_a_high_priority(discipline: str) -> None:
    """At no score; the level agrees, milder findings and other numbers stay, and so does every number of an adult."""
    for code, (metric, _) in PROMISED.items():
        for score in (0.01, 0.3, 0.4, 0.44, 0.9):
            adult = find(measurements(**{metric: score}), discipline)
            young = find(measurements(**{metric: score}), discipline, under_18=True)
            bounded = [
                replace(finding, severity=Severity.MEDIUM)
                if (code, finding.severity) == ("KNEE_COLLAPSE", "high")
                else finding
                for finding in adult.findings
            ]
            assert list(young.findings) == bounded
            assert (young.overall_level == "low") is any(finding.severity == "high" for finding in bounded)
    assert find(measurements(front_knee_brace_score=0.01), discipline).findings[0].severity == "high"


def test_bounds_under_18_are_of_scored_metrics() -> None:
    """A misspelt name would bound nothing."""
    assert shared().worst_under_18.keys() <= {spec.name for spec in METRICS}


def test_an_absent_number_gives_no_finding() -> None:
    """It is neither good nor bad."""
    assert find(measurements(head_stability_score=0.9), "batting").findings == ()


def test_the_level_follows_the_worst_finding() -> None:
    """high without findings or with low ones, then medium, then low."""
    good = {"balance_drift_score": 0.9, "elbow_drop_score": 0.9}
    levels = {0.9: "high", 0.58: "high", 0.5: "medium", 0.2: "low"}
    for score, level in levels.items():
        assert find(measurements(head_stability_score=score, **good), "batting").overall_level == level


def test_too_little_seen_is_not_assessed() -> None:
    """One number, or several of low confidence, are too few for a level."""
    one = find(measurements(head_stability_score=0.9), "batting")
    assert (one.overall_level, one.not_assessed_reason) == (None, "only one number could be measured")
    unsure = measurements(confidence=0.3, head_stability_score=0.9, balance_drift_score=0.9, elbow_drop_score=0.9)
    assert find(unsure, "batting").not_assessed_reason == "none of three numbers is sure enough"


def test_one_number_beside_some_too_close_to_call_is_no_level() -> None:
    """Of three sure numbers two reach their marks within their errors: one alone is no proof of a high level."""
    close = {"balance_drift_score": 0.001, "elbow_drop_score": 0.001}
    found = find(with_margins("batting", head_stability_score=0.2, **close), "batting")
    assert found.overall_level is None
    assert found.not_assessed_reason == "only one of three numbers is sure and clear of its mark"
    assert "larger" in found.remedy
    found = find(with_margins("batting", head_stability_score=0.2, front_knee_brace_score=0.001, **close), "batting")
    assert found.remedy == "The film is good enough: the numbers lie within their errors of the marks."


def test_the_one_thing_to_change_is_what_the_film_lacks() -> None:
    """Feet outside the picture, another view, or only a clearer picture."""
    few = measurements(head_stability_score=0.9)
    for reason, remedy in (("feet not visible", "feet"), ("view not side-on", "from the side"), ("not seen", "larger")):
        metrics = {
            name: metric if metric.value else replace(metric, absent_reason=reason)
            for name, metric in few.metrics.items()
        }
        assert remedy in find(replace(few, metrics=metrics), "batting").remedy


def test_a_number_whose_error_reaches_its_mark_is_too_close_to_call() -> None:
    """On either side of the mark it is no finding; beyond its error it is one."""
    guide = guidance("batting")
    mark = guide.mark("head_stability_score")
    assert mark
    for off, is_found in ((-0.5, False), (0.5, False), (1.5, True)):
        measured = measurements(head_stability_score=0.9, balance_drift_score=0.9, elbow_drop_score=0.9)
        value = mark.value + 0.01 * off
        score = guide.scales["head_stability_score"].score(value)
        head = replace(measured.metrics["head_stability_score"], value=value, score=score, random_error=0.01)
        found = find(replace(measured, metrics={**measured.metrics, "head_stability_score": head}), "batting")
        assert [finding.code for finding in found.findings] == (["HEAD_MOVEMENT"] if is_found else [])
        assert [metric.spec.name for metric in found.too_close] == ([] if is_found else ["head_stability_score"])


def test_an_obstacle_leaves_nothing_to_judge() -> None:
    """No level, no finding, whatever the numbers; the reason and the remedy instead."""
    obstacle = Obstacle("no stroke was found in this film: the bat is not lifted", "Film one whole stroke.")
    measured = replace(measurements(head_stability_score=0.1, balance_drift_score=0.1), obstacle=obstacle)
    found = find(measured, "batting")
    assert (found.overall_level, found.findings, found.too_close) == (None, (), ())
    assert (found.not_assessed_reason, found.remedy) == (obstacle.reason, obstacle.remedy)


@pytest.mark.parametrize("head", [0.9, 0.1])
def test_a_doubt_of_all_numbers_is_why_none_is_judged(head: float) -> None:
    """The reason and the remedy are the doubt's, with and without a fault."""
    doubt = Obstacle("the stroke is quick, or the film is sped up, and it does not show which", "Give the rate.")
    measured = measurements(0.4, head_stability_score=head, balance_drift_score=0.9)
    found = find(replace(measured, doubt=doubt), "batting")
    assert (found.overall_level, found.findings) == (None, ())
    assert (found.not_assessed_reason, found.remedy) == (doubt.reason, doubt.remedy)


def test_an_action_without_a_number_is_not_blamed_on_the_player_being_out_of_sight() -> None:
    """The reason names what is missing, not a share of frames that is high enough."""
    assert find(measurements(rate=95.0), "batting").not_assessed_reason == "no number could be measured in this film"


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_film_without_the_player_has_one_finding(discipline: str) -> None:
    """It is about the film, and severe."""
    found = find(measurements(rate=0.0), discipline)
    assert [(f.code, f.severity) for f in found.findings] == [(FilmCode.INSUFFICIENT_POSE_VISIBILITY, "high")]


def test_a_low_detection_rate_replaces_the_findings() -> None:
    """Under 60 % the film is the only finding, for all scores, and the level is not high."""
    for score in (0.2, 0.9):
        scores = {"head_stability_score": score, "balance_drift_score": 0.9, "elbow_drop_score": 0.9}
        found = find(measurements(rate=59, **scores), "batting")
        assert [f.code for f in found.findings] == [FilmCode.INSUFFICIENT_POSE_VISIBILITY]
        assert found.overall_level is None
        seen = find(measurements(rate=60, **scores), "batting").findings
        assert [f.code for f in seen] == (["HEAD_MOVEMENT"] if score < 0.6 else [])


def test_a_finding_of_low_confidence_is_worded_as_a_possibility() -> None:
    """Its number stays the same; a possibility is no matter of urgency, and gives no low level."""
    others = {"balance_drift_score": 0.9, "elbow_drop_score": 0.9}
    measured = measurements(0.9, head_stability_score=0.2, **others)
    sure = find(measured, "batting")
    unsure = find(_with_confidence(measured, "head_stability_score", 0.3), "batting")
    assert unsure.findings[0].title.startswith(shared().hedge)
    assert not sure.findings[0].title.startswith(shared().hedge)
    assert sure.findings[0].value == unsure.findings[0].value
    assert (sure.findings[0].severity, sure.overall_level) == ("high", "low")
    assert (unsure.findings[0].severity, unsure.overall_level) == ("medium", "medium")


def test_numbers_that_are_too_unsure_to_praise_are_too_unsure_to_blame() -> None:
    """An unsure fault beside no two sure numbers is no level, whichever way it points; a sure one is."""
    for scores in ({"head_stability_score": 0.2}, {"head_stability_score": 0.2, "balance_drift_score": 0.9}):
        found = find(measurements(0.3, **scores), "batting")
        assert (found.overall_level, found.findings) == (None, ())
        assert "numbe" in (found.not_assessed_reason or "")
        assert find(measurements(0.9, **scores), "batting").overall_level == "low"


def _with_confidence(measured: Measurements, name: str, confidence: float) -> Measurements:
    metrics = {**measured.metrics, name: replace(measured.metrics[name], confidence=confidence)}
    return replace(measured, metrics=metrics)


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_findings_are_complete(discipline: str) -> None:
    """Every field is set, worst first."""
    found = find(measurements(**{spec.name: 0.0 for spec in METRICS}), discipline).findings
    assert {f.code for f in found} == set(PROMISED)
    ranks = [RANK[f.severity] for f in found]
    assert ranks == sorted(ranks, reverse=True)
    for finding in found:
        assert finding.title
        assert finding.why
        assert finding.cues
        assert finding.drills[0].name
        assert finding.time_seconds == 1.5


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_scales_are_flat_enough(discipline: str) -> None:
    """A length 5 % off moves a score by at most 0.031, which is less than a band of severity."""
    guide = guidance(discipline)
    for name in ("head_stability_score", "balance_drift_score", "elbow_drop_score"):
        scale = guide.scales[name]
        for k in range(1, 60):
            value = k * scale.points[-1][0] / 100
            assert abs(scale.score(value) - scale.score(value * 1.05)) <= 0.031
        assert scale.score(-1) == scale.points[0][1]
        assert scale.score(99) == scale.points[-1][1]


def test_an_unknown_discipline_is_named() -> None:
    """The error lists the known ones."""
    with pytest.raises(GuidanceError, match=r"'tennis'.*batting"):
        guidance("tennis")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("value: 0.14,", "value: high,", "faults.HEAD_MOVEMENT.mark.value"),
        ("mark: {value: 0.14", "mrak: {value: 0.14", "mrak"),
        ("value: 0.14, from: judgement", "value: 0.14", "mark.from"),
        ("value: 0.14, from: judgement", "value: 0.14, from: study", "a mark from a study needs study, n, who, plane"),
        ("value: 0.14, from: judgement", "value: 0.14, from: study, study: S, who: men, plane: space", "needs n"),
        ("value: 0.14, from: judgement", "value: 0.14, from: judgement, n: 20", "from judgement has no n"),
        ("discipline: batting", "discipline: tennis", "discipline"),
        ("metric: head_stability_score", "metric: head_score", "unknown metric 'head_score'"),
        ("[0.35, 0.0]", "[-0.35, 0.0]", "must increase"),
        ("[0.35, 0.0]", "[0.35, 0.0], [0.4, 0.5]", "all rise or all fall"),
        ("maintenance:", "maintenance: [", "batting.yaml"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_place(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    """The error names the file and the key."""
    text = (loader.FOLDER / "batting.yaml").read_text()
    assert old in text
    wrong = tmp_path / "batting.yaml"
    wrong.write_text(text.replace(old, new, 1))
    with pytest.raises(GuidanceError, match=complaint) as caught:
        read(wrong, Guidance, [spec.name for spec in METRICS])
    assert "batting.yaml" in str(caught.value)


def test_severities_with_a_hole_are_refused(tmp_path: Path) -> None:
    """The last band has no upper bound, the others rise."""
    text = (loader.FOLDER / "shared.yaml").read_text()
    wrong = tmp_path / "shared.yaml"
    wrong.write_text(text.replace("severity: medium, under: 0.15", "severity: medium, under: 0.01"))
    with pytest.raises(GuidanceError, match="rise"):
        read(wrong, Shared)


def test_a_scale_in_the_wrong_direction_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry knows which values are better; a scale that contradicts it stops the program."""
    text = (loader.FOLDER / "batting.yaml").read_text()
    assert "[[0.0, 1.0], [0.35, 0.0]]" in text
    (tmp_path / "batting.yaml").write_text(text.replace("[[0.0, 1.0], [0.35, 0.0]]", "[[0.0, 0.0], [0.35, 1.0]]"))
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    with pytest.raises(GuidanceError, match=r"batting.yaml: scales.head_stability_score: lower values"):
        guidance.__wrapped__("batting")
