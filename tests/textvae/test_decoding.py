"""Decoding against exhaustive enumeration and one-sentence-at-a-time references, on decoders known exactly."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.stats import chisquare
from torch.utils._python_dispatch import TorchDispatchMode

from corpora.tokenizer import BOS, EOS, PAD
from textvae.decoding import (
    Beam,
    Decoding,
    Greedy,
    Sampling,
    decode,
    inverse_cdf,
    top_k_filter,
    top_p_filter,
)

NUM_IDS = 7
NUM_KEYS = 101
GENERATED = range(EOS, NUM_IDS)


@dataclass(frozen=True)
class TableState:
    key: torch.Tensor

    def select(self, rows):
        return TableState(self.key[rows])


@dataclass(frozen=True)
class TableDecoder:
    """log p(token | z, all tokens so far) is a row of a table, found by hashing z and the tokens."""

    table: torch.Tensor
    num_rows: list[int] = field(default_factory=list)  # rows worked on, by step
    graphs: set[bool] = field(default_factory=set)  # whether a graph was kept

    def start(self, z):
        return TableState(z[:, 0].long() % NUM_KEYS)

    def step(self, tokens, state):
        self.num_rows.append(len(tokens))
        key = self.next_key(state.key, tokens)
        log_probs = self.table[key]
        self.graphs.add(log_probs.requires_grad)
        return log_probs, TableState(key)

    @staticmethod
    def next_key(key, token):
        return (key * 7 + token * 13 + 1) % NUM_KEYS


def random_decoder(seed: int, *, eos_bias: float = 0.0, spread: float = 2.0) -> TableDecoder:
    logits = spread * torch.randn(NUM_KEYS, NUM_IDS, generator=torch.Generator().manual_seed(seed))
    logits[:, EOS] += eos_bias
    logits[:, [PAD, BOS]] = -math.inf
    return TableDecoder(logits.log_softmax(-1))


def latents(num: int) -> torch.Tensor:
    return torch.arange(num, dtype=torch.float32)[:, None] * torch.ones(1, 2)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sentences(tokens: torch.Tensor) -> list[tuple[int, ...]]:
    """The rows without their padding, once it is sure that padding stands nowhere but at the end."""
    rows = [tuple(row) for row in tokens.tolist()]
    lengths = [next((i for i, token in enumerate(row) if token == PAD), len(row)) for row in rows]
    assert all(set(row[length:]) <= {PAD} for row, length in zip(rows, lengths, strict=True))
    assert max(lengths, default=0) == tokens.shape[1]
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]


def decoded(decoder, z, decoding, max_length, generator=None) -> list[tuple[int, ...]]:
    return sentences(decode(decoder, z, decoding, max_length=max_length, generator=generator))


def next_log_probs(decoder: TableDecoder, z_row: torch.Tensor, prefix: tuple[int, ...]) -> list[float]:
    key = int(z_row[0]) % NUM_KEYS
    for token in (BOS, *prefix):
        key = decoder.next_key(key, token)
    return decoder.table[key].tolist()


def all_sentences(
    decoder: TableDecoder, z_row: torch.Tensor, max_length: int
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every sentence that can be generated, cut-off ones too, with its log-probability."""
    open_ones = [((), 0.0)]
    for step in range(max_length):
        longer = [
            ((*prefix, token), log_prob + next_log_probs(decoder, z_row, prefix)[token])
            for prefix, log_prob in open_ones
            for token in GENERATED
        ]
        open_ones = [(prefix, log_prob) for prefix, log_prob in longer if prefix[-1] != EOS]
        yield from (longer if step == max_length - 1 else (found for found in longer if found[0][-1] == EOS))


def greedy_reference(decoder: TableDecoder, z_row: torch.Tensor, max_length: int) -> tuple[int, ...]:
    prefix: tuple[int, ...] = ()
    while len(prefix) < max_length and EOS not in prefix:
        row = next_log_probs(decoder, z_row, prefix)
        prefix = (*prefix, max(GENERATED, key=row.__getitem__))
    return prefix


def score(sentence: tuple[int, ...], log_prob: float, alpha: float) -> float:
    """Wu et al. 2016, equation 14."""
    return log_prob * 6**alpha / (5 + len(sentence)) ** alpha


def beam_reference(decoder: TableDecoder, z_row: torch.Tensor, beam: Beam, max_length: int) -> tuple[int, ...]:
    """One sentence, Python lists, never stopped early."""
    open_ones, ended = [((), 0.0)], []
    for _ in range(max_length):
        longer = [
            ((*prefix, token), log_prob + next_log_probs(decoder, z_row, prefix)[token])
            for prefix, log_prob in open_ones
            for token in GENERATED
        ]
        best = sorted(longer, key=lambda found: -found[1])[: beam.size]
        ended += [found for found in best if found[0][-1] == EOS]
        open_ones = [found for found in best if found[0][-1] != EOS]
    return max(ended or open_ones, key=lambda found: score(*found, beam.length_penalty))[0]


STRATEGIES = [
    Greedy(),
    Sampling(),
    Sampling(temperature=0.7, top_k=3, top_p=0.9),
    Beam(),
    Beam(size=3, length_penalty=0.0),
]
every_strategy = pytest.mark.parametrize("decoding", STRATEGIES, ids=repr)


@pytest.mark.parametrize("max_length", [1, 3, 12])
def test_greedy_equals_the_one_sentence_reference(max_length):
    decoder, z = random_decoder(0), latents(40)
    assert decoded(decoder, z, Greedy(), max_length) == [greedy_reference(decoder, row, max_length) for row in z]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("size", [2, 5])
def test_beam_equals_the_one_sentence_reference_that_never_stops_early(seed, alpha, size):
    decoder, z, beam = random_decoder(seed, eos_bias=-1.0), latents(12), Beam(size=size, length_penalty=alpha)
    assert decoded(decoder, z, beam, 9) == [beam_reference(decoder, row, beam, 9) for row in z]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_wide_beam_finds_the_best_of_all_sentences(alpha):
    decoder, z = random_decoder(1), latents(5)
    expected = []
    for row in z:
        complete = [found for found in all_sentences(decoder, row, 4) if found[0][-1] == EOS]
        expected.append(max(complete, key=lambda found: score(*found, alpha))[0])
    assert decoded(decoder, z, Beam(size=400, length_penalty=alpha), 4) == expected
    assert any(len(sentence) > 1 for sentence in expected)


def test_a_beam_of_one_is_greedy_also_where_tokens_tie():
    decoder, z = random_decoder(2), latents(40)
    assert decoded(decoder, z, Beam(size=1), 8) == decoded(decoder, z, Greedy(), 8)
    tied = TableDecoder(
        torch.full((NUM_KEYS, NUM_IDS), -math.log(5)).index_fill(1, torch.tensor([PAD, BOS]), -math.inf)
    )
    assert decoded(tied, z, Beam(size=1), 8) == decoded(tied, z, Greedy(), 8)


def test_beam_returns_the_most_probable_cut_off_sentence_only_where_none_ended():
    decoder, z = random_decoder(3, eos_bias=-math.inf), latents(6)
    expected = [max(all_sentences(decoder, row, 3), key=lambda found: found[1])[0] for row in z]
    assert decoded(decoder, z, Beam(size=200), 3) == expected
    # Where ending is possible but improbable, the sentence that ended wins over likelier ones that did not.
    reluctant = random_decoder(3, eos_bias=-6.0)
    assert all(sentence[-1] == EOS for sentence in decoded(reluctant, z, Beam(size=200), 3))


def test_beam_stops_when_no_open_hypothesis_can_win():
    probabilities = torch.tensor([0.0, 0.0, 0.9, 0.1, 0.0, 0.0, 0.0])
    decoder = TableDecoder(probabilities.log().expand(NUM_KEYS, -1))
    assert decoded(decoder, latents(3), Beam(size=2, length_penalty=0.0), 50) == [(EOS,)] * 3
    assert decoder.num_rows == [3]


@pytest.mark.parametrize("decoding", [Greedy(), Sampling()], ids=repr)
def test_finished_rows_are_dropped(decoding):
    decoder = random_decoder(4)
    found = decoded(decoder, latents(30), decoding, 10, seeded(0))
    assert decoder.num_rows == [sum(len(sentence) > step for sentence in found) for step in range(max(map(len, found)))]
    assert decoder.num_rows[-1] < 30


def test_beam_drops_finished_sentences():
    decoder, z, beam = random_decoder(4), latents(30), Beam(size=4)
    decode(decoder, z, beam, max_length=10)
    steps_alone = []
    for row in z:
        alone = random_decoder(4)
        decode(alone, row[None], beam, max_length=10)
        steps_alone.append(len(alone.num_rows))
    widths = [1] + [4] * 9
    assert decoder.num_rows == [
        width * sum(steps > step for steps in steps_alone)
        for step, width in zip(range(max(steps_alone)), widths, strict=False)
    ]
    assert min(steps_alone) < max(steps_alone)


@every_strategy
def test_the_host_waits_once_a_step(decoding):
    waits = Counter()

    class CountWaits(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            waits[func.overloadpacket.__name__] += 1
            return func(*args, **(kwargs or {}))

    decoder = random_decoder(5)
    with CountWaits():
        decode(decoder, latents(20), decoding, max_length=10, generator=seeded(0))
    num_waits = sum(waits[name] for name in ("nonzero", "_local_scalar_dense", "masked_select"))
    assert 1 < len(decoder.num_rows) <= num_waits <= len(decoder.num_rows) + 1  # the beam also asks for its T


@every_strategy
def test_a_sentence_does_not_depend_on_the_others(decoding):
    z = latents(24)
    whole = decoded(random_decoder(6), z, decoding, 8, seeded(3))
    others_changed = z.clone()
    others_changed[::2] += 50
    changed = decoded(random_decoder(6), others_changed, decoding, 8, seeded(3))
    assert changed[1::2] == whole[1::2]
    assert changed[::2] != whole[::2]


@every_strategy
def test_chunks_give_what_the_whole_batch_gives(decoding):
    z, generator = latents(24), seeded(3)
    whole = decoded(random_decoder(6), z, decoding, 8, seeded(3))
    chunks = [decoded(random_decoder(6), chunk, decoding, 8, generator) for chunk in z.split([1, 2, 5, 16])]
    assert list(itertools.chain(*chunks)) == whole


@every_strategy
@pytest.mark.parametrize("max_length", [1, 2, 5])
def test_max_length_holds(decoding, max_length):
    decoder = random_decoder(7, eos_bias=-2.0)
    found = decoded(decoder, latents(20), decoding, max_length, seeded(0))
    assert len(decoder.num_rows) == max_length == max(map(len, found))
    assert all(EOS not in sentence[:-1] and BOS not in sentence for sentence in found)
    assert all(sentence[-1] == EOS or len(sentence) == max_length for sentence in found)


@every_strategy
def test_no_sentences(decoding):
    tokens = decode(random_decoder(8), latents(0), decoding, max_length=5)
    assert tokens.shape == (0, 0)
    assert tokens.dtype == torch.int64


@every_strategy
def test_no_gradients_are_kept_and_the_ids_may_enter_a_graph(decoding):
    decoder = TableDecoder(random_decoder(9).table.requires_grad_())
    tokens = decode(decoder, latents(4), decoding, max_length=5)
    assert decoder.graphs == {False}
    torch.nn.functional.embedding(tokens, torch.randn(NUM_IDS, 3, requires_grad=True)).sum().backward()


def test_sampling_is_a_function_of_the_generator():
    decoder, z = random_decoder(10), latents(30)
    first = decoded(decoder, z, Sampling(), 8, seeded(1))
    assert decoded(decoder, z, Sampling(), 8, seeded(1)) == first
    assert decoded(decoder, z, Sampling(), 8, seeded(2)) != first
    torch.manual_seed(1)
    assert decoded(decoder, z, Sampling(), 8) == first


def test_sampling_at_a_low_temperature_is_greedy():
    decoder, z = random_decoder(11), latents(40)
    assert decoded(decoder, z, Sampling(temperature=1e-6), 8, seeded(0)) == decoded(decoder, z, Greedy(), 8)


def filtered_reference(row: list[float], sampling: Sampling) -> list[float]:
    """Probabilities after temperature, top-k and top-p, with Python lists."""
    weights = [math.exp(log_prob / sampling.temperature) for log_prob in row]
    order = sorted(range(len(row)), key=lambda token: -weights[token])
    order = order[: sampling.top_k or len(row)]
    total, kept, mass = sum(weights[token] for token in order), [], 0.0
    for token in order:
        if mass < sampling.top_p * total:
            kept.append(token)
            mass += weights[token]
    return [weights[token] / mass if token in kept else 0.0 for token in range(len(row))]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.6),
        Sampling(temperature=1.5, top_k=3),
        Sampling(top_p=0.8),
        Sampling(temperature=1.5, top_k=4, top_p=0.9),
    ],
    ids=repr,
)
def test_sampling_frequencies(sampling):
    decoder, z_row, num_samples = random_decoder(12, spread=0.7), torch.zeros(2), 6000
    table = torch.tensor([filtered_reference(row, sampling) for row in decoder.table.tolist()]).log()
    exact = {
        sentence: num_samples * math.exp(log_prob)
        for sentence, log_prob in all_sentences(TableDecoder(table), z_row, 2)
        if log_prob > -math.inf
    }
    found = Counter(decoded(decoder, z_row.expand(num_samples, -1), sampling, 2, seeded(0)))
    assert len(exact) > 5
    assert min(exact.values()) > 5
    assert set(found) == set(exact)
    total = sum(exact.values())  # num_samples, but for rounding
    expected = [count * num_samples / total for count in exact.values()]
    assert chisquare([found[sentence] for sentence in exact], expected).pvalue > 0.01


def test_inverse_cdf_never_returns_an_impossible_id():
    log_probs = torch.tensor([-math.inf, -math.inf, -1.0, -math.inf, -2.0, -math.inf])
    draws = torch.tensor([0.0, 2**-24, 0.5, 1 - 2**-24])
    assert inverse_cdf(log_probs.expand(4, -1), draws).tolist() == [4, 4, 2, 2]


def test_inverse_cdf_bears_a_scan_that_is_not_monotone(monkeypatch):
    def rounded_scan(probabilities, dim):
        return torch.tensor([[1e-7, 0.3, 0.6, 0.5, 1.0, 1.1]])

    monkeypatch.setattr(torch.Tensor, "cumsum", rounded_scan)
    log_probs = torch.tensor([-math.inf, -1.0, -math.inf, -1.0, -1.0, -math.inf])
    draws = torch.tensor([0.0, 0.45, 1 - 2**-24])
    assert [int(inverse_cdf(log_probs[None], draw[None])) for draw in draws] == [4, 4, 1]


rows_of_logits = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=12)


@given(rows_of_logits, st.integers(1, 15))
@settings(max_examples=60, deadline=None)
def test_top_k_keeps_k_that_no_other_exceeds(logits, k):
    log_probs = torch.tensor([logits, logits[::-1]]).log_softmax(-1)
    kept = top_k_filter(log_probs, k)
    for row, filtered in zip(log_probs.tolist(), kept.tolist(), strict=True):
        assert sorted(filtered, reverse=True)[: min(k, len(row))] == sorted(row, reverse=True)[:k]
        assert sum(x > -math.inf for x in filtered) == min(k, len(row))
        assert all(x in (-math.inf, y) for x, y in zip(filtered, row, strict=True))


@given(rows_of_logits, st.floats(0.001, 1.0))
@settings(max_examples=60, deadline=None)
def test_top_p_keeps_the_smallest_set_of_that_mass(logits, p):
    log_probs = torch.tensor([logits, logits[::-1]])
    kept = top_p_filter(log_probs, p)
    for row, filtered in zip(log_probs.tolist(), kept.tolist(), strict=True):
        probabilities = sorted(torch.tensor(row, dtype=torch.float64).softmax(-1).tolist(), reverse=True)
        num_kept = sum(x > -math.inf for x in filtered)
        assert num_kept >= 1
        assert sum(probabilities[:num_kept]) >= p - 1e-5
        assert sum(probabilities[: num_kept - 1]) < p + 1e-5
        assert sorted(filtered, reverse=True)[:num_kept] == sorted(row, reverse=True)[:num_kept]
        assert all(x in (-math.inf, y) for x, y in zip(filtered, row, strict=True))


@pytest.mark.parametrize("max_length", [0, -3])
def test_max_length_must_be_positive(max_length):
    with pytest.raises(ValueError, match=f"max_length must be at least 1, got {max_length}"):
        decode(random_decoder(0), latents(2), Greedy(), max_length=max_length)


ADAPTER = TypeAdapter(Decoding)


@pytest.mark.parametrize("decoding", STRATEGIES, ids=repr)
def test_configs_survive_json(decoding):
    assert ADAPTER.validate_json(ADAPTER.dump_json(decoding), strict=True) == decoding


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "nucleus"}',
        '{"kind": "sampling", "temperature": 0}',
        '{"kind": "sampling", "temperature": Infinity}',
        '{"kind": "sampling", "temperature": NaN}',
        '{"kind": "sampling", "top_k": -1}',
        '{"kind": "sampling", "top_p": 0}',
        '{"kind": "sampling", "top_p": 1.01}',
        '{"kind": "beam", "size": 0}',
        '{"kind": "beam", "length_penalty": -0.1}',
        '{"kind": "beam", "length_penalty": 1e9}',
    ],
)
def test_configs_refuse_what_makes_no_sense(text):
    with pytest.raises(ValidationError):
        ADAPTER.validate_json(text, strict=True)
