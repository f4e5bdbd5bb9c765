import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora.texts import SPLITS, collect, cut

SHARES = dict(zip(SPLITS, (0.8, 0.1, 0.1), strict=True))


def test_blanks_collapse_and_empty_lines_are_counted_and_numbered():
    texts = collect("f", ["  a \t b ", "", " \r", "c"], ["x", "", "", "y"])
    assert texts.sentences == ["a b", "c"]
    assert texts.labels == ["x", "y"]
    assert texts.num_empty == 2
    assert texts.line_numbers.tolist() == [1, 4]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from("abcdefghijklmnop"), min_size=3, max_size=60).filter(lambda x: len(set(x)) >= 3),
    st.tuples(*[st.floats(0.05, 1)] * 3),
)
def test_a_cut_keeps_everything_once_and_no_sentence_on_two_sides(sentences, weights):
    shares = dict(zip(SPLITS, (w / sum(weights) for w in weights), strict=True))
    splits = cut(collect("f", sentences), shares)
    contents = [set(splits[name].sentences) for name in SPLITS]
    assert all(contents)
    assert sum(map(len, contents)) == len(set(sentences))
    lines = np.concatenate([splits[name].line_numbers for name in SPLITS])
    assert sorted(lines) == list(range(1, len(sentences) + 1))
    for texts in splits.values():
        assert [sentences[line - 1] for line in texts.line_numbers] == texts.sentences
        assert (np.diff(texts.line_numbers) > 0).all()


def test_a_cut_follows_the_shares_and_is_always_the_same():
    texts = collect("f", [f"s{i}" for i in range(1000)])
    splits = cut(texts, SHARES)
    assert [len(splits[name].sentences) for name in SPLITS] == [800, 100, 100]
    assert cut(texts, SHARES)["test"].sentences == splits["test"].sentences
    assert splits["test"].sentences != [f"s{i}" for i in range(900, 1000)]


def test_labels_go_with_their_sentences():
    lines = [f"s{i}" for i in range(20)]
    splits = cut(collect("f", lines, [f"label of {line}" for line in lines]), SHARES)
    for texts in splits.values():
        assert texts.labels == [f"label of {sentence}" for sentence in texts.sentences]


def test_too_few_distinct_sentences():
    with pytest.raises(ValueError, match=r"f: 2 distinct sentence\(s\) cannot be cut into train, valid, test; add"):
        cut(collect("f", ["a", "b", "a", "b"]), SHARES)


def test_nothing_at_all():
    with pytest.raises(ValueError, match="f: holds no sentence"):
        collect("f", ["", "  "])
