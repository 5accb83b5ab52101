"""One page about a compiled model: `onnxc report`."""
