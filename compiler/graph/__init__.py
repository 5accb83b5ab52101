"""The graph IR: nodes, text form, verifier, builder and reference interpreter."""
