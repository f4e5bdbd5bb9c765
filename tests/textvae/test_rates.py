"""Perplexity and bits per character, by hand."""

import math
from dataclasses import astuple

import pytest
import torch

from latent.measures import Estimate, exponential
from textvae.rates import bits_per_character, perplexity


def test_bits_per_character_counts_the_end_of_the_line() -> None:
    nll = torch.tensor([8.0, 4.0]) * math.log(2)
    found = bits_per_character(nll, ["abc", "é"])
    assert found.value == pytest.approx(12 / (4 + 2))
    assert found.low == pytest.approx(2.0)  # both sentences have 2 bits a character: no spread
    assert found.high == pytest.approx(2.0)


def test_bits_per_character_is_a_ratio_of_sums() -> None:
    nll = torch.tensor([3.0, 1.0, 2.0]) * math.log(2)
    found = bits_per_character(nll, ["", "abc", "a"])
    assert found.value == pytest.approx(6 / 7)
    assert found.low < 6 / 7 < found.high


def test_a_uniform_model_over_characters() -> None:
    texts = ["hello", "a", "to the sea"]
    nll = torch.tensor([math.log(32) * (len(text) + 1) for text in texts])
    assert bits_per_character(nll, texts).value == pytest.approx(5.0)


def test_perplexity() -> None:
    found = perplexity(torch.tensor([2.0, 4.0]), torch.tensor([1.0, 2.0]))
    assert astuple(found) == pytest.approx((math.exp(2.0),) * 3)
    spread = perplexity(torch.tensor([2.0, 4.0, 1.0]), torch.tensor([1.0, 1.0, 1.0]))
    assert spread.value == pytest.approx(math.exp(7 / 3))
    assert spread.low * spread.high == pytest.approx(spread.value**2)


def test_what_cannot_be_held_is_infinite() -> None:
    assert exponential(Estimate(0.0, -math.inf, math.inf)) == Estimate(1.0, 0.0, math.inf)
    assert exponential(Estimate(1.0, 0.0, 800.0)) == Estimate(math.e, 1.0, math.inf)
