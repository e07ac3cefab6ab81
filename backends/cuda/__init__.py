"""What the CuPy backend is made of: kernels in CUDA C++, and the graph of a step."""
