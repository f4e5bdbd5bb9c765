"""What the config of a model says of the model before it is built, so that a recipe can be refused."""

from latent.distributions import PosteriorConfig, PriorConfig, prior_for


class ModelConfig:
    """A config of a model whose q(z|x) is free, and a product over dimensions as p(z) is, unless it says otherwise."""

    @property
    def posterior_is_free(self) -> bool:
        """Whether there is a q(z|x) that may become any member of its family (`LatentModel.posterior_is_free`)."""
        return True

    @property
    def has_kl_per_dimension(self) -> bool:
        """Whether the KL is a sum over dimensions."""
        return True

    @property
    def has_layers(self) -> bool:
        """Whether the model names layers of which one is needed at a time (`LatentModel.layers`)."""
        return False


class WithPosterior(ModelConfig):
    """A config that has its posterior and its prior from others."""

    posterior: PosteriorConfig
    prior: PriorConfig | None
    latent_size: int

    @property
    def posterior_is_free(self) -> bool:
        """The posterior's config knows."""
        found: bool = self.posterior.is_free
        return found

    @property
    def has_kl_per_dimension(self) -> bool:
        """Where both are products over dimensions."""
        prior = prior_for(self.posterior, self.prior, self.latent_size)
        found: bool = self.posterior.is_product and prior.is_product
        return found
