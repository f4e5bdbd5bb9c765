"""Measures of a trained model: is the latent variable used, how good is the bound? Each with its interval."""

from latent.measures.collapse import (
    ActiveUnits,
    active_units,
    mutual_information,
    shuffled_gain,
)
from latent.measures.importance import ImportanceWeighted, importance_weighted
from latent.measures.intervals import Estimate, bootstrap_estimate, mean_estimate, ratio_estimate, share_estimate
from latent.measures.split import SplitTerms, encode_split, evaluating
from latent.measures.verdict import Verdict, judge

__all__ = [
    "ActiveUnits",
    "Estimate",
    "ImportanceWeighted",
    "SplitTerms",
    "Verdict",
    "active_units",
    "bootstrap_estimate",
    "encode_split",
    "evaluating",
    "importance_weighted",
    "judge",
    "mean_estimate",
    "mutual_information",
    "ratio_estimate",
    "share_estimate",
    "shuffled_gain",
]
