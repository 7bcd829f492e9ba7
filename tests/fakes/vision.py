"""Ultralytics beside a torchvision that was built for another PyTorch: there is no CPU build of it everywhere."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType


def lend_torchvision() -> None:
    """Where torchvision is installed and its operators do not load, put Ultralytics' own NMS in its place.

    That is the only operator that a detector uses, and Ultralytics has its own that gives the same.
    """
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        from ultralytics.utils.nms import TorchNMS

        stand_in, ops = ModuleType("torchvision"), ModuleType("torchvision.ops")
        vars(ops)["nms"] = TorchNMS.nms
        vars(stand_in)["ops"] = ops
        sys.modules.update({"torchvision": stand_in, "torchvision.ops": ops})
