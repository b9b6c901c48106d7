"""Evaluation: an oracle that reads postcards, and the scores of the bundled model."""
