"""Passes over the kernel IR and the lowering from graph to kernels."""
