"""Image VAEs: networks, models, measures and pictures."""
