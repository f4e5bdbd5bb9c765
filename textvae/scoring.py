"""What every decoder of words does with its scores."""

from abc import ABC, abstractmethod

from jaxtyping import Float, Int64
from torch import Tensor, nn


class ScoringDecoder(nn.Module, ABC):
    """A decoder that scores the tokens at given places in one list: here they become sentences, or positions."""

    @abstractmethod
    def scored_log_prob(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], scored: Int64[Tensor, " M"]
    ) -> Float[Tensor, " M"]:
        """log p(x_t | x_<t, z) in nats at the scored places, one sentence after the other."""

    def log_likelihood(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], scored: Int64[Tensor, " M"]
    ) -> Float[Tensor, " N"]:
        """log p(x|z) in nats: the sum over the words and `</s>`, whose places in flat `tokens[:, 1:]` are `scored`."""
        log_prob = self.scored_log_prob(z, tokens, scored)
        return log_prob.new_zeros(len(z)).index_add(0, scored // (tokens.shape[1] - 1), log_prob)

    def token_log_likelihood(
        self, z: Float[Tensor, "N Z"], tokens: Int64[Tensor, "N T"], scored: Int64[Tensor, " M"]
    ) -> Float[Tensor, "N T-1"]:
        """log p(x_t | x_<t, z) in nats at each scored position, 0 elsewhere: what `log_likelihood` sums."""
        log_prob = self.scored_log_prob(z, tokens, scored)
        targets = tokens[:, 1:]
        return log_prob.new_zeros(targets.numel()).index_copy(0, scored, log_prob).view(targets.shape)


def at_places(states: Float[Tensor, "N T H"], scored: Int64[Tensor, " M"]) -> Float[Tensor, "M H"]:
    """The states at the scored places: by places and not by a mask, whose number of hits the host would wait for."""
    return states.flatten(0, 1).index_select(0, scored)


def targets_at(tokens: Int64[Tensor, "N T"], scored: Int64[Tensor, " M"]) -> Int64[Tensor, " M"]:
    """The tokens to be predicted at the scored places."""
    return tokens[:, 1:].flatten().index_select(0, scored)
