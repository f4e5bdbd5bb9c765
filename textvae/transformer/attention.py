r"""Scaled dot-product attention, \(\mathrm{softmax}(q k^\top / \sqrt D)\, v\), by the fastest way there is here.

A is the number of heads and D a head's size. Reference: Vaswani et al. 2017, "Attention Is All You Need", equation 1.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

SHORT = 128  # keys, on a CPU: fewer are faster as two products than in the fused kernel, which is made for more


def masked_attention(
    q: Float[Tensor, "N A Q D"], k: Float[Tensor, "N A K D"], v: Float[Tensor, "N A K D"], visible: Bool[Tensor, "N K"]
) -> Float[Tensor, "N A Q D"]:
    """Every query sees the keys that are visible in its row; at least one is."""
    visible = visible[:, None, None]
    if _is_short(k):
        return _by_products(q, k, v, visible)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible)


def causal_attention(
    q: Float[Tensor, "N A Q D"], k: Float[Tensor, "N A K D"], v: Float[Tensor, "N A K D"]
) -> Float[Tensor, "N A Q D"]:
    """The last query sees all keys, the one before it all but the last key, and so on."""
    num_queries, num_keys = q.shape[2], k.shape[2]
    if num_queries == num_keys and not _is_short(k):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    visible = torch.ones(num_queries, num_keys, dtype=torch.bool, device=q.device).tril(num_keys - num_queries)
    if _is_short(k):
        return _by_products(q, k, v, visible)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible)


def _is_short(k: Float[Tensor, "N A K D"]) -> bool:
    return k.device.type == "cpu" and k.shape[2] <= SHORT


def _by_products(
    q: Float[Tensor, "N A Q D"],
    k: Float[Tensor, "N A K D"],
    v: Float[Tensor, "N A K D"],
    visible: Bool[Tensor, "#N #A #Q K"] | Bool[Tensor, "Q K"],
) -> Float[Tensor, "N A Q D"]:
    scores = (q * (1 / math.sqrt(q.shape[-1]))) @ k.transpose(2, 3)
    # a sum, whose gradient costs nothing
    hidden = torch.zeros_like(visible, dtype=scores.dtype).masked_fill_(~visible, -math.inf)
    return (scores + hidden).softmax(-1) @ v
