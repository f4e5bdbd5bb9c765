r"""The bag of words that z is to predict beside the sentence:

\[ \log p(x_{\mathrm{bow}}|z) = \sum_t \log \operatorname{softmax}(W z + b)_{x_t} \]

over the words of the sentence and `</s>`, whatever their order. Reference: Zhao et al. 2017, "Learning Discourse-level
Diversity for Neural Dialog Models using Conditional Variational Autoencoders", section 3.3, its network without a
hidden layer.
"""

from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from corpora import EOS
from latent.distributions import at_least_float32


class BagOfWords(nn.Module):
    """A linear map from z to the words that can be scored, and a softmax over them: one for all positions."""

    def __init__(self, num_ids: int, latent_size: int) -> None:
        super().__init__()
        self.output = nn.Linear(latent_size, num_ids - EOS)

    def log_likelihood(
        self, z: Float[Tensor, "S B Z"], targets: Int64[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "S B"]:
        """The sum over the scored words of each sentence, which `mask` marks among `targets`, in nats."""
        log_probs = at_least_float32(self.output(z)).log_softmax(-1)
        words = (targets - EOS).clamp(min=0).expand(len(z), -1, -1)  # what is clamped is padding
        return log_probs.gather(-1, words).where(mask, 0.0).sum(-1)
