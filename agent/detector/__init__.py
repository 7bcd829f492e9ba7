"""From an image to rows: one ONNX Runtime session with the pre- and postprocessing that Ultralytics has around it.

The only package that uses onnxruntime.
"""

from agent.detector.opening import PROVIDERS, usable_cores
from agent.detector.session import Detector

__all__ = ["PROVIDERS", "Detector", "usable_cores"]
