"""Queries without torch: a model as ONNX graphs, and what runs them.

    export_model(CrossModalHasher.load("model"), "model/onnx")      # hashret.onnx.export; needs torch
    OnnxHasher.load("model").encode_texts(["a dog on a beach"])     # onnxruntime, tokenizers and Pillow

The codes are those of the model, but for bits whose logits lie within rounding of 0. Importing this package loads
numpy alone; an OnnxHasher loads onnxruntime, and tokenizers or Pillow, for the tower that a query needs.
"""

from __future__ import annotations

from hashret.onnx.files import find_export
from hashret.onnx.hasher import OnnxHasher

__all__ = ["OnnxHasher", "find_export"]
