"""What :mod:`vdcore.backends.jax_backend` is made of, one concept a file."""
