"""Worlds: a bundled data set each, with its model."""
