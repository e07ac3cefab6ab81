"""Compiled kernels for NumPy arrays, and the threads and memory that they share."""
