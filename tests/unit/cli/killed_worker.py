"""`vd` in several processes, of which the second is killed when it is about to finish writing for the nth time."""

import os
import sys
from pathlib import Path

from tests.unit.cli.killed_command import deadly
from versatile_diffusion.cli import main

if __name__ == "__main__":
    survived = int(sys.argv.pop(1))
    os.environ["XDG_CACHE_HOME"] = os.devnull  # what is kept of imports would be counted, where it is new
    if os.environ["RANK"] == "1":
        Path.replace = deadly(Path.replace, survived)
    main()
