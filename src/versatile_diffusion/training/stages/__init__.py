"""A model of images and texts from nothing, stage by stage; worlds derive from it."""
