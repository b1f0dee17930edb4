import logging

import numpy as np
import pytest

from tasks import checkpoint
from tasks.checkpoint import Checkpoint

HISTORY = [{"epoch": 1, "loss": 0.5}]


def make(epochs):
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3) * epochs, np.array(epochs, np.int64)]
    return Checkpoint(epochs, arrays * 6, HISTORY * epochs, seconds=1.5)  # more than ten: their order is kept


def same(one, other):
    arrays = zip(one.state, other.state, strict=True)
    return one[:1] + one[2:] == other[:1] + other[2:] and all(
        np.array_equal(first, second) and first.dtype == second.dtype for first, second in arrays
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_checkpoint_comes_back_as_it_was(tmp_path):
    checkpoint.save(tmp_path, "key", make(3))

    assert same(checkpoint.newest(tmp_path, "key"), make(3))


def test_there_is_none_at_first(tmp_path):
    assert checkpoint.newest(tmp_path / "absent", "key") is None


def test_newest_is_used_and_the_last_two_are_kept(tmp_path):
    for epochs in (8, 9, 10, 11):
        checkpoint.save(tmp_path, "key", make(epochs))

    assert checkpoint.newest(tmp_path, "key").epochs == 11
    assert names(tmp_path) == ["epoch00010", "epoch00011"]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda content: content[:-1], id="cut short"),
        pytest.param(lambda content: content[:0], id="empty"),
        pytest.param(lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:], id="one bit"),
    ],
)
def test_broken_checkpoint_is_set_aside_and_said_and_the_one_before_used(tmp_path, caplog, spoil):
    for epochs in (1, 2):
        checkpoint.save(tmp_path, "key", make(epochs))
    path = tmp_path / "epoch00002"
    path.write_bytes(spoil(path.read_bytes()))

    with caplog.at_level(logging.WARNING):
        found = checkpoint.newest(tmp_path, "key")

    assert same(found, make(1))
    assert "epoch00002 is broken and set aside" in caplog.text
    assert names(tmp_path) == ["broken.epoch00002", "epoch00001"]


def test_checkpoint_of_another_training_is_removed(tmp_path):
    checkpoint.save(tmp_path, "other", make(2))

    assert checkpoint.newest(tmp_path, "key") is None
    assert names(tmp_path) == []


def test_pickle_is_refused(tmp_path):
    content = make(1)._replace(state=[np.array([{"a": 1}], dtype=object)])
    checkpoint.save(tmp_path, "key", content)

    with pytest.raises(ValueError, match="allow_pickle=False"):
        checkpoint.newest(tmp_path, "key")


def test_nothing_is_left_when_training_has_ended(tmp_path):
    checkpoint.save(tmp_path, "key", make(1))
    (tmp_path / "broken.epoch00002").touch()
    (tmp_path / ".tmp.epoch00002").touch()

    checkpoint.clear(tmp_path)

    assert names(tmp_path) == []
