"""A room stays small enough to be read at a glance."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

SERVICES = Path(__file__).parents[3] / "services"
MOST_MODULES = 12
# Grows by one module a migration.
UNBOUNDED = {SERVICES / "jobs" / "migrations" / "versions"}


def test_no_folder_has_more_than_twelve_modules() -> None:
    """Beside its rooms; a larger one is to be divided."""
    folders = {module.parent for module in SERVICES.rglob("*.py")} - UNBOUNDED
    counts = {
        str(folder.relative_to(SERVICES)): len([m for m in folder.glob("*.py") if m.name != "__init__.py"])
        for folder in folders
    }
    assert len(counts) > 20
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_the_images_hold_every_room() -> None:
    """Each folder of services is copied into an image: no other test imports from there."""
    folders = {folder.name for folder in SERVICES.iterdir() if (folder / "__init__.py").exists()}
    dockerfile = (SERVICES.parent / "Dockerfile").read_text()
    copies = re.findall(r"^COPY services/(\w+) \./services/\1$", dockerfile, re.MULTILINE)
    assert {"jobs", "analyzer", "rules"} <= folders
    assert set(copies) == folders


def test_the_images_hold_the_client_package() -> None:
    """Every program imports it."""
    assert "COPY client/crease_client ./crease_client\n" in (SERVICES.parent / "Dockerfile").read_text()


def test_the_context_of_the_images_has_what_they_copy() -> None:
    """.dockerignore leaves out all but a list of paths."""
    root = SERVICES.parent
    ignored, *lines = (root / ".dockerignore").read_text().split()
    assert ignored == "*"
    kept = [line.removeprefix("!") for line in lines if line.startswith("!")]
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (root / "Dockerfile").read_text(), re.MULTILINE)
    copied = [source.rstrip("/") for sources in copies for source in sources.split()]
    assert {"services/web", "scripts/take_htmx.py"} <= {*copied}
    assert [source for source in copied if not any(f"{source}/".startswith(f"{path}/") for path in kept)] == []


def test_the_image_of_the_analyzer_builds_the_model_from_the_modules_that_it_copies(tmp_path: Path) -> None:
    """What build_model.py imports from services is among the single files that the Dockerfile copies."""
    root = SERVICES.parent
    copies = re.findall(
        r"^COPY (services/\S+\.py(?: services/\S+\.py)*) \./", (root / "Dockerfile").read_text(), re.MULTILINE
    )
    for module in " ".join(copies).replace("services/*.py", "").split():
        (tmp_path / module).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / module, tmp_path / module)
    imports = re.findall(r"^from services\S+ import .+$", (root / "scripts/build_model.py").read_text(), re.MULTILINE)
    assert imports
    subprocess.run([sys.executable, "-c", "\n".join(imports)], cwd=tmp_path, check=True)
