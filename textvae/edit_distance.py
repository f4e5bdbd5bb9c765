"""Levenshtein's distance between many pairs of sentences at once, word by word."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from torch import Tensor

from latent.measures import Estimate, mean_estimate


def split_words(texts: Sequence[str], *, is_tokenised: bool) -> list[list[str]]:
    """The words of each text: between blanks where it is tokenised already, by sacrebleu's `13a` where it is raw."""
    if is_tokenised:
        return [text.split() for text in texts]
    tokenizer = Tokenizer13a()
    return [tokenizer(text).split() for text in texts]


def edit_distances(first: Sequence[Sequence[str]], second: Sequence[Sequence[str]]) -> Int64[Tensor, " N"]:
    """The fewest insertions, deletions and substitutions of words that turn each of the first into its second.

    All pairs go through one table, a row for each word of the longest of `first` (Wagner & Fischer 1974).
    """
    numbers: dict[str, int] = {}
    a, a_lengths = _padded(first, numbers)
    b, b_lengths = _padded(second, numbers)
    assert len(a) == len(b)
    column = np.arange(b.shape[1] + 1)
    row = np.broadcast_to(column, (len(b), len(column)))
    pairs = np.arange(len(b))
    distances = b_lengths.copy()  # of pairs whose first is empty
    for i in range(a.shape[1]):
        replaced = row[:, :-1] + (b != a[:, i : i + 1])
        before_insertions = np.concatenate([row[:, :1] + 1, np.minimum(row[:, 1:] + 1, replaced)], axis=1)
        # d[j] = min over k ≤ j of what precedes it at k, and j - k insertions
        row = np.minimum.accumulate(before_insertions - column, axis=1) + column
        distances = np.where(a_lengths == i + 1, row[pairs, b_lengths], distances)
    return torch.from_numpy(distances)


def normalised_edit_distances(first: Sequence[Sequence[str]], second: Sequence[Sequence[str]]) -> Float[Tensor, " N"]:
    """The distance over the length of the longer: 0 for equal sentences (empty ones too), 1 for no word in common.

    It is no metric: the triangle inequality holds for `edit_distances` alone.
    """
    longer = torch.tensor([max(len(a), len(b), 1) for a, b in zip(first, second, strict=True)], dtype=torch.float64)
    return edit_distances(first, second) / longer


def reconstruction_distance(decoded: Sequence[str], originals: Sequence[str], *, is_tokenised: bool) -> Estimate:
    """The mean normalised edit distance between sentences and what came back of them, from 0 to 1."""
    words = (split_words(texts, is_tokenised=is_tokenised) for texts in (decoded, originals))
    return mean_estimate(normalised_edit_distances(*words))


def _padded(
    sentences: Sequence[Sequence[str]], numbers: dict[str, int]
) -> tuple[Int64[np.ndarray, "N W"], Int64[np.ndarray, " N"]]:
    """The words as numbers, which `numbers` remembers, padded with −1; and the lengths. The padding is never read."""
    lengths = np.array([len(words) for words in sentences], dtype=np.int64)
    padded = np.full((len(sentences), lengths.max(initial=0)), -1, dtype=np.int64)
    for row, words in zip(padded, sentences, strict=True):
        row[: len(words)] = [numbers.setdefault(word, len(numbers)) for word in words]
    return padded, lengths
