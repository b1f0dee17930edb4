"""A bundle proved as a device will find it: in a process that has the standard library, numpy and onnxruntime alone.

The process sees no site-packages (`python -I -S`), but a folder of links to what may be there: `seamline`, and
onnxruntime with everything that it requires. Whatever else the runtime came to need would not be found.
"""

import os
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import seamline
from tasks.errors import ReleaseError, how_ended

TIMEOUT_S = 300
START = "import sys; sys.path.append(sys.argv.pop(1)); "
VERIFY = "from seamline.__main__ import main; sys.exit(main())"


def prove(bundle: Path) -> None:
    """Verify a bundle's digests and golden vectors in a process that has nothing else.

    Raises:
        ReleaseError: it must not be used, or it needs more than a device has.
    """
    done = alone(VERIFY, "verify", str(bundle.resolve()))
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        failed = [line.removeprefix("FAIL ") for line in said if line.startswith("FAIL")] or said[-1:]
        failed = failed or [how_ended(done.returncode)]
        raise ReleaseError(f"not released: with numpy and onnxruntime alone the bundle fails: {'; '.join(failed)}.")


def alone(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code, `sys` imported, with what a device has.

    Raises:
        ReleaseError: it does not end in time.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for path in needed():
            (Path(scratch) / path.name).symlink_to(path)
        command = [sys.executable, "-I", "-S", "-B", "-c", START + code, scratch, *arguments]
        environment = {"ORT_DISABLE_TELEMETRY": "1", "PATH": os.environ.get("PATH", "")}
        try:
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ReleaseError(f"not released: the bundle's check took more than {TIMEOUT_S} s.") from error


def needed() -> list[Path]:
    """The folders and modules of `seamline`, onnxruntime and all that it requires."""
    found, names = {Path(seamline.__file__).parent}, ["onnxruntime"]
    for name in names:  # which grows
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # of another platform; if not, the bundle fails
            continue
        names += [other for other in _requires(distribution) if other not in names]
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in {"..", "__pycache__"}}
        found |= {Path(str(distribution.locate_file(top))) for top in tops if not top.endswith(".dist-info")}
    return sorted(found)


def _requires(distribution: metadata.Distribution) -> list[str]:
    """What it cannot do without: `numpy>=1.21.6` is numpy; what an extra adds is left out."""
    required = [line for line in distribution.requires or () if "extra ==" not in line]
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required]
