"""From an image to rows: one ONNX Runtime session with the pre- and postprocessing that Ultralytics has around it.

The only package that uses onnxruntime.
"""

from agent.detector.opening import PROVIDERS, usable_cores
from agent.detector.session import Detector, Seen

__all__ = ["PROVIDERS", "Detector", "Seen", "usable_cores"]
