"""Runtimes of ONNX graphs: ONNX Runtime on CPUs and CUDA, or OpenVINO on CPUs, behind one protocol (`graph.Graph`).

open_graph.py         a file and its options to a graph
runtime_options.py    device, runtime, precision, threads
onnx_graph.py, openvino_graph.py    the two runtimes
cpu_features.py       what the CPU can compute
"""
