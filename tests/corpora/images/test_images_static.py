import hashlib
import io
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import refusal
from pydantic import TypeAdapter, ValidationError

from corpora.images import ImageBatches, MnistStatic, load_images

SPLITS = ("train", "valid", "test")
AMAT_SHA256 = {  # of binarized_mnist_{train,valid,test}.amat: tensorflow_datasets/url_checksums/binarized_mnist.txt
    "train": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    "valid": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    "test": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
}


def tiny_arrays():
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 2, (size, 784), dtype=np.uint8) for name, size in zip(SPLITS, (5, 2, 3), strict=True)}


def write(path, arrays=None):
    np.savez_compressed(path, **(tiny_arrays() | (arrays or {})))
    return path


def write_members(path, **members):
    """An npz file of these bytes, beside what is whole."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in tiny_arrays().items():
            stream = io.BytesIO()
            np.save(stream, array)
            archive.writestr(f"{name}.npy", members.get(name, stream.getvalue()))
    return path


def npy(header, body=b""):
    """An npy file with this header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


@pytest.mark.parametrize("form", [lambda a: np.packbits(a, axis=1), *(lambda a, t=t: a.astype(t) for t in "?bBiqfd")])
def test_packed_and_unpacked_arrays_read_the_same(tmp_path, form):
    arrays = tiny_arrays()
    path = write(tmp_path / "x.npz", {name: form(array) for name, array in arrays.items()})
    splits = MnistStatic(path=path).read()
    for name in SPLITS:
        images = getattr(splits, name)
        assert images.shape == (1, 28, 28)
        assert images.labels is None
        assert np.array_equal(images.levels.reshape(-1, 784), 255 * arrays[name])
    assert splits.class_names == ()


def test_rows_may_be_stored_by_columns(tmp_path):
    arrays = {name: np.asfortranarray(array) for name, array in tiny_arrays().items()}
    levels = MnistStatic(path=write(tmp_path / "x.npz", arrays)).read().test.levels
    assert np.array_equal(levels.reshape(-1, 784), 255 * arrays["test"])


def test_your_own_draw_is_read_with_a_note(tmp_path):
    splits = load_images(MnistStatic(path=write(tmp_path / "x.npz")))
    assert splits.is_official is False
    assert "array valid is not the valid split of Larochelle and Murray's static MNIST" in splits.notes[1]


def test_nothing_is_drawn(tmp_path):
    splits = load_images(MnistStatic(path=write(tmp_path / "x.npz")))
    assert splits.by_name()["train"] is splits.train
    batch = ImageBatches(splits.train, 5, 0, splits.binarisation)[0]
    assert np.array_equal(batch.pixels.numpy() * 255, splits.train.levels[batch.indices.numpy()])


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path):
    mark = tmp_path / "ran"
    objects = np.array([Evil(mark)], dtype=object)
    path = write_members(tmp_path / "x.npz", train=pickle.dumps(Evil(mark)))
    assert "array train is not as numpy writes it" in refusal(MnistStatic(path=path).read)
    with zipfile.ZipFile(path, "w") as archive:
        for name in SPLITS:
            stream = io.BytesIO()
            np.save(stream, objects, allow_pickle=True)
            archive.writestr(f"{name}.npy", stream.getvalue())
    assert "array train is not as numpy writes it (object of 1" in refusal(MnistStatic(path=path).read)
    path.write_bytes(pickle.dumps(Evil(mark)))
    assert "cannot be read as an npz file" in refusal(MnistStatic(path=path).read)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 784)), r"array valid holds no images; at least one is needed"),
        (np.zeros((0, 98), np.uint8), r"array valid holds no images"),
        (np.zeros((5, 10), np.uint8), r"array valid is uint8 of 5×10; it should be N×784 of 0 and 1, or uint8 of N×98"),
        (np.zeros((5, 98)), r"array valid is float64 of 5×98; it should be"),
        (np.zeros((5, 28, 28)), r"array valid is float64 of 5×28×28; it should be"),
        (np.zeros(784), r"array valid is float64 of 784; it should be"),
        (np.zeros(()), r"array valid is float64 of no dimension; it should be"),
        (np.full((5, 784), "0"), r"array valid is <U1 of 5×784; it should be"),
        (np.zeros((5, 784), complex), r"array valid is complex128 of 5×784; it should be"),
        (
            np.eye(784) * 2,
            r"array valid holds 2.0 at row 0, column 0, where only 0 and 1 can stand; binarise it, or use",
        ),
        (np.full((2, 784), np.nan), r"array valid holds nan at row 0, column 0"),
        (np.eye(3, 784, 5, np.int8) * -1, r"array valid holds -1 at row 0, column 5"),
    ],
)
def test_arrays_of_another_kind(tmp_path, array, message):
    path = write(tmp_path / "x.npz", {"valid": array})
    with pytest.raises(ValueError, match=message) as caught:
        MnistStatic(path=path).read()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


HEADER = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%s), }"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy(HEADER % b"5, 784", bytes(4 * 784)), r"\(uint8 of 5×784 is not what follows\); write it with numpy.savez"),
        (npy(HEADER % b"1000000000, 784"), r"\(uint8 of 1000000000×784 is not what follows\)"),
        (npy(HEADER % b"-1, -784", bytes(784)), r"array test is not as numpy writes it \("),
        (npy(HEADER % b"5, 784", bytes(6 * 784)), r"is not what follows"),
        (npy(b"{"), r"array test is not as numpy writes it \("),
        (npy(b"-" * 9000 + b"1"), r"array test is not as numpy writes it \("),
        (b"\x93NUMPY\x07\x00", r"array test is not as numpy writes it \("),
        (b"\x93NUM", r"array test is not as numpy writes it \("),
        (b"", r"array test is not as numpy writes it \("),
    ],
)
def test_damaged_and_hostile_arrays(tmp_path, member, message):
    path = write_members(tmp_path / "x.npz", test=member)
    with pytest.raises(ValueError, match=message) as caught:
        MnistStatic(path=path).read()
    assert str(caught.value).startswith(f"{path}: array test ")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_npz(tmp_path):
    path = tmp_path / "x.npz"
    assert f"{path}: there is no such file; set corpus.path to the npz file" in refusal(MnistStatic(path=path).read)
    whole = write(path).read_bytes()
    for data in (b"", b"0 1 0 1\n", whole[:-30], whole[: len(whole) // 2]):
        path.write_bytes(data)
        said = refusal(MnistStatic(path=path).read)
        assert said.startswith(f"{path}: cannot be read as an npz file (")
        assert said.endswith(
            "); copy it again, or write it with numpy.savez_compressed(path, train=…, valid=…, test=…)"
        )
    assert f"{tmp_path}: cannot be read as an npz file (" in refusal(MnistStatic(path=tmp_path).read)
    np.savez(path, train=np.zeros((1, 784)), test=np.zeros((1, 784)))
    assert refusal(MnistStatic(path=path).read).startswith(f"{path}: has no array valid; write it with numpy.savez")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("corpora.images.static.MAX_BYTES", 10_000)
    path = write(tmp_path / "x.npz", {"train": np.zeros((20, 784), np.uint8)})
    assert "bytes when unpacked, more than the 10,000 that are read)" in refusal(MnistStatic(path=path).read)
    write(path, {name: np.zeros((20, 98), np.uint8) for name in SPLITS})
    assert "array train holds 20 images, more than the 12 that are read" in refusal(MnistStatic(path=path).read)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 3000), st.binary(max_size=3), st.booleans())
@pytest.mark.filterwarnings("ignore:Reading `.npy`")
def test_hostile_bytes_are_read_or_refused_in_one_line(tmp_path, at, inserted, in_array):
    path = tmp_path / "hostile.npz"
    whole = write(path).read_bytes()
    if in_array:
        stream = io.BytesIO()
        np.save(stream, tiny_arrays()["test"])
        whole = stream.getvalue()
    damaged = whole[: at % len(whole)] + inserted + whole[at % len(whole) + 1 :]
    if in_array:
        write_members(path, test=damaged)
    else:
        path.write_bytes(damaged)
    said = refusal(MnistStatic(path=path).read)
    assert said is None or (said.startswith(f"{path}: ") and len(said.splitlines()) == 1)


def test_the_fingerprint_is_of_the_content_not_of_the_place_or_the_form(tmp_path):
    one = MnistStatic(path=write(tmp_path / "a.npz"))
    packed = {name: np.packbits(array, axis=1) for name, array in tiny_arrays().items()}
    assert replace(one, path=write(tmp_path / "b.npz", packed)).fingerprint() == one.fingerprint()
    packed["test"][0, 0] ^= 1
    assert replace(one, path=write(tmp_path / "b.npz", packed)).fingerprint() != one.fingerprint()


def test_it_cannot_be_binarised_otherwise():
    with pytest.raises(ValidationError):
        TypeAdapter(MnistStatic).validate_python({"path": "x", "binarisation": "dynamic"})


def test_resolved_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert MnistStatic(path=Path("x.npz")).resolved() == MnistStatic(path=tmp_path / "x.npz")


def test_the_published_static_mnist(data):
    splits = load_images(MnistStatic(path=data / "mnist_static" / "binarized_mnist.npz"))
    assert splits.is_official is True
    assert splits.notes == ()
    assert [len(images) for images in splits.by_name().values()] == [50_000, 10_000, 10_000]
    for name, images in splits.by_name().items():
        text = np.full((len(images), 2 * 784), ord(" "), dtype=np.uint8)  # a line for each image, its pixels apart
        text[:, ::2] = images.levels.reshape(-1, 784) // 255 + ord("0")
        text[:, -1] = ord("\n")
        assert hashlib.sha256(text.tobytes()).hexdigest() == AMAT_SHA256[name]


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "endless.npz").symlink_to("/dev/zero")
    for name in ("pipe.npz", "endless.npz"):
        assert "not a plain file" in refusal(MnistStatic(path=tmp_path / name).read)
