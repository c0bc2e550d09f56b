"""Figures of records and of networks, drawn by matplotlib into files."""
