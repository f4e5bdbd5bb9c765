import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpora import EOS, Sentences, TokenBatches, evaluation_batches
from corpora import batches as batches_module


def sentences_of(num_scored):
    """Sentences with so many words and </s>; their words are their own numbers, so that they can be told apart."""
    rows = [np.array([1, *[4 + i] * (n - 1), EOS]) for i, n in enumerate(num_scored)]
    return Sentences(tokens=np.concatenate(rows).astype(np.int32), offsets=np.cumsum([0, *map(len, rows)]))


def epoch(batches, number=0):
    return [batches[number * batches.num_batches + i] for i in range(batches.num_batches)]


def indices(found):
    return [batch.indices.tolist() for batch in found]


@pytest.fixture(params=[(2**10, 2**8), (3, 2)], ids=["one block", "many"])
def blocks(request, monkeypatch):
    """What holds for a corpus of one block holds for one of many."""
    for name, value in zip(("RUN", "BLOCK_RUNS"), request.param, strict=True):
        monkeypatch.setattr(batches_module, name, value)


ALL_EXAMPLES_ALIKE = [HealthCheck.function_scoped_fixture]
lengths = st.lists(st.integers(1, 40), min_size=1, max_size=60)
budgets = st.integers(1, 120)


@pytest.mark.usefixtures("blocks")
@settings(suppress_health_check=ALL_EXAMPLES_ALIKE, max_examples=100)
@given(lengths, budgets, st.integers(0, 3), st.integers(0, 2**40))
def test_each_epoch_holds_every_sentence_once_within_the_budget(num_scored, budget, number, seed):
    batches = TokenBatches(sentences_of(num_scored), budget, seed)
    found = epoch(batches, number)
    assert sorted(i for batch in found for i in batch.indices.tolist()) == list(range(len(num_scored)))
    for batch in found:
        assert len(batch) == 1 or batch.targets.numel() <= budget
        assert batch.mask.sum() == sum(num_scored[i] for i in batch.indices)
    num_positions = sum(batch.targets.numel() for batch in found)
    assert batches.padding == pytest.approx(1 - sum(num_scored) / num_positions, abs=1e-12)


@pytest.mark.usefixtures("blocks")
@settings(suppress_health_check=ALL_EXAMPLES_ALIKE, max_examples=100)
@given(lengths, budgets)
def test_weights_make_every_sentence_count_the_same(num_scored, budget):
    batches = TokenBatches(sentences_of(num_scored), budget, 0)
    found = epoch(batches)
    per_sentence = [batch.weight / len(batch) / batches.num_batches for batch in found]
    assert per_sentence == pytest.approx([1 / len(num_scored)] * len(found))
    weighted = sum(batch.weight * np.mean([num_scored[i] for i in batch.indices]) for batch in found)
    assert weighted / len(found) == pytest.approx(np.mean(num_scored))


@pytest.mark.usefixtures("blocks")
@settings(suppress_health_check=ALL_EXAMPLES_ALIKE, max_examples=50)
@given(lengths, budgets, st.lists(st.integers(0, 200), min_size=1, max_size=8))
def test_the_order_is_a_function_of_seed_and_index(num_scored, budget, asked):
    sentences = sentences_of(num_scored)
    jumping = TokenBatches(sentences, budget, 7)
    for index in asked:
        fresh = TokenBatches(sentences, budget, 7)[index]
        assert torch.equal(jumping[index].tokens, fresh.tokens)
        assert torch.equal(jumping[index].indices, fresh.indices)


def test_epochs_and_seeds_differ_in_members_and_in_order():
    sentences = sentences_of([3] * 200 + [7] * 200)
    one, other = TokenBatches(sentences, 60, 0), TokenBatches(sentences, 60, 1)
    first, second = indices(epoch(one)), indices(epoch(one, 1))
    assert {frozenset(b) for b in first} != {frozenset(b) for b in second}
    assert first != indices(epoch(other))
    long_first = [batch.targets.shape[1] == 7 for batch in epoch(one)]
    assert long_first != sorted(long_first, reverse=True)


def test_the_shapes_are_few_and_the_same_in_every_epoch():
    rng = np.random.default_rng(0)
    batches = TokenBatches(sentences_of(rng.integers(1, 30, 2000).tolist()), 256, 0)
    shapes = [sorted(tuple(batch.tokens.shape) for batch in epoch(batches, number)) for number in range(3)]
    assert shapes[0] == shapes[1] == shapes[2]
    assert len(set(shapes[0])) <= 29
    assert batches.num_batches > 100


def test_a_corpus_smaller_than_a_batch_and_a_sentence_larger_than_the_budget():
    assert indices(epoch(TokenBatches(sentences_of([2]), 1000, 0))) == [[0]]
    batches = TokenBatches(sentences_of([50, 2, 2]), 10, 0)
    assert sorted(map(sorted, indices(epoch(batches)))) == [[0], [1, 2]]
    assert batches.padding == 0


@pytest.mark.usefixtures("blocks")
def test_the_order_has_no_end_and_no_past():
    batches = TokenBatches(sentences_of([2, 3]), 3, 0)
    assert len(batches[10**12]) == 1
    with pytest.raises(IndexError, match="starts at 0"):
        batches[-1]


@settings(deadline=None, max_examples=100)
@given(lengths, budgets)
def test_evaluation_sees_every_sentence_once_longest_first(num_scored, budget):
    found = list(evaluation_batches(sentences_of(num_scored), budget))
    order = [i for batch in found for i in batch.indices.tolist()]
    assert sorted(order) == list(range(len(num_scored)))
    assert [num_scored[i] for i in order] == sorted(num_scored, reverse=True)
    assert all(len(batch) == 1 or batch.targets.numel() <= budget for batch in found)
    assert {batch.weight for batch in found} == {1.0}


def test_evaluation_of_no_sentence():
    empty = Sentences(tokens=np.zeros(0, np.uint16), offsets=np.zeros(1, np.int64))
    assert list(evaluation_batches(empty, 10)) == []


@settings(deadline=None, max_examples=50)
@given(lengths, budgets, st.integers(0, 3), st.integers(0, 2**40))
def test_the_order_of_one_block_is_that_of_all_versions(num_scored, budget, number, seed):
    """Written out: shuffled, sorted, cut, shuffled."""
    sentences = sentences_of(num_scored)
    rng = np.random.default_rng((seed, number))
    order = sorted(rng.permutation(len(num_scored)).tolist(), key=lambda i: -num_scored[i])
    expected = []
    while order:
        size = max(1, budget // num_scored[order[0]])
        expected, order = [*expected, order[:size]], order[size:]
    expected = [expected[i] for i in rng.permutation(len(expected))]
    assert indices(epoch(TokenBatches(sentences, budget, seed), number)) == expected


def test_blocks_are_dealt_by_the_seed_and_come_in_another_order_each_epoch(monkeypatch):
    monkeypatch.setattr(batches_module, "RUN", 4)
    monkeypatch.setattr(batches_module, "BLOCK_RUNS", 5)
    sentences = sentences_of([3] * 200)
    batches = TokenBatches(sentences, 12, 0)

    def members(batches, number):
        found = [i for each in indices(epoch(batches, number)) for i in each]
        return [frozenset(found[start : start + 20]) for start in range(0, 200, 20)]

    first, second = members(batches, 0), members(batches, 1)
    assert first != second
    assert set(first) == set(second)
    assert not set(members(TokenBatches(sentences, 12, 1), 0)) & set(first)
    assert all(len({i // 4 for i in block}) == 5 for block in first)  # of whole runs, from all over the corpus
    assert np.mean([max(block) - min(block) for block in first]) > 100


def test_neither_memory_nor_shapes_grow_with_the_corpus(monkeypatch):
    """The shuffled order of all two million sentences would take 16 MB, and as much again to make it."""
    monkeypatch.setattr(batches_module, "BLOCK_RUNS", 2**6)
    num_scored = np.random.default_rng(0).integers(1, 12, 2**21)
    offsets = np.concatenate([[0], np.cumsum(num_scored + 1)])
    sentences = Sentences(tokens=np.zeros(offsets[-1], np.uint16), offsets=offsets)
    tracemalloc.start()
    batches = TokenBatches(sentences, 4096, 0)
    shapes = {tuple(batches[index].tokens.shape) for index in range(0, batches.num_batches, 40)}
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 12e6
    assert batches.padding < 0.02
    assert len(shapes) < 60
