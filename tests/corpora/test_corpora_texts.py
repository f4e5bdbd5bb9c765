import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import cuts
from corpora.digests import digests
from corpora.texts import SPLITS, Blocks, LineBlock, collect, gather

SHARES = dict(zip(SPLITS, (0.8, 0.1, 0.1), strict=True))


def blocks_of(lines, labels=None, size=7):
    return Blocks(
        lambda: (
            LineBlock(
                split="all",
                source="f",
                lines=lines[at : at + size],
                labels=None if labels is None else labels[at : at + size],
                first_line=at + 1,
            )
            for at in range(0, len(lines), size)
        )
    )


def cut(lines, shares, labels=None, num_lines=None):
    return gather(cuts.cut(blocks_of(lines, labels), shares, len(lines) if num_lines is None else num_lines))


def test_blanks_collapse_and_empty_lines_are_counted_and_numbered():
    texts = collect("f", ["  a \t b ", "", " \r", "c"], ["x", "", "", "y"], first_line=5)
    assert texts.sentences == ["a b", "c"]
    assert texts.labels == ["x", "y"]
    assert texts.num_empty == 2
    assert texts.line_numbers.tolist() == [5, 8]


def test_blocks_put_together_are_the_whole():
    lines, labels = [f"s {i}" if i % 5 else "" for i in range(40)], [str(i) for i in range(40)]
    found, whole = gather(blocks_of(lines, labels))["all"], collect("f", lines, labels)
    assert (found.sentences, found.labels, found.num_empty) == (whole.sentences, whole.labels, 8)
    assert found.line_numbers.tolist() == whole.line_numbers.tolist()


drawn_sentences = st.lists(st.sampled_from("abcdefghijklmnop"), min_size=3, max_size=60).filter(
    lambda x: len(set(x)) >= 3
)


@settings(deadline=None, max_examples=100)
@given(drawn_sentences, st.tuples(*[st.floats(0.05, 1)] * 3))
def test_a_cut_keeps_everything_once_and_no_sentence_on_two_sides(sentences, weights):
    shares = dict(zip(SPLITS, (w / sum(weights) for w in weights), strict=True))
    for num_lines in (len(sentences), 2**30):
        splits = cut(sentences, shares, num_lines=num_lines)
        contents = [set(splits[name].sentences) for name in SPLITS]
        assert all(contents) or num_lines == 2**30
        assert sum(map(len, contents)) == len(set(sentences))
        lines = np.concatenate([splits[name].line_numbers for name in SPLITS])
        assert sorted(lines) == list(range(1, len(sentences) + 1))
        for texts in splits.values():
            assert [sentences[line - 1] for line in texts.line_numbers] == texts.sentences
            assert (np.diff(texts.line_numbers) > 0).all()


def test_a_cut_follows_the_shares_and_is_always_the_same():
    lines = [f"s{i}" for i in range(1000)]
    splits = cut(lines, SHARES)
    assert [len(splits[name].sentences) for name in SPLITS] == [800, 100, 100]
    assert cut(lines, SHARES)["test"].sentences == splits["test"].sentences
    assert splits["test"].sentences[:4] == ["s13", "s19", "s26", "s28"]  # as it has always been
    assert splits["test"].sentences != [f"s{i}" for i in range(900, 1000)]


def test_a_cut_by_digest_needs_no_other_sentence_and_meets_the_shares_but_for_chance():
    lines = [f"s{i}" for i in range(20_000)]
    splits = cut(lines, SHARES, num_lines=2**30)
    sizes = [len(splits[name].sentences) for name in SPLITS]
    assert sizes == pytest.approx([16_000, 2_000, 2_000], abs=4 * np.sqrt(20_000 * 0.1 * 0.9))
    half = cut(lines[::2], SHARES, num_lines=2**30)
    assert half["test"].sentences == [line for line in splits["test"].sentences if line in set(lines[::2])]


def test_a_long_text_is_cut_by_digest(monkeypatch):
    assert not cuts.is_by_digest(2**20)
    assert cuts.is_by_digest(2**20 + 1)
    lines = [f"s{i}" for i in range(1000)]
    expected = cut(lines, SHARES, num_lines=2**30)
    monkeypatch.setattr(cuts, "MOST_COUNTED", 999)
    assert cut(lines, SHARES)["test"].sentences == expected["test"].sentences


def test_digests_are_of_the_sentence_and_spread_evenly():
    found = digests([f"s{i}" for i in range(10_000)])
    assert len(np.unique(found)) == 10_000
    assert digests(["s7"])[0] == found[7]
    assert (found / 2.0**64).mean() == pytest.approx(0.5, abs=4 / np.sqrt(12 * 10_000))


def test_labels_go_with_their_sentences():
    lines = [f"s{i}" for i in range(20)]
    splits = cut(lines, SHARES, [f"label of {line}" for line in lines])
    for texts in splits.values():
        assert texts.labels == [f"label of {sentence}" for sentence in texts.sentences]


def test_too_few_distinct_sentences():
    with pytest.raises(ValueError, match=r"f: 2 distinct sentence\(s\) cannot be cut into train, valid, test; add"):
        cut(["a", "b", "a", "b"], SHARES)


@pytest.mark.parametrize("call", [lambda lines: gather(blocks_of(lines)), lambda lines: cut(lines, SHARES)])
def test_nothing_at_all(call):
    with pytest.raises(ValueError, match="f: holds no sentence"):
        call(["", "  "])
