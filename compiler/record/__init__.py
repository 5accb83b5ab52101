"""The deployment record that is written beside every artifact."""
