"""Targets: where code runs. `windows` holds the scalar rules every target shares; `cpu` is the Numba CPU target."""
