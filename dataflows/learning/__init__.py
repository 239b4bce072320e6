"""Learning from delayed labels and the way to ONNX: pure, without Bytewax, I/O or a clock."""
