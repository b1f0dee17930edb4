"""The wheel, in an environment that has nothing else, without a network; and an onnxruntime of three years ago."""

import os
import shutil
import subprocess
import sys
import zipfile
from hashlib import sha256

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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, bundle_files):
    """What `make wheel` makes of a bundle, version 7."""
    project = tmp_path_factory.mktemp("project")
    for name in ("Makefile", "README.md", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, project)
    shutil.copytree(ROOT / "seamline", project / "seamline", ignore=shutil.ignore_patterns("__pycache__"))
    (project / ".venv").symlink_to(ROOT / ".venv")
    folders.fill(project / "exports/bundle", bundle_files(7))
    built = run("make", "wheel", "-o", ".venv/.installed", cwd=project)
    assert built.returncode == 0, built.stdout + built.stderr
    assert not (project / "seamline/shipped").exists()
    (made,) = (project / "dist").glob("*.whl")
    return made


def altered(wheel, folder, member):
    """The wheel with one byte of one file changed."""
    target = folder / wheel.name
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as copy:
        for entry in source.infolist():
            content = source.read(entry)
            middle = len(content) // 2
            other = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            copy.writestr(entry, other if entry.filename == member else content)
    return target


def test_altered_wheel_is_refused_by_the_digest_in_a_lock(tmp_path, wheel):
    lock = tmp_path / "lock.txt"
    lock.write_text(f"seamline @ {wheel.as_uri()} --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}\n")
    sync = ("uv", "pip", "install", "--no-deps", "--offline", "--require-hashes", "-r", lock)
    environment = (run("uv", "venv", "--python", sys.executable, tmp_path / name, cwd=ROOT) for name in ("one", "two"))
    assert all(made.returncode == 0 for made in environment)
    accepted = run(*sync, "--python", tmp_path / "one/bin/python", cwd=tmp_path)
    other = altered(wheel, tmp_path, "seamline/classifier.py")
    lock.write_text(lock.read_text().replace(wheel.as_uri(), other.as_uri()))
    refused = run(*sync, "--python", tmp_path / "two/bin/python", cwd=tmp_path)

    assert accepted.returncode == 0, accepted.stderr
    assert refused.returncode != 0
    assert "Hash mismatch" in refused.stderr
    assert list((tmp_path / "one").rglob("site-packages/seamline"))
    assert not list((tmp_path / "two").rglob("site-packages/seamline"))


def test_wheel_with_an_altered_model_loads_none(tmp_path, wheel):
    other = altered(wheel, tmp_path, "seamline/shipped/model.onnx")
    seamline = environment_of(tmp_path / "empty", f"{other}[pictures]").with_name("seamline")

    said = run(seamline, "classify", ROOT / "examples/bag.png", cwd=tmp_path, HOME=str(tmp_path))

    assert said.returncode == 1
    assert "model.onnx" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_wheel_classifies_offline_in_an_empty_environment(tmp_path, wheel):
    seamline = environment_of(tmp_path / "empty", f"{wheel}[pictures]").with_name("seamline")

    said = run("unshare", "-rn", seamline, "classify", ROOT / "examples/bag.png", cwd=tmp_path, HOME=str(tmp_path))
    info = run("unshare", "-rn", seamline, "info", cwd=tmp_path, HOME=str(tmp_path))

    assert said.returncode == 0, said.stderr
    assert "bag.png: kind " in said.stdout
    assert "version                    7" in info.stdout
    assert wheel.stat().st_size <= 2_000_000
    names = zipfile.ZipFile(wheel).namelist()
    assert {"seamline/service/app.py", "seamline/service/docs.css", "seamline/shipped/model.onnx"} <= set(names)
    served = run(seamline, "serve", cwd=tmp_path, HOME=str(tmp_path))
    assert (served.returncode, served.stderr) == (1, "uvicorn is not installed: pip install 'seamline[server]'\n")


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
