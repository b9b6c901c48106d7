"""What `vd train DATA` does."""
