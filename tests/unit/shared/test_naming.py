"""Names that several programs share agree with the protos and with each other."""

from crease.jobs.v1 import session_pb2
from services import naming
from testing.servers.programs import ROOT

JOB = "0b6f3a52-8a3e-4f0e-9c3b-0d6f0d8f7a11"
VIDEO = "coach_plus/coach/c1/s1/v1/original.mp4"


def test_the_disciplines_are_those_of_the_protos() -> None:
    names = [name.removeprefix("DISCIPLINE_").lower() for name in session_pb2.Discipline.keys()]  # noqa: SIM118 (an enum, no dict)
    assert tuple(names[1:]) == naming.DISCIPLINES


def test_a_launch_name_begins_with_the_prefix_of_its_job() -> None:
    assert naming.launch_name(JOB, 2) == f"analysis-{JOB}-2"
    assert naming.launch_name(JOB, 2).startswith(naming.launch_prefix(JOB))


def test_an_artifact_lies_beside_its_video_under_its_job_launch_and_stage() -> None:
    prefix = naming.launch_artifacts_prefix(VIDEO, JOB, 1)
    assert prefix.startswith(naming.analysis_prefix(VIDEO, JOB))
    assert naming.artifact_key(prefix, "quick", "report.html") == (
        f"coach_plus/coach/c1/s1/v1/analysis/{JOB}/1/quick/report.html"
    )


def test_no_other_module_writes_the_shared_names() -> None:
    """A copy could drift: programs import the name."""
    labels = [value for name, value in vars(naming).items() if name.endswith(("_LABEL", "_ANNOTATION"))]
    names = [*labels, 'f"analysis-', naming.ARTIFACT_NAME.pattern, naming.UPLOAD_FEATURE]
    modules = [file for file in (ROOT / "services").rglob("*.py") if file.name != "naming.py"]
    copies = [(file.name, name) for file in modules for name in names if name in file.read_text()]
    assert len(labels) > 8
    assert copies == []
