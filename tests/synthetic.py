"""Measures made up for tests of what is done with measures."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from latent.measures import Estimate, Measured, judge, mean_estimate
from latent.reporting.run_kind import MeasuredRun
from latent.training import Run
from textvae.measuring import Measures
from textvae.rates import perplexity
from textvae.run_kind import KIND
from textvae.side import TEXT

CEILING = 5.3


def around(value: float) -> Estimate:
    return Estimate(value, value - 0.1, value + 0.1)


def measured(nll: Tensor, num_tokens: Tensor, mutual_information: float = 4.0, **settings: object) -> Measured:
    """Figures that rest on their sentences; each sentence has 6 nats of KL, and an ELBO 1 nat below −NLL."""
    elbo, kl = -nll - 1.0, torch.full_like(nll, 6.0)
    per_example = {"elbo": elbo, "reconstruction": -elbo - kl, "kl": kl, "nll": nll, "num_tokens": num_tokens}
    per_example |= {name: torch.full_like(nll, 0.2) for name in ("exact_match", "retrieval_accuracy")}
    information, units, gain = around(mutual_information), around(mutual_information), around(mutual_information)
    verdict = judge(information, units, gain)
    figures = Measures(
        split="test",
        examples_digest="d1",
        num_examples=len(nll),
        num_samples=10,
        half_width=None,
        seed=0,
        checkpoint="step-000200",
        elbo=mean_estimate(elbo),
        reconstruction=mean_estimate(per_example["reconstruction"]),
        kl=mean_estimate(kl),
        kl_per_dimension=(0.5, 3.5, 2.0, 0.0),
        kl_quantiles={"0.5": around(6.0)},
        mutual_information=information,
        mutual_information_is_at_ceiling=False,
        marginal_kl=around(2.0),
        mutual_information_ceiling=CEILING,
        active_units=units,
        active_units_at_0_001=4,
        active_units_at_0_1=2,
        nll=mean_estimate(nll),
        nll_ladder={"1": mean_estimate(-elbo), "10": mean_estimate(nll)},
        nll_bias=0.05,
        nll_has_converged=True,
        nll_precision="bf16",
        nll_rounding=0.004,
        effective_sample_size=around(4.0),
        total_draws=10 * len(nll),
        excess=None,
        factors=None,
        bits_per_character=around(1.4),
        ppl=perplexity(nll, num_tokens),
        tokens_per_sentence=Estimate(*[num_tokens.mean().item()] * 3),
        vocabulary_size=Estimate(3214, 3214, 3214),
        shuffled_gain=gain,
        prior_gain=gain,
        gain_by_position=(),
        gain_on_first_positions=None,
        bleu=around(8.4),
        exact_match=around(0.2),
        retrieval_accuracy=around(0.2),
        likelihood="words",
        space_digest="",
        edit_distance=around(0.7),
        prior_samples=None,
        smoothness=None,
        verdict=verdict.name,
        verdict_reasons=verdict.reasons,
        verdict_advice=verdict.advice,
    )
    return Measured(replace(figures, **settings), per_example)


def sentences(num_sentences: int = 200, shift: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """NLL and tokens of sentences: the same tokens and the same easy and hard sentences whatever `shift` and `seed`."""
    hard = torch.Generator().manual_seed(1)
    num_tokens = torch.randint(5, 25, (num_sentences,), generator=hard).double()
    own = torch.randn(num_sentences, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 3 * num_tokens + shift + own, num_tokens


def measured_run(name: str, *overrides: str, found: Measured | None = None, recipe: str = "lstm") -> MeasuredRun:
    """A run of a recipe that stands nowhere."""
    return MeasuredRun(
        KIND,
        name,
        Run(Path("runs") / name),
        TEXT.load_recipe(TEXT.folder / f"{recipe}.yaml", overrides),
        found or measured(*sentences()),
    )
