"""What training can be told. Nothing here imports PyTorch."""
