"""`python -m onnxc.compiler.cli`."""

from . import main

main()
