"""The rows of the remedies' table: what is alike in all of them, and in what each differs from the plain VAE."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from textvae.recipe import TextRecipe
from textvae.side import TEXT

BASELINE = "lstm_lm"
CORPUS = ("corpus.kind=files", "corpus.tokenizer={kind: word}", "corpus.max_length=128")
DECODER = ("model.embedding_size=256", "model.hidden_size=256", "model.dropout_in=0.2", "model.dropout_out=0.3")
LATENT = ("model.latent_size=32", "model.bidirectional=true")
TRAINING = (
    "train.tokens_per_batch=1024",
    "train.learning_rate=0.006",  # docs/log.md has what was tried
    "train.learning_rate_schedule={kind: linear, start: 1.0, end: 0.05, steps: STEPS}",
)


@dataclass(frozen=True)
class Row:
    """A recipe, the keys in which it differs from `plain`, and its own lengths, given the number of steps."""

    recipe: str
    parts: tuple[str, ...]
    settings: Callable[[int], tuple[str, ...]] = lambda steps: ()
    latent: tuple[str, ...] = LATENT
    decoder: tuple[str, ...] = DECODER
    checkpoint: str = "best"  # last where the bound, by which the best is chosen, is not what is trained


def warm_up(steps: int) -> tuple[str, ...]:
    """A third of the training."""
    return (f"objective.kl_weight={{kind: linear, start: 0.0, end: 1.0, steps: {round(steps / 3)}}}",)


def two_stages(steps: int) -> tuple[str, ...]:
    """A third of the training for the autoencoder, a third for the KL weight."""
    third = round(steps / 3)
    rise = f"objective.kl_weight={{kind: linear, start: 0.0, end: 1.0, steps: {third}, delay: {third}}}"
    return (f"update.steps={third}", rise)


ROWS = {
    BASELINE: Row("lstm_lm", ("model",), latent=()),
    "plain": Row("plain", ()),
    "fbp2019": Row("fbp2019", ("objective", "update"), two_stages),
    "freebits": Row("freebits", ("objective",), warm_up),
    "bnvae2020": Row("bnvae2020", ("model.posterior",)),
    "skip2019": Row("skip2019", ("model.skip",)),
    "skip_bnvae": Row(
        "skip2019", ("model.skip", "model.posterior"), lambda steps: ("model.posterior={kind: batch_norm, gamma: 0.6}",)
    ),
    "cyclical2019": Row(
        "cyclical2019",
        ("objective.kl_weight",),
        lambda steps: (f"objective.kl_weight={{kind: cyclical, period: {steps // 4}, ramp: 0.5, cycles: 4}}",),
    ),
    "bowman2016": Row(
        "bowman2016",
        ("objective.kl_weight", "model.word_dropout"),
        lambda steps: (
            f"objective.kl_weight={{kind: logistic, midpoint: {round(steps / 3)}, rate: {20 / steps:.5f}}}",
        ),
    ),
    "lstm": Row("lstm", ("objective", "model.word_dropout"), warm_up),
    "beta": Row("beta", ("objective.kl_weight",)),
    "mdr2020": Row("mdr2020", ("objective.controller",)),
    "controlvae": Row("controlvae", ("objective.controller",)),
    "target_rate": Row(
        "target_rate",
        ("objective",),
        lambda steps: (f"objective.target={{kind: linear, start: 0.0, end: 8.0, steps: {round(steps / 3)}}}",),
    ),
    "vmf2018": Row("vmf2018", ("model.posterior", "model.prior")),
    "deltavae": Row("deltavae", ("model.posterior",)),
    "infovae": Row("infovae", ("objective",)),
    "bow2017": Row("bow2017", ("model.bag_of_words",)),
    "mi": Row("mi", ("objective.information",)),
    "pooling2019": Row("pooling2019", ("model.pooling",)),
    "daae2020": Row("daae2020", ("objective", "update", "model.encoder_noise"), checkpoint="last"),
    "aae": Row("aae", ("objective", "update"), checkpoint="last"),
    "inputless": Row("inputless", ("model.history",)),
    # its own layers and dropout, and a learning rate at which it does not diverge
    "transformer_vae": Row(
        "transformer_vae",
        ("model", "objective", "train.learning_rate"),
        lambda steps: (*warm_up(steps), "train.learning_rate=0.001"),
        ("model.latent_size=32",),
        (),
    ),
    # of the paper's 99 inner steps 30 are all that its share of the time allows
    "lagging2019": Row(
        "lagging2019", ("update",), lambda steps: ("update.max_inner_steps=30", "update.compare_every=10")
    ),
}


def row_recipe(
    name: str, data: Path, steps: int, steps_per_epoch: int, seed: int, overrides: Sequence[str] = ()
) -> TextRecipe:
    """The row's recipe: the common settings, then the remedy's own lengths, then what is asked for in all rows."""
    row = ROWS[name]
    lengths = (f"train.steps={steps}", f"train.checkpoint_steps={steps_per_epoch}", f"train.seed={seed}")
    common = (*CORPUS, f"corpus.path={data / 'ptb'}", *row.decoder, *row.latent, *TRAINING, *lengths)
    settings = [one.replace("STEPS", str(steps)) for one in (*common, *row.settings(steps), *overrides)]
    recipe = TEXT.load_recipe(TEXT.folder / f"{row.recipe}.yaml", settings)
    return replace(recipe, corpus=recipe.corpus.resolved())
