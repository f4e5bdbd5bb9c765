import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from corpora import BOS, EOS, PAD, UNK, Tokenizer, TokenizerConfig
from corpora.tokenizer import LineSample, WordCounts

KINDS = ("word", "unigram", "bpe", "char")
LINES = ["the cat sat on the mat .", "the dog sat by the door !", "a cat and a dog , asleep"] * 5

words = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), min_size=1).map(
    lambda parts: [part.replace("\u2581", "x").replace("\u2585", "x") for part in parts]  # SentencePiece's own signs
)


def train(lines, kind="word", vocabulary_size=1000, **settings):
    return Tokenizer.train(lines, TokenizerConfig(kind=kind, vocabulary_size=vocabulary_size, **settings))


@pytest.mark.parametrize("kind", KINDS)
def test_special_ids_are_fixed_and_text_comes_back(kind):
    tokenizer = train(LINES, kind, 60)
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    for line in LINES[:3]:
        ids = tokenizer.encode(line)
        assert min(ids) > UNK
        assert max(ids) < len(tokenizer)
        assert tokenizer.decode(ids) == line
        assert tokenizer.decode([BOS, *ids, EOS, PAD, PAD]) == line


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_deterministic_and_bytes_make_the_same_tokenizer(kind):
    tokenizer = train(LINES, kind, 60)
    assert train(LINES, kind, 60).to_bytes() == tokenizer.to_bytes()
    again = Tokenizer.from_bytes(tokenizer.to_bytes())
    assert again.to_bytes() == tokenizer.to_bytes()
    assert [again.encode(line) for line in LINES] == [tokenizer.encode(line) for line in LINES]


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_larger_than_the_text_is_no_error(kind):
    tokenizer = train(["a b", "c"], kind, 50_000)
    assert UNK + 3 <= len(tokenizer) < 30
    assert tokenizer.decode(tokenizer.encode("a c")) == "a c"


@settings(deadline=None, max_examples=60)
@given(words)
def test_word_text_round_trips(parts):
    text = " ".join(parts)
    tokenizer = train([text])
    ids = tokenizer.encode(text)
    assert len(ids) == len(text.split())
    assert tokenizer.decode(ids) == " ".join(text.split())


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(["unigram", "bpe", "char"]), words)
def test_text_of_known_characters_round_trips_in_pieces(kind, parts):
    text = " ".join(" ".join(parts).split())
    tokenizer = train([text], kind, 5000)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_vocabulary_size_counts_words_unk_and_eos():
    lines = ["a a a a b b b c c d"]
    assert train(lines).vocabulary_size == 4 + 2
    assert len(train(lines)) == 4 + 4
    small = train(lines, vocabulary_size=4)
    assert small.vocabulary_size == 4
    assert small.encode("a b c d") == [4, 5, UNK, UNK]  # the two most frequent stay


def test_pieces_fill_the_vocabulary_exactly():
    assert train(LINES, "bpe", 30).vocabulary_size == 30
    assert train(LINES, "unigram", 25).vocabulary_size == 25


def test_ties_in_frequency_are_broken_by_the_alphabet():
    assert train(["z y x z y x"], vocabulary_size=4).encode("x y z") == [4, 5, UNK]


def test_the_unknown_word_is_itself_not_a_new_one():
    tokenizer = train(["<unk> is <unk> <unk>", "it is"])
    assert tokenizer.vocabulary_size == len({"is", "it", "<unk>", "</s>"})
    assert tokenizer.encode("<unk> is") == [UNK, *tokenizer.encode("is")]


def test_unknown_words_in_a_row_stay_apart():
    tokenizer = train(["it is"])
    ids = tokenizer.encode("<unk> <unk> is new news <unk>")
    assert ids.count(UNK) == 5
    assert tokenizer.decode(ids) == "<unk> <unk> is <unk> <unk> <unk>"


def test_unknown_characters_show_within_their_word():
    tokenizer = train(LINES, "char")
    assert tokenizer.decode(tokenizer.encode("the cӁӁt sat")) == "the c<unk>t sat"


def test_rare_words_are_unknown():
    tokenizer = train(["a a a b b c"], min_count=2)
    assert [i == UNK for i in tokenizer.encode("a b c")] == [False, False, True]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_of_very_long_lines(kind):
    long = " ".join(f"w{i % 50}" for i in range(20_000))
    tokenizer = train([long, "q" * 200_000], kind, 200)
    assert UNK not in tokenizer.encode("w49 w7")
    ids, lengths = tokenizer.encode_all(["w7", long, ""], limit=9)
    assert lengths.tolist() == [len(tokenizer.encode("w7")), 9, 0]
    assert ids.tolist() == tokenizer.encode("w7") + tokenizer.encode(long)[:9]


def test_a_word_of_a_thousand_characters_is_kept_and_a_longer_one_is_unknown():
    word = "\U00010348" * 1000  # four bytes each, so near SentencePiece's own limit of 4,192
    assert train([word, word + "y"]).encode(f"{word} {word}y") == [4, UNK]


@pytest.mark.parametrize("text", ["a\u2581b", "a\u00a0b", " a \t b ", "a\rb"])
def test_blanks_of_all_kinds_separate_words(text):
    tokenizer = train(["a b"])
    assert tokenizer.encode(text) == tokenizer.encode("a b")


def test_of_nothing_comes_nothing():
    tokenizer = train(["a"])
    assert tokenizer.encode("") == tokenizer.encode(" \u2581") == []
    assert [part.tolist() for part in tokenizer.encode_all([])] == [[], []]
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize("model", [b"", b"no model", b"\x00" * 100])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(ValueError, match="SentencePiece model"):
        Tokenizer.from_bytes(model)


@pytest.mark.parametrize(
    ("lines", "config", "message"),
    [
        (["a b"], {"min_count": 2}, "min_count=2 times; lower it"),
        (["<unk>"], {}, "no word of the training split"),
        ([], {"kind": "bpe"}, "cannot train kind bpe"),
        (["abcdefghij"], {"kind": "unigram", "vocabulary_size": 5}, "vocabulary_size 5 .*Increase vocab_size"),
    ],
)
def test_text_that_cannot_be_learnt_from(lines, config, message):
    with pytest.raises(ValueError, match=message) as caught:
        Tokenizer.train(lines, TokenizerConfig(**config))
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize("config", [{"kind": "words"}, {"vocabulary_size": 2}, {"min_count": 0}])
def test_configs_without_meaning_are_refused(config):
    with pytest.raises(ValidationError):
        TypeAdapter(TokenizerConfig).validate_python(config)


def test_training_says_nothing():
    code = "from corpora import *; [Tokenizer.train(['a b c', 'd'], TokenizerConfig(kind=k)) for k in ('word', 'bpe')]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_a_model_whose_pieces_are_no_utf_8_is_refused():
    model = train(LINES).to_bytes()
    assert model.count("\u2581asleep".encode()) == 1
    with pytest.raises(ValueError, match="pieces that are not UTF-8"):
        Tokenizer.from_bytes(model.replace("\u2581asleep".encode(), "\u2581".encode() + b"\xff\xfe\xff\xfe\xff\xfe"))


def test_the_rare_words_of_a_vast_text_are_forgotten(monkeypatch):
    monkeypatch.setattr("corpora.tokenizer.MOST_WORDS", 100)
    counts = WordCounts()
    for block in range(50):
        counts.add(WordCounts.look(["a b a"] + [f"w{block} x{i % 40}" for i in range(block, block + 30)]))
        assert len(counts._counts) <= 100
    tokenizer = Tokenizer.learn(counts, TokenizerConfig(vocabulary_size=4))
    assert tokenizer.encode("a b w49") == [4, 5, UNK]
    assert (counts._counts["a"], counts._counts["b"]) == (100, 50)  # frequent words are counted to the last


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_lines_are_drawn_evenly_whatever_the_blocks(monkeypatch, size):
    monkeypatch.setattr("corpora.tokenizer.MOST_CHARACTERS", 5 * 100)
    lines, sample = [f"{i:05d}" for i in range(1000)], LineSample()
    for start in range(0, 1000, size):
        sample.add(LineSample.look(lines[start : start + size]))
        assert sum(len(line) for _, line in sample._kept) <= 500
    kept = [int(line) for _, line in sample._kept]
    assert kept == sorted(kept)
    assert 40 <= len(kept) <= 100
    assert np.mean(kept) == pytest.approx(500, abs=4 * 1000 / np.sqrt(12 * len(kept)))
    whole = LineSample()
    whole.add(LineSample.look(lines))
    assert kept == [int(line) for _, line in whole._kept]


def test_a_text_within_the_bounds_is_taken_whole():
    sample = LineSample()
    sample.add(LineSample.look(["a" * 25_000, "b"]))
    assert [len(line) for _, line in sample._kept] == [10_000, 10_000, 5_000, 1]
