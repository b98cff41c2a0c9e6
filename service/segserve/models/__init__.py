"""Model bundles: folders with a manifest and ONNX graphs, how they come here, and how they run.

A bundle's name goes in, a loaded model with its graphs open comes out (`registry.py`).

    manifest.py, semantic_manifest.py    the schema of `model.yaml`
    bundle.py, install.py, weights.py    a bundle on disk: digests, atomic install and removal, safetensors
    registry.py                          models by name: lazy loading, LRU eviction under a memory budget
    runtime/                             what runs a graph: ONNX Runtime or OpenVINO, threads, CUDA, precision
    agreement.py, measure_agreement.py   whether a model's masks survive bf16
    promptable_model.py, onnx_pair_model.py, semantic_model.py, instances_model.py    one class for each kind of model
    catalogue.py, pull.py, download.py   published models: resumed HTTPS downloads, checksums
    importers/                           checkpoints to bundles
    export/                              torch networks to ONNX graphs, fp16, the exact fast decoder
    networks/                            the networks that no library brings: the starter, U-Nets
    cli.py                               `segserve models`
"""
