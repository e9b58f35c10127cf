"""The image's SBOM: what pip installed in a virtual environment, as CycloneDX JSON (ECMA-424).

    sbom.py PYTHON REPORT > mockservice.cdx.json

cyclonedx-py reads the environment of the interpreter PYTHON, without times and random ids. REPORT
is what `pip install --report` wrote: it knows which file each distribution came from, and its hash,
which has been checked against the lock.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

OWN: Final = "mockservice"


def main(python: str, report: str) -> int:
    """Write the SBOM to standard output.

    Returns:
        The exit code: 0, or 1 for one that is not valid.
    """
    tool = Path(sys.executable).with_name("cyclonedx-py")
    done = subprocess.run(  # noqa: S603
        [tool, "environment", "--output-reproducible", python], stdout=subprocess.PIPE, check=True
    )
    sbom: dict[str, Any] = json.loads(done.stdout)
    reported = json.loads(Path(report).read_text("utf-8"))["install"]
    installed = {canonicalize_name(one["metadata"]["name"]): one for one in reported}
    own = next(one for one in sbom["components"] if one["name"] == OWN)
    # What the SBOM is about. Where its wheel was built tells nobody anything.
    sbom["components"].remove(own)
    own.pop("externalReferences", None)
    sbom["metadata"]["component"] = own | {"type": "application"}
    for component in sbom["components"]:
        _add(component, installed[canonicalize_name(component["name"])])
    text = json.dumps(sbom, indent=1, ensure_ascii=False)
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        sys.stderr.write(f"sbom.py: {error}\n")
        return 1
    sys.stdout.write(f"{text}\n")
    return 0


def _add(component: dict[str, Any], installed: dict[str, Any]) -> None:
    """Add what only pip's report says: the file, and a license that has no SPDX name."""
    file = installed["download_info"]
    hashes = [{"alg": "SHA-256", "content": file["archive_info"]["hashes"]["sha256"]}]
    reference = {"type": "distribution", "url": file["url"], "hashes": hashes}
    # What metadata calls a download may be a page.
    others = [
        ref for ref in component.get("externalReferences", ()) if ref["type"] != "distribution"
    ]
    component["externalReferences"] = [*others, reference]
    if "licenses" not in component and "license" in installed["metadata"]:
        name = installed["metadata"]["license"]
        component["licenses"] = [{"license": {"name": name, "acknowledgement": "declared"}}]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
