# pyright: strict
"""What `--dry-run` tells of a run of training or distillation."""

from __future__ import annotations

from pathlib import Path

from versatile_diffusion.cli.console import messages, note, results, warnings_as_notes
from versatile_diffusion.training.settings.training_settings import TrainingSettings


def tell_plan(settings: TrainingSettings, run: Path, as_json: bool) -> None:
    """Finds out what would happen, and tells it as tables, or as JSON."""
    with messages.status("Finding out what would happen …") as status, warnings_as_notes():
        from versatile_diffusion.training.own_data.dry_run import DryRun

        plan = DryRun(settings, run, lambda text: status.update(f"{text} …")).plan()
    for told in plan.warnings():
        note(told)
    if as_json:
        results.print_json(data=plan.as_dict())
        return
    for table in plan.tables():
        results.print(table)
