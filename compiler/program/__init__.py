"""What runs: steps, buffers with arena offsets, constants and symbols."""
