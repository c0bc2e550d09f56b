"""Networks of other programs: checkpoints in, and out again."""
