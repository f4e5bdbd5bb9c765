"""The VAE/GAN's step: whom each loss moves and by what, the gates, and the discriminator."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from test_image_models import CONV, FORM, MLP, built, images
from torch import Tensor, nn
from torch.distributions import Distribution

from corpora.images import ImageBatch
from imagevae.discriminator import Discriminator
from imagevae.models import Vae, VaeConfig
from latent.bound import ElboObjective, LatentModel, Linear
from latent.distributions import FlowPriorConfig
from latent.training import TrainState
from latent.training.joint import JointUpdate
from latent.training.vae_gan import VaeGanUpdate

OBJECTIVE = ElboObjective()
VAE = VaeConfig(latent_size=4, network=MLP)
BATCH = images(VAE)
SMALL: dict[str, Any] = {"channels": (4, 6), "hidden_size": 8, "max_gradient_norm": 1e9}
PARTS = ("encoder", "decoder", "discriminator")


class Order:
    """One batch, whose examples count half."""

    num_batches = 1

    def __getitem__(self, index: int) -> ImageBatch:
        return replace(BATCH, weight=0.5)


def fresh(update: Any, config: VaeConfig = VAE) -> TrainState:
    """In float64, and with plain gradient descent; the same every time."""
    model = built(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = TrainState(model, optimizer, Accelerator(cpu=True), lambda: model)
    update.prepare(state)
    return state


def stepped(update: Any, config: VaeConfig = VAE, objective: Any = OBJECTIVE) -> tuple[TrainState, Any]:
    state = fresh(update, config)
    torch.manual_seed(1)
    return state, update(state, Order(), objective)


def parts(state: TrainState) -> dict[str, dict[str, nn.Parameter]]:
    """The parameters of each network, by name."""
    named = dict(state.model.named_parameters())
    decoder = {name: value for name, value in named.items() if name.startswith("decoder.")}
    encoder = {name: value for name, value in named.items() if name not in decoder}
    return {"encoder": encoder, "decoder": decoder, "discriminator": dict(state.adversary.module.named_parameters())}


def left(state: TrainState, part: str) -> dict[str, Tensor | None]:
    """The gradients that a step has left."""
    return {name: value.grad for name, value in parts(state)[part].items()}


def copied(state: TrainState, part: str) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in parts(state)[part].items()}


def by_hand(state: TrainState) -> dict[str, Tensor]:
    """KL, L_l, A and C in graphs that reach all parameters, of the noise that a step draws."""
    torch.manual_seed(1)
    model, judge = state.model, state.adversary.module
    terms = model(BATCH)
    drawn = terms.prior.sample((1,))
    made = [model.form.images(torch.sigmoid(model.outputs(z, BATCH)[0])) for z in (terms.z, drawn)]
    of_x, *of_made = (judge(each) for each in (BATCH.pixels.double(), *made))
    says = [torch.sigmoid(logits) for _, logits in (of_x, *of_made)]
    return {
        "kl": terms.kl.mean(),
        "distance": 0.5 * (of_x[0] - of_made[0][0]).square().sum() / len(BATCH),
        "adversary": -sum(d.log().mean() for d in says[1:]) / 2,
        "costs": -says[0].log().mean() - sum((1 - d).log().mean() for d in says[1:]) / 2,
    }


def gradients(loss: Tensor, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Of each parameter; zero where the loss does not depend on it."""
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, retain_graph=True)
    pairs = zip(parameters.items(), found, strict=True)
    return {name: torch.zeros_like(value) if each is None else each for (name, value), each in pairs}


RECEIVES: dict[str, Callable[[float], dict[str, float]]] = {  # table 1.11's rows, by w: the cells not here are 0
    "encoder": lambda w: {"kl": 1, "distance": 1},
    "decoder": lambda w: {"distance": w, "adversary": 1 - w},
    "discriminator": lambda w: {"costs": 1},
}


@pytest.mark.parametrize("network", [MLP, CONV], ids=["mlp", "conv"])
@pytest.mark.parametrize("w", [0.0, 0.3, 1.0])
def test_each_parameter_receives_the_losses_of_its_network_and_no_other(w: float, network: Any) -> None:
    """Each cell's gradient is not 0 where the published table has one; what is left is exactly the row's sum."""
    config = replace(VAE, network=network)
    update = VaeGanUpdate(reconstruction_share=w, margin=None, **SMALL)
    state, other = stepped(update, config)[0], fresh(update, config)
    losses = by_hand(other)
    for part, parameters in parts(other).items():
        cells = {name: gradients(loss, parameters) for name, loss in losses.items()}
        row = RECEIVES[part](w)
        for name, found in left(state, part).items():
            expected = sum(weight * cells[loss][name] for loss, weight in row.items())
            assert found is not None, name
            torch.testing.assert_close(found, 0.5 * expected)  # 0.5 is the batch's weight
        assert all(any(bool(each.any()) for each in cells[loss].values()) for loss in row), part
        # left alone, what fools the discriminator would move all three networks
        assert any(bool(each.any()) for each in cells["adversary"].values()), part


def test_what_the_discriminator_says_is_nothing_to_the_encoder() -> None:
    """Other logits of the same features leave the encoder's gradient as it is, bit for bit, and move the decoder's."""
    update = VaeGanUpdate(reconstruction_share=0.5, margin=None, **SMALL)
    found = []
    for factor in (1.0, -3.0):
        state = fresh(update)
        with torch.no_grad():
            state.adversary.module.output.weight.mul_(factor)
        torch.manual_seed(1)
        update(state, Order(), OBJECTIVE)
        found.append({part: left(state, part) for part in PARTS})
    one, other = found
    assert all(torch.equal(one["encoder"][name], value) for name, value in other["encoder"].items())
    assert not any(torch.equal(one["decoder"][name], value) for name, value in other["decoder"].items())


def test_what_is_reconstructed_in_features_is_nothing_to_the_discriminator() -> None:
    found = [stepped(VaeGanUpdate(margin=None, feature_layer=layer, **SMALL))[0] for layer in (1, 2, 3)]
    for state in found[1:]:
        assert all(
            torch.equal(left(found[0], "discriminator")[name], value)
            for name, value in left(state, "discriminator").items()
        )
        assert not any(
            torch.equal(left(found[0], "encoder")[name], value) for name, value in left(state, "encoder").items()
        )


class FeatureVae(LatentModel[ImageBatch]):
    """A VAE whose likelihood is that of features, all of it differentiable: what the VAE/GAN is without its GAN."""

    def __init__(self, vae: Vae, judge: nn.Module) -> None:
        super().__init__()
        self.vae, self.judge, self.latent_size = vae, judge, vae.latent_size

    def posterior(self, batch: ImageBatch) -> Distribution:
        return self.vae.posterior(batch)

    def prior(self, batch: ImageBatch) -> Distribution:
        return self.vae.prior(batch)

    def log_likelihood(self, z: Tensor, batch: ImageBatch) -> Tensor:
        features = [self.judge(each)[0] for each in (batch.pixels.double(), self.vae.generated(z, batch))]
        return -0.5 * (features[0] - features[1]).square().sum(-1).view(len(z), len(batch))


@pytest.mark.parametrize(
    "objective", [OBJECTIVE, ElboObjective(kl_weight=Linear(start=0.2, end=1.0, steps=9), free_bits=0.1)]
)
def test_with_w_1_and_no_gan_it_is_the_vae_of_features(objective: ElboObjective) -> None:
    state, row = stepped(VaeGanUpdate(reconstruction_share=1.0, margin=None, **SMALL), objective=objective)
    other = fresh(VaeGanUpdate(**SMALL))
    whole = FeatureVae(other.model, other.adversary.module)
    alone = TrainState(whole, torch.optim.SGD(whole.parameters(), lr=0.1), Accelerator(cpu=True), lambda: whole)
    torch.manual_seed(1)
    expected = JointUpdate(max_gradient_norm=1e9)(alone, Order(), objective)
    for part in ("encoder", "decoder"):
        for name, found in left(state, part).items():
            torch.testing.assert_close(found, parts(other)[part][name].grad)
    assert {name: float(row[name]) for name in ("loss", "kl", "reconstruction", "kl_weight")} == pytest.approx(
        {name: float(expected[name]) for name in ("loss", "kl", "reconstruction", "kl_weight")}
    )
    assert "elbo" not in row


def test_each_loss_goes_backward_once_to_its_own_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[set[int]] = []
    backward = Tensor.backward

    def counted(loss: Tensor, *arguments: Any, inputs: list[Tensor], **settings: Any) -> None:
        called.append({id(each) for each in inputs})
        backward(loss, *arguments, inputs=inputs, **settings)

    monkeypatch.setattr(Tensor, "backward", counted)
    state, _ = stepped(VaeGanUpdate(**SMALL))
    assert called == [{id(value) for value in parts(state)[part].values()} for part in PARTS]


def test_a_step_decodes_z_once_and_a_draw_of_the_prior_once() -> None:
    state, sizes = fresh(VaeGanUpdate(**SMALL)), []
    state.model.decoder.register_forward_hook(lambda decoder, given, found: sizes.append(len(found)))
    VaeGanUpdate(**SMALL)(state, Order(), OBJECTIVE)
    assert sizes == [len(BATCH), len(BATCH)]


def test_a_learned_prior_is_moved_by_the_kl_alone() -> None:
    config = replace(VAE, prior=FlowPriorConfig(hidden_size=8))
    update = VaeGanUpdate(reconstruction_share=0.5, margin=None, **SMALL)
    state, other = stepped(update, config)[0], fresh(update, config)
    prior = {name: value for name, value in parts(other)["encoder"].items() if name.startswith("latent_prior.")}
    assert prior
    for name, expected in gradients(by_hand(other)["kl"], prior).items():
        torch.testing.assert_close(left(state, "encoder")[name], 0.5 * expected)


def test_draws_of_the_prior_alone_are_shown_where_that_is_asked() -> None:
    update = VaeGanUpdate(show_reconstructions=False, **SMALL)
    state, other = stepped(update)[0], fresh(update)
    torch.manual_seed(1)
    model, judge = other.model, other.adversary.module
    drawn = model(BATCH).prior.sample((1,))
    says = [torch.sigmoid(judge(each)[1]) for each in (BATCH.pixels.double(), model.generated(drawn, BATCH))]
    costs = -says[0].log().mean() - (1 - says[1]).log().mean()
    for name, expected in gradients(costs, parts(other)["discriminator"]).items():
        torch.testing.assert_close(left(state, "discriminator")[name], 0.5 * expected)


@pytest.mark.parametrize(
    ("costs", "decoder", "discriminator"),
    [
        ((0.68, 0.68), True, True),
        ((0.34, 1.02), True, True),
        ((0.32, 0.68), True, False),
        ((0.68, 0.32), True, False),
        ((1.04, 0.68), False, True),
        ((0.68, 1.04), False, True),
        ((0.32, 1.04), True, True),  # both would pause
        ((1.04, 0.32), True, True),
    ],
)
def test_the_gates(costs: tuple[float, float], decoder: bool, discriminator: bool) -> None:
    assert VaeGanUpdate().who_steps(costs) == (decoder, discriminator)
    assert VaeGanUpdate(margin=None).who_steps(costs) == (True, True)


@pytest.mark.parametrize(
    ("equilibrium", "margin", "paused"),
    [(9.0, 0.1, ("discriminator",)), (1e-3, 1e-4, ("decoder",)), (9.0, None, ()), (0.68, 9.0, ())],
)
def test_who_pauses_stays_bit_equal_and_its_moments_too(
    equilibrium: float, margin: float | None, paused: tuple[str, ...]
) -> None:
    update = VaeGanUpdate(reconstruction_share=0.5, equilibrium=equilibrium, margin=margin, **SMALL)
    state = fresh(update)
    state.optimizer = torch.optim.AdamW(state.model.parameters(), lr=0.01, weight_decay=0.1)
    before = {part: copied(state, part) for part in PARTS}
    torch.manual_seed(1)
    row = update(state, Order(), OBJECTIVE)
    for part in PARTS:
        after = copied(state, part)
        same = [torch.equal(after[name], value) for name, value in before[part].items()]
        assert all(same) if part in paused else not any(same), part
        moments = state.adversary.optimizer.state if part == "discriminator" else state.optimizer.state
        assert all((value in moments) == (part not in paused) for value in parts(state)[part].values())
    assert row["decoder_steps"] == float("decoder" not in paused)
    assert row["discriminator_steps"] == float("discriminator" not in paused)


def test_each_network_s_gradient_is_clipped_by_itself() -> None:
    """What the decoder receives does not scale the encoder's step."""
    small = {**SMALL, "max_gradient_norm": 1e-3}
    state, row = stepped(VaeGanUpdate(reconstruction_share=0.5, margin=None, **small))
    whole, _ = stepped(VaeGanUpdate(reconstruction_share=0.5, margin=None, **SMALL))
    norms = []
    for part in PARTS:
        clipped, own = (torch.cat([each.flatten() for each in left(one, part).values()]) for one in (state, whole))
        torch.testing.assert_close(clipped, own * (1e-3 / (own.norm() + 1e-6)))
        norms.append(own.norm())
    assert float(row["gradient_norm"]) == pytest.approx(float(torch.stack(norms[:2]).norm()))


def test_what_is_generated_depends_on_the_decoder_alone() -> None:
    for likelihood in ("bernoulli", "gaussian", "discretised_logistic"):
        model = built(replace(VAE, likelihood=likelihood))
        theirs = {id(parameter) for parameter in model.decoder_parameters()}
        z = torch.randn(2, len(BATCH), 4, dtype=torch.float64)
        found = gradients(model.generated(z, BATCH).square().sum(), dict(model.named_parameters()))
        assert {id(dict(model.named_parameters())[name]) for name, each in found.items() if each.any()} <= theirs
        assert not theirs & {id(parameter) for parameter in model.encoder_parameters(BATCH)}
        shown = torch.cat([model.shown(each, BATCH) for each in z])
        torch.testing.assert_close(model.generated(z, BATCH).flatten(1), shown)


@pytest.mark.parametrize(("layer", "num_features"), [(1, 4 * 4 * 4), (2, 6 * 2 * 2), (3, 8)])
def test_an_image_is_judged_by_itself(layer: int, num_features: int) -> None:
    """No statistics are shared: with any other images beside it, features and logit are the same."""
    torch.manual_seed(0)
    judge = Discriminator(FORM, (4, 6), 8, layer).double()
    pixels = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    features, logits = judge(pixels)
    assert features.shape == (5, num_features)
    for number in range(5):
        alone = judge(pixels[number : number + 1])
        torch.testing.assert_close((alone[0][0], alone[1][0]), (features[number], logits[number]))
    if layer > 1:  # normalised, so that weights of any size leave the distance as it is
        torch.testing.assert_close(features.square().mean(1), torch.ones(5, dtype=torch.float64), rtol=0.05, atol=0)
