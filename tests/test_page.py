import pytest

from tasks import page
from tasks.page import Page, Table

PLAIN = Page("Comparison", "Every recipe.", Table(["recipe", "test"], [["swift", "93 %"]]), {}, {})


@pytest.fixture
def home(tmp_path):
    """data/experiments with two pages, beside a report."""
    (tmp_path / "report.html").write_text("a report")
    for name in ("cross-validation", "tuning/two_conv"):
        page.write(tmp_path / page.FOLDER / name / "index.html", PLAIN)
    return tmp_path / page.FOLDER


def test_pages_are_named_by_their_folders(home):
    assert page.pages(home) == ["cross-validation", "tuning/two_conv"]
    assert page.pages(home / "none") == []


def test_page_leads_to_the_report_and_to_the_other_pages(home):
    target = home / "comparison/index.html"

    page.write(target, PLAIN)

    addresses = page.others(target)
    assert list(addresses) == ["report", "cross-validation", "tuning/two_conv"]
    assert all((target.parent / address).is_file() for address in addresses.values())
    assert all(f'href="{address}">{name}<' in target.read_text() for name, address in addresses.items())


def test_page_that_stands_alone_leads_nowhere(tmp_path):
    page.write(tmp_path / "index.html", PLAIN)

    assert "<nav" not in (tmp_path / "index.html").read_text()
    assert (tmp_path / "index.md").read_text() == "| recipe | test |\n| --- | ---: |\n| swift | 93 % |\n"
