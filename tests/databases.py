"""A real PostgreSQL for the tests: Debian's."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.pipeline import free_port


@pytest.fixture
def postgresql():
    """A real PostgreSQL server on this machine alone; the address of its database."""
    with serving() as port:
        yield f"postgresql+psycopg://seamline@127.0.0.1:{port}/postgres"


@contextmanager
def serving(others: str = "") -> Iterator[int]:
    """PostgreSQL in a folder of its own; its port. `others`: an address at which it asks other machines for a password."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.fail("PostgreSQL is not installed. Debian: apt-get install postgresql")
    folder, port = Path(tempfile.mkdtemp(prefix="seamline-")), free_port()
    as_other = []
    if os.getuid() == 0:  # it refuses to run as root
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        as_other = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    made = [binaries[-1] / "initdb", "--auth=trust", "--username=seamline", "--no-sync", "--pgdata", folder / "data"]
    subprocess.run([*as_other, *made], check=True, capture_output=True, cwd="/")
    listening = ",".join(["127.0.0.1", *([others] if others else [])])
    if others:
        with (folder / "data/pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {others}/24 scram-sha-256\n")
    options = f"-p {port} -c listen_addresses={listening} -c unix_socket_directories={folder} -c fsync=off"
    control = [*as_other, binaries[-1] / "pg_ctl", "--pgdata", folder / "data", "--silent", "--wait"]
    subprocess.run([*control, "--options", options, "--log", folder / "log", "start"], check=True, cwd="/")
    try:
        yield port
    finally:
        subprocess.run([*control, "--mode=immediate", "stop"], check=True, cwd="/")
        shutil.rmtree(folder)
