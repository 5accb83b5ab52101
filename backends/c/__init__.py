"""C99 for microcontrollers and anything with a C compiler."""
