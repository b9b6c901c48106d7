# pyright: strict
"""`python -m versatile_diffusion.cli`, for `accelerate launch`."""

from versatile_diffusion.cli import main

main()
