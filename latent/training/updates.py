"""Updates: what one step does to the state. The loop is never forked; a new way to train is a new update."""

from typing import Annotated

from pydantic import Field

from latent.training.adversarial import AdversarialUpdate
from latent.training.aggressive import AggressiveUpdate
from latent.training.joint import Batches, JointUpdate, Metrics
from latent.training.pretraining import PretrainedEncoderUpdate, PretrainedUpdate
from latent.training.semi_amortized import SemiAmortizedUpdate
from latent.training.vae_gan import VaeGanUpdate

Update = Annotated[
    JointUpdate
    | PretrainedUpdate
    | PretrainedEncoderUpdate
    | AggressiveUpdate
    | AdversarialUpdate
    | SemiAmortizedUpdate
    | VaeGanUpdate,
    Field(discriminator="kind"),
]

__all__ = [
    "AdversarialUpdate",
    "AggressiveUpdate",
    "Batches",
    "JointUpdate",
    "Metrics",
    "PretrainedEncoderUpdate",
    "PretrainedUpdate",
    "SemiAmortizedUpdate",
    "Update",
    "VaeGanUpdate",
]
