"""The compiler's core: frontend, both IRs, the operator table, the driver and the command line. Names no backend."""
