"""The transformer VAE against torch's own layers, complex rotations, recomputed prefixes and its cost's formula."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_recipe, write_corpus
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from corpora import EOS, Sentences, TextBatch, Tokenizer
from latent.training import ConfigError, build_state
from textvae.decoding import Beam, Greedy, Sampling, decode
from textvae.models import SentenceVae, TransformerVaeConfig
from textvae.side import TEXT
from textvae.transformer import LearnedPositionsConfig, RotaryPositionsConfig, TransformerDecoder
from textvae.transformer.attention import causal_attention, masked_attention
from textvae.transformer.blocks import SCALE, Block

SIZES = {"latent_size": 4, "hidden_size": 16, "num_layers": 2, "num_heads": 2}
WAYS = ("prefix", "embedding", "layers")
POSITIONS = {"rotary": RotaryPositionsConfig(), "learned": LearnedPositionsConfig(max_length=60)}
CASES = [
    pytest.param(TransformerVaeConfig(**SIZES, injection=way, positions=positions), id=f"{way}, {name}")
    for way in WAYS
    for name, positions in POSITIONS.items()
]


def built(config: TransformerVaeConfig, num_ids: int) -> SentenceVae:
    """In float64, with weights so large that what is written depends on z and on all words."""
    torch.manual_seed(0)
    model = config.build(num_ids).double().eval()
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight *= 8.0 if weight.dim() > 1 else 1.0
    return model


@pytest.fixture
def batch(split: Sentences) -> TextBatch:
    return split.batch(np.arange(7))


@pytest.mark.parametrize("causal", [True, False])
def test_a_block_is_torch_s_own_pre_norm_layer(causal: bool) -> None:
    torch.manual_seed(0)
    block = Block(16, 4, 0.0).double()
    theirs = nn.TransformerEncoderLayer(
        16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True, bias=False, dtype=torch.float64
    )
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(block.attention_in.weight)
        theirs.self_attn.out_proj.weight.copy_(block.attention_out.weight)
        theirs.linear1.weight.copy_(block.mlp_in.weight)
        theirs.linear2.weight.copy_(block.mlp_out.weight)
        for ours, norm in ((block.attention_norm, theirs.norm1), (block.mlp_norm, theirs.norm2)):
            norm.weight.copy_(ours.weight.uniform_(0.5, 1.5))
    x = torch.randn(3, 7, 16, dtype=torch.float64)
    visible = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return causal_attention(q, k, v) if causal else masked_attention(q, k, v, visible)

    mask = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64)
    expected = theirs(x, src_mask=mask) if causal else theirs(x, src_key_padding_mask=~visible)
    torch.testing.assert_close(block(x, lambda vectors: vectors, attend), expected)


@pytest.mark.parametrize("num_keys", [5, 8])
def test_both_ways_of_attention_agree(num_keys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 4, dtype=torch.float64) for n in (5, num_keys, num_keys))
    visible = torch.arange(num_keys) < torch.tensor([num_keys, 2])[:, None]
    short = causal_attention(q, k, v), masked_attention(q, k, v, visible)
    monkeypatch.setattr("textvae.transformer.attention.SHORT", 0)
    torch.testing.assert_close((causal_attention(q, k, v), masked_attention(q, k, v, visible)), short)


def test_a_rotary_score_depends_on_the_distance_alone() -> None:
    torch.manual_seed(0)
    positions = RotaryPositionsConfig().build(16, 2).double()
    q, k = torch.randn(2, 6, 8, dtype=torch.float64)

    def scores(start: int) -> Tensor:
        _, rotation = positions(torch.zeros(1, 6, 16, dtype=torch.float64), start)
        return rotation(q) @ rotation(k).T

    torch.testing.assert_close(scores(0), scores(1000))
    torch.testing.assert_close(scores(3).diagonal(), (q * k).sum(1))
    same = torch.ones(6, 8, dtype=torch.float64)
    _, rotation = positions(torch.zeros(1, 6, 16, dtype=torch.float64), 0)
    by_distance = rotation(same) @ rotation(same).T
    torch.testing.assert_close(by_distance[1:, 1:], by_distance[:-1, :-1])
    assert len(by_distance[0].unique()) == 6  # and it does depend on it


def test_rotations_are_products_with_complex_numbers() -> None:
    torch.manual_seed(0)
    base, start, vectors = 100.0, 5, torch.randn(3, 4, 6, dtype=torch.float64)
    _, rotation = RotaryPositionsConfig(base=base).build(6, 1)(torch.zeros(1, 4, 6), start)
    position = torch.arange(start, start + 4, dtype=torch.float64)
    angle = position[:, None] * base ** -(torch.arange(3, dtype=torch.float64) / 3)
    turned = torch.complex(vectors[..., :3], vectors[..., 3:]) * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(rotation(vectors), torch.cat([turned.real, turned.imag], -1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", CASES)
def test_a_token_changes_no_teacher_forced_score_before_it(
    config: TransformerVaeConfig, tokenizer: Tokenizer, batch: TextBatch
) -> None:
    model = built(config, len(tokenizer))
    z = torch.randn(1, len(batch), 4, dtype=torch.float64)
    changed = batch.tokens.clone()
    changed[:, 4] = torch.where(changed[:, 4] == 5, 6, 5)
    before, after = (model.token_log_likelihood(z, each)[0] for each in (batch, replace(batch, tokens=changed)))
    torch.testing.assert_close(after[:, :3], before[:, :3])  # of tokens 1, 2 and 3
    assert (after != before)[:, 3:][batch.mask[:, 3:]].all()


def test_every_word_is_in_the_posterior(tokenizer: Tokenizer, batch: TextBatch) -> None:
    """The latent token sees all words of its sentence, the last too."""
    model = built(TransformerVaeConfig(**SIZES), len(tokenizer))
    means = model.posterior(batch).mean
    for column in range(int(batch.lengths.min())):
        changed = batch.tokens.clone()
        changed[:, column] = torch.where(changed[:, column] == 5, 6, 5)
        assert (model.posterior(replace(batch, tokens=changed)).mean != means).any(1).all(), column


@dataclass(frozen=True)
class Prefixes:
    tokens: Tensor
    z: Tensor

    def select(self, rows: Tensor) -> "Prefixes":
        return Prefixes(self.tokens[rows], self.z[rows])


@dataclass(frozen=True)
class Recomputing:
    """The same decoder without its cache: each next word is scored behind its whole prefix, by teacher forcing."""

    decoder: TransformerDecoder
    num_ids: int

    def start(self, z: Tensor) -> Prefixes:
        return Prefixes(torch.zeros(len(z), 0, dtype=torch.int64), z)

    def step(self, tokens: Tensor, state: Prefixes) -> tuple[Tensor, Prefixes]:
        state = Prefixes(torch.cat([state.tokens, tokens[:, None]], 1), state.z)
        ids, num = torch.arange(EOS, self.num_ids), len(state.z)
        rows = torch.cat([state.tokens.repeat_interleave(len(ids), 0), ids.repeat(num)[:, None]], 1)
        last = torch.arange(1, len(rows) + 1) * (rows.shape[1] - 1) - 1  # the place of each row's last token
        scores = self.decoder.log_likelihood(state.z.repeat_interleave(len(ids), 0), rows, last)
        never = scores.new_full((num, EOS), -math.inf)
        return torch.cat([never, scores.view(num, len(ids))], 1), state


@pytest.mark.parametrize("config", CASES)
@pytest.mark.parametrize("decoding", [Sampling(), Beam(size=3, length_penalty=4.0)], ids=["sampling", "beam"])
def test_decoding_with_the_cache_is_decoding_with_the_prefix(
    config: TransformerVaeConfig, decoding: Sampling | Beam, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows end, are dropped, repeated and reordered, and the cache grows again and again."""
    monkeypatch.setattr("textvae.transformer.cache.LEAST_ROOM", 1)
    model = built(replace(config, tie_weights=False), len(tokenizer))
    with torch.no_grad():
        model.decoder.output.bias[0] += 1.0  # `</s>`
    z = 2 * torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def decoded(decoder: object) -> Tensor:
        return decode(decoder, z, decoding, max_length=8, generator=torch.Generator().manual_seed(2))

    found = decoded(model.decoder)
    assert torch.equal(found, decoded(Recomputing(model.decoder, len(tokenizer))))
    assert len(found.unique(dim=0)) > 3
    assert found.shape[1] > 3
    assert (found == EOS).any()


@pytest.mark.parametrize("config", CASES)
def test_a_state_can_be_gone_on_from_twice(config: TransformerVaeConfig, tokenizer: Tokenizer) -> None:
    decoder = built(config, len(tokenizer)).decoder
    z, words = torch.randn(2, 4, dtype=torch.float64), torch.tensor([[1, 1], [5, 6], [7, 8], [9, 5]])

    def last(state: object, *steps: int) -> Tensor:
        for step in steps:
            logits, state = decoder.step(words[step], state)
        return logits

    _, state = decoder.step(words[0], decoder.start(z))
    once = last(state, 1, 2)
    other = last(state, 3, 2)
    torch.testing.assert_close(last(state, 1, 2), once, atol=0, rtol=0)
    torch.testing.assert_close(last(decoder.start(z), 0, 3, 2), other)
    at_once, _ = decoder.read(words[[0, 3, 2]].T, decoder.start(z))
    torch.testing.assert_close(at_once, other)
    rows = torch.tensor([1, 0, 1])
    _, chosen = decoder.step(words[3][rows], state.select(rows))
    torch.testing.assert_close(decoder.step(words[2][rows], chosen)[0], other[rows])


def test_the_cache_is_copied_once_each_time_its_length_has_doubled(tokenizer: Tokenizer) -> None:
    decoder = built(TransformerVaeConfig(**SIZES), len(tokenizer)).decoder
    state, places = decoder.start(torch.randn(2, 4, dtype=torch.float64)), []
    for _ in range(100):
        _, state = decoder.step(torch.tensor([5, 6]), state)
        places.append(state.cache.places.data_ptr())
    assert len(set(places)) == 4  # of 16, 34, 70 and 142 positions


@pytest.mark.parametrize("way", WAYS)
def test_without_its_map_a_decoder_does_not_know_z(way: str, tokenizer: Tokenizer, batch: TextBatch) -> None:
    model = built(TransformerVaeConfig(**SIZES, injection=way), len(tokenizer))
    z = torch.randn(2, len(batch), 4, dtype=torch.float64)
    one, other = model.log_likelihood(z, batch)
    assert (one != other).all()
    nn.init.zeros_(model.decoder.injection.map.weight)
    one, other = model.log_likelihood(z, batch)
    torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_the_weights_begin_as_gpt_2_s() -> None:
    torch.manual_seed(0)
    model = TransformerVaeConfig(hidden_size=128, num_layers=8, tie_weights=False).build(1000)
    for name, weight in (*model.decoder.named_parameters(), *model.encoder.named_parameters()):
        if weight.dim() > 1 and "injection" not in name:
            share = 4.0 if name.endswith(("attention_out.weight", "mlp_out.weight")) else 1.0
            assert weight.std().item() * share == pytest.approx(SCALE, rel=0.2), name
        elif weight.dim() == 1:
            assert len(weight.unique()) == 1, name


@pytest.mark.parametrize("way", WAYS)
def test_z_begins_as_large_as_what_it_stands_beside(way: str) -> None:
    torch.manual_seed(0)
    decoder = TransformerVaeConfig(hidden_size=128, latent_size=50, injection=way).build(1000).decoder
    given = decoder.injection(torch.randn(500, 50))
    if way == "layers":
        states = decoder.norm(torch.randn(500, 128))
        assert given.memory.std().item() == pytest.approx(decoder.blocks[0].attention_in(states).std().item(), rel=0.1)
    else:
        found = given.prefix if way == "prefix" else given.shift
        assert found.std().item() == pytest.approx(decoder.embedding.weight.std().item(), rel=0.1)


def test_a_decoder_of_gpt_2_small_s_sizes_has_as_many_weights() -> None:
    config = TransformerVaeConfig(
        hidden_size=768, num_layers=12, num_heads=12, positions=LearnedPositionsConfig(max_length=1022)
    )
    with torch.device("meta"):
        decoder = config.build(50_257).decoder
    num_weights = sum(weight.numel() for weight in decoder.parameters())
    assert num_weights == pytest.approx(124.4e6, rel=0.01)  # openai-community/gpt2: 124,439,808


def test_the_cost_is_the_formula_s(tokenizer: Tokenizer, batch: TextBatch) -> None:
    """No padding in the output layer, the encoder's last layer for the latent token alone, nothing twice."""
    config = TransformerVaeConfig(**SIZES, injection="layers")
    model, (num, length) = built(config, len(tokenizer)).float(), batch.tokens.shape
    with FlopCounterMode(display=False) as counter:
        model(batch)

    def attention(queries: int, keys: int) -> int:
        return 2 * num * queries * keys * 16  # scores and their sums, all heads together

    seen = length + 1  # with the latent token
    whole = num * seen * 12 * 16**2 + attention(seen, seen)
    last = num * (seen * 3 + 9) * 16**2 + attention(1, seen)
    layer = num * (length - 1) * 12 * 16**2 + attention(length - 1, length)
    heads, given = 2 * num * 16 * 4, num * 4 * (2 * 2 * 16)
    words = int(batch.mask.sum()) * 16 * (len(tokenizer) - EOS)
    assert counter.get_total_flops() == 2 * (whole + last + heads + given + 2 * layer + words)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.num_heads=3"], r"model: hidden_size \(256\) must be a multiple of num_heads \(3\)"),
        (["model.hidden_size=6", "model.num_heads=2"], "positions rotary needs .* multiple of 2; it is 3"),
        (
            ["model.positions={kind: learned, max_length: 0}"],
            "model.positions.max_length: .*greater than or equal to 1",
        ),
        (["model.positions.kind=sine"], r"model\.positions\.kind: 'sine' is none of: learned, rotary"),
        (["model.injection=softmax"], "model.injection: .*'prefix', 'embedding' or 'layers'"),
        (["model.kind=lstm"], "model.num_layers: unexpected key"),
        (["model.kind=gpt"], r"model\.kind: 'gpt' is none of: .*lstm, .*transformer"),
        (["model.prior.kind=uniform_sphere"], "posterior normal goes with prior"),
    ],
)
def test_what_cannot_be_is_refused_when_the_recipe_is_read(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TEXT.load_recipe(TEXT.folder / "transformer_vae.yaml", overrides)


def test_learned_positions_may_have_odd_heads() -> None:
    overrides = ["model.hidden_size=6", "model.num_heads=2", "model.positions={kind: learned, max_length: 9}"]
    assert TEXT.load_recipe(TEXT.folder / "transformer_vae.yaml", overrides).model.hidden_size == 6


def test_learned_positions_reach_as_far_as_they_say(tokenizer: Tokenizer, batch: TextBatch) -> None:
    longest = batch.tokens.shape[1] - 1
    for way in WAYS:
        config = TransformerVaeConfig(**SIZES, injection=way, positions=LearnedPositionsConfig(max_length=longest))
        model = built(config, len(tokenizer))
        assert torch.isfinite(model(batch).elbo).all()
        assert model.decode(torch.randn(3, 4).double(), Greedy(), max_length=longest).shape[1] <= longest
        short = built(replace(config, positions=LearnedPositionsConfig(max_length=longest - 1)), len(tokenizer))
        with pytest.raises(ValueError, match=rf"{longest} words .*model.positions.max_length is {longest - 1}: raise"):
            short(batch)


def test_a_step_in_bf16_is_nearly_that_in_fp32(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, 200)
    losses = {}
    for precision in ("fp32", "bf16"):
        recipe = tiny_recipe(corpus, f"train.precision={precision}", recipe="transformer_skip")
        material = TEXT.read(recipe, None)
        state, batches = build_state(material, recipe.train), material.training_data().batches
        torch.manual_seed(0)
        losses[precision] = float(recipe.update(state, batches, recipe.objective)["loss"])
        with state.accelerator.autocast():
            z = torch.zeros(2, 4)
            assert len(state.model.eval().decode(z, Greedy(), max_length=5)) == 2
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert losses["bf16"] != losses["fp32"]


def test_fewer_learned_positions_than_the_corpus_has_words_are_refused() -> None:
    config = TransformerVaeConfig(positions=LearnedPositionsConfig(max_length=22))
    config.check_length(22)
    with pytest.raises(ValueError, match=r"model\.positions\.max_length \(22\) is less than corpus\.max_length \(23\)"):
        config.check_length(23)
    TransformerVaeConfig().check_length(10**6)
