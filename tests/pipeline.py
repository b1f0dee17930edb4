"""What the tests of flows, versions and faults share: projects in folders of their own, and one Prefect server.

A module that needs them says `pytest_plugins = ["tests.pipeline"]`. A full run on the real data takes more than a
minute, so it is made once (`finished_flow`); tests get copies, whose large files are hard links: DVC and the stages
replace files by renaming and never write into them.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import requests
import yaml

ROOT = Path(__file__).resolve().parent.parent
FILES = ("dvc.yaml", "params.yaml", "prefect.yaml", "pyproject.toml", ".gitignore", ".dvcignore", ".dvc/config")
INCOMING = "data/incoming/README.md"
FOLDERS = ("flows", "tasks", "models", "recipes", "seamline")
SMALL = {  # a minute's run of everything: the real pictures, one epoch of a narrow net on a sixth of them
    "normalise.validation_per_class": 5000,
    "gate.min_accuracy": 0.3,
    "gate.min_recall": 0.0,
}
LINKED_BYTES = 2**20  # files of this size on are hard links in a copy
SERVER_START_S = 120
TINY_STAGES = {"ingest": [], "gate": ["data/ingest.txt"], "report": ["data/gate.txt"]}  # name → what it reads
TINY_REPORTS = {  # what flows/summary.py reads after a run
    "metrics": '{"accuracy": 0.9, "accuracy_low": 0.89, "accuracy_high": 0.91, "worst_class": "Shirt", '
    '"worst_recall": 0.7}',
    "verdict": '{"passed": true, "limits": {"min_accuracy": 0.8, "min_recall": 0.6}}',
    "export": '{"same_class": 10, "images": 10, "largest_difference": 1e-07, "bytes": 1000, "latency_us": 50.0}',
    "quantise": '{"reasons": ["it loses 0.20 points of accuracy, the limit is 0.10"]}',
}


class Project(NamedTuple):
    """A project's folder, and the environment that its commands run in."""

    root: Path
    environment: dict[str, str]

    def run(self, *command: str, timeout_s: float = 280, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; standard output and standard error apart."""
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command in a session of its own; standard output and standard error together."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def ok(self, *command: str, **environment: str) -> str:
        """Run a command that must succeed; its standard output."""
        done = self.run(*command, **environment)
        if done.returncode:
            pytest.fail(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def dvc(self, *arguments: str, **environment: str) -> str:
        """Run DVC, which must succeed; its standard output."""
        return self.ok("dvc", *arguments, **environment)

    def commit(self, message: str) -> None:
        self.ok("git", "add", "--all")
        self.ok("git", "commit", "--quiet", "--message", message)

    def change(self, numbers: dict[str, Any]) -> None:
        """Change numbers of params.yaml, by their dotted names."""
        path = self.root / "params.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, value in numbers.items():
            section, _, key = name.partition(".")
            if key not in content[section]:
                pytest.fail(f"params.yaml has no {name}")
            content[section][key] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def outputs(self) -> dict[str, bytes]:
        """Everything that DVC holds of this project, by path: content of each file."""
        found = yaml.safe_load((self.root / "dvc.lock").read_text(encoding="utf-8"))["stages"].values()
        paths = [self.root / out["path"] for stage in found for out in stage["outs"]]
        files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
        return {
            str(file.relative_to(self.root)): file.read_bytes()
            for file in files
            if file.is_file() and not file.name.startswith(".tmp.")
        }

    def ran(self) -> dict[str, int]:
        """Stage → when it last ran, as the age of its timing says (a stage that DVC skips or restores writes none)."""
        return {path.stem: path.stat().st_mtime_ns for path in (self.root / "data/timings").glob("*.json")}

    def temporary_files(self) -> list[str]:
        return [str(path.relative_to(self.root)) for path in self.root.rglob(".tmp.*")]


class Served(NamedTuple):
    """A flow that ran against the server: how the command ended, and the run's identifier."""

    done: subprocess.CompletedProcess[str]
    flow_run: str


def _run_flow(project: Project, server: str, before: str = "") -> Served:
    """`python -m flows.training` against a server; `before`: Python to run first, such as `training.RETRIES = {}`."""
    script = f"import sys; from flows import training; {before}; sys.exit(training.main())"
    arguments = ("-c", script) if before else ("-m", "flows.training")
    done = project.run(sys.executable, *arguments, PREFECT_API_URL=server)
    found = re.search(r"/runs/flow-run/([0-9a-f-]{36})", done.stdout + done.stderr)
    if not found:
        pytest.fail(f"no flow run in:\n{done.stdout}\n{done.stderr}")
    return Served(done, found[1])


def copy_of(project: Project, folder: Path) -> Project:
    """A project with its data, DVC's cache and git's history, in another folder."""
    shutil.copytree(project.root, folder, symlinks=True, copy_function=_copy_or_link)
    return Project(folder, project.environment)


def _copy_or_link(source: str, target: str) -> None:
    large = Path(source).stat().st_size >= LINKED_BYTES
    os.link(source, target) if large else shutil.copy2(source, target)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[Any], by: signal.Signals = signal.SIGKILL) -> None:
    """End a process of `start` and all that it started in its session."""
    if process.poll() is None:
        os.killpg(process.pid, by)
    process.wait(timeout=60)


def running(pid: int) -> bool:
    """Whether a process is at work: neither gone nor a zombie that nobody has asked for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def all_ended(pids: list[int], within_s: float = 10) -> bool:
    """Whether none of these processes is at work any more, or soon."""
    until = time.monotonic() + within_s
    while any(map(running, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(running, pids))


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat")]
    return [int(stat.split()[0]) for stat in stats if stat.rpartition(")")[2].split()[1] == str(pid)]


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine with our tools, without settings of its owner's."""
    return bare(tmp_path_factory.mktemp("machine"))


def bare(home: Path) -> dict[str, str]:
    """Such an environment, whose tools keep their own files in `home`."""
    settings = ("PREFECT_", "DVC_", "SEAMLINE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(home / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(home / "global"),
        "DVC_SYSTEM_CONFIG_DIR": str(home / "system"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture(scope="session")
def server(machine: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server on this machine alone; the address of its API."""
    with serving(machine, tmp_path_factory.mktemp("server")) as address:
        yield address


@contextmanager
def serving(environment: dict[str, str], folder: Path) -> Iterator[str]:
    """A Prefect server, ended with the block; the address of its API."""
    port, log = free_port(), folder / "log"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/health", process, log)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        end(process, signal.SIGTERM)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + SERVER_START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if requests.get(address, timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
    pytest.fail(f"Prefect's server did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def client(server: str, machine: dict[str, str]) -> Iterator[Any]:
    """Prefect's client of that server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", machine["PREFECT_HOME"])
        from prefect.client.orchestration import SyncPrefectClient

        with SyncPrefectClient(server) as connected:
            yield connected


@pytest.fixture(scope="session")
def run_flow() -> Callable[..., Served]:
    """(project, server, before=Python) → the flow, run to its end."""
    return _run_flow


@pytest.fixture(scope="session")
def tiny_once(tmp_path_factory: pytest.TempPathFactory, machine: dict[str, str]) -> Project:
    """See `tiny`."""
    project = new(tmp_path_factory.mktemp("tiny") / "project", machine, ("flows", "tasks", "seamline"))
    described = {
        name: {"cmd": f"sh {name}.sh", "deps": [f"{name}.sh", *reads], "params": [name], "outs": [f"data/{name}.txt"]}
        for name, reads in TINY_STAGES.items()
    }
    (project.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": described}, sort_keys=False))
    (project.root / "data/reports").mkdir()
    for name, content in TINY_REPORTS.items():
        (project.root / f"data/reports/{name}.json").write_text(content)
    (project.root / "exports").mkdir()
    (project.root / "exports/version.json").write_text('{"version": 1, "content": "c"}')
    for name in TINY_STAGES:
        script = f"echo '{name}: at work'\necho '| {name} |' > data/reports/{name}.md\necho {name} > data/{name}.txt\n"
        (project.root / f"{name}.sh").write_text(script)
    project.commit("three stages")
    return project


@pytest.fixture
def tiny(tiny_once: Project, tmp_path: Path) -> Project:
    """A project whose three stages are shell scripts: `ingest.sh`, `gate.sh`, `report.sh`, for a test to replace."""
    return copy_of(tiny_once, tmp_path / "tiny")


@pytest.fixture(scope="session")
def tiny_done_once(tiny_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """See `tiny_done`."""
    project = copy_of(tiny_once, tmp_path_factory.mktemp("tiny-done") / "project")
    project.dvc("repro", "--quiet")
    project.commit("ran")
    return project


@pytest.fixture
def tiny_done(tiny_done_once: Project, tmp_path: Path) -> Project:
    """Likewise, and every stage has run."""
    return copy_of(tiny_done_once, tmp_path / "tiny-done")


@pytest.fixture(scope="session")
def fashion(tmp_path_factory: pytest.TempPathFactory, machine: dict[str, str]) -> Path:
    """A folder with the four files of Fashion-MNIST: this project's own, or fetched as a newcomer would."""
    source = new(tmp_path_factory.mktemp("fashion") / "source", machine, FOLDERS)
    source.change({"ingest.folder": str(ROOT / "data/raw")})
    source.ok(sys.executable, "-m", "tasks", "ingest", "raw", "ingest.md")
    return source.root / "raw"


@pytest.fixture(scope="session")
def finished_flow(
    machine: dict[str, str], fashion: Path, server: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, Served]:
    """A project in which the whole flow ran once, on the real data, and what ran. Not to be changed: see `finished`."""
    project = new(tmp_path_factory.mktemp("finished") / "project", machine, FOLDERS)
    project.change(SMALL | {"ingest.folder": str(fashion)})
    recipe = project.root / "recipes/swift.yaml"
    short = re.sub(r"(?m)^epochs: \d+$", "epochs: 1", recipe.read_text())
    recipe.write_text(re.sub(r"(?m)^size: .*$", "size: {width: 8, blocks: 1}", short))
    project.commit("small numbers")
    served = _run_flow(project, server)
    if served.done.returncode:
        pytest.fail(f"the flow failed:\n{served.done.stdout}\n{served.done.stderr}")
    project.commit("a model")
    return project, served


@pytest.fixture
def finished(finished_flow: tuple[Project, Served], tmp_path: Path) -> Project:
    """A copy of the project in which the whole flow ran once."""
    return copy_of(finished_flow[0], tmp_path / "project")


def new(folder: Path, environment: dict[str, str], folders: tuple[str, ...]) -> Project:
    """A git repository with our code, committed; nothing has run in it."""
    for name in folders:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".dvc").mkdir()
    (folder / INCOMING).parent.mkdir(parents=True)
    for name in (*FILES, INCOMING):
        shutil.copy2(ROOT / name, folder / name)
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    project = Project(folder, environment)
    project.ok("git", "init", "--quiet", "--initial-branch", "main")
    project.ok("git", "config", "user.name", "Test")
    project.ok("git", "config", "user.email", "test@localhost")
    project.commit("the code")
    return project


def cloned(project: Project, folder: Path) -> Project:
    """A fresh clone of what is committed: no data, no cache."""
    subprocess.run(["git", "clone", "--quiet", str(project.root), str(folder)], check=True, env=project.environment)
    return Project(folder, project.environment)


def artifacts(client: Any, flow_run: str) -> dict[str, Any]:
    """Key → what a flow run shows on Prefect's pages."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(flow_run)]))
    return {found.key: found for found in client.read_artifacts(flow_run_filter=chosen, limit=100)}
