"""Clocks that are wrong or jump: tests/clock.c under the processes that get the environment of one.

A module that needs one says `pytest_plugins = ["tests.clocks"]`.
"""

import shutil
import struct
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c").with_stem("clock")


class Clock:
    """The time of day of some processes, which may be changed while they run."""

    def __init__(self, folder: Path):
        compiler = shutil.which("cc")
        assert compiler, "There is no C compiler. Debian: apt-get install gcc libc6-dev"
        library, self._file = folder / "clock.so", folder / "clock"
        subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, SOURCE], check=True)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK": str(self._file)}
        self.set(timedelta())

    def set(self, ahead: timedelta) -> None:
        """How far it is ahead from now on; behind, if that is negative."""
        self.ahead = ahead
        packed = struct.pack("q", round(ahead.total_seconds()))
        if self._file.exists():
            with self._file.open("r+b") as file:  # the same file, which processes have mapped
                file.write(packed)
        else:
            self._file.write_bytes(packed)

    def now(self) -> datetime:
        """What those processes take for the present."""
        return datetime.now(UTC) + self.ahead


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    """A clock that is right at first."""
    return Clock(tmp_path_factory.mktemp("clock"))
