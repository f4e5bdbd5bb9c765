import hashlib
import json
from itertools import chain

import datasets
import pytest

from corpora import Hub, load_splits
from corpora.texts import gather

ROWS = {"train": 20, "validation": 3, "test": 4}


@pytest.fixture(autouse=True)
def _offline(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def write_jsonl(folder, rows):
    folder.mkdir(exist_ok=True)
    for split, texts in rows.items():
        lines = [json.dumps({"text": text, "label": i % 2, "title": "t"}) for i, text in enumerate(texts)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines), "utf-8")
    return str(folder)


def rows_of(*splits):
    return {split: [f"{split} {i}" for i in range(ROWS[split])] for split in splits}


@pytest.fixture
def whole(tmp_path):
    return write_jsonl(tmp_path / "whole", rows_of(*ROWS))


def test_the_splits_of_the_data_set_are_taken(whole):
    texts = gather(Hub(name=whole).read())
    assert {name: len(split.sentences) for name, split in texts.items()} == {"train": 20, "valid": 3, "test": 4}
    assert texts["valid"].sentences[0] == "validation 0"
    assert texts["valid"].labels is None


def test_a_missing_validation_split_is_cut_from_train(tmp_path):
    rows = rows_of("train", "test")
    texts = gather(Hub(name=write_jsonl(tmp_path / "two", rows), fractions=(0.7, 0.2, 0.1)).read())
    assert texts["test"].sentences == rows["test"]
    assert len(texts["valid"].sentences) == 4
    assert sorted(texts["train"].sentences + texts["valid"].sentences) == sorted(rows["train"])


def test_a_data_set_of_one_split_is_cut_in_three(tmp_path):
    rows = rows_of("train")
    texts = gather(Hub(name=write_jsonl(tmp_path / "one", rows), fractions=(0.7, 0.2, 0.1)).read())
    assert [len(texts[name].sentences) for name in ("train", "valid", "test")] == [14, 4, 2]
    assert sorted(chain.from_iterable(split.sentences for split in texts.values())) == sorted(rows["train"])


def test_named_splits(whole):
    texts = gather(Hub(name=whole, train_split="test", valid_split="validation", test_split="train").read())
    assert [len(texts[name].sentences) for name in ("train", "valid", "test")] == [4, 3, 20]


def test_empty_rows_are_counted_and_line_breaks_vanish(tmp_path):
    rows = rows_of(*ROWS) | {"test": ["a\nb \r\n c", "", None, "  ", "d"]}
    test = gather(Hub(name=write_jsonl(tmp_path / "odd", rows)).read())["test"]
    assert test.sentences == ["a b c", "d"]
    assert test.num_empty == 3
    assert test.line_numbers.tolist() == [1, 5]


def test_labels(whole):
    splits = load_splits(Hub(name=whole, label_column="label"))
    assert splits.label_names == ("0", "1")
    assert splits.test.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("form", ["parquet", "csv", "text"])
def test_folders_of_other_files(tmp_path, form):
    folder = tmp_path / form
    folder.mkdir()
    for split in ROWS:
        table = datasets.Dataset.from_dict({"text": rows_of(split)[split]})
        if form == "parquet":
            table.to_parquet(folder / f"{split}.parquet")
        elif form == "csv":
            table.to_csv(folder / f"{split}.csv")
        else:
            (folder / f"{split}.txt").write_text("\n".join(table["text"]), "utf-8")
    assert gather(Hub(name=str(folder)).read())["test"].sentences == rows_of("test")["test"]


def test_what_save_to_disk_wrote(tmp_path, whole):
    saved = datasets.load_dataset(whole)
    saved.save_to_disk(tmp_path / "saved")
    assert gather(Hub(name=str(tmp_path / "saved")).read())["test"].sentences == rows_of("test")["test"]
    saved["train"].save_to_disk(tmp_path / "part")
    assert sum(len(t.sentences) for t in gather(Hub(name=str(tmp_path / "part")).read()).values()) == 20


def test_the_fingerprint_is_of_the_texts(tmp_path, whole):
    before = Hub(name=whole).fingerprint()
    assert Hub(name=write_jsonl(tmp_path / "copy", rows_of(*ROWS))).fingerprint() == before
    assert Hub(name=whole, label_column="label").fingerprint() != before
    assert Hub(name=write_jsonl(tmp_path / "other", rows_of(*ROWS) | {"test": ["x"]})).fingerprint() != before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"column": "sentence"}, r"there is no column sentence; set corpus.column to one of: text, label, title"),
        ({"label_column": "y"}, r"there is no column y; set corpus.label_column to one of: text, label, title"),
        ({"column": "label"}, r"column label holds no text but .*int64.*; set corpus.column"),
        ({"train_split": "training"}, r"no split training; set corpus.train_split to one of: train, validation, test"),
        ({"valid_split": "dev"}, r"there is no split dev; set corpus.valid_split to one of"),
        ({"config": "nope"}, r"check corpus.name, config and revision: .*nope"),
    ],
)
def test_names_that_do_not_exist(whole, settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        gather(Hub(name=whole, **settings).read())
    assert str(caught.value).startswith(whole)
    assert str(caught.value).count("\n") == 0


def test_the_hub_out_of_reach():
    with pytest.raises(
        ValueError, match=r"no-one/no-data: the hub cannot be reached .* or set corpus.name to a folder"
    ):
        gather(Hub(name="no-one/no-data").read())


def test_a_folder_without_data(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: cannot be loaded; check corpus.name"):
        gather(Hub(name=str(tmp_path / "empty")).read())


def test_a_folder_with_a_script_runs_nothing(tmp_path):
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ValueError, match="cannot be loaded"):
        gather(Hub(name=str(folder)).read())
    assert not (tmp_path / "ran").exists()


def test_a_broken_file_is_told_with_its_reason(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text": "a"}\n{"text": ')
    with pytest.raises(ValueError, match="JSON parse error"):
        gather(Hub(name=str(folder)).read())


def test_a_column_of_lists_is_no_text(tmp_path):
    datasets.Dataset.from_dict({"text": [["a"], ["b"], ["c"]]}).save_to_disk(tmp_path / "lists")
    with pytest.raises(ValueError, match="column text holds no text but List"):
        gather(Hub(name=str(tmp_path / "lists")).read())


def test_a_row_without_label_is_named(tmp_path):
    table = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, None, 1]})
    table.save_to_disk(tmp_path / "gaps")
    with pytest.raises(ValueError, match=r"line 2: no label in column label"):
        gather(Hub(name=str(tmp_path / "gaps"), label_column="label").read())


def test_a_saved_split_without_rows_is_named(tmp_path):
    rows = datasets.Dataset.from_dict({"text": ["a b c"] * 3})
    datasets.DatasetDict({"train": rows, "test": rows.select([])}).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"saved: a split of it is empty"):
        gather(Hub(name=str(tmp_path / "saved")).read())


@pytest.mark.parametrize("rows_at_once", [2**15, 3])
def test_the_fingerprint_is_that_of_earlier_versions_and_blocks_change_nothing(whole, monkeypatch, rows_at_once):
    monkeypatch.setattr("corpora.hub.BLOCK_LINES", rows_at_once)
    columns = {"train": (rows_of("train")["train"], [i % 2 for i in range(20)])}
    columns |= {
        "valid": (rows_of("validation")["validation"], [0, 1, 0]),
        "test": (rows_of("test")["test"], [0, 1] * 2),
    }
    for label_column in (None, "label"):
        digest = hashlib.sha256()
        for name, (lines, labels) in columns.items():
            digest.update(json.dumps([name, lines, labels if label_column else None]).encode())
        corpus = Hub(name=whole, label_column=label_column)
        assert corpus.fingerprint() == json.dumps(["hub", digest.hexdigest(), [0.9, 0.05, 0.05]])
    texts = gather(corpus.read())
    assert [texts[name].sentences for name in columns] == [lines for lines, _ in columns.values()]
    assert texts["train"].labels == [str(i % 2) for i in range(20)]
    assert texts["train"].line_numbers.tolist() == list(range(1, 21))


def test_a_long_split_is_cut_by_digest_and_another_corpus(tmp_path, monkeypatch):
    corpus = Hub(name=write_jsonl(tmp_path / "one", rows_of("train")))
    before = corpus.fingerprint()
    monkeypatch.setattr("corpora.cuts.MOST_COUNTED", 19)
    assert corpus.fingerprint() != before
    assert sum(len(texts.sentences) for texts in gather(corpus.read()).values()) == 20
