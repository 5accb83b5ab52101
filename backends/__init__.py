"""The targets. Each folder holds one; nothing outside imports them by name."""
