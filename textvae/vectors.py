r"""Words as vectors on the unit sphere: the decoder predicts a vector \(\hat e\) instead of logits.

Reference: Kumar & Tsvetkov 2019, "Von Mises-Fisher Loss for Training Sequence to Sequence Models with Continuous
Outputs".
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from corpora import EOS, UNK
from latent.distributions import VonMisesFisher, at_least_float32
from textvae.likelihood import Likelihood

SCORES_AT_ONCE = 2**24  # words times states


class WordSpace(nn.Module):
    """A fixed unit vector for each id. It is given, not learned: until then the vectors are random directions.

    `is_known` is False for words that have the vector of `<unk>`: they are never written.
    """

    vectors: Tensor
    is_known: Tensor

    def __init__(self, num_ids: int, size: int) -> None:
        super().__init__()
        self.register_buffer("vectors", F.normalize(torch.randn(num_ids, size), dim=-1))
        self.register_buffer("is_known", torch.ones(num_ids, dtype=torch.bool))

    def forward(self, tokens: Int64[Tensor, "*S"]) -> Float[Tensor, "*S D"]:
        """The vectors of ids."""
        return F.embedding(tokens, self.vectors)

    def only_writable(self, scores: Float[Tensor, "M V"]) -> Float[Tensor, "M V"]:
        """The scores with −inf for `<pad>`, `<s>` and words without a vector of their own."""
        is_writable = self.is_known & (torch.arange(len(self.is_known), device=self.is_known.device) >= EOS)
        return scores.masked_fill(~is_writable, -torch.inf)

    @torch.no_grad()
    def rivals(self, directions: Float[Tensor, "M D"], targets: Int64[Tensor, " M"]) -> Int64[Tensor, " M"]:
        """The nearest word to each direction that is not its target; a missing word's is that of `<unk>`."""
        targets = torch.where(self.is_known[targets], targets, UNK)
        at_once = max(1, SCORES_AT_ONCE // len(self.vectors))
        found = [
            self.only_writable(part @ self.vectors.t()).scatter(1, target[:, None], -torch.inf).argmax(1)
            for part, target in zip(directions.split(at_once), targets.split(at_once), strict=True)
        ]
        return torch.cat(found)


@dataclass(frozen=True, kw_only=True)
class VonMisesFisherLoss:
    r"""\(-\ln C_D(\kappa) - \lambda_2\, \hat e^\top e(w) + \lambda_1 \kappa\), with κ = ‖ê‖ (equation 4 on).

    With λ₁ = 0 and λ₂ = 1 it is the exact −ln of the density of e(w) on the sphere. The regularisers, which hold back
    κ, are those of the training alone: in evaluation the density is exact.
    """

    kind: Literal["vmf"] = "vmf"
    norm_penalty: Annotated[float, Field(ge=0)] = 0.02  # λ₁
    dot_weight: Annotated[float, Field(gt=0, le=1)] = 0.1  # λ₂

    likelihood: ClassVar[Likelihood] = "vectors"

    def log_score(
        self, predicted: Float[Tensor, "M D"], targets: Int64[Tensor, " M"], space: WordSpace, is_training: bool
    ) -> Float[Tensor, " M"]:
        """The log-density of each target's vector, in nats; in training less what the regularisers take."""
        concentration, wanted = predicted.norm(dim=-1), space(targets).to(predicted.dtype)
        density: Tensor = VonMisesFisher(F.normalize(predicted, dim=-1), concentration).log_prob(wanted)
        if not is_training:
            return density
        agreement: Tensor = (predicted * wanted).sum(-1)
        held_back: Tensor = (1 - self.dot_weight) * agreement + self.norm_penalty * concentration
        return density - held_back

    def logits(self, predicted: Float[Tensor, "N D"], vectors: Float[Tensor, "V D"]) -> Float[Tensor, "N V"]:
        """The log-density of each word's vector but for a constant: κ times the cosine."""
        return predicted @ vectors.t()


@dataclass(frozen=True, kw_only=True)
class CosineLoss:
    """1 − cos(ê, e(w)). It does not say how sure it is, so that decoding has to be told."""

    kind: Literal["cosine"] = "cosine"
    concentration: PositiveFloat = 20.0  # κ of the words about ê in sampling and beam search; greedy asks for none

    likelihood: ClassVar[Likelihood] = "none"

    def log_score(
        self, predicted: Float[Tensor, "M D"], targets: Int64[Tensor, " M"], space: WordSpace, is_training: bool
    ) -> Float[Tensor, " M"]:
        """Minus the loss of each target, from −2 to 0."""
        return F.cosine_similarity(predicted, space(targets).to(predicted.dtype), dim=-1) - 1

    def logits(self, predicted: Float[Tensor, "N D"], vectors: Float[Tensor, "V D"]) -> Float[Tensor, "N V"]:
        """κ times the cosine to each word."""
        return _scaled_cosines(predicted, vectors, self.concentration)


@dataclass(frozen=True, kw_only=True)
class MaxMarginLoss:
    """max(0, margin + cos(ê, e(w′)) − cos(ê, e(w))), w′ the nearest word that is not w."""

    kind: Literal["max_margin"] = "max_margin"
    margin: Annotated[float, Field(gt=0, le=2)] = 0.5
    concentration: PositiveFloat = 20.0  # as of the cosine loss

    likelihood: ClassVar[Likelihood] = "none"

    def log_score(
        self, predicted: Float[Tensor, "M D"], targets: Int64[Tensor, " M"], space: WordSpace, is_training: bool
    ) -> Float[Tensor, " M"]:
        """Minus the loss of each target, from −2 − margin to 0."""
        directions = F.normalize(predicted, dim=-1)
        wrong = space(space.rivals(directions, targets)).to(predicted.dtype)
        right = space(targets).to(predicted.dtype)
        loss: Tensor = (self.margin + (directions * (wrong - right)).sum(-1)).clamp(min=0)
        return -loss

    def logits(self, predicted: Float[Tensor, "N D"], vectors: Float[Tensor, "V D"]) -> Float[Tensor, "N V"]:
        """κ times the cosine to each word."""
        return _scaled_cosines(predicted, vectors, self.concentration)


def _scaled_cosines(
    predicted: Float[Tensor, "N D"], vectors: Float[Tensor, "V D"], concentration: float
) -> Float[Tensor, "N V"]:
    return concentration * F.normalize(predicted, dim=-1) @ vectors.t()


VectorLoss = Annotated[VonMisesFisherLoss | CosineLoss | MaxMarginLoss, Field(discriminator="kind")]


class VectorOutput(nn.Module):
    r"""The next word's vector, \(\hat e = \sqrt D (W h + b)\), scored by a loss and decoded to the nearest word.

    The root is not the paper's: a density whose mean has the length R needs κ near D R, which W and b would take
    hundreds of optimizer steps to reach.
    """

    def __init__(self, space: WordSpace, num_read: int, size: int, loss: VectorLoss) -> None:
        super().__init__()
        self.prediction = nn.Linear(num_read, size)
        # in a tuple, so that the space is not registered here a second time
        self.space = (space,)
        self.loss = loss

    def log_prob(self, states: Float[Tensor, "M H"], targets: Int64[Tensor, " M"]) -> Float[Tensor, " M"]:
        """The log-density of the target's vector in nats, or less the loss where that is no likelihood."""
        return self.loss.log_score(self._predicted(states), targets, self.space[0], self.training)

    @torch.no_grad()
    def logits(self, states: Float[Tensor, "N H"]) -> Float[Tensor, "N V"]:
        """The score of all words but for a constant, −inf for what is never written; for decoding."""
        predicted = self._predicted(states)
        space = self.space[0]
        return space.only_writable(self.loss.logits(predicted, space.vectors.to(predicted.dtype)))

    @torch.no_grad()
    def expected(self, states: Float[Tensor, "M H"], embedding: nn.Module) -> Float[Tensor, "M D"]:
        """The predicted direction: the mode of the density, a vector of the space's own length."""
        return F.normalize(self._predicted(states), dim=-1)

    def _predicted(self, states: Float[Tensor, "M H"]) -> Float[Tensor, "M D"]:
        return math.sqrt(self.prediction.out_features) * at_least_float32(self.prediction(states))
