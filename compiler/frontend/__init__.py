"""ONNX model files to the typed graph IR: loading, limits, opset adaptors."""
