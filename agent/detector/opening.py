"""How ONNX Runtime is set up: providers in a stated order, threads, and the optimised graph that is kept.

How long threads spin between operators before they sleep is a trade. YOLO26n at 640, two x86 cores of a virtual
machine, onnxruntime 1.28, milliseconds per frame:

| threads wait for each other | quiet machine | another program on one core | on both cores |
|---|---|---|---|
| sleeping (`allow_spinning` 0) | 29.2 | 39.8 | 38 |
| spinning for at most 100 us | 25.5 to 28.8 | 45.9 | 50 |
| spinning for at most 1000 us (the default of `model.spin_us`) | as without limit | 57.9 | 212 |
| spinning without limit (ONNX Runtime's default) | 22.9 to 26.2 | 102.2 | 245 |

On a quiet virtual machine a core that sleeps wakes so late that 100 us cost a fifth of the rate; beside other programs,
spinning takes the time away from the very thread that is waited for. No thread spins once the inference has ended: the
idle processor stays cool.

Two inferences at once with half of the threads each wait for nobody: the same threads do more (57 instead of 54
inferences a second on these two cores, 34.6 instead of 37.2 ms of processor time each), and what is done before and
after an inference falls into another one instead of leaving threads idle. A frame takes longer for it (35 instead of
19 ms, which no selection minds), and the activations of the second one take 42 MB.
Memory patterns put a second copy of all activations beside the arena's own: without them the process is 35 MB smaller
(157 instead of 192 MB with OpenCV loaded) and no slower.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import onnxruntime as ort

from agent.bundle import Bundle
from agent.detector import kept, rewrite
from agent.detector.graph import EXPORT_REMEDY
from agent.errors import ModelError

log = logging.getLogger(__name__)

PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
"""In order of preference; which of them are there depends on the onnxruntime that is installed."""
Chosen = list[tuple[str, dict[str, str]]]
"""Providers with their options, the preferred one first."""


def usable_cores() -> int:
    """Physical cores among the CPUs that this task may use; at least 1.

    Two threads on one core's two hardware threads gain nothing in matrix products.
    """
    cores = set()
    for cpu in os.sched_getaffinity(0):
        try:
            cores.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text("ascii"))
        except OSError:
            cores.add(str(cpu))
    return max(len(cores), 1)


def share_threads(threads: int, concurrency: int, chosen: Chosen) -> tuple[int, int]:
    """Inferences at once, and the threads of each: together at most `threads`.

    With concurrency 0 two on a CPU that has threads for two, else one: a GPU's time is not shared out by us.
    """
    if not concurrency:
        concurrency = 2 if chosen[0][0] == "CPUExecutionProvider" and threads % 2 == 0 else 1
    concurrency = min(concurrency, threads)
    return concurrency, threads // concurrency


def choose(wanted: Sequence[str], cache: Path | None) -> Chosen:
    """Providers with their options: those asked for, else the best that are there."""
    available = ort.get_available_providers()
    if not wanted:
        usable = (name for name in PROVIDERS if name in available)
        chosen = [name for name in usable if cache or name != "TensorrtExecutionProvider"]
    else:
        chosen = [_full_name(name, available) for name in wanted]
    options: dict[str, dict[str, str]] = {}
    if cache:
        engines = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache), "trt_fp16_enable": "1"}
        options["TensorrtExecutionProvider"] = engines
    return [(name, options.get(name, {})) for name in chosen]


def _full_name(wanted: str, available: Sequence[str]) -> str:
    for name in available:
        if wanted.lower() in (name.lower(), name.lower().removesuffix("executionprovider")):
            return name
    names = ", ".join(name.removesuffix("ExecutionProvider").lower() for name in available)
    raise ModelError(f"this onnxruntime has no provider {wanted!r}", remedy=f"it has: {names}")


def open_session(
    bundle: Bundle, where: str, providers: Chosen, threads: int, spin_us: int, cache: Path | None
) -> ort.InferenceSession:
    """A session on the first of `providers` that starts; raises ModelError when none does.

    A GPU provider that is installed may still miss its libraries, and ONNX Runtime would then go on without a word.
    """
    reason = "no provider is asked for"
    for at, (provider, _) in enumerate(providers):
        try:
            session = _session(bundle, providers[at:], threads, spin_us, cache)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no base of their own
            reason = first_line(error)
        else:
            if session.get_providers()[0] == provider:
                return session
            reason = "it does not start here"
        if at + 1 < len(providers):
            log.warning("provider not usable", extra={"provider": provider, "error": reason})
    raise ModelError(f"{where} cannot be loaded: {reason}", remedy=EXPORT_REMEDY)


def _session(bundle: Bundle, providers: Chosen, threads: int, spin_us: int, cache: Path | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors: what matters is raised or reported
    options.enable_mem_pattern = False
    bounded = tuple(map(int, ort.__version__.split(".")[:2])) >= (1, 26)
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if bounded and spin_us else "0")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(spin_us))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # what was verified, no other format

    def make(onnx: bytes) -> ort.InferenceSession:
        # Its own fallback prints to standard output; its configuration from the model would override ours.
        session = ort.InferenceSession(onnx, options, providers=providers, enable_fallback=0, read_config_from_model=0)
        vars(session).pop("_model_bytes", None)  # a copy of the model, kept for the fallback that is switched off
        return session

    if providers[0][0] != "CPUExecutionProvider":
        return make(bundle.onnx)
    rewritten = partial(rewrite.without_splits, bundle.onnx)
    if cache:
        return kept.start(make, rewritten, f"{bundle.sha256}|{rewrite.VERSION}", options, cache)
    return make(rewritten())


def first_line(error: Exception) -> str:
    """The first line of what an error says, cut."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
