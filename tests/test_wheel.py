"""The wheel, in an environment that has nothing else, without a network; and an onnxruntime of three years ago."""

import os
import shutil
import subprocess
import sys

import pytest

from tasks import folders
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def run(*command, cwd, **environment):
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def environment_of(folder, *packages):
    """A new environment with these packages; its Python."""
    python = folder / "bin/python"
    made = [run("uv", "venv", "--quiet", "--python", sys.executable, folder, cwd=ROOT)]
    made.append(run("uv", "pip", "install", "--quiet", "--python", python, *packages, cwd=ROOT))
    assert all(done.returncode == 0 for done in made), made
    return python


def test_wheel_classifies_offline_in_an_empty_environment(tmp_path, bundle_files):
    project = tmp_path / "project"
    project.mkdir()
    for name in ("Makefile", "README.md", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, project)
    shutil.copytree(ROOT / "seamline", project / "seamline", ignore=shutil.ignore_patterns("__pycache__"))
    (project / ".venv").symlink_to(ROOT / ".venv")
    folders.fill(project / "exports/bundle", bundle_files(7))
    built = run("make", "wheel", "-o", ".venv/.installed", cwd=project)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (project / "dist").glob("*.whl")
    seamline = environment_of(tmp_path / "empty", f"{wheel}[pictures]").with_name("seamline")

    said = run("unshare", "-rn", seamline, "classify", ROOT / "examples/bag.png", cwd=tmp_path, HOME=str(tmp_path))
    info = run("unshare", "-rn", seamline, "info", cwd=tmp_path, HOME=str(tmp_path))

    assert said.returncode == 0, said.stderr
    assert "bag.png: kind " in said.stdout
    assert "version                    7" in info.stdout
    assert wheel.stat().st_size <= 2_000_000
    assert not (project / "seamline/shipped").exists()


def test_wheel_without_a_bundle_says_what_is_missing(tmp_path):
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "seamline", tmp_path / "seamline", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")

    built = run("make", "wheel", "-o", ".venv/.installed", cwd=tmp_path)

    assert built.returncode != 0
    assert "exports/bundle/manifest.json cannot be read" in built.stdout


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="onnxruntime 1.16 has no wheels for Python 3.12")
def test_onnxruntime_1_16_loads_the_reference_bundle_and_agrees(tmp_path):
    python = environment_of(tmp_path / "old", "onnxruntime==1.16.3", "numpy==1.26.4")

    said = run(python, "-m", "seamline", "verify", ROOT / "seamline/reference", cwd=ROOT)

    assert said.returncode == 0, said.stdout + said.stderr
    assert "ok   12 golden vectors on this processor" in said.stdout
