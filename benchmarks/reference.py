"""The plain float32 sentence VAE that the benchmarks are held against: written as the research repositories write it.

An embedding, `nn.LSTM`, the logits of all positions, `cross_entropy`; batches of 32 random sentences, padded to the
longest of them; the encoder runs anew for every chunk of importance samples, one sentence at a time, and so does greedy
decoding. It shares no code with the project but the encoded corpus, and takes the weights of one of our models where
both are to give one figure.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corpora import BOS, EOS, PAD, Sentences
from textvae.models.sentence_model import SentenceModel

BATCH = 32
IMPORTANCE_CHUNK = 100  # He et al. 2019, `calc_iwnll`


class ReferenceVae(nn.Module):
    """Bowman et al.'s model: z starts the decoder and is concatenated to each of its inputs."""

    def __init__(
        self,
        num_ids: int,
        embedding_size: int,
        hidden_size: int,
        latent_size: int,
        dropout: float,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.encoder_embedding = nn.Embedding(num_ids, embedding_size)
        self.encoder = nn.LSTM(embedding_size, hidden_size, batch_first=True, bidirectional=bidirectional)
        num_features = hidden_size * (2 if bidirectional else 1)
        self.mean, self.log_variance = nn.Linear(num_features, latent_size), nn.Linear(num_features, latent_size)
        self.decoder_embedding = nn.Embedding(num_ids, embedding_size)
        self.initial_cell = nn.Linear(latent_size, hidden_size)
        self.decoder = nn.LSTM(embedding_size + latent_size, hidden_size, batch_first=True)
        self.output = nn.Linear(hidden_size, num_ids)
        self.dropout_in, self.dropout_out = nn.Dropout(dropout), nn.Dropout(dropout)

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x), B × Z each."""
        packed = nn.utils.rnn.pack_padded_sequence(
            self.encoder_embedding(tokens), lengths, batch_first=True, enforce_sorted=False
        )
        last = torch.cat(list(self.encoder(packed)[1][0]), 1)
        return self.mean(last), self.log_variance(last)

    def reconstruction(self, tokens: Tensor, z: Tensor) -> Tensor:
        """−log p(x|z) of each of B sentences, in nats."""
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        embedded = self.dropout_in(self.decoder_embedding(inputs))
        z_inputs = z.unsqueeze(1).expand(-1, inputs.shape[1], -1)
        cell = self.initial_cell(z)
        states, _ = self.decoder(torch.cat([embedded, z_inputs], -1), (torch.tanh(cell)[None], cell[None]))
        logits = self.output(self.dropout_out(states))
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="none")
        return losses.view(targets.shape).sum(1)

    def loss(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """−ELBO, the mean over sentences."""
        mean, log_variance = self.encode(tokens, lengths)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        return (self.reconstruction(tokens, z) + kl).mean()


def reference_of(model: SentenceModel) -> ReferenceVae:
    """The reference with the weights of one of our LSTM VAEs."""
    ours, backward = model.state_dict(), "encoder.directions.1."
    num_ids, embedding_size = ours["decoder.embedding.weight"].shape
    hidden_size = len(ours["decoder.initial_cell.weight"])
    is_bidirectional = any(name.startswith(backward) for name in ours)
    found = ReferenceVae(num_ids, embedding_size, hidden_size, model.latent_size, 0.0, is_bidirectional)
    names = {
        "encoder_embedding.": "encoder.embedding.",
        "encoder.": "encoder.directions.0.",
        "mean.": "head.mean.",
        "log_variance.": "head.log_variance.",
        "decoder_embedding.": "decoder.embedding.",
        "initial_cell.": "decoder.initial_cell.",
        "decoder.": "decoder.lstm.",
    }
    weights = {
        theirs + name.removeprefix(prefix): value
        for theirs, prefix in names.items()
        for name, value in ours.items()
        if name.startswith(prefix)
    }
    if is_bidirectional:
        weights |= {
            f"encoder.{name.removeprefix(backward)}_reverse": value
            for name, value in ours.items()
            if name.startswith(backward)
        }
    output = ours.get("decoder.output.own_weight", ours["decoder.embedding.weight"][EOS:])  # or tied to it
    weights["output.weight"] = F.pad(output, (0, 0, EOS, 0))
    # <pad> and <s>, for which our model has no row, can never come
    weights["output.bias"] = F.pad(ours["decoder.output.bias"], (EOS, 0), value=-1e9)
    found.load_state_dict(weights)
    return found.eval()


def random_batches(sentences: Sentences, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of 32 random sentences without end, padded to the longest: tokens and lengths."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(sentences))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            batch = sentences.batch(order[start : start + BATCH])
            yield batch.tokens, batch.lengths


def reference_step(model: ReferenceVae, optimizer: torch.optim.Optimizer, tokens: Tensor, lengths: Tensor) -> None:
    """One step of training."""
    optimizer.zero_grad()
    loss = model.loss(tokens, lengths)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    loss.item()


@torch.no_grad()
def reference_nll(model: ReferenceVae, sentences: Sentences, num_samples: int, seed: int) -> Tensor:
    """The importance-weighted NLL of each sentence, in nats."""
    torch.manual_seed(seed)
    found = []
    for index in range(len(sentences)):
        batch = sentences.batch([index])
        weights = []
        for done in range(0, num_samples, IMPORTANCE_CHUNK):
            size = min(IMPORTANCE_CHUNK, num_samples - done)
            mean, log_variance = model.encode(batch.tokens, batch.lengths)
            noise = torch.randn(size, mean.shape[1])
            z = mean + noise * (0.5 * log_variance).exp()
            log_ratio = 0.5 * (noise.square() + log_variance - z.square()).sum(1)
            weights.append(log_ratio - model.reconstruction(batch.tokens.expand(size, -1), z))
        found.append(math.log(num_samples) - torch.cat(weights).logsumexp(0))
    return torch.stack(found)


@torch.no_grad()
def reference_greedy(model: ReferenceVae, z: Tensor, max_length: int) -> list[list[int]]:
    """Greedy sentences, one after the other and a word at a time; ids without `<s>` and `</s>`."""
    found: list[list[int]] = []
    for row in z:
        cell = model.initial_cell(row[None])
        state = (torch.tanh(cell)[None], cell[None])
        word, words = BOS, list[int]()
        while len(words) < max_length:
            embedded = model.decoder_embedding(torch.tensor([[word]]))
            states, state = model.decoder(torch.cat([embedded, row[None, None]], -1), state)
            word = int(model.output(states[0, 0]).argmax())
            if word == EOS:
                break
            words.append(word)
        found.append(words)
    return found
