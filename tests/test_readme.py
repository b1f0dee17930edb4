"""What the README says is what was measured."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from seamline import Classifier, bundle, check
from tasks import recipes
from tests.serving import running

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def recorded():
    """The metrics of the recorded run: as committed, whatever was run here since."""
    shown = ["git", "show", "HEAD:data/reports/metrics.json"]
    return json.loads(subprocess.run(shown, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def test_the_result_table_is_the_recorded_run(recorded):
    accuracy = f"{recorded['accuracy']:.2%} (95 %: {recorded['accuracy_low']:.2%} … {recorded['accuracy_high']:.2%})"

    assert f"| test accuracy | {accuracy} |" in README
    assert f"| worst class | {recorded['worst_class']}, recall {recorded['worst_recall']:.1%} |" in README


def compared(page):
    """The table of recipes on a page: recipe → heading → cell."""
    lines = [
        line.strip("| ").split(" | ")
        for line in re.findall(r"^\| recipe .*\n(?:\|.*\n)+", page, re.MULTILINE)[0].splitlines()
    ]
    return {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}


def test_recipes_compared_are_those_of_the_results():
    shown, results = compared(README), compared((ROOT / "docs/results.md").read_text(encoding="utf-8"))

    assert sorted(shown) == sorted(results) == recipes.names(ROOT / "recipes")
    assert {name: results[name] | cells for name, cells in shown.items()} == results


@pytest.mark.slow
def test_service_is_asked_as_it_says():
    (section,) = re.findall(r"^## Ask it over HTTP.*?(?=^## )", README, re.MULTILINE | re.DOTALL)
    (shell,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    (python,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    with running("--model", ROOT / "seamline/reference") as service:
        shell, python = (code.replace(":8000", f":{service.port}") for code in (shell, python))
        told = subprocess.run(["sh", "-c", shell], cwd=ROOT, check=True, capture_output=True)
        asked = subprocess.run([sys.executable, "-c", python], cwd=ROOT, check=True, capture_output=True)

    (guide,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs/service.md").read_text(encoding="utf-8"), re.DOTALL)
    said, written = json.loads(told.stdout), json.loads(guide)
    assert said["kind"] == "Sneaker"
    assert said.pop("probabilities") == pytest.approx(written.pop("probabilities"), abs=0.001)
    assert said == written | {"probability": pytest.approx(written["probability"], abs=0.001)}
    assert asked.stdout == b"7\n"


def test_links_lead_somewhere():
    pages = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").glob("*.md")]
    broken = [
        (page.name, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]

    assert broken == []


def test_every_fault_names_tests_that_exist():
    written = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    existing = set(re.findall(r"^def (test_\w+)\(", written, re.MULTILINE))
    page = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if re.match(r"\| [A-Z]\d", row)]

    assert len({row.split()[1] for row in rows}) >= 40
    assert [row for row in rows if not re.search(r"`test_\w+` \|$", row)] == []
    assert set(re.findall(r"`(test_\w+)`", page)) - existing == set()


def test_commands_of_make_exist():
    pages = "\n".join(
        page.read_text(encoding="utf-8")
        for page in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").glob("*.md"))
    )
    named = set(re.findall(r"`make ([a-z-]+)[`\s]|^make ([a-z-]+)", pages, re.MULTILINE))
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)

    assert {name for pair in named for name in pair if name} <= set(targets)


def test_the_library_example_works(tmp_path):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)

    compile(code, "README.md", "exec")
    assert (ROOT / "examples/sneaker.png").is_file()


def test_reference_bundle_is_small_whole_and_has_the_figures_of_the_readme():
    folder = ROOT / "seamline/reference"

    found = bundle.read(folder)

    assert sum(path.stat().st_size for path in folder.iterdir()) <= 500_000
    assert check.golden_failures(Classifier(folder), bundle.golden(found)) == []
    assert f"for clones that have trained nothing) | {found.manifest['metrics']['accuracy']:.2%}, " in README
