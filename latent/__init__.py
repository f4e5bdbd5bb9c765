"""The core of latent-variable models: it knows no words and no pixels.

Four rooms, each standing on the one before: `distributions`, `bound`, `measures`, `training`.
"""
