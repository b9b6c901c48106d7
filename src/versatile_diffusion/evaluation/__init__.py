"""Measures of what a model makes. They know no world: a world tells them what its images show and its texts say."""
