"""The kernel IR: nodes, constructors, text form, verifier and reference interpreter."""
