"""Post-training quantization: a float graph and samples of its inputs become a graph of 8 bit integers (QDQ form)."""
