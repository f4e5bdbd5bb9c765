"""The core of latent-variable models: it knows no words and no pixels.

Six rooms, each standing on those before: `machine`, `distributions`, `bound`, `measures`, `training`, `reporting`.
"""
