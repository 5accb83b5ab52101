"""From groups and kernels to programs: steps, memory plan, shared kernels."""
