"""Whole experiments: training over seeds, rotations, frozen prefixes, barriers over widths; each yields records."""
