"""Runs a compiled model on an emulated microcontroller, and measures what it takes there."""
