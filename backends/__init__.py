"""Adapters, one file per array library, imported as ``vdcore.backends``.

Each adapter imports its library when it is itself imported, and vdcore imports an
adapter only when an array of that library reaches it: ``import vdcore`` needs none.
"""
