"""What can be read from z? A linear classifier of each generative factor on the posterior means, scored held out.

scikit-learn takes a second to import, which measuring other corpora need not pay.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from latent.measures import Estimate, mean_estimate, share_estimate

MIN_SENTENCES = 20  # to fit and to score, together
NUM_FOLDS = 5  # of the cross-validation inside the fitting half
STRENGTHS = (1.0, 10.0, 100.0, 1e3, 1e4)  # CM, tried from the most regularised on; 0, before them, is the majority
MAX_ITERATIONS = 10_000  # far more than the standardised means need, some 200


@dataclass(frozen=True)
class FactorScore:
    """How well a factor is read from z, on sentences that the classifier was not fitted on.

    The intervals are over these sentences, for the classifier as it was fitted. `gain` is exactly 0, without width,
    where no classifier was better than naming the most frequent value.
    """

    accuracy: Estimate  # the share of sentences whose value is named right
    majority: Estimate  # that share for always naming the fitting half's most frequent value
    gain: Estimate  # accuracy − majority, paired over the same sentences
    num_values: int  # in all sentences, those of both halves


def probe_factors(
    means: Float[Tensor, "N Z"], factors: Mapping[str, Sequence[str]], seed: int = 0
) -> dict[str, FactorScore]:
    r"""Fit a logistic regression of each factor's value on the posterior means \(\mu\); score it on other sentences.

    A random half of the sentences (the same for all factors, by `seed`), M = ⌊N/2⌋ of them, fits
    \(p(y|\mu) \propto \exp(w_y \cdot \tilde\mu + b_y)\), \(\tilde\mu\) being \(\mu\) standardised on this half, by the
    least \(\tfrac12 \lVert w \rVert^2 - C \sum_i \log p(y_i|\mu_i)\). C is chosen by five-fold cross-validation of the
    Brier score inside the fitting half: it grows from 1/M tenfold at a time, to 10⁴/M at most, for as long as that
    pays. Where not even the first step does, w = 0: the most frequent value is named. The other half scores; a value
    that only stands there is named wrong. Of two values, one w tells the second from the first.

    `factors` has N values for each factor. Raises ValueError for fewer than 20 sentences, for another number of values
    and for means that are not finite. Reference: Alain & Bengio 2017, "Understanding intermediate layers using linear
    classifier probes".
    """
    n = len(means)
    if n < MIN_SENTENCES:
        raise ValueError(f"a probe needs {MIN_SENTENCES} sentences, half of them to score it; there are {n}")
    num_bad = int((~means.isfinite()).any(1).sum())
    if num_bad:
        raise ValueError(f"{num_bad} of {n} posterior means are not finite: leave them out, and their factors' values")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
    rows = means.cpu().double().numpy()[order]
    scores = {}
    for name, values in factors.items():
        if len(values) != n:
            raise ValueError(f"factor {name}: {len(values)} values for {n} sentences")
        distinct, numbers = np.unique(np.asarray(values)[order], return_inverse=True)
        scores[name] = _score(rows, numbers.astype(np.int64), len(distinct))
    return scores


def _score(rows: Float64[np.ndarray, "N Z"], values: Int64[np.ndarray, " N"], num_values: int) -> FactorScore:
    """Fit on the first half, choosing C there, and score on the second."""
    m = len(rows) // 2
    most_frequent = int(np.bincount(values[:m]).argmax())  # the first by name of equally frequent ones
    majority = torch.from_numpy(values[m:] == most_frequent)
    strength = _choose_strength(rows[:m], values[:m])
    right = majority
    if strength > 0:
        right = torch.from_numpy(_fit(rows[:m], values[:m], strength).predict(rows[m:]) == values[m:])
    return FactorScore(
        accuracy=share_estimate(right),
        majority=share_estimate(majority),
        gain=mean_estimate(right.double() - majority.double()),
        num_values=num_values,
    )


def _choose_strength(rows: Float64[np.ndarray, "M Z"], values: Int64[np.ndarray, " M"]) -> float:
    """The CM from which a tenfold one no longer lowers the cross-validated Brier score; 0 for the bare frequencies.

    Along C the score falls and rises once, and the first rise ends the search: the weakest regularisations are tried
    only for factors that z tells well.
    """
    best, best_score = 0.0, _brier_score(rows, values, 0.0)
    for strength in STRENGTHS:
        score = _brier_score(rows, values, strength)
        if score >= best_score:
            break
        best, best_score = strength, score
    return best


def _brier_score(rows: Float64[np.ndarray, "M Z"], values: Int64[np.ndarray, " M"], strength: float) -> float:
    r"""\(\sum_i \sum_y (p(y|\mu_i) - [y = y_i])^2\), each fold by a fit to the others, from 0 to 2M.

    Unlike the log-likelihood it is finite where \(y_i\) is a value that the fit has not seen, and holds confidence
    against it (Brier 1950, "Verification of Forecasts Expressed in Terms of Probability").
    """
    total = 0.0
    from sklearn.model_selection import KFold

    for fitting, held_out in KFold(NUM_FOLDS).split(rows):
        seen, counts = np.unique(values[fitting], return_counts=True)
        probs = np.broadcast_to(counts / counts.sum(), (len(held_out), len(seen)))
        if strength > 0 and len(seen) > 1:
            probs = _fit(rows[fitting], values[fitting], strength).predict_proba(rows[held_out])
        is_own = values[held_out][:, None] == seen
        total += float((probs**2).sum() - 2 * probs[is_own].sum()) + len(held_out)
    return total


def _fit(rows: Float64[np.ndarray, "M Z"], values: Int64[np.ndarray, " M"], strength: float) -> Any:
    """The classifier at C = strength / M, on means that it standardises itself; at least two values."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = LogisticRegression(C=strength / len(rows), max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings():
        # For verbs of few sentences it asks whether the values are not numbers to be regressed: they are names.
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
        return make_pipeline(StandardScaler(), classifier).fit(rows, values)
