"""The factor probe: factors that z encodes, hides, or does not know; the split; the intervals."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from corpora import Grammar
from corpora.grammar import FACTORS
from corpora.texts import gather
from latent.measures import Estimate, share_estimate
from textvae.factor_probe import FactorScore, probe_factors

SKEWED = {"past": 0.44, "present": 0.3, "future": 0.2, "none": 0.06}
EVEN = {"singular": 0.5, "plural": 0.5}
ZERO = Estimate(0.0, 0.0, 0.0)


def draw_values(shares: dict[str, float], n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [str(value) for value in rng.choice(list(shares), size=n, p=list(shares.values()))]


def noise(n: int, size: int, seed: int) -> torch.Tensor:
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def encode(values: list[str], size: int, sharpness: float, seed: int) -> torch.Tensor:
    """Noise, with a direction of its own for each value."""
    directions = torch.linalg.qr(noise(size, size, seed + 1)).Q
    numbers = torch.from_numpy(np.unique(values, return_inverse=True)[1])
    return sharpness * directions[numbers] + noise(len(values), size, seed)


def covers(estimate: Estimate, value: float) -> bool:
    return estimate.low <= value <= estimate.high


def overlap(a: FactorScore, b: FactorScore) -> bool:
    return a.accuracy.low <= b.accuracy.high and b.accuracy.low <= a.accuracy.high


def test_what_z_encodes_is_read_and_what_it_does_not_is_not() -> None:
    factors = {"tense": draw_values(SKEWED, 600, 0), "number": draw_values(EVEN, 600, 1)}
    found = probe_factors(encode(factors["tense"], 12, 10.0, seed=0), factors)
    assert list(found) == ["tense", "number"]
    assert found["tense"].accuracy.value > 0.99
    assert found["tense"].accuracy.low > found["tense"].majority.high
    assert found["tense"].gain.low > 0.4
    assert found["tense"].num_values == 4
    assert covers(found["number"].gain, 0.0)


def test_float32_means_on_any_scale_give_the_same() -> None:
    factors = {"tense": draw_values(SKEWED, 400, 2)}
    means = encode(factors["tense"], 8, 2.0, seed=2)
    found = probe_factors(means, factors)["tense"]
    moved = probe_factors((1e-3 * means + 5).float(), factors)["tense"]
    assert moved.accuracy.value == pytest.approx(found.accuracy.value, abs=0.01)


def test_the_accuracy_of_an_imperfect_code_is_that_of_the_best_classifier() -> None:
    """Two values at ±1 on one axis, with unit noise: Bayes' rule is right in Φ(1) = 84.1 %, and is linear."""
    values = draw_values(EVEN, 6_000, 3)
    means = noise(6_000, 5, 3)
    means[:, 2] += torch.tensor([1.0 if value == "plural" else -1.0 for value in values])
    found = probe_factors(means, {"number": values})["number"]
    assert covers(found.accuracy, 0.8413)
    assert found.accuracy.high - found.accuracy.low < 0.03
    assert found.gain.value == pytest.approx(found.accuracy.value - found.majority.value)


def test_what_is_not_linear_is_not_read() -> None:
    means = noise(1_000, 2, 4)
    found = probe_factors(means, {"xor": [str(bool(a * b > 0)) for a, b in means.tolist()]})["xor"]
    assert found.accuracy.value < 0.6


@pytest.mark.parametrize("shares", [SKEWED, EVEN], ids=["skewed", "even"])
def test_noise_gains_nothing_in_about_95_of_100_repetitions(shares: dict[str, float]) -> None:
    gains = [
        probe_factors(noise(100, 4, seed), {"f": draw_values(shares, 100, seed)}, seed)["f"].gain for seed in range(100)
    ]
    assert sum(covers(gain, 0.0) for gain in gains) >= 90
    assert abs(np.mean([gain.value for gain in gains])) < 0.02


def test_the_interval_of_the_gain_covers_what_the_classifier_gains_elsewhere() -> None:
    """Not only at 0: of an imperfect code, against the gain over many more sentences of the same source."""
    direction, hits = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), 0
    bayes = 0.8413 - 0.5
    for seed in range(60):
        values = draw_values(EVEN, 400, 100 + seed)
        signs = torch.tensor([1.0 if value == "plural" else -1.0 for value in values], dtype=torch.float64)
        found = probe_factors(noise(400, 3, seed) + signs[:, None] * direction, {"f": values}, seed)["f"]
        hits += covers(found.gain, bayes)
    assert hits >= 53


def test_memorising_the_fitting_half_does_not_help() -> None:
    """As many dimensions as tell any 150 sentences apart, whatever their values."""
    values, means = draw_values(EVEN, 300, 5), noise(300, 400, 5)
    scaled = StandardScaler().fit_transform(means[:150].numpy())
    assert LogisticRegression(C=10.0).fit(scaled, values[:150]).score(scaled, values[:150]) == 1.0
    found = probe_factors(means, {"f": values})["f"]
    assert covers(found.gain, 0.0)
    assert found.accuracy.value < 0.65


def test_a_code_without_noise_is_fitted_without_a_warning() -> None:
    """Separable at any C, so that the least regularised fits are tried, and have to converge."""
    values = draw_values(EVEN, 200, 6)
    means = torch.tensor([[1.0 if value == "plural" else -1.0] for value in values]).expand(-1, 500)
    assert probe_factors(means, {"f": values})["f"].accuracy.value == 1.0


def test_other_axes_and_another_order_tell_the_same() -> None:
    factors = {"tense": draw_values(SKEWED, 800, 7)}
    means = encode(factors["tense"], 10, 2.5, seed=7)
    found = probe_factors(means, factors)["tense"]
    assert 0.5 < found.accuracy.value < 0.99
    turned = probe_factors(means @ torch.linalg.qr(noise(10, 10, 8)).Q, factors)["tense"]
    assert turned.accuracy.value == pytest.approx(found.accuracy.value, abs=0.015)
    permuted = probe_factors(means[:, torch.randperm(10, generator=torch.Generator().manual_seed(0))], factors)
    assert permuted["tense"].accuracy.value == pytest.approx(found.accuracy.value, abs=0.005)
    places = torch.randperm(800, generator=torch.Generator().manual_seed(1))
    shuffled = probe_factors(means[places], {"tense": [factors["tense"][i] for i in places]})["tense"]
    assert overlap(shuffled, found)
    assert shuffled.gain.low > 0
    broken = probe_factors(means[places], factors)["tense"]  # each sentence with the values of another
    assert covers(broken.gain, 0.0)


def test_the_split_is_random_even_where_the_corpus_is_sorted() -> None:
    values = sorted(draw_values(SKEWED, 300, 9))
    assert probe_factors(encode(values, 8, 10.0, seed=9), {"tense": values})["tense"].accuracy.value > 0.97


def test_determined_by_the_seed() -> None:
    factors = {"tense": draw_values(SKEWED, 300, 10)}
    means = encode(factors["tense"], 8, 1.5, seed=10)
    torch.manual_seed(0)
    first = probe_factors(means, factors, seed=3)
    torch.manual_seed(1)
    assert probe_factors(means, factors, seed=3) == first
    assert probe_factors(means, factors, seed=4) != first
    alone = probe_factors(means, {"number": draw_values(EVEN, 300, 0)} | factors, seed=3)
    assert alone["tense"] == first["tense"]


def test_a_factor_with_one_value() -> None:
    found = probe_factors(noise(60, 3, 11), {"tense": ["past"] * 60})["tense"]
    assert found == FactorScore(found.majority, found.majority, ZERO, 1)
    assert found.majority == share_estimate(torch.ones(30, dtype=torch.bool))


def test_one_value_in_the_fitting_half_or_in_a_fold() -> None:
    """Each place in turn has the one other value: it is held out, or it alone in the fitting half."""
    shares = set()
    for place in range(20):
        values = ["past"] * 20
        values[place] = "future"
        found = probe_factors(noise(20, 3, place), {"tense": values})["tense"]
        assert found.num_values == 2
        assert found.accuracy.value <= found.majority.value
        if found.majority.value < 1:  # it is held out: there was nothing to fit
            assert found.accuracy == found.majority
            assert found.gain == ZERO
        shares.add(found.majority.value)
    assert shares == {0.9, 1.0}


def test_values_that_only_the_held_out_half_has_are_wrong() -> None:
    names = [f"verb{i}" for i in range(40)]
    found = probe_factors(torch.eye(40, dtype=torch.float64), {"verb": names})["verb"]
    assert found.num_values == 40
    assert found.accuracy.value == found.majority.value == 0.0
    values = [f"rare{i}" if i % 4 == 0 else ("a", "b")[i % 2] for i in range(400)]
    known = torch.tensor([not value.startswith("rare") for value in values])
    scores = probe_factors(encode(values, 120, 30.0, seed=12), {"verb": values})["verb"]
    assert 0.7 < scores.accuracy.value <= known.double().mean().item() + 0.06
    assert scores.gain.low > 0


def test_of_the_grammar() -> None:
    """All factors by their names, read from the counts of the words that mark some of them."""
    corpus = Grammar(num_train=1, num_valid=1, num_test=500)
    sentences, factors = gather(corpus.read())["test"].sentences, corpus.factors()["test"]
    marks = ["?", "not", "n't", "will", "is", "are", "and", "but", "because", "although", "please", "he", "they"]
    means = torch.tensor([[float(s.split().count(mark)) for mark in marks] for s in sentences])
    means += 0.01 * noise(500, len(marks), 0).float()
    found = probe_factors(means, factors)
    assert tuple(found) == FACTORS
    for factor in ("clause_type", "polarity", "conjunction"):
        assert found[factor].gain.low > 0
    assert found["conjunction"].accuracy.value > 0.95
    assert found["verb"].num_values > 80


def test_what_cannot_be_probed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a probe needs 20 sentences, half of them to score it; there are 19$"):
        probe_factors(noise(19, 2, 0), {"tense": ["past"] * 19})
    with pytest.raises(ValueError, match=r"^factor tense: 24 values for 25 sentences$"):
        probe_factors(noise(25, 2, 0), {"tense": ["past"] * 24})
    means = noise(25, 2, 0)
    means[3, 1], means[4, 0] = torch.nan, torch.inf
    with pytest.raises(ValueError, match=r"^2 of 25 posterior means are not finite: .*$"):
        probe_factors(means, {"tense": ["past"] * 25})
    assert probe_factors(noise(20, 2, 0), {}) == {}
