"""scripts/sbom.py: a CycloneDX 1.6 document for each image, complete against the locks."""

from typing import Any

import jsonschema
import pytest

from scripts import sbom
from services.analyzer.pose.model import MODELS
from services.naming import POSE_MODEL
from tests.chart.chart import ROOT

LICENCE = {
    "oneOf": [
        {"type": "object", "required": ["expression"], "additionalProperties": False,
         "properties": {"expression": {"type": "string", "minLength": 1}}},
        {"type": "object", "required": ["license"], "additionalProperties": False,
         "properties": {"license": {"type": "object", "required": ["name"], "additionalProperties": False,
                                    "properties": {"name": {"type": "string", "minLength": 1}}}}},
    ]
}  # fmt: skip
PROPERTIES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "value"],
        "additionalProperties": False,
        "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
    },
}
COMPONENT = {
    "type": "object",
    "required": ["type", "name", "bom-ref"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["library", "container", "machine-learning-model"]},
        "bom-ref": {"type": "string", "minLength": 1},
        "name": {"type": "string", "minLength": 1},
        "version": {"type": "string", "minLength": 1},
        "scope": {"enum": ["required", "excluded"]},
        "purl": {"type": "string", "pattern": r"^pkg:pypi/[a-z0-9-]+@[A-Za-z0-9.+!-]+$"},
        "licenses": {"type": "array", "items": LICENCE},
        "hashes": {"type": "array", "items": {"type": "object", "required": ["alg", "content"],
                   "properties": {"alg": {"const": "SHA-256"}, "content": {"pattern": "^[a-f0-9]{64}$"}}}},
        "properties": PROPERTIES,
    },
}  # fmt: skip
# The part of the CycloneDX 1.6 schema that these documents use, without the fields that they do not use.
SCHEMA = {
    "type": "object",
    "required": ["bomFormat", "specVersion"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"const": "http://cyclonedx.org/schema/bom-1.6.schema.json"},
        "bomFormat": {"const": "CycloneDX"},
        "specVersion": {"const": "1.6"},
        "serialNumber": {"pattern": "^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
        "version": {"type": "integer", "minimum": 1},
        "metadata": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"component": COMPONENT, "properties": PROPERTIES},
        },
        "components": {"type": "array", "items": COMPONENT, "uniqueItems": True},
        "dependencies": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["ref"],
                "properties": {"ref": {"type": "string"}, "dependsOn": {"type": "array", "uniqueItems": True}},
            },
        },
    },
}

pytestmark = pytest.mark.skipif(
    not (ROOT / ".venv-ministack").exists(), reason="the trial's packages are not installed; run `make setup`"
)


@pytest.mark.parametrize("program", sbom.PROGRAMS)
def test_the_document_matches_the_cyclonedx_structure(program: str) -> None:
    """Every field has the type of CycloneDX 1.6, and every bom-ref is unique."""
    document = sbom.sbom(program)
    jsonschema.validate(document, SCHEMA)
    references = [one["bom-ref"] for one in document["components"]]
    assert len(references) == len(set(references))
    assert document["dependencies"][0]["dependsOn"] == sorted(references)


@pytest.mark.parametrize("program", sbom.PROGRAMS)
def test_every_pin_of_the_lock_is_a_component_with_a_licence(program: str) -> None:
    """With the version of the lock for this platform."""
    listed = {one["name"]: one for one in packages(program)}
    assert {name: one["version"] for name, one in listed.items()} == sbom.pins(program)
    assert [name for name, one in listed.items() if not one["licenses"]] == []


def test_the_analyzer_lists_its_model_and_the_codecs_of_pyav() -> None:
    """FFmpeg and its codecs come from the wheel's av.libs folder."""
    components = sbom.sbom("analyzer")["components"]
    [model] = [one for one in components if one["type"] == "machine-learning-model"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": MODELS[POSE_MODEL]}]
    in_pyav = {"name": "crease:bundled-in", "value": "av"}
    native = {one["name"] for one in components if in_pyav in one.get("properties", ())}
    assert native >= {"libavcodec", "libavformat", "libx264", "libx265", "libdav1d", "libvpx", "libSvtAv1Enc"}


def test_packages_that_the_dockerfile_removes_are_excluded() -> None:
    """Pillow is in the analyzer's lock and not in its image."""
    scopes = {one["name"]: one["scope"] for one in packages("analyzer")}
    assert scopes["pillow"] == "excluded"
    assert scopes["mediapipe"] == scopes["numpy"] == "required"


def test_the_same_locks_give_the_same_document() -> None:
    """The serial number depends only on the content."""
    assert sbom.sbom("jobs") == sbom.sbom("jobs")


def packages(program: str) -> list[dict[str, Any]]:
    return [one for one in sbom.sbom(program)["components"] if "purl" in one]
