"""The stages that the loop can train."""
