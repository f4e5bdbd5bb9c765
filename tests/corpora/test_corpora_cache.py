import contextlib
import errno
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from corpora import cache as cache_module
from corpora.cache import Stream, cache_folder, load_arrays, release, store_arrays, store_streams, work_folder

ARRAYS = {"a.tokens": np.arange(1000, dtype=np.uint16), "b": np.array([[1.5, 2.5]])}
KEY = "0" * 64


def same(found):
    return (
        found is not None and found.keys() == ARRAYS.keys() and all(np.array_equal(found[k], ARRAYS[k]) for k in found)
    )


def test_what_is_stored_comes_back_mapped():
    assert load_arrays(KEY) is None
    assert same(store_arrays(KEY, ARRAYS))
    found = load_arrays(KEY)
    assert same(found)
    assert isinstance(found["a.tokens"], np.memmap)
    assert not found["a.tokens"].flags.writeable


def test_nothing_but_the_entry_is_left(cache):
    store_arrays(KEY, ARRAYS)
    store_arrays(KEY, ARRAYS)
    assert [path.name for path in cache.iterdir()] == [KEY]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: flip(entry / "a.tokens.npy"),
        lambda entry: (entry / "a.tokens.npy").write_bytes((entry / "a.tokens.npy").read_bytes()[:-100]),
        lambda entry: (entry / "b.npy").unlink(),
        lambda entry: (entry / "entry.json").unlink(),
        lambda entry: (entry / "entry.json").write_text("[]"),
        lambda entry: (entry / "entry.json").write_text('{"a.tok'),
        lambda entry: (entry / "entry.json").write_bytes(b"\xff\xfe"),
        lambda entry: (entry / "entry.json").write_text("[" * 100_000),
        lambda entry: [path.unlink() for path in entry.iterdir()],
        lambda entry: ((entry / "b.npy").unlink(), os.mkfifo(entry / "b.npy")),
        lambda entry: ((entry / "entry.json").unlink(), os.mkfifo(entry / "entry.json")),
        lambda entry: ((entry / "b.npy").write_bytes(b""), os.truncate(entry / "b.npy", 2**40)),
        lambda entry: (entry / "b.npy").write_bytes(b""),
        lambda entry: (entry / "b.npy").write_bytes((entry / "b.npy").read_bytes().replace(b": (", b": [[(")),
    ],
    ids=[
        *("flipped bit", "cut short", "file gone", "no manifest", "other manifest", "half manifest", "bytes", "deep"),
        *("empty", "pipe", "manifest a pipe", "hole", "empty array", "no header"),
    ],
)
def test_a_damaged_entry_is_seen_and_replaced(cache, damage, caplog):
    store_arrays(KEY, ARRAYS)
    damage(cache / KEY)
    assert load_arrays(KEY) is None
    assert same(store_arrays(KEY, ARRAYS))
    assert same(load_arrays(KEY))
    assert "damaged" in caplog.text


def test_maps_survive_the_replacement_of_their_entry(cache):
    first = store_arrays(KEY, ARRAYS)
    (cache / KEY / "entry.json").unlink()
    store_arrays(KEY, {"a.tokens": np.zeros(3)})
    assert same(first)


def test_many_writers_at_once_all_succeed(cache):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: store_arrays(KEY, ARRAYS), range(24)))
    assert all(map(same, found))
    assert same(load_arrays(KEY))
    assert [path.name for path in cache.iterdir()] == [KEY]


def test_an_entry_that_comes_while_another_looks_is_neither_damaged_nor_removed(cache, monkeypatch, caplog):
    """Each time that an entry is looked at and not there, another process stores it just after."""
    look = cache_module._open

    def opened(folder):
        found = look(folder)
        if found is None and folder.name == KEY and not folder.exists():
            monkeypatch.setattr(cache_module, "_open", look)
            store_arrays(KEY, ARRAYS)
        return found

    monkeypatch.setattr(cache_module, "_open", opened)
    with caplog.at_level(logging.WARNING):
        assert same(store_arrays(KEY, ARRAYS))
    assert not caplog.records
    monkeypatch.setattr(cache_module, "_open", look)
    assert same(load_arrays(KEY))


def test_a_folder_that_cannot_be_written_is_replaced_with_a_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TEXTVAE_CACHE", str(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.WARNING, "corpora"):
        assert same(store_arrays(KEY, ARRAYS))
    assert len(caplog.records) == 1
    assert "Not a directory" in caplog.text
    assert load_arrays(KEY) is None


def test_a_full_disk_leaves_no_rubbish_and_is_told(cache, tmp_path, monkeypatch, caplog):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("corpora.cache.os.fsync", full)
    with pytest.raises(
        ValueError, match=r"no room for the encoded corpus .*No space left on device.*; set TEXTVAE_CACHE"
    ):
        store_arrays(KEY, ARRAYS)
    assert list(cache.iterdir()) == []
    assert "No space left on device" in caplog.text


def test_objects_are_not_stored():
    with pytest.raises(ValueError, match="nothing is pickled"):
        store_arrays(KEY, {"a": np.array([object()])})


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TEXTVAE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert str(cache_folder()) == "/x/textvae"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert str(cache_folder()) == "/h/.cache/textvae"


def test_what_is_released_is_still_there():
    found = store_arrays(KEY, ARRAYS)
    release(found["a.tokens"])
    assert same(found)
    release(ARRAYS["b"])
    assert ARRAYS["b"].tolist() == [[1.5, 2.5]]


def test_a_stream_is_the_array_of_its_pieces(cache):
    whole = np.arange(10, dtype=np.int64)
    stream = Stream(dtype=whole.dtype, shape=(10,), pieces=lambda: iter(np.split(whole, [0, 3, 9])))
    assert store_streams(KEY, {"a": stream})["a"].tolist() == whole.tolist()
    store_arrays("1" * 64, {"a": whole})
    assert (cache / KEY / "a.npy").read_bytes() == (cache / ("1" * 64) / "a.npy").read_bytes()


def test_what_is_in_a_work_folder_stays_until_the_work_is_done(cache):
    with contextlib.suppress(KeyboardInterrupt), work_folder(KEY) as folder:
        (folder / "part").write_text("done")
        raise KeyboardInterrupt
    with work_folder(KEY) as again:
        assert (again, (again / "part").read_text()) == (folder, "done")
    assert list(cache.iterdir()) == []


def test_one_at_a_time_has_a_work_folder(cache):
    inside, most = [], []

    def work(number):
        with work_folder(KEY) as folder:
            inside.append(number)
            most.append(len(inside))
            (folder / "part").write_text(str(number))
            time.sleep(0.01)
            assert (folder / "part").read_text() == str(number)
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert max(most) == 1
    assert len(most) == 16


def test_a_cache_that_cannot_be_written_has_its_work_folder_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TEXTVAE_CACHE", str(tmp_path / "file" / "cache"))
    with work_folder(KEY) as folder:
        assert folder.is_dir()
    assert not folder.exists()
