"""The rules of ARCHITECTURE.md, held."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tasks import __main__ as command
from tasks import params

ROOT = Path(__file__).resolve().parent.parent
OURS = {"flows", "tasks", "models", "seamline", "benchmarks"}
# They check and report but compute nothing: editing them cannot change what a stage writes (tasks/params.py says why).
CHECK_ONLY = {"tasks/__init__.py", "tasks/__main__.py", "tasks/params.py", "tasks/errors.py", "seamline/__main__.py"}
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES = list(DVC["stages"])
RECIPE = "recipes/${train.recipe}.yaml"
FROM_OUTSIDE = {"data/incoming"}  # what people and kiosks put there
NOT_RESULTS = {"data/timings", "data/checkpoints"}  # what DVC neither keeps nor compares


def sources(package):
    return sorted((ROOT / package).rglob("*.py"))


def imported(path):
    """Every module that a file imports, wherever in it: names as written."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def packages(path):
    return {name.partition(".")[0] for name in imported(path)}


def first_party_files(path, seen=frozenset()):
    """The files of ours that running `path` runs, itself included."""
    if path in seen:
        return set(seen)
    found = {*seen, path}
    for name in imported(path):
        if name.partition(".")[0] not in OURS:
            continue
        stem = ROOT / name.replace(".", "/")
        for file in (stem.with_suffix(".py"), stem / "__init__.py", stem.parent / "__init__.py"):
            if file.is_file():
                found = first_party_files(file, frozenset(found))
    return found


def included(template):
    """A template and those that it includes."""
    return [template.name, *re.findall(r'{% include "([^"]+)" %}', template.read_text(encoding="utf-8"))]


def paths_of(entries):
    return [path for entry in entries for path in (entry if isinstance(entry, dict) else [entry])]


def written(stage):
    return paths_of(DVC["stages"][stage].get("outs", []) + DVC["stages"][stage].get("metrics", []))


@pytest.mark.parametrize("package", sorted(OURS - {"flows", "benchmarks"}))
def test_only_flows_import_prefect(package):
    assert [path for path in sources(package) if "prefect" in packages(path)] == []


@pytest.mark.parametrize(
    ("package", "may_import"),
    [
        pytest.param("seamline", {"seamline"}, id="what ships stands alone"),
        pytest.param("models", {"models"}, id="the zoo stands alone"),
        pytest.param("tasks", {"tasks", "models", "seamline"}, id="tasks use the zoo and prove what ships"),
        pytest.param("flows", {"flows", "tasks", "seamline"}, id="flows never build a model"),
    ],
)
def test_who_may_import_whom(package, may_import):
    assert {name for path in sources(package) for name in packages(path) & OURS} <= may_import


def test_what_ships_needs_numpy_onnxruntime_for_pictures_pillow_and_beyond_100_000_faiss():
    paths = [path for path in sources("seamline") if path.parent.name != "service"]
    third_party = {name for path in paths for name in packages(path)} - set(sys.stdlib_module_names)

    assert third_party == {"seamline", "numpy", "onnxruntime", "PIL", "faiss"}
    assert [path.name for path in sources("seamline") if "PIL" in packages(path)] == [
        "decoding.py",
        "foreground.py",
        "pictures.py",
    ]
    assert [path.name for path in sources("seamline") if "faiss" in packages(path)] == ["lists.py"]


def test_only_the_service_needs_the_extra_server_and_only_its_command_imports_it():
    service = [path for path in sources("seamline") if path.parent.name == "service"]
    third_party = {name for path in service for name in packages(path)} - set(sys.stdlib_module_names)
    from_outside = [path for path in sources("seamline") if path not in service]

    assert third_party == {"seamline", "numpy", "starlette", "uvicorn", "python_multipart", "prometheus_client"}
    assert [path.name for path in from_outside if any("seamline.service" in name for name in imported(path))] == [
        "__main__.py"
    ]


def test_seamline_starts_without_the_service():
    code = (
        "import sys; from seamline.__main__ import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: print(*{'starlette', 'uvicorn', 'prometheus_client', 'asyncio'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert said.splitlines()[1:] == [""]


def test_a_stage_has_one_word():
    assert params.STAGES == STAGES
    assert list(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))) == [
        *STAGES,
        "experiments",
        "challenge",
        "release",
    ]
    assert [stage for stage in STAGES if not (ROOT / "tasks" / f"{stage}.py").is_file()] == []
    assert [stage for stage in STAGES if not (ROOT / "tests" / f"test_{stage}.py").is_file()] == []
    assert [DVC["stages"][stage]["params"][0] for stage in STAGES] == STAGES
    assert [DVC["stages"][stage]["params"][1:] for stage in STAGES if stage != "train"] == [[]] * (len(STAGES) - 1)
    assert DVC["stages"]["train"]["params"][1:] == [{RECIPE: None}]


@pytest.mark.parametrize("command", command.PUBLISHING)
def test_what_publishes_is_no_stage_but_has_its_own_word(command):
    assert command not in STAGES
    assert (ROOT / "tasks" / f"{command}.py").is_file()
    assert (ROOT / "tests" / f"test_{command}.py").is_file()


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_sees_every_file_that_a_stage_runs(stage):
    runs = {str(path.relative_to(ROOT)) for path in first_party_files(ROOT / "tasks" / f"{stage}.py")} - CHECK_ONLY
    templates = {f"tasks/{name}" for path in (ROOT / "tasks").glob(f"{stage}.*.jinja") for name in included(path)}
    deps = [ROOT / dep for dep in DVC["stages"][stage]["deps"] if not dep.startswith(("data/", "exports/"))]
    files = {file for dep in deps for file in (dep.rglob("*.py") if dep.is_dir() else [dep])}

    assert {str(file.relative_to(ROOT)) for file in files} == runs | templates


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_of_a_command_is_read_or_written(stage):
    entry = DVC["stages"][stage]
    command = entry["cmd"].split()
    paths = command[command.index(stage) + 1 :]
    known = {*entry.get("deps", []), *written(stage)}
    folders = {str(Path(path).parent) for path in known}

    assert command[:4] == ["python", "-m", "tasks", stage]
    assert [path for path in paths if path not in known | folders | NOT_RESULTS | {RECIPE}] == []


def test_dvc_yaml_reads_from_top_to_bottom():
    there = set(FROM_OUTSIDE)
    for stage in STAGES:
        data = [dep for dep in DVC["stages"][stage].get("deps", []) if dep.startswith(("data/", "exports/"))]
        assert [dep for dep in data if not any(dep == out or dep.startswith(f"{out}/") for out in there)] == []
        there |= set(written(stage))


@pytest.mark.parametrize(
    ("stage", "unneeded"),
    [
        pytest.param("gate", {"tensorflow", "keras", "prefect", "great_expectations", "pandas"}, id="gate"),
        pytest.param("ingest", {"tensorflow", "keras", "prefect", "great_expectations", "pandas"}, id="ingest"),
        pytest.param("normalise", {"tensorflow", "keras", "prefect", "great_expectations", "pandas"}, id="normalise"),
        pytest.param("admit", {"tensorflow", "keras", "prefect", "great_expectations"}, id="admit"),
        pytest.param("validate", {"tensorflow", "keras", "prefect"}, id="validate"),
        pytest.param(
            "challenge", {"tensorflow", "keras", "prefect", "great_expectations", "pandas", "dvc"}, id="challenge"
        ),
        pytest.param(
            "release", {"tensorflow", "keras", "prefect", "great_expectations", "pandas", "dvc"}, id="release"
        ),
        pytest.param("report", {"tensorflow", "keras", "prefect", "great_expectations", "onnxruntime"}, id="report"),
    ],
)
def test_a_stage_imports_only_what_it_needs(stage, unneeded):
    code = f"import sys, tasks.{stage}; print(*{unneeded!r} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert loaded.split() == []


def test_nothing_is_configured_on_import():
    code = (
        "import logging, os; before = dict(os.environ), logging.root.handlers[:];"
        "import tasks.gate, tasks.ingest, tasks.normalise, tasks.__main__, seamline, flows.stages;"
        "print(before == (dict(os.environ), logging.root.handlers[:]))"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert said == "True\n"


def test_the_lock_names_hashes_and_no_addresses():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.findall(r"^([A-Za-z0-9_.-]+)==", lock, re.MULTILINE)

    assert "://" not in lock
    assert len(pinned) > 100
    assert len(re.findall(r"^[A-Za-z0-9_.-]+==[^\n]*\\\n    --hash=sha256:", lock, re.MULTILINE)) == len(pinned)


def test_the_version_is_written_once_more_only_where_python_needs_it():
    import tomllib

    import seamline

    assert (
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        == seamline.__version__
    )


def test_the_readme_tree_is_the_tree():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = readme.partition("```text\n")[2].partition("```")[0]
    named = re.findall(r"^([\w./-]+)", tree, re.MULTILINE)
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    top = {path.partition("/")[0] + ("/" if "/" in path else "") for path in tracked if not path.startswith(".")}

    assert [name for name in named if not (ROOT / name).exists()] == []
    assert {f"{name.partition('/')[0]}/" if "/" in name else name for name in named} >= {
        name for name in top if name.endswith("/") or name in {"dvc.yaml", "params.yaml", "Makefile", "prefect.yaml"}
    }
