"""The names of the stages that every model goes through, for those who must not import PyTorch to list them."""

STAGES = ("kl", "clip", "optimus", "one_flow", "two_flow", "four_flow")
"""The autoencoder of images, the two context encoders, the autoencoder of texts, then the diffuser in the paper's
order: with one flow, two and four."""
MODEL = "model"
"""What comes after the last stage: the whole model, saved."""
ADVERSARIAL = "kl_adversarial"
"""A stage after the first, for worlds that name it: a discriminator sharpens the autoencoder of images."""
