"""Data sets: worlds of captioned pictures to train and judge on."""
