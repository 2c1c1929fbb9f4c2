"""The JSON of a result has the published shape, and only plain types."""

import json
from dataclasses import replace

import jsonschema
import pytest

from services.analyzer.artifacts.results_json import document
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.biomechanics.model import Evidence, MetricSpec
from services.analyzer.biomechanics.registry import (
    FRONT_KNEE_BRACE,
    HEAD_STABILITY,
    MEASURES,
    METRICS,
    guidance,
)
from services.analyzer.report.tables import finding_cards, number_rows
from services.naming import DISCIPLINES
from services.rules.numbers import format_value
from testing.data import motions
from testing.data.reports import result_of, with_margins
from testing.data.videos import ROOT

SCHEMA = json.loads((ROOT / "docs" / "results.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_document_has_the_published_shape(discipline: str) -> None:
    """With an action and without a player; numbers stand in the order of the registry."""
    for poses in (motions.delivery(30), motions.undetected(30)):
        made = document(result_of(measure(poses, [], discipline), discipline, poses))
        assert json.loads(json.dumps(made, allow_nan=False)) == made
        jsonschema.Draft202012Validator(SCHEMA).validate(made)
        assert list(made) == ["pose", "metrics", "findings", "report"]
        assert list(made["metrics"]) == [spec.name for spec in METRICS]
        assert list(made["pose"]["pose_summary"]["measures"]) == [spec.name for spec in MEASURES]


def test_a_metric_has_eight_keys_in_order() -> None:
    """A measure has no score, and its error."""
    poses = motions.stroke(30)
    made = document(result_of(measure(poses, [], "batting"), "batting", poses))
    keys = ["value", "unit", "score", "confidence", "plane", "frames_used", "evidence", "absent_reason"]
    assert all(list(metric) == keys for metric in made["metrics"].values())
    measures = made["pose"]["pose_summary"]["measures"].values()
    assert all(list(each) == [*(key for key in keys if key != "score"), "error"] for each in measures)


@pytest.mark.parametrize("spec", [spec for spec in METRICS if spec.bias])
def test_every_place_prints_one_error_with_the_bias_of_the_pose_model(spec: MetricSpec) -> None:
    """The file, the summary, the report's row and card; a number within it of its mark is too close to call."""
    guide, others = guidance("batting"), {HEAD_STABILITY.name: 0.2, FRONT_KNEE_BRACE.name: 0.2}
    mark = guide.mark(spec.name)
    assert mark is not None
    for biases, is_close in ((0.9, True), (3.0, False)):
        value = mark.value + biases * spec.bias
        score, few = guide.scales[spec.name].score(value), with_margins("batting", **others, **{spec.name: 0})
        metric = replace(few.metrics[spec.name], value=value, score=score, random_error=0.5 * spec.bias)
        measured = replace(few, metrics=few.metrics | {spec.name: metric})
        result = result_of(measured, "batting", motions.still(30))
        made = document(result)
        summary = made["pose"]["pose_summary"]
        assert summary["scatter"][spec.name] == 0.5 * spec.bias
        assert summary["errors"][spec.name] == pytest.approx(1.25**0.5 * spec.bias, abs=1e-4)
        printed = format_value(value, metric.unit, summary["errors"][spec.name])
        assert printed in made["report"]["summary"]
        assert [row.shown for row in number_rows([metric], {})] == [printed]
        cards = finding_cards(result.findings.findings, measured, {})
        assert [card.number for card in cards] == ([] if is_close else [printed])
        assert (metric in result.findings.too_close) is is_close


def test_enums_and_numbers_become_plain_types() -> None:
    """No subclass of str reaches a client, and NaN is null."""
    poses = motions.stroke(30)
    measured = measure(poses, [], "batting")
    name = HEAD_STABILITY.name
    metrics = measured.metrics | {name: replace(measured.metrics[name], evidence=(Evidence(1.0, float("nan")),))}
    made = document(result_of(replace(measured, metrics=metrics), "batting", poses))
    assert made["metrics"][name]["evidence"] == [{"time_seconds": 1.0, "value": None}]
    summary = made["pose"]["pose_summary"]
    leaves = [summary["front_leg"], summary["reliability"], summary["events"][0]["name"], made["metrics"][name]["unit"]]
    assert {type(leaf) for leaf in leaves} == {str}
