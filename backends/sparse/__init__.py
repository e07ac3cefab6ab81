"""Sparse models: their layers, files and what runs them on a CPU."""
