import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from corpora import (
    UNK,
    Bbe,
    Corpus,
    Counts,
    Files,
    TokenBatches,
    Tokenizer,
    TokenizerConfig,
    corpus_statistics,
    encode_sentences,
    load_splits,
)

ROOT = Path(__file__).parents[2]


def contents(splits):
    return {name: [s.tolist() for s in sentences] for name, sentences in splits.by_name().items()}


@pytest.fixture
def no_reading(monkeypatch):
    """From here on everything has to come from the cache."""

    def arm():
        def refuse(self):
            raise AssertionError("the corpus was read again")

        monkeypatch.setattr("corpora.files.Files.read", refuse)

    return arm


def test_a_corpus_from_text_to_ids(folder):
    splits = load_splits(Files(path=folder, max_length=4))
    decoded = {n: [splits.tokenizer.decode(s) for s in part] for n, part in splits.by_name().items()}
    assert decoded["train"] == ["a b c", "b c", "c", "a a a", "b", "a b"]
    assert decoded["valid"] == ["a <unk>", "b"]  # z is not in the training split
    assert splits.counts == {
        "train": Counts(empty=0, cut=1),
        "valid": Counts(empty=0, cut=0),
        "test": Counts(empty=1, cut=0),
    }
    assert splits.label_names == ()
    assert splits.train.labels is None


def test_the_second_load_reads_nothing_and_is_the_same(folder, no_reading):
    first = load_splits(Files(path=folder))
    no_reading()
    second = load_splits(Files(path=folder))
    assert contents(second) == contents(first)
    assert second.tokenizer.to_bytes() == first.tokenizer.to_bytes()
    assert second.counts == first.counts
    assert isinstance(second.train.tokens, np.memmap)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.text("ab cé\t", max_size=8), min_size=1, max_size=12), st.integers(2, 6))
def test_the_cached_load_equals_a_fresh_one(tmp_path_factory, lines, max_length):
    path = tmp_path_factory.mktemp("drawn")
    for name in ("train", "valid", "test"):
        (path / f"{name}.txt").write_text("\n".join(["a b", *lines]), "utf-8")
    corpus = Files(path=path, max_length=max_length)
    fresh, cached = load_splits(corpus), load_splits(corpus)
    expected = encode_sentences(
        [" ".join(x.split()) for x in ["a b", *lines] if x.strip()], fresh.tokenizer, max_length
    )
    assert contents(fresh) == contents(cached)
    assert contents(fresh)["test"] == [s.tolist() for s in expected]
    assert fresh.counts == cached.counts


@pytest.mark.parametrize(
    "change",
    [
        {"max_length": 3},
        {"labelled": False, "tokenizer": TokenizerConfig(kind="char")},
        {"tokenizer": TokenizerConfig(min_count=5)},
    ],
)
def test_other_settings_are_another_entry(folder, cache, change):
    first = contents(load_splits(Files(path=folder)))
    assert contents(load_splits(Files(path=folder, **change))) != first
    assert contents(load_splits(Files(path=folder))) == first
    assert len(list(cache.iterdir())) == 2


def test_changed_text_is_another_entry(folder):
    first = contents(load_splits(Files(path=folder)))
    (folder / "test.txt").write_text("a a a a a\n", "utf-8")
    assert contents(load_splits(Files(path=folder)))["test"] != first["test"]


def test_a_damaged_entry_is_rebuilt(folder, cache):
    first = contents(load_splits(Files(path=folder)))
    (path,) = cache.glob("*/train.tokens.npy")
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    assert contents(load_splits(Files(path=folder))) == first
    assert contents(load_splits(Files(path=folder))) == first


def test_a_runs_own_tokenizer_is_used_and_cached(folder, no_reading):
    own = Tokenizer.train(["z c"], TokenizerConfig())
    splits = load_splits(Files(path=folder), own)
    assert splits.tokenizer.to_bytes() == own.to_bytes()
    assert splits.tokenizer.decode(splits.test[1]) == "z z"
    assert (splits.train.tokens == UNK).sum() == 10  # every a and b
    assert load_splits(Files(path=folder)).tokenizer.to_bytes() != own.to_bytes()
    no_reading()
    assert contents(load_splits(Files(path=folder), own)) == contents(splits)


def test_the_tokenizer_is_trained_on_the_training_split_alone(folder):
    before = load_splits(Files(path=folder)).tokenizer.to_bytes()
    for name in ("valid", "test"):
        (folder / f"{name}.txt").write_text("new words here\n", "utf-8")
    assert load_splits(Files(path=folder)).tokenizer.to_bytes() == before


def labelled(folder, train, test="1\tx\n"):
    for name, text in {"train": train, "valid": "1\tx\n", "test": test}.items():
        (folder / f"{name}.txt").write_text(text, "utf-8")
    return Files(path=folder, labelled=True)


def test_labels_that_are_numbers_are_in_order_of_value(folder):
    splits = load_splits(labelled(folder, "10\ta\n\n1\tb\n2\tc\n10\td\n"))
    assert splits.label_names == ("1", "2", "10")
    assert splits.train.labels.tolist() == [2, 0, 1, 2]
    assert splits.train.batch([2, 0]).labels.tolist() == [1, 2]


def test_labels_that_are_words_are_in_the_order_of_the_alphabet(folder):
    assert load_splits(labelled(folder, "b\ta\n1\tb\n")).label_names == ("1", "b")


def test_a_label_unknown_to_the_training_split_is_named(folder):
    with pytest.raises(ValueError, match=r"test.txt: line 3: label '7' does not occur in the training split; mend"):
        load_splits(labelled(folder, "1\ta\n2\tb\n", "1\tx\n\n7\ty\n"))


@pytest.mark.parametrize("kind", ["word", "unigram", "bpe", "char"])
def test_a_line_of_a_million_characters_is_cut_and_counted(folder, kind):
    with (folder / "train.txt").open("a", encoding="utf-8") as file:
        file.write("ab " * 333_333 + "\n" + "ab" * 500_000 + "\n")
    splits = load_splits(Files(path=folder, tokenizer=TokenizerConfig(kind=kind), max_length=20))
    assert len(splits.train) == 8
    assert splits.train.lengths.max() == 21
    assert splits.counts["train"].cut == (1 if kind == "word" else 2)


def test_two_processes_at_once_both_succeed(folder, cache, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from corpora import Files, load_splits\n"
        f"here, other = (Path({str(tmp_path)!r}) / name for name in sys.argv[1:])\n"
        "here.touch()\n"
        "while not other.exists(): time.sleep(0.001)\n"
        f"print(load_splits(Files(path=Path({str(folder)!r}))).train.tokens.tolist())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, *names], cwd=ROOT, stdout=-1, stderr=-1, text=True)
        for names in (("one", "two"), ("two", "one"))
    ]
    outputs = [process.communicate(timeout=120) for process in started]
    assert [stderr for _, stderr in outputs] == ["", ""]
    expected = load_splits(Files(path=folder)).train.tokens.tolist()
    assert [json.loads(stdout) for stdout, _ in outputs] == [expected, expected]
    assert len(list(cache.iterdir())) == 1


def test_every_kind_takes_the_keys_that_all_share():
    shared = {"tokenizer": {"kind": "char"}, "max_length": 60}
    adapter = TypeAdapter(Corpus)
    for own in ({"kind": "bbe"}, {"kind": "files", "path": "my.txt"}, {"kind": "hub", "name": "x"}):
        corpus = adapter.validate_json(json.dumps(own | shared), strict=True)
        assert corpus.kind == own["kind"]
        assert corpus.tokenizer == TokenizerConfig(kind="char")
        assert adapter.validate_json(adapter.dump_json(corpus), strict=True) == corpus


def test_configs_are_frozen_and_defaults_stand_once():
    assert asdict(Bbe())["tokenizer"] == asdict(Files(path=Path("x")).tokenizer) == asdict(TokenizerConfig())
    with pytest.raises(AttributeError):
        Bbe().max_length = 3


@pytest.fixture(scope="module")
def treebank(data, tmp_path_factory):
    if not (data / "ptb").is_dir():
        pytest.skip("the Penn Treebank is not in the data folder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEXTVAE_CACHE", str(tmp_path_factory.mktemp("ptb")))
        return load_splits(Files(path=data / "ptb"))


def test_the_treebanks_figures(treebank, data):
    figures = corpus_statistics(treebank)
    assert figures["vocabulary_size"] == 10_000
    assert {n: f["sentences"] for n, f in figures["splits"].items()} == {"train": 42_068, "valid": 3_370, "test": 3_761}
    assert round(figures["splits"]["test"]["tokens_per_sentence"], 3) == 21.917
    for name, sentences in treebank.by_name().items():
        num_unk = (data / "ptb" / f"{name}.txt").read_text("utf-8").split().count("<unk>")
        assert num_unk > 3000
        assert (sentences.tokens == UNK).sum() == num_unk  # the treebank's own, and no word beside


def test_little_of_a_batch_is_padding(treebank, data):
    tatoeba = load_splits(Files(path=data / "tatoeba"))
    for splits in (treebank, tatoeba):
        for budget in (2048, 4096):
            assert 0 < TokenBatches(splits.train, budget, 0).padding < 0.01
