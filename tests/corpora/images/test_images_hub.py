import io
import shutil
from dataclasses import replace

import datasets
import numpy as np
import pytest
from image_files import refusal
from PIL import Image
from pyarrow import parquet

from corpora.images import ImageHub, load_images

ROWS = {"train": 30, "test": 6}
CLASSES = datasets.ClassLabel(names=["ant", "bee", "cat"])


@pytest.fixture(autouse=True)
def _offline(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def pictures(num, shape=(4, 5), seed=0):
    """Grey or RGB arrays, H W or H W 3."""
    return np.random.default_rng(seed).integers(0, 256, (num, *shape), dtype=np.uint8)


def encoded(array, form="PNG", mode=None):
    stream = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(stream, form)
    return {"bytes": stream.getvalue(), "path": None}


def table(images, labels=None, feature=CLASSES):
    columns = {"image": [i if i is None or isinstance(i, dict) else encoded(i) for i in images]}
    features = {"image": datasets.Image()}
    if feature is not None:
        columns["label"] = [i % 3 for i in range(len(images))] if labels is None else labels
        features["label"] = feature
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def save(folder, **splits):
    whole = {name: table(pictures(num)) for name, num in ROWS.items()} | splits
    datasets.DatasetDict(whole).save_to_disk(folder)
    return str(folder)


@pytest.fixture
def saved(tmp_path):
    return save(tmp_path / "saved")


def test_images_and_labels(saved):
    splits = ImageHub(name=saved, num_valid=4).read()
    assert np.array_equal(splits.test.levels[:, 0], pictures(6))
    assert splits.test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert splits.class_names == ("ant", "bee", "cat")
    assert splits.is_official is None
    assert splits.train.shape == (1, 4, 5)


def test_validation_is_cut_from_all_over_train_always_the_same_way(saved):
    hub = ImageHub(name=saved, num_valid=8)
    one, other = hub.read(), hub.read()
    assert (len(one.train), len(one.valid)) == (22, 8)
    assert np.array_equal(one.valid.levels, other.valid.levels)
    both = [image.tobytes() for split in (one.train, one.valid) for image in split.levels]
    assert sorted(both) == sorted(image.tobytes() for image in pictures(30))
    places = [
        next(i for i, picture in enumerate(pictures(30)) if np.array_equal(picture, image[0]))
        for image in one.valid.levels
    ]
    assert places == sorted(places)
    assert min(places) < 15 < max(places) < 30


def test_a_validation_split_can_be_named(saved):
    splits = ImageHub(name=saved, valid_split="test").read()
    assert len(splits.train) == 30
    assert np.array_equal(splits.valid.levels, splits.test.levels)


def test_one_split_saved_alone_may_stand_for_all(tmp_path):
    table(pictures(9)).save_to_disk(tmp_path / "one")
    hub = ImageHub(name=str(tmp_path / "one"), valid_split="train", test_split="train")
    assert len(hub.read().test) == 9


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("1", 1)])
def test_grey_and_rgb(tmp_path, mode, channels):
    arrays = pictures(6, (4, 5) if channels == 1 else (4, 5, 3))
    test = table([encoded(array, mode=mode if mode == "1" else None) for array in arrays])
    levels = ImageHub(name=save(tmp_path / "x", test=test), num_valid=1).read().test.levels
    assert levels.shape == (6, channels, 4, 5)
    if mode == "1":
        assert set(np.unique(levels)) == {0, 255}
    else:
        assert np.array_equal(levels.transpose(0, 2, 3, 1).reshape(arrays.shape), arrays)


def test_unlabelled_images(tmp_path):
    name = save(tmp_path / "x", train=table(pictures(5), feature=None), test=table(pictures(3), feature=None))
    splits = load_images(ImageHub(name=name, label_column=None, num_valid=1))
    assert splits.train.labels is None
    assert splits.class_names == ()


def test_labels_may_be_plain_numbers(tmp_path):
    number = datasets.Value("int32")
    name = save(tmp_path / "x", train=table(pictures(30), feature=number), test=table(pictures(3), feature=number))
    assert load_images(ImageHub(name=name, num_valid=1)).class_names == ("0", "1", "2")


def test_a_folder_of_image_files(tmp_path):
    for split, num in ROWS.items():
        for i, array in enumerate(pictures(num)):
            path = tmp_path / "x" / split / "ab"[i % 2] / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    hub = ImageHub(name=str(tmp_path / "x"), num_valid=2)
    splits = hub.read()
    assert splits.class_names == ("a", "b")
    assert np.array_equal(splits.test.levels[:, 0], np.concatenate([pictures(6)[::2], pictures(6)[1::2]]))
    before = hub.fingerprint()
    (tmp_path / "x" / "test" / "a" / "00.png").write_bytes(encoded(pictures(1, seed=5)[0])["bytes"])
    assert hub.fingerprint() != before


def test_parquet_files(tmp_path):
    (tmp_path / "x").mkdir()
    for split, num in ROWS.items():
        table(pictures(num)).to_parquet(tmp_path / "x" / f"{split}.parquet")
    assert np.array_equal(ImageHub(name=str(tmp_path / "x"), num_valid=2).read().test.levels[:, 0], pictures(6))


def raises(name, message, **settings):
    with pytest.raises(ValueError, match=message) as caught:
        ImageHub(name=name, num_valid=settings.pop("num_valid", 1), **settings).read()
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_split": "training"}, r"there is no split training; set corpus.train_split to one of: train, test"),
        ({"valid_split": "dev"}, r"there is no split dev; set corpus.valid_split to one of: train, test"),
        ({"test_split": "eval"}, r"there is no split eval; set corpus.test_split to one of"),
        (
            {"image_column": "img"},
            r"\(train\): there is no column img; set corpus.image_column to one of: image, label",
        ),
        ({"label_column": "y"}, r"there is no column y; set corpus.label_column to one of: image, label, or to null"),
        ({"image_column": "label"}, r"column label holds no images but ClassLabel.*; set corpus.image_column"),
        (
            {"label_column": "image"},
            r"column image holds no labels but Image.*; set corpus.label_column to one of whole",
        ),
        ({"num_valid": 30}, r"\(train\): holds 30 images, of which corpus.num_valid = 30 leaves none to train on; set"),
    ],
)
def test_settings_that_do_not_fit(saved, settings, message):
    raises(saved, message, **settings)


GOOD = list(pictures(6))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, r"\(test\): row 4: no image in column image; leave it out"),
        (
            pictures(1, (4, 6))[0],
            r"row 4: an image of 6×4 pixels \(width × height\) in mode L, where .*\(test\): row 0 is "
            r"an image of 5×4 pixels \(width × height\) in mode L; bring all images to one size and mode",
        ),
        (pictures(1, (4, 5, 3))[0], r"row 4: an image of 5×4 .* in mode RGB, where .* in mode L; bring all"),
        ({"bytes": b"no image", "path": None}, r"row 4: no image that can be read; mend it or leave it out"),
        ({"bytes": encoded(GOOD[4])["bytes"][:55], "path": None}, r"row 4: damaged image \(.*\); mend it or leave it"),
        ({"bytes": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 4\n", "path": None}, r"row 4: no image that can be"),
    ],
)
def test_the_row_is_named(tmp_path, image, message):
    raises(save(tmp_path / "x", test=table([*GOOD[:4], image, GOOD[5]])), message)


def test_a_file_that_is_not_there(tmp_path):
    (tmp_path / "x").mkdir()
    gone = {"bytes": None, "path": str(tmp_path / "gone.png")}
    for split, images in {"train": pictures(3), "test": [*pictures(3), gone]}.items():
        parquet.write_table(table(images).data.table, tmp_path / "x" / f"{split}.parquet")
    raises(
        str(tmp_path / "x"), r"\(test\): row 3: .*gone.png cannot be read \(No such file or directory\); put it there"
    )


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "I;16"])
def test_modes_that_need_a_decision(tmp_path, mode):
    test = table([encoded(array, mode=mode) for array in GOOD])
    raises(save(tmp_path / "x", test=test), rf"row 0: .* in mode {mode}; convert the images to mode L \(grey\) or RGB")


def test_images_that_do_not_fit_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("corpora.images.encoded.MAX_BYTES", 100)
    raises(save(tmp_path / "x"), r"row 0: .*; 30 of them have 600 values, more than the 100 that are held in memory")


def test_a_split_without_images(monkeypatch):
    splits = {"train": table(pictures(3)), "test": table(pictures(1)).select([])}
    monkeypatch.setattr("corpora.images.hub.load_data_set", lambda *_: splits)
    raises("x", r"\(test\): holds no images; at least one is needed")


def test_labels_that_are_missing_or_none(tmp_path):
    train = table(pictures(3), [0, None, 1])
    raises(save(tmp_path / "x", train=train), r"\(train\): row 1: no label in column label")
    words = table(pictures(3), ["a", "b", "c"], datasets.Value("string"))
    raises(save(tmp_path / "y", train=words), r"column label holds no labels but Value\('string'\); set corpus.label")


def test_a_data_set_that_is_not_there(tmp_path):
    assert "the hub cannot be reached" in refusal(ImageHub(name="no-one/no-data").read)


def test_the_fingerprint_is_of_the_content_not_of_the_place(tmp_path, saved):
    hub = ImageHub(name=saved, num_valid=2)
    before = hub.fingerprint()
    shutil.copytree(saved, tmp_path / "copy")
    assert replace(hub, name=str(tmp_path / "copy")).fingerprint() == before
    for change in (
        {"num_valid": 3},
        {"binarisation": "threshold"},
        {"binarisation_seed": 1},
        {"label_column": None},
        {"name": save(tmp_path / "other", test=table(pictures(6, seed=1)))},
        {"name": save(tmp_path / "labels", test=table(pictures(6), [0] * 6))},
    ):
        assert replace(hub, **change).fingerprint() != before


def test_resolved_names_of_folders_are_absolute(tmp_path, saved, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ImageHub(name="saved").resolved().name == saved
    assert ImageHub(name="someone/mnist").resolved().name == "someone/mnist"
