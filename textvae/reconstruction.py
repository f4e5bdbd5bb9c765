"""How much of a sentence comes back through z: BLEU and the share of exact matches, by decoding whole batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor

from corpora import EOS, Tokenizer
from latent.measures import Estimate, bootstrap_estimate, share_estimate


@dataclass(frozen=True)
class Reconstruction:
    """BLEU from 0 to 100 and the share of sentences that come back exactly, over N sentences."""

    bleu: Estimate
    exact_match: Estimate


def score_reconstructions(decoded: Sequence[str], originals: Sequence[str], *, is_tokenised: bool) -> Reconstruction:
    """Compare decoded sentences with the originals, one reference each.

    BLEU is the corpus's, without smoothing (Papineni et al. 2002), by sacrebleu: on blanks where the text is
    tokenised already, with its `13a` tokenisation where it is raw. Both intervals are over sentences.
    """
    exact = torch.tensor([a == b for a, b in zip(decoded, originals, strict=True)], dtype=torch.bool)
    return Reconstruction(corpus_bleu(decoded, originals, is_tokenised=is_tokenised), share_estimate(exact))


def corpus_bleu(decoded: Sequence[str], originals: Sequence[str], *, is_tokenised: bool) -> Estimate:
    """Corpus BLEU and its bootstrap interval: each sentence's n-gram counts are taken once and summed by resample."""
    bleu = BLEU(tokenize="none" if is_tokenised else "13a", smooth_method="none", effective_order=True, force=True)
    scores = [bleu.sentence_score(a, [b]) for a, b in zip(decoded, originals, strict=True)]
    counts = torch.tensor([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scores], dtype=torch.float64)

    def statistic(weights: Float[Tensor, "R N"]) -> Float[Tensor, " R"]:
        sums = (weights @ counts * len(counts)).round().long().tolist()
        found = [BLEU.compute_bleu(s[:4], s[4:8], s[8], s[9], smooth_method="none").score for s in sums]
        return torch.tensor(found, dtype=torch.float64)

    return bootstrap_estimate(statistic, len(counts))


def texts_of(tokens: Int64[Tensor, "N T"], tokenizer: Tokenizer) -> list[str]:
    """The sentences of decoded ids, each cut at its `</s>`."""
    rows = tokens.cpu().numpy()
    ends = np.where((rows == EOS).any(1), (rows == EOS).argmax(1), rows.shape[1])
    return [tokenizer.decode(row[:end].tolist()) for row, end in zip(rows, ends, strict=True)]
