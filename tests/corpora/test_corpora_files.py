import gzip
import os
from itertools import chain

import pytest
from pydantic import TypeAdapter, ValidationError

from corpora import Files, load_splits
from corpora.texts import SPLITS, gather


def sentences(corpus):
    return {name: texts.sentences for name, texts in gather(corpus.read()).items()}


def test_a_folder_of_three_files(folder):
    texts = gather(Files(path=folder).read())
    assert texts["train"].sentences == ["a b c", "b c", "c", "a a a a", "b", "a b"]
    assert texts["test"].sentences == ["c b a", "z z"]
    assert [texts[name].num_empty for name in SPLITS] == [0, 0, 1]
    assert texts["test"].line_numbers.tolist() == [1, 3]


def test_gzipped_files_read_the_same(folder):
    plain = sentences(Files(path=folder))
    for name in ("train", "test"):
        (folder / f"{name}.txt.gz").write_bytes(gzip.compress((folder / f"{name}.txt").read_bytes()))
        (folder / f"{name}.txt").unlink()
    assert sentences(Files(path=folder)) == plain


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
def test_one_file_is_cut_by_the_fractions(tmp_path, suffix):
    lines = [f"s {i}" for i in range(100)]
    data = "\n".join(lines).encode()
    path = tmp_path / f"all{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    found = sentences(Files(path=path, fractions=(0.6, 0.3, 0.1)))
    assert [len(found[name]) for name in SPLITS] == [60, 30, 10]
    assert sorted(chain.from_iterable(found.values())) == sorted(lines)
    assert sentences(Files(path=path, fractions=(0.6, 0.3, 0.1))) == found


def test_copies_of_a_sentence_stay_together_whatever_their_blanks(tmp_path):
    path = tmp_path / "all.txt"
    path.write_text("".join(f"s {i}\n s   {i}\t\n" for i in range(50)), "utf-8")
    found = sentences(Files(path=path))
    assert sum(map(len, found.values())) == 100
    assert sum(len(set(split)) for split in found.values()) == len(set().union(*found.values())) == 50


def test_three_sentences_are_enough_for_three_splits(tmp_path):
    path = tmp_path / "all.txt"
    path.write_text("a\nb\nc", "utf-8")
    assert sorted(chain.from_iterable(sentences(Files(path=path)).values())) == ["a", "b", "c"]


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfa b\r\n\r\nc\r\n", b"a b\n \nc", b"a b\n\nc\n"])
def test_byte_order_marks_line_ends_and_last_lines(folder, data):
    (folder / "valid.txt").write_bytes(data)
    valid = gather(Files(path=folder).read())["valid"]
    assert valid.sentences == ["a b", "c"]
    assert valid.num_empty == 1


def test_line_separators_of_unicode_end_no_line(folder):
    (folder / "valid.txt").write_text("a\u2028b\nc\u0085d", "utf-8")
    assert sentences(Files(path=folder))["valid"] == ["a b", "c d"]


def test_labels(folder):
    for name in SPLITS:
        (folder / f"{name}.txt").write_text("good\ta b\tc\n\nbad \t b\nbad\t\n", "utf-8")
    texts = gather(Files(path=folder, labelled=True).read())["valid"]
    assert texts.labels == ["good", "bad"]
    assert texts.sentences == ["a b c", "b"]
    assert texts.num_empty == 2
    assert gather(Files(path=folder).read())["valid"].sentences == ["good a b c", "bad b", "bad"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\nb \xe9t\xe9\n", r"train.txt: line 2: byte 0xe9 at offset 4 of the file is not UTF-8; convert"),
        (b"\xef\xbb\xbfa\n\xff", r"line 2: byte 0xff at offset 5 of"),
        ("a\n".encode("utf-16"), r"line 1: byte 0xff at offset 0"),
        (b"a\nb\xe2\x96", r"line 2: byte 0xe2 at offset 3"),
        (b"", "train.txt: holds no sentence; write one sentence a line"),
        (b"\n \n", "train.txt: holds no sentence"),
    ],
)
def test_what_is_no_text(folder, data, message):
    (folder / "train.txt").write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        gather(Files(path=folder).read())
    assert str(folder) in str(caught.value)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize("line", ["no tab", "\tno label", "  \tno label"])
def test_a_line_without_label_is_named(folder, line):
    (folder / "train.txt").write_text(f"x\tfine\n\n{line}\n", "utf-8")
    with pytest.raises(ValueError, match=r"train.txt: line 3: no label before a TAB; write label<TAB>text, or set"):
        gather(Files(path=folder, labelled=True).read())


@pytest.mark.parametrize("damage", [lambda d: d[:-12], lambda d: d[:5], lambda d: b"plain text", lambda d: d[:-1]])
def test_a_damaged_gzip(folder, damage):
    (folder / "valid.txt").unlink()
    (folder / "valid.txt.gz").write_bytes(damage(gzip.compress(b"a b c\n" * 1000)))
    with pytest.raises(ValueError, match=r"valid.txt.gz: truncated or damaged gzip .*; copy or compress it again"):
        gather(Files(path=folder).read())


def test_damage_inside_a_gzip(folder):
    data = bytearray(gzip.compress(bytes(range(32, 127)) * 9))
    data[20] ^= 0xFF
    (folder / "valid.txt").unlink()
    (folder / "valid.txt.gz").write_bytes(data)
    with pytest.raises(ValueError, match=r"valid.txt.gz: truncated or damaged gzip"):
        gather(Files(path=folder).read())


@pytest.mark.parametrize("call", [lambda corpus: gather(corpus.read()), Files.fingerprint])
def test_missing_files(folder, tmp_path, call):
    with pytest.raises(ValueError, match=r"nowhere: there is no such file or folder; give the path"):
        call(Files(path=tmp_path / "nowhere"))
    (folder / "valid.txt").rename(folder / "val.txt")
    with pytest.raises(ValueError, match=r"lacks valid.txt \(or valid.txt.gz\); a folder needs .* or give one file"):
        call(Files(path=folder))
    (folder / "valid.txt").mkdir()
    with pytest.raises(ValueError, match=r"valid.txt: cannot be read: "):
        call(Files(path=folder))


def test_a_split_in_two_forms_is_ambiguous(folder):
    (folder / "test.txt.gz").write_bytes(gzip.compress(b"x"))
    with pytest.raises(ValueError, match=r"holds both test.txt and test.txt.gz"):
        gather(Files(path=folder).read())


def test_two_sentences_cannot_be_cut(tmp_path):
    path = tmp_path / "all.txt"
    path.write_text("a\nb\na\n", "utf-8")
    with pytest.raises(ValueError, match=r"all.txt: 2 distinct sentence\(s\) cannot be cut"):
        gather(Files(path=path).read())


@pytest.mark.parametrize(
    "config",
    [
        {"path": "x", "fractions": (0.5, 0.4, 0.2)},
        {"path": "x", "fractions": (1.0, 0.0, 0.0)},
        {"path": "x", "max_length": 1},
        {"fractions": (0.8, 0.1, 0.1)},
    ],
)
def test_configs_without_meaning_are_refused(config):
    with pytest.raises(ValidationError):
        TypeAdapter(Files).validate_python(config)


def test_the_fingerprint_is_of_the_content_not_of_the_place(folder, tmp_path):
    before = Files(path=folder).fingerprint()
    elsewhere = folder.rename(tmp_path / "elsewhere")
    assert Files(path=elsewhere).fingerprint() == before
    assert Files(path=elsewhere, labelled=True).fingerprint() != before
    (elsewhere / "test.txt").write_text("other\n", "utf-8")
    assert Files(path=elsewhere).fingerprint() != before


def test_a_home_folder_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert sentences(Files(path=type(folder)("~/corpus"))) == sentences(Files(path=folder))


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "endless.txt").symlink_to("/dev/zero")
    for name in ("pipe.txt", "endless.txt"):
        with pytest.raises(ValueError, match=rf"{name}: cannot be read: not a plain file"):
            Files(path=tmp_path / name).fingerprint()


def test_a_gzip_of_very_much_of_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("corpora.files.MAX_UNPACKED", 2**20)
    path = tmp_path / "all.txt.gz"
    path.write_bytes(gzip.compress(b"a b\n" * 10) + gzip.compress(bytes(2**20)) * 3)
    with pytest.raises(ValueError, match=r"all.txt.gz: holds more than 100 times its size"):
        gather(Files(path=path).read())


def test_what_is_no_gzip_is_refused_before_all_of_it_is_read(tmp_path, monkeypatch):
    """A hole of 4 GiB, of which a digest takes seconds."""
    path = tmp_path / "all.txt.gz"
    with path.open("wb") as file:
        file.truncate(2**32)
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read"))
    with pytest.raises(ValueError, match=r"all.txt.gz: truncated or damaged gzip \(Not a gzipped file"):
        Files(path=path).fingerprint()


def test_labels_of_thousands_of_digits_are_names(tmp_path):
    path = tmp_path / "all.txt"
    path.write_text("".join(f"{'9' * 5000}\ts {i}\n" for i in range(9)), "utf-8")
    assert load_splits(Files(path=path, labelled=True)).label_names == ("9" * 5000,)
