"""The layers of encoder and decoder, and how they begin."""

import math
from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from textvae.transformer.positions import Rotation

# from a layer's queries, keys and values to what its queries see, heads apart
Attend = Callable[
    [Float[Tensor, "N A T D"], Float[Tensor, "N A T D"], Float[Tensor, "N A T D"]], Float[Tensor, "N A Q D"]
]

SCALE = 0.02  # standard deviation of the weights at first


class Block(nn.Module):
    r"""\(x' = x + W_o\,\mathrm{attention}(\mathrm{norm}(x)),\; y = x' + W_2\,\mathrm{gelu}(W_1\,\mathrm{norm}(x'))\).

    Pre-norm, with a hidden layer of four times the width, as in GPT-2 (Radford et al. 2019); no biases, as in PaLM
    (Chowdhery et al. 2022, section 2); the exact gelu, not GPT-2's approximation of it, which is slower on a CPU.
    Dropout is on what is added to x; there is none on the attention's weights, which would cost the fused kernels.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(hidden_size, bias=False)
        self.attention_in = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.attention_out = nn.Linear(hidden_size, hidden_size, bias=False)
        self.mlp_norm = nn.LayerNorm(hidden_size, bias=False)
        self.mlp_in = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.mlp_out = nn.Linear(4 * hidden_size, hidden_size, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "N T H"], rotation: Rotation, attend: Attend) -> Float[Tensor, "N Q H"]:
        """The layer's output; where `attend` answers the first Q queries alone, for them alone."""
        inputs = self.attention_in(self.attention_norm(x)).unflatten(-1, (3, self.num_heads, -1))
        queries_keys_values = inputs.permute(2, 0, 3, 1, 4)
        queries, keys = rotation(queries_keys_values[:2])
        seen = attend(queries, keys, queries_keys_values[2]).transpose(1, 2).flatten(2)
        x = x[:, : seen.shape[1]] + self.dropout(self.attention_out(seen))
        y: Tensor = x + self.dropout(self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x)))))
        return y


def initialise(blocks: nn.ModuleList, *others: nn.Parameter) -> None:
    r"""Draw matrices from \(\mathcal N(0, 0.02^2)\), the last of each branch of L layers from a \(\sqrt{2L}\)-th of it.

    Vectors (norms, biases) stay as they are. Reference: Radford et al. 2019, "Language Models are Unsupervised
    Multitask Learners", section 2.3.
    """
    for weight in (*others, *blocks.parameters()):
        if weight.dim() > 1:
            nn.init.normal_(weight, std=SCALE)
    for name, weight in blocks.named_parameters():
        if name.endswith(("attention_out.weight", "mlp_out.weight")):
            nn.init.normal_(weight, std=SCALE / math.sqrt(2 * len(blocks)))
