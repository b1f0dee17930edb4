"""What the tests of retraining share: a project whose stages take a moment, and Prefect's records of its runs.

Its stages are shell scripts; `challenge` and `release` are the small script below in place of tasks/__main__.py, which
keeps the agreement of the real ones: arguments, files, exit status. The real ones have tests of their own. Two that
write at once leave a file, `clashes`.
"""

import subprocess
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests
import yaml

from tasks import runs
from tests.pipeline import Project, new

STEPS = """
import fcntl, json, os, shutil, sys, time
from pathlib import Path


def model(bundle):
    file = Path(bundle) / "model.txt"
    return file.read_text() if file.is_file() else ""


def challenge(releases, normalised, bundle, metrics, verdict, page):
    live, new = model(f"{releases}/live/bundle"), model(bundle)
    decided = "same" if live == new else "refused" if live and float(new) < float(live) - 0.01 else "released"
    Path(verdict).write_text(json.dumps({"verdict": decided}))
    Path(page).write_text(f"# Challenge\\n\\n| | accuracy |\\n|---|---:|\\n| champion | {live} |\\n| challenger | {new} |\\n")
    if decided == "refused":
        print(f"challenge: refused: accuracy {float(new)} is worse than {float(live)}")
        sys.exit(1)


def release(releases, bundle, verdict, note):
    if model(f"{releases}/live/bundle") == model(bundle):
        return
    version = str(1 + sum(path.name.isdigit() for path in Path(releases).glob("*")))
    shutil.rmtree(f"{releases}/.tmp.{version}", ignore_errors=True)
    shutil.copytree(bundle, f"{releases}/.tmp.{version}/bundle")
    Path(f"{releases}/.tmp.{version}").rename(f"{releases}/{version}")
    link = Path(f"{releases}/.tmp.live")
    link.unlink(missing_ok=True)
    link.symlink_to(version)
    link.replace(f"{releases}/live")
    held("announce")
    Path(note).write_text(json.dumps({"version": version}))


def held(step):
    if Path(f"hold-{step}").exists():
        print(f"{step}: held", flush=True)
        Path(f"held-{step}").write_text(str(os.getpid()))
        while Path(f"hold-{step}").exists():
            time.sleep(0.1)


step, *paths = sys.argv[1:]
alone = Path("writer").open("w")
try:
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    with Path("clashes").open("a") as log:
        log.write(f"{step}\\n")
held(step)
globals()[step](*paths)
"""
# What each stage's script begins with: `held` above, and the same look at who else writes.
BEGINS = """\
step=${0%.sh}
exec 9>writer; flock -n 9 || echo $step >> clashes
if test -e hold-$step; then echo $$ > held-$step; while test -e hold-$step; do sleep 0.1; done; fi
"""
# `learn` makes of the accuracy that incoming.txt promises a model that has it; `gate` refuses less than a half.
STAGES = {
    "learn": (
        ["incoming.txt"],
        ["data/model.txt", "exports/bundle"],
        """\
mkdir -p exports/bundle data/reports
cp incoming.txt data/model.txt; cp incoming.txt exports/bundle/model.txt
""",
    ),
    "gate": (
        ["data/model.txt"],
        ["data/gate.txt", "data/reports/metrics.json"],
        """\
m=$(cat data/model.txt)
echo "{\\"accuracy\\": $m, \\"worst_class\\": \\"Shirt\\", \\"worst_recall\\": $m}" > data/reports/metrics.json
echo "gate: at work"
if awk "BEGIN {exit !($m < 0.5)}"; then echo "gate: refused: accuracy is $m, the limit is 0.5"; exit 1; fi
echo passed > data/gate.txt
""",
    ),
    "report": (
        ["data/gate.txt", "data/reports/metrics.json"],
        ["data/report.html"],
        'echo "<p>$(cat data/model.txt)" > data/report.html\n',
    ),
}


def made(folder: Path, environment: dict[str, str]) -> Project:
    """Such a project, in git; nothing has run."""
    project = new(folder, environment, ("flows", "tasks", "seamline"))
    (project.root / "tasks/__main__.py").write_text(STEPS)
    described = {}
    for name, (reads, writes, script) in STAGES.items():
        (project.root / f"{name}.sh").write_text(BEGINS + script)
        outs = [{path: {"persist": True}} if path.startswith("exports") else path for path in writes]
        described[name] = {"cmd": f"sh {name}.sh", "deps": [f"{name}.sh", *reads], "outs": outs}
    (project.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": described}, sort_keys=False))
    for name in ("data/normalised", "data/reports", "exports/releases"):
        (project.root / name).mkdir(parents=True)
    (project.root / "incoming.txt").write_text("0.9")
    project.commit("stages that take a moment")
    return project


def start_quietly(project: Project, *command: str) -> subprocess.Popen[bytes]:
    """Start a command that says more than anybody reads, in a session of its own."""
    return subprocess.Popen(
        command,
        cwd=project.root,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def records(project: Project) -> list[runs.Record]:
    found, broken = runs.read_all(project.root)
    assert broken == []
    return found


def live(project: Project) -> str:
    """What the model that serves promises, "" before the first one."""
    file = project.root / "exports/releases/live/bundle/model.txt"
    return file.read_text() if file.is_file() else ""


def wait_for(true: Any, within_s: float, what: str) -> Any:
    """The first true value of a function that is asked again and again."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if value := true():
            return value
        time.sleep(0.1)
    pytest.fail(f"not within {within_s:.0f} s: {what}")


def bring(project: Project, accuracy: str) -> None:
    """New data, of which a model of this accuracy comes."""
    (project.root / "incoming.txt").write_text(accuracy)


def hold(project: Project, step: str) -> Path:
    """From now on this step waits; the file that holds it, to be removed."""
    (project.root / f"held-{step}").unlink(missing_ok=True)
    file = project.root / f"hold-{step}"
    file.touch()
    return file


def held(project: Project, step: str, within_s: float = 90) -> int:
    """The process of the step, once it waits."""
    file = project.root / f"held-{step}"
    return int(wait_for(lambda: file.is_file() and file.read_text(), within_s, f"{step} at work"))


def state(client: Any, flow_run: Any) -> Any:
    return client.read_flow_run(UUID(str(flow_run))).state


def ended(client: Any, flow_run: Any, within_s: float = 90) -> Any:
    """The final state of a flow run."""

    def final() -> Any:
        found = state(client, flow_run)
        return found if found and found.is_final() else None

    return wait_for(final, within_s, f"a final state of {flow_run}: {state(client, flow_run)}")


def answers(server: str) -> bool:
    """Whether Prefect's API answers at this address."""
    try:
        return requests.get(f"{server}/health", timeout=5).ok
    except requests.RequestException:
        return False
