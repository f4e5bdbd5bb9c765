"""Measures of a trained model: is the latent variable used, how good is the bound? Each with its interval."""

from latent.measures.collapse import ActiveUnits, MutualInformation, active_units, marginal_kl, mutual_information
from latent.measures.from_prior import FromPrior
from latent.measures.gains import ShuffledGain, gain_over, prior_gain, prior_z, shuffle_cycle, shuffled_gain, shuffled_z
from latent.measures.importance import ImportanceWeighted, importance_weighted
from latent.measures.intervals import (
    UNDEFINED,
    Estimate,
    PerExample,
    bootstrap_estimate,
    chain_estimate,
    exponential,
    mean_estimate,
    quantile_estimate,
    ratio_estimate,
    share_estimate,
    student_quantile,
)
from latent.measures.refinement import RefinedFigures, Refinement, check_refinement
from latent.measures.rounding import Precision, Rounding, choose_rounding
from latent.measures.split import NotFiniteError, SplitTerms, encode, encode_split, evaluating, joined, score
from latent.measures.summary import BoundMeasures, Measured, MeasuresT, SplitMeasured, measure_split
from latent.measures.verdict import Verdict, judge

__all__ = [
    "UNDEFINED",
    "ActiveUnits",
    "BoundMeasures",
    "Estimate",
    "FromPrior",
    "ImportanceWeighted",
    "Measured",
    "MeasuresT",
    "MutualInformation",
    "NotFiniteError",
    "PerExample",
    "Precision",
    "RefinedFigures",
    "Refinement",
    "Rounding",
    "ShuffledGain",
    "SplitMeasured",
    "SplitTerms",
    "Verdict",
    "active_units",
    "bootstrap_estimate",
    "chain_estimate",
    "check_refinement",
    "choose_rounding",
    "encode",
    "encode_split",
    "evaluating",
    "exponential",
    "gain_over",
    "importance_weighted",
    "joined",
    "judge",
    "marginal_kl",
    "mean_estimate",
    "measure_split",
    "mutual_information",
    "prior_gain",
    "prior_z",
    "quantile_estimate",
    "ratio_estimate",
    "score",
    "share_estimate",
    "shuffle_cycle",
    "shuffled_gain",
    "shuffled_z",
    "student_quantile",
]
