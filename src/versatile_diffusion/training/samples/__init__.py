"""A user's samples as the diffuser learns from them: encoded first, or on the way."""
