"""Runs the benchmark of compiled networks without compiling kernels: run by test_bench, which checks shapes."""

import json
from dataclasses import replace

from versatile_diffusion.bench import compiled, run
from versatile_diffusion.model_presets import tiny

if __name__ == "__main__":
    compiled._HOW = {"backend": "eager"}
    preset = tiny()  # of one level, since a network takes as long to be traced as it has blocks
    shallow = replace(preset.diffuser, channel_mult=(1,), num_res_blocks=(1,), with_context=(True,))
    report = run(["compiled"], 2, preset=replace(preset, diffuser=shallow), dtype="fp32")
    print(json.dumps(report.results["compiled"].as_dict()))
