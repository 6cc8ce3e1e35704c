"""Reads an ONNX file as a network: a layer for each node, made of PyTorch's own operations."""
