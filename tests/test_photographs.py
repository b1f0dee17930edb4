"""`make photographs`: what it counts, and the page it writes. The photographs themselves are too large for the project."""

import re

import numpy as np
import pytest
from PIL import Image

from benchmarks import photographs
from seamline import Classifier


@pytest.fixture
def folder(tmp_path):
    """A pair of trousers on the floor, and a hat: dark on a lighter ground with some texture."""
    rng = np.random.default_rng(3)
    for kind, boxes in {
        "pants": [(20, 30, 110, 55), (20, 60, 110, 85), (20, 30, 45, 85)],
        "hat": [(60, 30, 90, 90)],
    }.items():
        (tmp_path / kind).mkdir()
        ground = rng.integers(150, 200, (130, 115, 3), dtype=np.uint8)
        for top, left, bottom, right in boxes:
            ground[top:bottom, left:right] = (40, 50, 90)
        Image.fromarray(ground).save(tmp_path / kind / "one.jpg")
    return tmp_path


def test_each_photograph_is_looked_at_and_counted_under_its_kind(folder, doubting_file):
    classifier = Classifier(doubting_file)

    shown = [photographs.look(classifier, file) for file in photographs.found(folder)]
    table = photographs.table(shown, classifier.classes)

    assert [one.kind for one in shown] == ["pants", "hat"]
    assert all(one.views.shape == (6, 28, 28) and one.likeliest in classifier.classes for one in shown)
    assert "of 1 photographs of known kinds are named right" in table
    assert re.search(r"\d% without the model's photograph_odds", table)
    assert "| pants | 1 |" in table
    assert "| hat | 1 |" in table


def test_a_garment_is_right_by_its_kind_and_a_stranger_if_it_is_unknown(folder, doubting_file):
    one = photographs.look(Classifier(doubting_file), next(photographs.found(folder)))

    assert one._replace(likeliest="Trouser", said="unknown").right
    assert not one._replace(likeliest="Dress", said="Dress").right
    assert one._replace(kind="hat", likeliest="Bag", said="unknown").right
    assert not one._replace(kind="hat", likeliest="Bag", said="Bag").right


def test_page_shows_each_photograph_and_what_was_seen(folder, doubting_file, tmp_path, monkeypatch):
    monkeypatch.setattr(photographs, "PAGE", tmp_path / "photographs.html")
    classifier = Classifier(doubting_file)
    shown = [photographs.look(classifier, file) for file in photographs.found(folder)]

    photographs.write_page(shown, photographs.table(shown, classifier.classes))

    page = (tmp_path / "photographs.html").read_text()
    assert page.count("data:image/jpeg;base64,") == page.count("data:image/png;base64,") == 2
    assert "<script" not in page


def test_folder_without_photographs_says_where_to_get_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["photographs", str(tmp_path)])

    assert photographs.main() == 1
    assert "git clone https://github.com/alexeygrigorev/clothing-dataset-small" in capsys.readouterr().err
