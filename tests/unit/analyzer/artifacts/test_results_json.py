"""The JSON of a result has the published shape, and only plain types."""

import json
from dataclasses import replace

import jsonschema
import pytest

from services.analyzer.artifacts.results_json import document
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.biomechanics.model import Evidence
from services.analyzer.biomechanics.registry import HEAD_STABILITY, MEASURES, METRICS
from services.naming import DISCIPLINES
from testing.data import motions
from testing.data.reports import result_of
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
