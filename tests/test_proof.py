"""The process that proves a bundle has what a device has, and no more."""

import shutil

import pytest

from tasks import proof
from tasks.errors import ReleaseError
from tests.conftest import ROOT

REFERENCE = ROOT / "seamline/reference"


@pytest.mark.parametrize(
    "module", ["PIL", "tensorflow", "keras", "onnx", "pydantic", "tasks", "prefect", "dvc", "rich"]
)
def test_what_a_device_has_not_cannot_be_imported_there(module):
    __import__(module)  # it is installed here

    done = proof.alone(f"import {module}")

    assert done.returncode == 1
    assert f"ModuleNotFoundError: No module named '{module}'" in done.stderr


def test_what_a_device_has_can_be_imported_there():
    done = proof.alone("import json, numpy, onnxruntime, seamline; print(onnxruntime.__version__)")

    assert (done.returncode, done.stderr) == (0, "")


def test_bundle_that_is_whole_is_proved():
    proof.prove(REFERENCE)


def test_bundle_that_is_altered_is_refused(tmp_path):
    folder = shutil.copytree(REFERENCE, tmp_path / "bundle")
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)

    with pytest.raises(ReleaseError, match=r"not released: with numpy and onnxruntime alone .*model\.onnx is altered"):
        proof.prove(folder)


def test_runtime_that_needs_more_than_a_device_has_is_refused(tmp_path, monkeypatch):
    """seamline as it would be if its verification came to need Pillow."""
    copy = shutil.copytree(ROOT / "seamline", tmp_path / "seamline", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "check.py").write_text("import PIL\n" + (copy / "check.py").read_text())
    monkeypatch.setattr(proof.seamline, "__file__", str(copy / "__init__.py"))

    with pytest.raises(ReleaseError, match="No module named 'PIL'"):
        proof.prove(REFERENCE)


def test_proof_that_does_not_end_is_ended(monkeypatch):
    monkeypatch.setattr(proof, "TIMEOUT_S", 0.2)

    with pytest.raises(ReleaseError, match="the bundle's check took more than"):
        proof.alone("import time; time.sleep(60)")
