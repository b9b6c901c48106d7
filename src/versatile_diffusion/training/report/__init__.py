"""What people see of a run: curves, sheets, its page and its model card."""
