"""95 % intervals that cover: 200 seeded repetitions on the linear-Gaussian model, whose figures are known exactly."""

import pytest
import torch
from oracle import LinearGaussian

from latent.measures import (
    Estimate,
    encode_split,
    importance_weighted,
    marginal_kl,
    mutual_information,
    prior_gain,
    shuffled_gain,
)

CPU = torch.device("cpu")
REPETITIONS, NUM_EXAMPLES, NUM_SAMPLES = 200, 300, 50


def all_figures(model: LinearGaussian, seed: int) -> dict[str, Estimate]:
    batch = model.draw(NUM_EXAMPLES, seed=10_000 + seed)
    split = encode_split(model, [batch], CPU, seed)
    information = mutual_information(split.posterior, split.z)
    weighted = importance_weighted(model, [batch], CPU, NUM_SAMPLES, rows_at_once=10**6, seed=seed)
    return {
        "nll": weighted.estimate,
        "mutual_information": information.estimate,
        "marginal_kl": marginal_kl(split, information).estimate,
        "shuffled_gain": shuffled_gain(model, [batch], split, CPU, seed).estimate,
        "prior_gain": prior_gain(model, [batch], split, CPU, seed).estimate,
    }


@pytest.fixture(scope="module", params=[1.3, 0.8], ids=["wide", "narrow"])
def shares(request: pytest.FixtureRequest) -> dict[str, float]:
    """How often each figure's interval holds the truth, for a posterior that is too wide and one too narrow."""
    model = LinearGaussian(slack=request.param)
    truth = {
        "nll": model.marginal().entropy().item(),
        "mutual_information": model.mutual_information(),
        "marginal_kl": model.marginal_kl(),
        "shuffled_gain": model.gain_over(model.aggregated_variance),
        "prior_gain": model.gain_over(torch.ones(3)),
    }
    found = [all_figures(model, seed) for seed in range(REPETITIONS)]
    return {
        name: sum(figures[name].low <= exact <= figures[name].high for figures in found) / REPETITIONS
        for name, exact in truth.items()
    }


@pytest.mark.parametrize("name", ["nll", "mutual_information", "marginal_kl", "shuffled_gain", "prior_gain"])
def test_intervals_of_figures_cover_the_truth(shares: dict[str, float], name: str) -> None:
    assert shares[name] >= 0.93
