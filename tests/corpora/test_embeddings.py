"""Word vectors from text files and from the corpus, and the errors of files that are none."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from tiny import sentences, write_corpus

from corpora import BOS, EOS, PAD, UNK, Files, FileSpace, PpmiSpace, Splits, TokenizerConfig, load_splits
from corpora.embeddings import ppmi_matrix, read_vectors


@pytest.fixture
def splits(tmp_path: Path) -> Splits:
    return load_splits(Files(path=write_corpus(tmp_path)))


def written(folder: Path, content: str | bytes, name: str = "words.vec") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def space(folder: Path, *rows: str, size: int = 3) -> FileSpace:
    return FileSpace(path=written(folder, "\n".join([f"{len(rows)} {size}", *rows]) + "\n"))


def row_of(splits: Splits, word: str) -> int:
    return splits.tokenizer.encode(word)[0]


def test_vectors_of_a_file_are_made_of_unit_length_and_missing_words_counted(splits: Splits, tmp_path: Path) -> None:
    found = space(tmp_path, "dog 3 0 4", "cat 0 2 0", "zebra 0 0 5", "gnu 0 0.5 0").vectors(splits, 3)
    np.testing.assert_allclose(found.vectors[row_of(splits, "dog")], [0.6, 0, 0.8], rtol=1e-6)
    np.testing.assert_allclose(found.vectors[row_of(splits, "cat")], [0, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(found.vectors[UNK], [0, 0.5**0.5, 0.5**0.5], rtol=1e-6)  # of zebra and gnu
    np.testing.assert_allclose(np.linalg.norm(found.vectors[1:], axis=1), 1, rtol=1e-6)
    assert not found.vectors[PAD].any()
    assert (found.vectors[BOS] == found.vectors[EOS]).all()
    assert [i for i in range(UNK + 1, len(found.is_known)) if found.is_known[i]] == sorted(
        row_of(splits, word) for word in ("dog", "cat")
    )
    river = row_of(splits, "river")
    assert (found.vectors[river] == found.vectors[UNK]).all()
    num_words = len(splits.tokenizer) - UNK - 1
    missing = set(range(UNK + 1, len(splits.tokenizer))) - {row_of(splits, "dog"), row_of(splits, "cat")}
    share = np.isin(splits.train.tokens, list(missing)).sum() / splits.train.num_scored_tokens
    assert f"for 2 of {num_words} words; {num_words - 2} are missing, {share:.2%} of the training" in found.notes[0]
    assert found.notes[1:] == ("</s> has no line in words.vec", "<unk> has no line in words.vec")


def test_marks_of_a_file_are_taken_from_it(splits: Splits, tmp_path: Path) -> None:
    found = space(tmp_path, "</s> 0 0 2", "<unk> 0 3 0", "<s> 1 1 0", "dog 1 0 0").vectors(splits, 3)
    np.testing.assert_allclose(found.vectors[EOS], [0, 0, 1])
    np.testing.assert_allclose(found.vectors[UNK], [0, 1, 0])
    np.testing.assert_allclose(found.vectors[BOS], [0.5**0.5, 0.5**0.5, 0], rtol=1e-6)
    assert len(found.notes) == 1


def test_a_compressed_file_and_windows_lines_read_the_same(tmp_path: Path) -> None:
    content = b"2 2\r\nna\xc3\xafve 1 -2e-3 \r\nb 0.5 1\r\n"
    path = written(tmp_path, gzip.compress(content), "words.vec.gz")
    found = dict(read_vectors(path, 2))
    assert found["naïve"].tolist() == [1.0, -0.002]
    assert found["b"].tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"line 1: '' is no header; two whole numbers .*GloVe"),
        ("dog 1 2\n", r"line 1: 'dog 1 2' is no header"),
        ("2 -2\n", r"line 1: '2 -2' is no header"),
        ("0 2\n", r"line 1: '0 2' is no header"),
        ("1 3\ndog 1 2 3\n", r"line 1: vectors of 3 numbers, and model.embedding_size is 2; set it to 3"),
        ("2 2\ndog 1 2\ncat 1\n", r"line 3: 1 numbers after the word, where the first line says 2"),
        ("2 2\ndog 1 2 3\ncat 1 2\n", r"line 2: 3 numbers after the word"),
        ("2 2\ndog 1 2\n\n", r"line 3: 0 numbers"),
        ("2 2\ndog 1 2\ndog 2 1\n", r"line 3: the word 'dog' has a vector on line 2 already; drop one"),
        ("2 2\ndog 1 2\ncat 1 nan\n", r"line 3: number 2 is nan; drop the line"),
        ("2 2\ndog 1 2\ncat -inf 1\n", r"line 3: number 1 is -inf"),
        ("2 2\ndog 1 2\ncat 1 x\n", r"line 3: could not convert string to float: 'x'; a number is needed"),
        ("2 2\ndog 1 2\ncat 0 0\n", r"line 3: all numbers are 0"),
        ("3 2\ndog 1 2\ncat 1 1\n", r"2 words, where the first line says 3; the file is cut"),
        ("1 2\ndog 1 2\ncat 1 1\n", r"2 words, where the first line says 1"),
        (b"1 2\n\xff 1 2\n", r"line 2: byte 0xff is not UTF-8"),
    ],
)
def test_a_file_that_is_none_is_named_with_its_line(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"words\.vec: {message}"):
        FileSpace(path=written(tmp_path, content)).check(2)


def test_a_missing_file_a_folder_and_a_cut_gzip_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.vec: there is no such file; .*model\.space\.path"):
        FileSpace(path=tmp_path / "nowhere.vec").check(2)
    with pytest.raises(ValueError, match="cannot be read: "):
        FileSpace(path=tmp_path).check(2)
    path = written(tmp_path, gzip.compress(b"1 2\ndog 1 2\n")[:-6], "cut.vec.gz")
    with pytest.raises(ValueError, match=r"cut\.vec\.gz: truncated or damaged gzip"):
        FileSpace(path=path).check(2)


def test_a_file_of_other_words_and_one_for_pieces_are_refused(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no word of the corpus"):
        space(tmp_path, "chien 1 2 3").vectors(splits, 3)
    pieces = load_splits(Files(path=tmp_path / "tiny.txt", tokenizer=TokenizerConfig(kind="char")))
    with pytest.raises(ValueError, match=r"corpus\.tokenizer\.kind is char; set that to word"):
        space(tmp_path, "dog 1 2 3").vectors(pieces, 3)


@pytest.mark.parametrize("at_once", [2**16, 7])
def test_ppmi_is_that_of_counts_by_hand(splits: Splits, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr("corpora.sentences._STRETCH", at_once)
    window, size = 2, len(splits.tokenizer)
    counts = np.zeros((size, size))
    for i in range(len(splits.train)):
        ids = splits.train[i].tolist()
        for at, word in enumerate(ids):
            for other in range(max(0, at - window), min(len(ids), at + window + 1)):
                counts[word, ids[other]] += other != at
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(counts * counts.sum() / np.outer(counts.sum(1), counts.sum(0)))
    expected = np.where(counts > 0, np.maximum(information, 0), 0)
    np.testing.assert_allclose(ppmi_matrix(splits, window).toarray(), expected, atol=1e-12)


def test_learned_vectors_are_those_of_a_full_decomposition(splits: Splits) -> None:
    found = PpmiSpace(window=3).vectors(splits, 6)
    expected = np.linalg.svd(ppmi_matrix(splits, 3).toarray())[0][:, :6]
    kept = [i for i in range(len(expected)) if i not in (PAD, UNK)]
    expected = expected[kept] / np.linalg.norm(expected[kept], axis=1, keepdims=True)
    # cosines do not hang on the signs of the singular vectors
    ours = found.vectors[kept].astype(float)
    np.testing.assert_allclose(ours @ ours.T, expected @ expected.T, atol=1e-5)
    assert found.is_known[kept].all()


def test_words_of_like_company_are_near(splits: Splits) -> None:
    found = PpmiSpace(window=2).vectors(splits, 8).vectors
    dog, friend, river = (found[row_of(splits, word)] for word in ("dog", "friend", "river"))
    assert dog @ friend > dog @ river


def test_a_vocabulary_that_is_too_small_is_refused(splits: Splits) -> None:
    with pytest.raises(ValueError, match=r"model\.embedding_size: 300 numbers a word need more words"):
        PpmiSpace().vectors(splits, 300)


def test_unknown_words_of_the_corpus_have_a_learned_vector(tmp_path: Path) -> None:
    (tmp_path / "rare.txt").write_text("\n".join([*sentences(100), *(f"the cat saw w{i} ." for i in range(40))]))
    rare = load_splits(Files(path=tmp_path / "rare.txt", tokenizer=TokenizerConfig(min_count=2)))
    assert PpmiSpace().vectors(rare, 6).notes[1:] == ()
    all_known = load_splits(Files(path=tmp_path / "rare.txt"))
    assert PpmiSpace().vectors(all_known, 6).notes[1:] == ("<unk> does not occur in the training split",)


def test_hostile_headers_lines_and_pipes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpora.embeddings.MAX_LINE", 2**16)
    os.mkfifo(tmp_path / "pipe.vec")
    for path, message in (
        (written(tmp_path, "1 " + "3" * 5000), "line 1: .* is no header"),
        (written(tmp_path, gzip.compress(b"1 3\n" + bytes(2**20)), "bomb.vec.gz"), "line 2: of 65,536 bytes or more"),
        (tmp_path / "pipe.vec", "pipe.vec: cannot be read: not a plain file"),
    ):
        with pytest.raises(ValueError, match=message):
            list(read_vectors(path, 3))
