import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora import BOS, EOS, PAD, UNK, Sentences, Tokenizer, TokenizerConfig, encode_sentences
from corpora.devices import send
from corpora.sentences import encode_and_count_cuts

TEXTS = ["a b c", "", "b", "c z"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["a b c", "a b", "a"], TokenizerConfig())


@pytest.fixture(scope="module")
def sentences(tokenizer):
    return encode_sentences(TEXTS, tokenizer, 10)


def test_sentences_stand_between_their_marks(sentences):
    a, b, c = 4, 5, 6
    expected = [[BOS, a, b, c, EOS], [BOS, EOS], [BOS, b, EOS], [BOS, c, UNK, EOS]]
    assert [sentence.tolist() for sentence in sentences] == expected
    assert len(sentences) == 4
    assert sentences.lengths.tolist() == [5, 2, 3, 4]
    assert sentences.num_scored_tokens == 4 + 1 + 2 + 3
    assert sentences[-1].tolist() == expected[-1]
    with pytest.raises(IndexError):
        sentences[4]


def test_max_length_counts_words_and_eos(tokenizer):
    sentences, num_cut = encode_and_count_cuts(["a b c", "a b", "a"], tokenizer, 3)
    assert [len(sentence) - 1 for sentence in sentences] == [3, 3, 2]
    assert [sentence[-1] for sentence in sentences] == [EOS] * 3
    assert num_cut == 1


def test_ids_take_no_more_room_than_they_need(tokenizer):
    assert encode_sentences(["a"], tokenizer, 5).tokens.dtype == np.uint16
    many = Tokenizer.train([" ".join(f"w{i}" for i in range(70_000))], TokenizerConfig(vocabulary_size=10**6))
    sentences = encode_sentences(["w69999 w1"], many, 5)
    assert sentences.tokens.dtype == np.int32
    assert many.decode(sentences[0]) == "w69999 w1"


def test_a_batch_by_hand(sentences):
    batch = sentences.batch([2, 0], weight=0.5)
    assert batch.tokens.tolist() == [[BOS, 5, EOS, PAD, PAD], [BOS, 4, 5, 6, EOS]]
    assert batch.targets.tolist() == [[5, EOS, PAD, PAD], [4, 5, 6, EOS]]
    assert batch.mask.tolist() == [[True, True, False, False], [True] * 4]
    assert batch.lengths.tolist() == [3, 5]
    assert batch.indices.tolist() == [2, 0]
    assert batch.labels is None
    assert (len(batch), batch.weight) == (2, 0.5)


def test_negative_indices_count_from_the_end(sentences):
    assert sentences.batch([-1]).tokens.tolist() == sentences.batch([3]).tokens.tolist()


def test_an_empty_batch_has_no_rows(sentences):
    batch = sentences.batch([])
    assert len(batch) == 0
    assert batch.targets.shape == batch.mask.shape
    assert len(encode_sentences([], Tokenizer.train(["a"], TokenizerConfig()), 5)) == 0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=30), st.data())
def test_a_batch_holds_what_its_sentences_hold(num_words, data):
    rng = np.random.default_rng(0)
    rows = [[BOS, *rng.integers(UNK, 99, n), EOS] for n in num_words]
    labels = np.arange(len(rows)) % 3
    offsets = np.cumsum([0, *map(len, rows)])
    sentences = Sentences(tokens=np.concatenate(rows).astype(np.uint16), offsets=offsets, labels=labels)
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1))
    batch = sentences.batch(chosen)
    for row, length, index, label, mask in zip(
        batch.tokens, batch.lengths, batch.indices, batch.labels, batch.mask, strict=True
    ):
        assert row[:length].tolist() == rows[index]
        assert (row[length:] == PAD).all()
        assert label == labels[index]
        assert mask.sum() == length - 1
    assert batch.mask.sum() == (batch.targets != PAD).sum()


def test_a_batch_owns_its_memory(sentences):
    indices = np.array([0, 1])
    batch = sentences.batch(indices)
    batch.tokens.fill_(7)
    batch.indices.fill_(7)
    batch.lengths.fill_(7)
    assert indices.tolist() == [0, 1]
    assert sentences.lengths.tolist() == [5, 2, 3, 4]
    assert sentences.batch([0]).tokens[0, 0] == BOS


def test_a_batch_knows_where_its_scored_tokens_are(sentences):
    batch = sentences.batch([2, 0, 3, 1])
    assert torch.equal(batch.scored, batch.mask.flatten().nonzero()[:, 0])
    some = batch.take(torch.tensor([3, 1]))
    assert torch.equal(some.scored, some.mask.flatten().nonzero()[:, 0])
    assert len(some.scored) == 1 + 4
    assert len(batch.take(torch.tensor([], dtype=torch.int64)).scored) == 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_only_to_a_gpu_a_batch_goes_by_way_of_pinned_memory(monkeypatch, device):
    done = []

    def recorded(name):
        def call(tensor, *arguments, **settings):
            done.append((name, *arguments, *settings.items()))
            return tensor

        return call

    for name in ("pin_memory", "to"):
        monkeypatch.setattr(torch.Tensor, name, recorded(name))
    send(torch.zeros(2), torch.device(device))
    copied = ("to", torch.device(device), ("non_blocking", True))
    assert done == ([("pin_memory",), copied] if device == "cuda" else [copied])


def test_to_moves_every_tensor():
    tokenizer = Tokenizer.train(["a"], TokenizerConfig())
    plain = encode_sentences(["a"], tokenizer, 5)
    labelled = Sentences(tokens=plain.tokens, offsets=plain.offsets, labels=np.array([1]))
    moved = labelled.batch([0], weight=2.0).to("meta")
    tensors = [moved.tokens, moved.lengths, moved.indices, moved.scored, moved.labels, moved.targets, moved.mask]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.weight == 2.0
    assert plain.batch([0]).to(torch.device("cpu")).labels is None
