"""A real SSH server for DVC's remotes."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.pipeline import end, free_port

READ_ONLY = "internal-sftp -R"


@contextmanager
def ssh_server(folder: Path, sftp: str = "internal-sftp") -> Iterator[tuple[int, Path]]:
    """A real sshd on this machine alone, for this user, with keys of its own: its port and the user's private key.

    Args:
        folder: for its keys and its log.
        sftp: sshd's subsystem; READ_ONLY: one that refuses to write.
    """
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if not sshd:
        pytest.fail("The real SSH server is not installed. Debian: apt-get install openssh-server")
    keys = folder / "keys"
    keys.mkdir(mode=0o700, parents=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True)
    (keys / "authorized").write_text((keys / "user.pub").read_text())
    port = free_port()
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": keys / "host",
        "AuthorizedKeysFile": keys / "authorized",
        "PidFile": folder / "sshd.pid",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "Subsystem": f"sftp {sftp}",
    }
    (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd run by root insists on it
    log = folder / "sshd.log"
    process = subprocess.Popen([sshd, "-D", "-f", str(folder / "sshd_config"), "-E", str(log)], start_new_session=True)
    deadline = time.monotonic() + 20
    while "Server listening" not in (log.read_text() if log.exists() else "") and time.monotonic() < deadline:
        time.sleep(0.1)
    try:
        yield port, keys / "user"
    finally:
        end(process)
