"""The evidence lower bound: the model's three parts, its terms, the schedules and the objectives."""

from latent.bound.controllers import Controller, MinimumRate, ProportionalIntegral, SoftFreeBits
from latent.bound.elbo import ElboObjective
from latent.bound.hybrid import HybridObjective
from latent.bound.information import Information
from latent.bound.iwae import IwaeObjective
from latent.bound.loss import Feedback, Loss
from latent.bound.mmd import Mmd
from latent.bound.model import Batch, BatchT, LatentModel
from latent.bound.model_config import ModelConfig, WithPosterior
from latent.bound.objectives import Objective
from latent.bound.schedules import Constant, Cosine, Cyclical, Ladder, Linear, Logistic, Schedule, Staircase
from latent.bound.target_rate import TargetRateObjective
from latent.bound.terms import ElboTerms

__all__ = [
    "Batch",
    "BatchT",
    "Constant",
    "Controller",
    "Cosine",
    "Cyclical",
    "ElboObjective",
    "ElboTerms",
    "Feedback",
    "HybridObjective",
    "Information",
    "IwaeObjective",
    "Ladder",
    "LatentModel",
    "Linear",
    "Logistic",
    "Loss",
    "MinimumRate",
    "Mmd",
    "ModelConfig",
    "Objective",
    "ProportionalIntegral",
    "Schedule",
    "SoftFreeBits",
    "Staircase",
    "TargetRateObjective",
    "WithPosterior",
]
