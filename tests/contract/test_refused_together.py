"""Parts of a recipe that each are right and cannot be trained together: refused in a line where it is read."""

from typing import Any

import pytest

from imagevae.side import IMAGE
from latent.training import ConfigError, Recipe
from textvae.side import TEXT

SEMI = "update={kind: semi_amortized}"
HYBRID = "objective={kind: hybrid}"
OF_BOUND = "objective={kind: hybrid, bound_share: 1.0}"
STANDARD = "objective={kind: iwae, num_samples: 2}"
DREG = "objective={kind: iwae, num_samples: 2, gradient: dreg}"
SHARD = "train.shard=true"


def recipe(name: str, *overrides: str) -> Recipe[Any, Any, Any]:
    side = TEXT if (TEXT.folder / f"{name}.yaml").exists() else IMAGE
    found: Recipe[Any, Any, Any] = side.load_recipe(side.folder / f"{name}.yaml", overrides)
    return found


@pytest.mark.parametrize(
    ("name", "overrides", "says"),
    [
        *((name, (SHARD,), "train.shard: .* no layers .* set train.shard=false") for name in ("plain", "digits_vae")),
        *(("plain", (SEMI, each), "update.kind: semi_amortized .* objective.kind=elbo or") for each in (DREG, HYBRID)),
        ("aae", (DREG,), "update.kind: adversarial: .* set objective.gradient=standard"),
        *(
            ("digits_vaegan", (each,), "objective.kind: .* update.kind vae_gan, .* set objective.kind=elbo")
            for each in (STANDARD, DREG, HYBRID, OF_BOUND)
        ),
        ("mnist_vade", (HYBRID,), "update.held_steps: .* set objective.kind=elbo"),
    ],
)
def test_they_are_refused_with_key_and_remedy(name: str, overrides: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as found:
        recipe(name, *overrides)
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        *((name, (SHARD,)) for name in ("transformer_vae", "transformer_skip")),
        *(("plain", (SEMI, each)) for each in (STANDARD, OF_BOUND)),
        *(("aae", (each,)) for each in (STANDARD, HYBRID)),
        ("digits_vaegan", ("objective.free_bits=0.1",)),
        *(("mnist_vade", each) for each in ((DREG,), (HYBRID, "update.held_steps=0"))),
    ],
)
def test_their_neighbours_are_not(name: str, overrides: tuple[str, ...]) -> None:
    assert recipe(name, *overrides).model is not None
