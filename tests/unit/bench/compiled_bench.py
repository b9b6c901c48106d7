"""Runs the benchmark of compiled networks without compiling kernels: run by test_bench, which checks shapes."""

import json

from versatile_diffusion.bench import compiled, run
from versatile_diffusion.model_presets import tiny

if __name__ == "__main__":
    compiled._HOW = {"backend": "eager"}
    report = run(["compiled"], 2, preset=tiny(), dtype="fp32")
    print(json.dumps(report.results["compiled"].as_dict()))
