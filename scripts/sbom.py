"""Writes a CycloneDX SBOM for each image: `python -m scripts.sbom` writes build/sbom/PROGRAM.cdx.json.

    locks/PROGRAM.txt ─▶ packages, with licences from their metadata ┐
    PACKAGE.libs/ of the installed wheels ─▶ native libraries        ├▶ build/sbom/PROGRAM.cdx.json
    locks/model.txt ─▶ the pose model (analyzer)                     ┘

The wheels are those of this platform. Packages that the Dockerfile removes have the scope `excluded`. The SBOM
omits Python and the system libraries, which come from the base image.
"""

import json
import platform
import re
import sys
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from services import VERSION
from services.analyzer.pose.model import MODELS
from services.naming import POSE_MODEL

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "sbom"
PROGRAMS = ("jobs", "upload", "controller", "relay", "analyzer", "web", "cli", "trial")
PIN = re.compile(r"^([A-Za-z0-9][^\\\n]*==[^\\\n]*?)\s*\\?$", re.MULTILINE)
LIBRARY = re.compile(r"lib(?P<name>.+?)(?:-[0-9a-f]{8})+(?:\.so)?\.?(?P<version>[0-9][\w.]*?)?(?:\.so)?$")
# A licence text instead of a name is longer than this.
LONGEST_LICENCE_NAME = 60

# SPDX expressions of native libraries by name, or by name and major version: wheels carry no metadata for them.
_FFMPEG = dict.fromkeys(
    ("avcodec", "avdevice", "avfilter", "avformat", "avutil", "swresample", "swscale"), "LGPL-3.0-or-later"
)
_GNU = dict.fromkeys(("gmp", "hogweed", "nettle", "unistring"), "LGPL-3.0-or-later OR GPL-2.0-or-later")
_GCC = dict.fromkeys(("gfortran", "quadmath"), "GPL-3.0-or-later WITH GCC-exception-3.1")
_WEBP = dict.fromkeys(("sharpyuv", "webp", "webpdemux", "webpmux"), "BSD-3-Clause")
_X11 = dict.fromkeys(("Xau", "drm", "xcb", "xcb-shape", "xcb-shm", "xcb-xfixes"), "MIT")
_KERBEROS = dict.fromkeys(("com_err", "gssapi_krb5", "k5crypto", "krb5", "krb5support"), "MIT")
_OPENSSL = {"crypto 1": "OpenSSL", "ssl 1": "OpenSSL", "crypto 3": "Apache-2.0", "ssl 3": "Apache-2.0"}
_POSTGRESQL = dict.fromkeys(("ecpg", "pgtypes", "pq"), "PostgreSQL")
NATIVE_LICENCES = {
    **_FFMPEG, **_GNU, **_GCC, **_WEBP, **_X11, **_KERBEROS, **_OPENSSL, **_POSTGRESQL,
    "SvtAv1Enc": "BSD-3-Clause-Clear", "aom": "BSD-2-Clause", "asound": "LGPL-2.1-or-later", "avif": "BSD-2-Clause",
    "crypt": "LGPL-2.1-or-later", "dav1d": "BSD-2-Clause", "gnutls": "LGPL-2.1-or-later",
    "keyutils": "LGPL-2.1-or-later", "lber": "OLDAP-2.8", "ldap": "OLDAP-2.8", "mp3lame": "LGPL-2.0-or-later",
    "opencore-amrnb": "Apache-2.0", "opencore-amrwb": "Apache-2.0", "openblasp-r0": "BSD-3-Clause",
    "opus": "BSD-3-Clause", "png16": "libpng-2.0", "readline": "GPL-3.0-or-later", "sasl2": "BSD-3-Clause-Attribution",
    "scipy_openblas": "BSD-3-Clause", "scipy_openblas64_": "BSD-3-Clause", "tinfo": "X11", "vpl": "MIT",
    "vpx": "BSD-3-Clause", "x264": "GPL-2.0-or-later", "x265": "GPL-2.0-or-later",
}  # fmt: skip

Component = dict[str, Any]


def sbom(program: str) -> dict[str, Any]:
    """The CycloneDX document of one image; the same inputs give the same document."""
    components = sorted(_components(program), key=lambda one: (one["name"].lower(), one["bom-ref"]))
    content = json.dumps([program, VERSION, components])
    image = {"type": "container", "bom-ref": f"crease-{program}", "name": f"crease/{program}", "version": VERSION}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {
            "component": image,
            "properties": [{"name": "crease:platform", "value": f"{sys.platform}-{platform.machine()}"}],
        },
        "components": components,
        "dependencies": [{"ref": image["bom-ref"], "dependsOn": sorted(one["bom-ref"] for one in components)}],
    }


def pins(lock: str) -> dict[str, str]:
    """Package names and versions of a lock for this platform and Python."""
    requirements = (Requirement(line) for line in PIN.findall((ROOT / "locks" / f"{lock}.txt").read_text()))
    chosen = (one for one in requirements if one.marker is None or one.marker.evaluate())
    return {canonicalize_name(one.name): next(iter(one.specifier)).version for one in chosen}


def _components(program: str) -> Iterator[Component]:
    removed = _removed(program)
    for name, version in pins(program).items():
        package = _distribution(name)
        component = _package(name, version, package)
        if _modules(package) <= removed:
            component["scope"] = "excluded"
        yield component
        if component["scope"] == "required":
            yield from _native(name, package)
    if program == "analyzer":
        yield _model()


def _package(name: str, version: str, package: metadata.Distribution) -> Component:
    purl = f"pkg:pypi/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "scope": "required",
        "purl": purl,
        "licenses": _licences(package),
    }


def _native(name: str, package: metadata.Distribution) -> Iterator[Component]:
    """The shared libraries in the wheel's .libs folder; their versions are those of the file names (ABI versions)."""
    for file in package.files or ():
        if not file.parts[0].endswith(".libs"):
            continue
        match = LIBRARY.fullmatch(file.name)
        if match is None:
            raise SystemExit(f"{file} of {name}: its name has no library name and version; extend LIBRARY")
        major = str(match["version"]).partition(".")[0]
        licence = NATIVE_LICENCES.get(match["name"]) or NATIVE_LICENCES.get(f"{match['name']} {major}")
        if licence is None:
            raise SystemExit(f"{file} of {name}: its licence is unknown; add it to NATIVE_LICENCES")
        yield {
            "type": "library",
            "bom-ref": f"{name}/{file.name}",
            "name": f"lib{match['name']}",
            **({"version": match["version"]} if match["version"] else {}),
            "scope": "required",
            "licenses": [{"expression": licence}],
            "properties": [
                {"name": "crease:bundled-in", "value": name},
                {"name": "crease:file", "value": file.as_posix()},
            ],
        }


def _model() -> Component:
    [(name, version)] = pins("model").items()
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model/{POSE_MODEL}",
        "name": POSE_MODEL,
        "version": version,
        "scope": "required",
        "hashes": [{"alg": "SHA-256", "content": MODELS[POSE_MODEL]}],
        "licenses": _licences(_distribution(name)),
        "properties": [{"name": "crease:extracted-from", "value": f"pkg:pypi/{name}@{version}"}],
    }


def _distribution(name: str) -> metadata.Distribution:
    """The installed package; the trial's packages are in the environment of the laptop's S3 server."""
    paths = [*sys.path, *map(str, ROOT.glob(".venv-ministack/lib/python*/site-packages"))]
    found = next(iter(metadata.distributions(name=name, path=paths)), None)
    if found is None:
        raise SystemExit(f"{name} is not installed, so its licence is unknown; run `make setup`")
    return found


def _licences(package: metadata.Distribution) -> list[dict[str, Any]]:
    """In CycloneDX's form: an SPDX expression if the metadata has one, else the licence's name."""
    for expression in package.metadata.get_all("License-Expression") or ():
        return [{"expression": expression}]
    for name in package.metadata.get_all("License") or ():
        if 0 < len(name) <= LONGEST_LICENCE_NAME and "\n" not in name:
            return [{"license": {"name": name}}]
    classifiers = package.metadata.get_all("Classifier") or ()
    return [{"license": {"name": one.rpartition(" :: ")[2]}} for one in classifiers if one.startswith("License :: ")]


def _modules(package: metadata.Distribution) -> set[str]:
    """The top-level modules and folders of a package."""
    tops = {file.parts[0] for file in package.files or ()}
    return {top for top in tops if not top.endswith(".dist-info") and top not in ("..", "__pycache__")}


def _removed(program: str) -> set[str]:
    """The folders that the image's stage in the Dockerfile removes."""
    stage = (
        (ROOT / "Dockerfile").read_text().partition(f"FROM build AS {program}-packages\n")[2].partition("\nFROM ")[0]
    )
    unused = re.search(r'UNUSED="?([^"]*?)"? \\\n +\./packages|UNUSED=(\S+) \./packages', stage)
    return set((unused[1] or unused[2]).replace("\\\n", " ").split()) if unused else set()


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        document = sbom(program)
        path = OUT / f"{program}.cdx.json"
        path.write_text(json.dumps(document, indent=1) + "\n")
        print(f"{path.relative_to(ROOT)}: {len(document['components'])} components")


if __name__ == "__main__":
    main()
