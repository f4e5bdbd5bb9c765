"""Cells, poolings, a decoder without history and noise on its embeddings, each against a second way to compute it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corpora import BOS, Sentences, Tokenizer
from textvae.cells import LAYERS, GruLayer
from textvae.encoders import RecurrentEncoder, reverse_within_length
from textvae.models import LstmVaeConfig, SentenceVae

SIZES = {"latent_size": 4, "embedding_size": 8, "hidden_size": 8}


def built(tokenizer: Tokenizer, **options: object) -> SentenceVae:
    torch.manual_seed(0)
    return LstmVaeConfig(**SIZES, **options).build(len(tokenizer)).double().eval()


@pytest.mark.parametrize("name", LAYERS)
def test_a_step_at_a_time_is_the_whole_run(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name](5, 7).double()
    inputs, carried = torch.randn(3, 6, 5).double(), layer.start(torch.randn(3, 7).double())
    found, states = layer.run(inputs, carried), []
    for t in range(6):
        carried = layer.step(inputs[:, t], carried)
        states.append(carried[0])
    torch.testing.assert_close(torch.stack(states, 1), found)


def test_the_gru_is_its_equations() -> None:
    """Cho et al. 2014, with torch's place for the reset gate: on the product, not on the state."""
    torch.manual_seed(0)
    layer = GruLayer(5, 7).double()
    x, h = torch.randn(3, 5).double(), torch.randn(3, 7).double()
    from_x = F.linear(x, layer.weight_ih_l0, layer.bias_ih_l0).chunk(3, 1)
    from_h = F.linear(h, layer.weight_hh_l0, layer.bias_hh_l0).chunk(3, 1)
    reset, update = torch.sigmoid(from_x[0] + from_h[0]), torch.sigmoid(from_x[1] + from_h[1])
    candidate = torch.tanh(from_x[2] + reset * from_h[2])
    torch.testing.assert_close(layer.step(x, (h,))[0], (1 - update) * candidate + update * h)
    torch.testing.assert_close(layer.start(h)[0], torch.tanh(h))


def test_a_gru_has_gated_recurrent_units_everywhere(tokenizer: Tokenizer) -> None:
    model = built(tokenizer, cell="gru", bidirectional=True)
    layers = [module for module in model.modules() if isinstance(module, nn.RNNBase)]
    assert [type(layer) for layer in layers] == [GruLayer] * 3


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooling_takes_each_sentence_s_own_positions(
    pooling: str, bidirectional: bool, tokenizer: Tokenizer, split: Sentences
) -> None:
    """Sentence by sentence, without padding."""
    torch.manual_seed(0)
    encoder = RecurrentEncoder(
        len(tokenizer),
        embedding_size=8,
        hidden_size=6,
        cell="lstm",
        bidirectional=bidirectional,
        pooling=pooling,
        dropout=0.0,
    ).double()
    batch = split.batch(range(12))
    assert len(set(batch.lengths.tolist())) > 1
    found = encoder(batch.tokens, batch.lengths)
    for row, tokens, length in zip(found, batch.tokens, batch.lengths, strict=True):
        alone = tokens[None, :length]
        orders = (alone, reverse_within_length(alone, length[None]))
        pairs = zip(encoder.directions, orders, strict=False)
        states = [layer(encoder.embedding(order))[0][0] for layer, order in pairs]
        pooled = [each.mean(0) if pooling == "mean" else each.max(0).values for each in states]
        torch.testing.assert_close(row, torch.cat(pooled))


@pytest.mark.parametrize("cell", LAYERS)
def test_without_history_no_word_says_anything_of_the_next(cell: str, tokenizer: Tokenizer, split: Sentences) -> None:
    model = built(tokenizer, history=False, cell=cell)
    batch = split.batch(range(7))
    z = torch.randn(1, 7, 4).double()
    changed = batch.tokens.clone()
    changed[:, 1] = torch.where(changed[:, 1] == 5, 6, 5)
    other = replace(batch, tokens=changed)
    found, after = model.token_log_likelihood(z, batch)[0], model.token_log_likelihood(z, other)[0]
    assert torch.equal(after[:, 1:], found[:, 1:])
    assert (after[:, 0] != found[:, 0]).all()
    assert not [name for name, _ in model.decoder.named_parameters() if "embedding" in name]


def test_without_history_the_probabilities_of_all_short_sentences_sum_to_those_of_ending(tokenizer: Tokenizer) -> None:
    """A proper p(x|z): of three positions, independent given z, all sentences that end within them make up the rest."""
    model = built(tokenizer, history=False)
    z = torch.randn(3, 4).double()
    state, log_ends = model.decoder.start(z), []
    for token in (BOS, 7, 9):
        logits, state = model.decoder.step(torch.full((3,), token), state)
        log_ends.append(logits.log_softmax(-1)[:, 2])
    going = 1 - torch.stack(log_ends, 1).exp()
    ended = 1 - going.prod(1)
    words = range(3, len(tokenizer))
    rows = [[BOS, 2], *([BOS, a, 2] for a in words), *([BOS, a, b, 2] for a in words for b in words)]
    total = torch.zeros(3).double()
    for length in (2, 3, 4):
        tokens = torch.tensor([row for row in rows if len(row) == length])
        for k in range(3):
            every = torch.arange(tokens.numel() - len(tokens))
            found = model.decoder.log_likelihood(z[k].expand(len(tokens), -1), tokens, every)
            total[k] += found.exp().sum()
    torch.testing.assert_close(total, ended)


def test_input_noise_is_normal_noise_on_the_embeddings_in_training(tokenizer: Tokenizer) -> None:
    model = built(tokenizer, input_noise=0.5, dropout_in=0.0)
    tokens, z = torch.full((400, 30), 6), torch.randn(400, 4).double()
    words = model.decoder._embedded(tokens)
    clean = model.decoder._inputs(words, z)
    noisy = model.decoder.train()._inputs(words, z)
    noise: Tensor = noisy - clean
    assert (noise[..., 8:] == 0).all()  # none on z
    assert noise[..., :8].std().item() == pytest.approx(0.5, rel=0.02)
    assert noise[..., :8].mean().abs() < 0.01
    assert torch.equal(model.decoder.eval()._inputs(words, z), clean)


@pytest.mark.parametrize("skip", [False, True])
def test_expected_inputs_are_the_mean_embedding_of_what_the_decoder_would_say(
    skip: bool, tokenizer: Tokenizer, split: Sentences
) -> None:
    """Held against decoding word by word."""
    model = built(tokenizer, skip=skip)
    batch, z = split.batch(range(7)), torch.randn(7, 4).double()
    assert len(set(batch.lengths.tolist())) > 1
    read = batch.tokens[:, :-1]
    found = model.decoder._expected(model.decoder._embedded(read), z, batch.scored)
    state, vectors = model.decoder.start(z), model.decoder.embedding.weight
    assert torch.equal(found[:, 0], vectors[read[:, 0]])
    for t in range(read.shape[1] - 1):
        logits, state = model.decoder.step(read[:, t], state)
        inside = t + 2 < batch.lengths  # what is predicted here is read again
        torch.testing.assert_close(found[inside, t + 1], (logits.softmax(-1) @ vectors)[inside])


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_share_of_the_inputs_is_expected_and_in_training_alone(
    share: float, tokenizer: Tokenizer, split: Sentences, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built(tokenizer, expected_inputs=share, dropout_in=0.0, dropout_out=0.0)
    batch, z = split.batch(range(40)), torch.randn(40, 4).double()
    read: list[Tensor] = []
    inputs = model.decoder._inputs
    monkeypatch.setattr(model.decoder, "_inputs", lambda words, z: read.append(words) or inputs(words, z))
    for mode in (True, False):
        model.train(mode).decoder.log_likelihood(z, batch.tokens, batch.scored)
    words = model.decoder._embedded(batch.tokens[:, :-1])
    assert torch.equal(read[-1], words)  # in evaluation
    is_other = (read[-2] != words).any(-1).flatten()
    places = torch.arange(is_other.numel()).view(words.shape[:2])
    inside = places[:, 1:][places.new_tensor(range(words.shape[1] - 1)) + 2 < batch.lengths[:, None]]
    assert not is_other[places[:, 0]].any()
    assert is_other[inside].double().mean().item() == pytest.approx(share, abs=0.1)
    assert len(read) == (3 if share else 2)
