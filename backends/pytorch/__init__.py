"""Parts of the torch backend; its face is :mod:`vdcore.backends.torch_backend`."""
