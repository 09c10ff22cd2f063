"""TensorRT: engines that are built for one GPU, proven on it, and run; neither torch nor onnx is needed."""
