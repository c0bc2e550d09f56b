"""Privileged and convergent bases in neural networks: train, rotate, match, correlate, interpolate."""

__version__ = "0.1.0"
