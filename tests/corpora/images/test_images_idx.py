import gzip
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import NAMES, idx, refusal, tiny_arrays, write
from pydantic import TypeAdapter, ValidationError

from corpora.images import FashionMnist, Mnist
from corpora.images.idx_file import read_idx

CORPORA = pytest.mark.parametrize("corpus", [Mnist, FashionMnist])


@CORPORA
@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_what_is_written_is_read(tmp_path, corpus, dotted, zipped):
    arrays = tiny_arrays()
    splits = corpus(path=write(tmp_path / "x", dotted=dotted, zipped=zipped), num_valid=3).read()
    assert np.array_equal(splits.train.levels[:, 0], arrays["train images"][:9])
    assert np.array_equal(splits.valid.levels[:, 0], arrays["train images"][9:])
    assert np.array_equal(splits.test.levels[:, 0], arrays["test images"])
    assert splits.train.labels.tolist() == [0, 1, 2] * 3
    assert splits.valid.labels.tolist() == splits.test.labels.tolist()[:3] == [0, 1, 2]
    assert splits.class_names == ("0", "1", "2")
    assert splits.train.shape == (1, 3, 2)


def test_forms_may_be_mixed_and_plain_files_come_first(tmp_path):
    write(tmp_path, zipped=True)
    write(tmp_path, {"test labels": np.array([2, 1, 0, 2, 1, 0])}, dotted=True)
    (tmp_path / NAMES["test labels"]).mkdir()  # as Kaggle's archive has it
    assert Mnist(path=tmp_path, num_valid=1).read().test.labels.tolist() == [2, 1, 0, 2, 1, 0]


def test_a_gzip_is_known_by_its_content(tmp_path):
    data = idx(tiny_arrays()["test images"])
    folder = write(tmp_path, {"test images": gzip.compress(data)})
    assert Mnist(path=folder, num_valid=1).read().test.levels.tobytes() == data[16:]


@CORPORA
def test_your_own_files_are_read_with_a_note(tmp_path, corpus):
    splits = corpus(path=write(tmp_path), num_valid=1).read()
    assert splits.is_official is False
    assert len(splits.notes) == 4
    name = "MNIST" if corpus is Mnist else "Fashion-MNIST"
    assert f"{NAMES['train images']}: not verified as the published file of {name}" in splits.notes[0]


def test_fashion_has_names_for_its_ten_classes(tmp_path):
    labels = {"train labels": np.arange(12) % 10}
    assert FashionMnist(path=write(tmp_path, labels), num_valid=1).read().class_names[9] == "Ankle boot"


def raises(folder, message, corpus=Mnist, num_valid=1):
    with pytest.raises(ValueError, match=message) as caught:
        corpus(path=folder, num_valid=num_valid).read()
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


@CORPORA
@pytest.mark.parametrize("part", NAMES)
def test_a_missing_file_is_named_with_what_was_looked_for(tmp_path, corpus, part):
    name = NAMES[part]
    (write(tmp_path) / name).unlink()
    dotted = name.replace("-idx", ".idx")
    raises(
        tmp_path, rf"has none of {name}, {dotted}, {name}.gz, {dotted}.gz; set corpus.path to the folder that", corpus
    )


def test_a_folder_that_is_none(tmp_path):
    raises(
        tmp_path / "nowhere", "nowhere: is no folder, which would hold one of train-images-idx3-ubyte, .*corpus.path"
    )
    (tmp_path / "file").write_bytes(b"x")
    raises(tmp_path / "file", "file: is no folder")
    raises(tmp_path / ("x" * 300), r"cannot be looked into \(File name too long\)")


IMAGES = idx(tiny_arrays()["test images"])
LABELS = idx(tiny_arrays()["test labels"])
SIZES = IMAGES[4:16]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (IMAGES[:-1], r"truncated: the header says 6×3×2 = 36 bytes and only 35 follow; copy or write it again"),
        (IMAGES[:16], r"truncated: the header says 6×3×2 = 36 bytes and only 0 follow"),
        (IMAGES + b"x", r"too long: the header says 6×3×2 = 36 bytes and more follow"),
        (IMAGES[:15], r"truncated: ends within the header of idx images"),
        (IMAGES[:4], r"truncated: ends within the header"),
        (b"", r"truncated: ends within the header"),
        (b"\0\0", r"truncated: ends within the header"),
        (
            LABELS,
            r"begins with 00 00 08 01 \(idx of uint8 in 1 dimension\(s\), which are labels\), where idx images be",
        ),
        (b"\0\0\x0d\x03" + SIZES, r"\(idx of float32 in 3 dimension\(s\), which are images\)"),
        (b"\0\0\x08\x04" + SIZES, r"\(idx of uint8 in 4 dimension\(s\), which are neither images nor labels\)"),
        (b"\x03\x08\x00\x00" + SIZES, r"begins with 03 08 00 00 \(idx with its bytes in the wrong order\)"),
        (b"<!DOCTYPE html>", r"begins with 3c 21 44 4f \(a web page\)"),
        (b"\x89PNG\r\n", r"\(a PNG image\)"),
        (b"PK\x03\x04", r"\(a zip archive\)"),
        (b"\x93NUMPY", r"\(a numpy array\)"),
        (b"hello", r"\(no idx\), where idx images begin with 00 00 08 03; put the file of images there"),
        (b"\0\0\x08\x03" + bytes(4) + SIZES[4:], r"holds no images; at least one is needed"),
        (b"\0\0\x08\x03" + SIZES[:4] + bytes(4) + SIZES[8:], r"holds images of 0×2 pixels; height and width must be"),
        (b"\0\0\x08\x03" + SIZES[:8] + bytes(4), r"holds images of 3×0 pixels"),
        (
            b"\0\0\x08\x03" + b"\xff" * 12,
            r"header says 4294967295×4294967295×4294967295 bytes, more than the 1,073,741",
        ),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_damaged_file_of_images(tmp_path, data, message, zipped):
    write(tmp_path, {"test images": gzip.compress(data) if zipped else data})
    raises(tmp_path, rf"{NAMES['test images']}: .*{message}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (LABELS[:-2], r"truncated: the header says 6 = 6 bytes and only 4 follow"),
        (IMAGES, r"which are images\), where idx labels begin with 00 00 08 01; put the file of labels there"),
        (b"\0\0\x08\x01" + bytes(4), r"holds no labels; at least one is needed"),
        (
            idx(np.zeros(7)),
            r"holds 7 labels for the 6 images of .*t10k-images-idx3-ubyte; use files that belong togeth",
        ),
    ],
)
def test_a_damaged_file_of_labels(tmp_path, data, message):
    write(tmp_path, {"test labels": data})
    raises(tmp_path, rf"{NAMES['test labels']}: .*{message}")


@pytest.mark.parametrize("damage", [lambda d: d[:-9], lambda d: d[:12], lambda d: d[:-1], lambda d: d[:2]])
def test_a_damaged_gzip(tmp_path, damage):
    write(tmp_path, {"train images": damage(gzip.compress(idx(tiny_arrays()["train images"])))})
    raises(tmp_path, rf"{NAMES['train images']}: truncated or damaged gzip .*; copy or compress it again")


def test_damage_inside_a_gzip(tmp_path):
    data = bytearray(gzip.compress(idx(tiny_arrays()["train images"])))
    data[-6] ^= 0xFF  # the checksum
    write(tmp_path, {"train images": bytes(data)})
    raises(tmp_path, r"truncated or damaged gzip \(CRC check failed")


def peak_of_refusal(path, message):
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        read_idx(path, "images")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("zipped", [False, True])
def test_a_hostile_header_takes_no_memory(tmp_path, zipped):
    data = b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in (2**20, 32, 32)) + b"x" * 100
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(data) if zipped else data)
    assert peak_of_refusal(path, "only 100 follow") < 2**23


def test_a_gzip_bomb_takes_no_memory(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(idx(np.zeros((1, 8, 8))) + bytes(2**26)))
    assert peak_of_refusal(path, "more follow") < 2**23


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("corpora.images.idx_file.MAX_BYTES", 60)
    raises(write(tmp_path), "has 88 bytes, more than the 60 that are read; use fewer images")
    raises(write(tmp_path / "zipped", zipped=True), "has .* bytes, more than the 60 that are read")


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"nothing: cannot be read: No such file or directory; mend it or set corpus"):
        read_idx(tmp_path / "nothing", "labels")


def test_validation_must_leave_something_to_train_on(tmp_path):
    raises(
        write(tmp_path), "holds 12 images, of which corpus.num_valid = 12 leaves none to train on; set", num_valid=12
    )
    assert len(Mnist(path=tmp_path, num_valid=11).read().train) == 1


@pytest.mark.parametrize(
    "config",
    [
        {"path": "x", "num_valid": 0},
        {"path": "x", "binarisation": "static"},
        {"path": "x", "binarisation_seed": -1},
        {"binarisation": "dynamic"},
    ],
)
@CORPORA
def test_configs_without_meaning_are_refused(corpus, config):
    with pytest.raises(ValidationError):
        TypeAdapter(corpus).validate_python(config)


@CORPORA
def test_the_fingerprint_is_of_the_content_not_of_the_place_or_the_form(tmp_path, corpus):
    one = corpus(path=write(tmp_path / "a"), num_valid=2)
    before = one.fingerprint()
    assert replace(one, path=write(tmp_path / "b", dotted=True, zipped=True)).fingerprint() == before
    for change in ({"num_valid": 3}, {"binarisation": "grey"}, {"binarisation_seed": 1}):
        assert replace(one, **change).fingerprint() != before
    for part in ("train labels", "test images"):
        changed = tiny_arrays()[part].copy()
        changed.flat[0] ^= 1
        assert replace(one, path=write(tmp_path / "c", {part: changed})).fingerprint() != before


@CORPORA
def test_resolved_paths_are_absolute(tmp_path, corpus, monkeypatch):
    monkeypatch.chdir(write(tmp_path).parent)
    assert corpus(path=Path(tmp_path.name)).resolved() == corpus(path=tmp_path)


hostile = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda size, rest: b"\0\0\x08\x03" + size + rest, st.binary(max_size=12), st.binary(max_size=40)),
    st.builds(lambda at, byte: IMAGES[:at] + byte + IMAGES[at + 1 :], st.integers(0, 51), st.binary(max_size=2)),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hostile, st.booleans(), st.integers(0, 80), st.binary(max_size=1))
def test_hostile_bytes_are_read_or_refused_in_one_line(tmp_path, data, zipped, at, byte):
    if zipped:
        data = gzip.compress(data)
        data = data[:at] + byte + data[at + 1 :]
    path = tmp_path / "hostile"
    path.write_bytes(data)
    said = refusal(lambda: read_idx(path, "images"))
    if said is None:
        assert read_idx(path, "images").array.ndim == 3
    else:
        assert said.startswith(f"{path}: ")
        assert len(said.splitlines()) == 1


def test_the_published_mnist(data):
    splits = Mnist(path=data / "mnist").read()
    assert splits.is_official is True
    assert splits.notes == ()
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (59_600, 400, 10_000)
    assert splits.train.shape == (1, 28, 28)
    whole = (59_600 * splits.train.mean.mean() + 400 * splits.valid.mean.mean()) / 60_000
    assert whole == pytest.approx(0.1307, abs=5e-5)
    assert splits.test.mean.sum() == pytest.approx(103.89, abs=0.005)
    assert np.bincount(splits.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_mnist_is_not_fashion_mnist(data):
    splits = FashionMnist(path=data / "mnist").read()
    assert splits.is_official is False
    assert "the md5 of whose .gz file is 8d4fb7e6c68d591d4c3dfef9ec88bf0d" in splits.notes[0]
