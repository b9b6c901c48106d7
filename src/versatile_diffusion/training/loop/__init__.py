"""The training loop of every task: steps, optimizers, checkpoints, processes, logs."""
