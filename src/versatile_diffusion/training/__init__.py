"""Training: one loop for every stage, and the recipe that makes the bundled model."""
