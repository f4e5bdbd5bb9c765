import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora import Files, TokenizerConfig, corpus_statistics, load_splits
from corpora.statistics import _quantile


def test_figures_by_hand(folder):
    (folder / "train.txt").write_text("a b c\n\na b c\nb\n", "utf-8")
    (folder / "test.txt").write_text("b\nz b\nz b\ny b\na b c c c c c c\n", "utf-8")
    figures = corpus_statistics(load_splits(Files(path=folder, max_length=6)))
    assert json.loads(json.dumps(figures)) == figures
    assert figures["tokenizer"] == "word"
    assert figures["vocabulary_size"] == 5  # a b c <unk> </s>
    train, test = figures["splits"]["train"], figures["splits"]["test"]
    assert (train["sentences"], train["scored_tokens"], train["empty_lines"]) == (3, 10, 1)
    assert train["tokens_per_sentence"] == pytest.approx(10 / 3)
    assert (train["duplicates"], train["overlap"]) == (1, 0)
    expected = {"0": 2, "0.05": 2.2, "0.25": 3, "0.5": 3, "0.75": 3, "0.95": 5.4, "1": 6}
    assert test["length_quantiles"] == pytest.approx(expected)
    assert test["unknown_rate"] == pytest.approx(3 / 12)
    assert test["duplicates"] == 2  # to a model all of `z b` and `y b` are `<unk> b`
    assert (test["overlap"], test["overlap_share"]) == (1, 0.2)
    assert test["sentences_cut"] == 1


def test_labels_and_kind_are_told(folder):
    for name in ("train", "valid", "test"):
        (folder / f"{name}.txt").write_text("x\ta\ny\tb\n", "utf-8")
    figures = corpus_statistics(load_splits(Files(path=folder, labelled=True, tokenizer=TokenizerConfig(kind="char"))))
    assert figures["labels"] == ["x", "y"]
    assert figures["tokenizer"] == "char"
    assert figures["splits"]["test"]["overlap_share"] == 1


@given(st.lists(st.integers(0, 30), min_size=1), st.floats(0, 1))
def test_quantiles_are_those_of_numpy(values, share):
    assert _quantile(np.bincount(values), share) == pytest.approx(np.quantile(values, share))


def test_figures_do_not_hang_on_what_is_looked_at_together(folder, monkeypatch):
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        rows = [" ".join(rng.choice(list("abcd"), rng.integers(1, 5))) for _ in range(300)]
        (folder / f"{name}.txt").write_text("\n".join(rows), "utf-8")
    splits = load_splits(Files(path=folder))
    figures = corpus_statistics(splits)
    train, test = ([bytes(s) for s in split] for split in (splits.train, splits.test))
    assert figures["splits"]["train"]["duplicates"] == 300 - len(set(train)) > 50
    assert figures["splits"]["test"]["overlap"] == sum(Counter(test)[each] for each in set(train))
    monkeypatch.setattr("corpora.sentences._STRETCH", 7)
    monkeypatch.setattr("corpora.statistics._AT_ONCE", 7)
    assert corpus_statistics(splits) == figures
