"""The bag of words: its value by hand, what leaves it as it is, and that no bound ever has it."""

from dataclasses import replace

import pytest
import torch

from corpora import EOS, PAD, Sentences, TextBatch, Tokenizer
from latent.bound import Constant, ElboObjective, IwaeObjective, TargetRateObjective
from latent.measures import encode_split
from textvae.bag_of_words import BagOfWords
from textvae.models import LstmVaeConfig

SIZES = {"latent_size": 4, "embedding_size": 8, "hidden_size": 8, "dropout_in": 0.0, "dropout_out": 0.0}


@pytest.fixture
def batch(split: Sentences) -> TextBatch:
    return split.batch(range(9))


@pytest.fixture
def bag(tokenizer: Tokenizer) -> BagOfWords:
    torch.manual_seed(0)
    return BagOfWords(len(tokenizer), 4).double()


def test_it_is_the_sum_over_the_words_and_the_end(bag: BagOfWords, batch: TextBatch) -> None:
    z = torch.randn(2, 9, 4).double()
    found = bag.log_likelihood(z, batch.targets, batch.mask)
    for s in range(2):
        for i in range(9):
            log_probs = bag.output(z[s, i]).log_softmax(-1)
            words = batch.tokens[i, 1 : batch.lengths[i]]
            assert words[-1] == EOS
            assert found[s, i].item() == pytest.approx(sum(log_probs[word - EOS].item() for word in words))


def test_neither_order_nor_padding_changes_it(bag: BagOfWords, batch: TextBatch) -> None:
    z = torch.randn(1, 9, 4).double()
    found = bag.log_likelihood(z, batch.targets, batch.mask)
    order = torch.randperm(batch.targets.shape[1])
    torch.testing.assert_close(bag.log_likelihood(z, batch.targets[:, order], batch.mask[:, order]), found)
    more = replace(batch, tokens=torch.cat([batch.tokens, torch.full((9, 4), PAD)], 1))
    torch.testing.assert_close(bag.log_likelihood(z, more.targets, more.mask), found)


def test_the_model_has_it_in_training_and_its_other_weights_are_those_of_one_without(
    tokenizer: Tokenizer, batch: TextBatch
) -> None:
    torch.manual_seed(3)
    plain = LstmVaeConfig(**SIZES).build(len(tokenizer)).train()
    torch.manual_seed(3)
    with_bag = LstmVaeConfig(**SIZES, bag_of_words=True).build(len(tokenizer)).train()
    for name, parameter in plain.named_parameters():
        assert torch.equal(with_bag.state_dict()[name], parameter), name
    torch.manual_seed(4)
    terms = plain(batch, 2)
    torch.manual_seed(4)
    found = with_bag(batch, 2)
    assert terms.auxiliary is None
    assert found.auxiliary.shape == (2, 9)
    for name in ("log_likelihood", "log_prior", "log_posterior", "kl", "elbo", "log_weight"):
        assert torch.equal(getattr(found, name), getattr(terms, name)), name
    assert with_bag.eval()(batch).auxiliary is None


def test_no_measure_has_it(tokenizer: Tokenizer, batch: TextBatch) -> None:
    torch.manual_seed(3)
    plain = LstmVaeConfig(**SIZES).build(len(tokenizer)).eval()
    torch.manual_seed(3)
    with_bag = LstmVaeConfig(**SIZES, bag_of_words=True).build(len(tokenizer)).eval()
    first, second = (encode_split(model, [batch], torch.device("cpu")) for model in (plain, with_bag))
    assert torch.equal(first.elbo, second.elbo)


def test_objectives_weigh_it_and_log_the_bound_without_it(tokenizer: Tokenizer, batch: TextBatch) -> None:
    terms = LstmVaeConfig(**SIZES, bag_of_words=True).build(len(tokenizer)).double().train()(batch, 2)
    without = replace(terms, auxiliary=None)
    mean = -terms.auxiliary.mean().item()
    for make in (ElboObjective, lambda **options: TargetRateObjective(target=Constant(value=3.0), **options)):
        plain, weighted = make()(without, 0), make(auxiliary_weight=0.2)(terms, 0)
        assert weighted.value.item() == pytest.approx(plain.value.item() + 0.2 * mean)
        assert float(weighted.logged["elbo"]) == float(plain.logged["elbo"])
        assert float(weighted.logged["auxiliary"]) == pytest.approx(mean)
        assert make()(terms, 0).value.item() == pytest.approx(plain.value.item() + mean)  # the paper's weight
        assert "auxiliary" not in plain.logged
    with pytest.raises(ValueError, match=r"iwae has no auxiliary_weight; set objective\.kind=elbo"):
        IwaeObjective(num_samples=2)(terms, 0)


def test_a_model_can_learn_the_words_from_z_alone(bag: BagOfWords) -> None:
    """Two kinds of sentences, z telling which: the term goes to the entropy of a word within its kind."""
    kinds = torch.arange(40) % 2
    targets = torch.stack([4 + 2 * kinds, 5 + 2 * kinds], 1)
    z = torch.nn.functional.one_hot(kinds, 4).double()[None]
    optimizer = torch.optim.Adam(bag.parameters(), lr=0.1)
    for _ in range(200):
        loss = -bag.log_likelihood(z, targets, torch.ones_like(targets, dtype=torch.bool)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(2 * torch.tensor(2.0).log().item(), abs=0.02)
