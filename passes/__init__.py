"""Transformations of both IRs, one pass a file. Imports the compiler, never a backend."""
