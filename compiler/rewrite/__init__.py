"""Pattern rules over both IRs."""
