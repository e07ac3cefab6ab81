"""Adapters, one file per array library, imported as ``vdcore.backends``.

Each adapter imports its library when it is itself imported, and vdcore imports an
adapter only when an array of that library reaches it: ``import vdcore`` needs none.
The folders hold what an adapter is made of: ``cpu`` the compiled kernels of
``numpy_backend``, ``sparse`` the models of ``sparse_backend``.
"""
