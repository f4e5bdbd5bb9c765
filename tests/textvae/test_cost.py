"""What a step and a measurement cost: operations and memory, which no other load on the machine changes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_recipe, write_corpus
from torch.utils.flop_counter import FlopCounterMode

from corpora import TextBatch
from latent.measures import importance_weighted
from latent.training import build_state, seed_everything
from latent.training.seeding import Stream
from latent.training.validation import validate
from textvae.models import LstmVaeConfig, SentenceVae
from textvae.side import TEXT

# torch says so whenever oneDNN's settings are touched, on processors without Intel's GPUs
pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")

NUM_IDS, E, H, Z = 203, 24, 32, 8
V = NUM_IDS - 2
B, LENGTHS = 6, (9, 7, 7, 5, 4, 4)  # ids of each sentence, <s> and </s> included
SCORED, POSITIONS = sum(LENGTHS) - B, B * (LENGTHS[0] - 1)


@pytest.fixture
def model() -> SentenceVae:
    torch.manual_seed(0)
    config = LstmVaeConfig(latent_size=Z, embedding_size=E, hidden_size=H, bidirectional=True)
    return config.build(NUM_IDS)


@pytest.fixture
def batch() -> TextBatch:
    tokens = torch.randint(4, NUM_IDS, (B, LENGTHS[0]), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor(LENGTHS)
    scored = [row * (LENGTHS[0] - 1) + t for row, length in enumerate(LENGTHS) for t in range(length - 1)]
    return TextBatch(tokens=tokens, lengths=lengths, indices=torch.arange(B), scored=torch.tensor(scored))


def counted(call: object, *arguments: object) -> int:
    """Multiplications and additions of all products, those of the recurrent layers included."""
    # oneDNN's fused layer is not counted; the plain one does the same products
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        call(*arguments)  # type: ignore[operator]
    return int(counter.get_total_flops())


def encoder_flops() -> int:
    """Two directions over all ids, and the posterior's two heads."""
    return 2 * (2 * B * LENGTHS[0] * 4 * H * (E + H) + 2 * B * 2 * H * Z)


def decoder_flops() -> int:
    """One draw: its first state, the recurrent layer over the padded positions, and the words of the scored ones."""
    return 2 * (B * Z * H + POSITIONS * 4 * H * (E + Z + H) + SCORED * H * V)


def test_the_output_layer_scores_no_padding_and_nothing_is_computed_twice(model: SentenceVae, batch: TextBatch) -> None:
    assert counted(lambda: model(batch)) == encoder_flops() + decoder_flops()


def test_the_backward_pass_costs_two_forward_passes(model: SentenceVae, batch: TextBatch) -> None:
    step = counted(lambda: model(batch).elbo.sum().backward())
    forward = encoder_flops() + decoder_flops()
    assert 2.9 * forward < step <= 3 * forward


def test_importance_weighting_encodes_once_whatever_the_number_of_draws(model: SentenceVae, batch: TextBatch) -> None:
    device = torch.device("cpu")
    cost = counted(lambda: importance_weighted(model, [batch], device, 12, rows_at_once=5 * B))
    assert cost == encoder_flops() + 12 * decoder_flops()


PEAK = """
import resource, torch
from textvae.decoders import WordOutput
torch.set_num_threads(2)
output = WordOutput(50_002, 256)
states = torch.randn(8192, 256, requires_grad=True)
targets = torch.randint(2, 50_002, (8192,))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with torch.autocast("cpu", torch.bfloat16, enabled={bf16}):
    log_prob = output.log_prob(states, targets)
log_prob.sum().backward()
assert output.own_weight.grad.abs().sum() > 0 and states.grad.abs().sum() > 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_step_with_fifty_thousand_words_stays_under_two_gigabytes() -> None:
    """8,192 states have 1.6 GB of float32 logits; all of them with their gradients would be three times that."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK.format(bf16=True)], check=True, capture_output=True, text=True, timeout=600
    )
    assert int(done.stdout) < 2 * 2**20  # kilobytes


@pytest.mark.parametrize("with_gradient", [True, False])
def test_logits_in_pieces_are_those_in_one(
    model: SentenceVae, batch: TextBatch, monkeypatch: pytest.MonkeyPatch, with_gradient: bool
) -> None:
    def outcome() -> list[torch.Tensor]:
        torch.manual_seed(1)
        model.zero_grad()
        with torch.set_grad_enabled(with_gradient):
            elbo = model.eval()(batch).elbo
        if not with_gradient:
            return [elbo]
        elbo.sum().backward()
        return [elbo.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    whole = outcome()
    for name, size in {
        "KEPT_LOGITS": 10,
        "RECOMPUTED_AT_ONCE": 7 * V,
        "LOGITS_AT_ONCE": 9 * V,
        "CACHED_LOGITS": V,
    }.items():
        monkeypatch.setattr(f"textvae.decoders.{name}", size)
    pieces = outcome()
    assert len(whole) == (1 + len(list(model.parameters())) if with_gradient else 1)
    for one, other in zip(whole, pieces, strict=True):
        torch.testing.assert_close(one, other)


def test_training_in_bf16_agrees_with_fp32(tmp_path: Path) -> None:
    """The same steps on the same batches: the validation bound within 0.3 nats, the first gradients' cosine > 0.99."""
    corpus = write_corpus(tmp_path, 400)
    bounds, gradients = {}, {}
    for precision in ("fp32", "bf16"):
        recipe = tiny_recipe(corpus, f"train.precision={precision}", "train.learning_rate=0.01", recipe="plain")
        material = TEXT.read(recipe, None)
        data, state = material.training_data(), build_state(material, recipe.train)
        for step in range(60):
            seed_everything(0, Stream.STEP, step)
            recipe.update(state, data.batches, recipe.objective)
            if step == 0:
                parts = [p.grad.flatten() for p in state.model.parameters() if p.grad is not None]
                gradients[precision] = torch.cat(parts)
            state.step += 1
        bounds[precision] = validate(state, data.validation)["elbo"]
    assert torch.cosine_similarity(gradients["fp32"], gradients["bf16"], 0) > 0.99
    assert bounds["bf16"] == pytest.approx(bounds["fp32"], abs=0.3)
    assert bounds["bf16"] != bounds["fp32"]  # the two precisions were two
    assert np.isfinite(bounds["fp32"])
