"""Tailkeeper: keeps a detector's training set fed with the real frames it is worst at.

Importing the package switches ONNX Runtime's telemetry off: from version 1.29 on it looks up a collector and
writes a device id on Linux by default, and only a variable set before its first import stops that. NumPy is told the
same way to use one thread: its products are small, and a second thread took three times as much processor time for
waiting on busy cores. Pydantic need not look for plugins among all that is installed, at every start.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

__version__ = "0.1.0"
