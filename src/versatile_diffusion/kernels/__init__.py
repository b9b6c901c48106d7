"""What PyTorch computes as well, quicker on the CPU: the same numbers but for rounding, where no gradient is wanted."""
