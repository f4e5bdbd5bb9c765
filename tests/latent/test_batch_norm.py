"""BN-VAE's head: its floor in training, and running statistics that are those of all sentences, in any batches."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

from latent.distributions import BatchNormHead, kl_divergence, standard_normal
from latent.distributions.batch_norm import MOMENTUM, BatchNormHeadConfig

H, Z = 6, 4


def features(batch_size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, H, generator=generator, dtype=torch.float64)


def batch_norm(gamma: float = 0.6) -> BatchNormHead:
    torch.manual_seed(0)
    head = BatchNormHeadConfig(gamma=gamma).build(H, Z).double()
    with torch.no_grad():
        head.shift.normal_()
    return head


def kl_to_standard(q: Distribution) -> Tensor:
    found = kl_divergence(q, standard_normal(len(q.mean), Z, q.mean), torch.zeros(1, len(q.mean)).double())
    assert found.per_dimension is not None
    return found.per_dimension


def seen(head: BatchNormHead, *batches: Tensor) -> Tensor:
    """What these batches add to the running statistics, in one row."""
    for batch in batches:
        head(batch)
    return head.take_seen()


@pytest.mark.parametrize("gamma", [0.5, 0.7])
def test_batch_norm_in_training_has_its_floor(gamma: float) -> None:
    head = batch_norm(gamma).train()
    q = head(features(50))
    second_moment = q.mean.square().mean(0)
    torch.testing.assert_close(second_moment, gamma**2 + head.shift.square(), rtol=1e-5, atol=0)
    floor = 0.5 * (gamma**2 + head.shift.square()).sum()
    assert kl_to_standard(q).sum(-1).mean() >= floor - 1e-5
    with torch.no_grad():  # and reaches it where the posterior's variance is 1
        head.log_variance.weight.zero_()
        head.log_variance.bias.zero_()
    assert kl_to_standard(head(features(50))).sum(-1).mean().item() == pytest.approx(floor.item(), rel=1e-5)


def test_batch_norm_holds_its_floor_whatever_the_encoder_has_come_to() -> None:
    """A collapsed encoder is one whose features hardly differ: theirs are stretched to the same spread."""
    head = batch_norm(0.6).train()
    q = head(3.0 + 0.01 * features(50))
    torch.testing.assert_close(q.mean.var(0, correction=0), torch.full((Z,), 0.36).double(), rtol=2e-3, atol=0)


def test_batch_norm_in_evaluation_looks_at_each_example_alone() -> None:
    head = batch_norm().train()
    for seed in range(30):
        head.fold(seen(head, features(20, seed)))
    head.eval()
    before = {name: value.clone() for name, value in head.state_dict().items()}
    batch = features(9)
    alone = torch.cat([head(row.unsqueeze(0)).mean for row in batch])
    torch.testing.assert_close(head(batch).mean, alone)
    for name, value in head.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)
    means = head(features(5_000, seed=99)).mean  # of the distribution that it was trained on
    torch.testing.assert_close(means.std(0), torch.full((Z,), 0.6).double(), rtol=0.1, atol=0)
    torch.testing.assert_close(means.mean(0), head.shift.detach(), rtol=0, atol=0.1)


def test_the_running_statistics_are_those_of_all_sentences_whatever_their_batches() -> None:
    """Batches of different sizes and means: a sentence weighs (1 − MOMENTUM)^age, in whichever batch it came."""
    head, parts = batch_norm().train(), [features(5), 2 + 3 * features(40, 1), features(2, 2) - 4]
    for part in parts:
        head.fold(seen(head, part))
    raw = [head.mean(part).detach().numpy() for part in parts]
    weights = np.concatenate(
        [np.full(len(part), (1 - MOMENTUM) ** age) for part, age in zip(raw, (2, 1, 0), strict=True)]
    )
    everything = np.concatenate(raw)
    mean = np.average(everything, axis=0, weights=weights)
    np.testing.assert_allclose(head.running_mean, mean)
    np.testing.assert_allclose(head.running_variance, np.average((everything - mean) ** 2, axis=0, weights=weights))


def test_the_order_of_a_batch_does_not_enter_its_statistics() -> None:
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    first, second = batch_norm().train(), batch_norm().train()
    torch.testing.assert_close(second(features(30)[order]).mean, first(features(30)).mean[order])
    torch.testing.assert_close(second.take_seen(), first.take_seen())


@pytest.mark.parametrize("batch_size", [0, 1])
def test_a_batch_of_one_is_normalised_by_the_running_statistics(batch_size: int) -> None:
    head = batch_norm().train()
    head.fold(seen(head, features(30)))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    found = head(features(batch_size, 1))
    head.fold(head.take_seen())
    assert torch.isfinite(found.mean).all()
    for name, value in head.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)
    torch.testing.assert_close(found.mean, head.eval()(features(batch_size, 1)).mean)


def test_batches_are_folded_together_or_one_by_one() -> None:
    """As a model's forward passes of one batch are, where an update makes several."""
    one_by_one, together = batch_norm().train(), batch_norm().train()
    batches = [features(5), 2 + 3 * features(40, 1), features(1, 2), features(3, 3) - 4]
    for batch in batches:
        one_by_one.fold(seen(one_by_one, batch))
    together.fold(seen(together, *batches[:2]))
    together.fold(seen(together, *batches[2:]))
    for name, value in one_by_one.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], value, rtol=1e-12, atol=1e-12)


def test_nothing_seen_changes_nothing_at_first_and_later() -> None:
    head = batch_norm().train()
    for batch in (features(1), features(7), features(1)):
        head.fold(seen(head, batch))
        before = {name: value.clone() for name, value in head.state_dict().items()}
        head.fold(head.take_seen())
        for name, value in head.state_dict().items():
            torch.testing.assert_close(value, before[name], atol=0, rtol=0)
    assert head.running_size > 0
