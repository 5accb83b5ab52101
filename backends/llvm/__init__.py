"""LLVM IR for CPUs, in-process or as objects and libraries."""
