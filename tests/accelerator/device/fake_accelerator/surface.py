"""What the Python side of torch tells about a device: the functions of torch.cuda, torch.xpu and torch.npu."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import defaultdict
from collections.abc import Callable

from . import trace


class Properties:
    """Of an NVIDIA card of compute capability FAKE_CC, or an AMD card of the architecture FAKE_GCN."""

    def __init__(self, kind: str, total_memory: int):
        self.name = f"Fake {kind}"
        self.major, self.minor = (int(part) for part in os.environ.get("FAKE_CC", "8.6").split("."))
        self.gcnArchName = os.environ.get("FAKE_GCN", "gfx1100")
        self.total_memory = total_memory
        self.multi_processor_count = 16
        self.warp_size = 32
        self.has_fp16 = self.has_fp64 = True
        self.regs_per_multiprocessor = 65536
        self.max_threads_per_multi_processor = 1536
        self.shared_memory_per_block_optin = 101376
        self.L2_cache_size = 1 << 22
        self.is_integrated = self.is_multi_gpu_board = False
        self.uuid = "fake"


class Stream:
    """Work is done at once, so that a stream has nothing to order."""

    def __init__(self, device=None, priority=0, **options):
        self.device, self.priority = device, priority
        self.stream_id = self.cuda_stream = id(self)

    def wait_stream(self, stream):
        assert stream is not None

    def wait_event(self, event):
        pass

    def record_event(self, event=None):
        return event or Event()

    def synchronize(self):
        trace.note("wait", "Stream.synchronize", 0)

    def query(self):
        return True

    def __enter__(self):
        STATE.streams.append(self)
        return self

    def __exit__(self, *error):
        STATE.streams.pop()


class Event:
    def __init__(self, enable_timing=False, blocking=False, interprocess=False):
        pass

    def record(self, stream=None):
        pass

    def wait(self, stream=None):
        pass

    def query(self):
        return True

    def synchronize(self):
        trace.note("wait", "Event.synchronize", 0)

    def elapsed_time(self, other):
        return 0.0


class State(threading.local):
    def __init__(self):
        self.streams = [Stream()]


STATE = State()


class StreamContext:
    """torch.cuda.stream(...); as torch's, it may be entered many times, and takes None."""

    def __init__(self, stream):
        self.stream = stream

    def __enter__(self):
        STATE.streams.append(self.stream)

    def __exit__(self, *error):
        STATE.streams.pop()


class Cudart:
    """torch.cuda.cudart(): the registration of pinned memory."""

    class cudaError:
        success = 0

    def __init__(self, native):
        self.native = native

    def cudaHostRegister(self, pointer, size, flags):
        self.native.pin(pointer, size)
        return 0

    def cudaHostUnregister(self, pointer):
        return 0 if self.native.unpin(pointer) else 1

    def cudaGetLastError(self):
        return 0

    def cudaMemGetInfo(self, device):
        return self.native.limit() - self.native.used(), self.native.limit()


def functions(native, kind: str) -> dict[str, Callable]:
    """By their names in torch's module of the device."""
    properties, generator = Properties(kind, native.limit()), native.default_generator()

    def memory_stats(device=None):
        stats = {
            f"{name}.all.{when}": value
            for name in ("active_bytes", "allocated_bytes", "reserved_bytes")
            for when, value in (("current", native.used()), ("peak", native.peak()))
        }
        return defaultdict(int, stats)

    # A function of its own for each name: torch's compiler looks them up and wants no two alike.
    return {
        # the device
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_is_in_bad_fork": lambda: False,
        "init": lambda: None,
        "_lazy_init": lambda: None,
        "_lazy_call": lambda call, **options: call(),
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "device": lambda device=None: contextlib.nullcontext(),
        "get_device_properties": lambda device=None: properties,
        "get_device_name": lambda device=None: properties.name,
        "get_device_capability": lambda device=None: (properties.major, properties.minor),
        "get_arch_list": lambda: [f"sm_{properties.major}{properties.minor}"],
        "is_bf16_supported": lambda *args, **options: True,
        # memory
        "mem_get_info": lambda device=None: (native.limit() - native.used(), native.limit()),
        "memory_stats": memory_stats,
        "memory_allocated": lambda device=None: native.used(),
        "memory_reserved": lambda device=None: native.used(),
        "max_memory_allocated": lambda device=None: native.peak(),
        "max_memory_reserved": lambda device=None: native.peak(),
        "reset_peak_memory_stats": lambda device=None: native.reset_peak(),
        "empty_cache": lambda: None,
        "ipc_collect": lambda: None,
        # streams
        "synchronize": lambda device=None: trace.note("wait", "synchronize", 0),
        "Stream": Stream,
        "Event": Event,
        "stream": StreamContext,
        "current_stream": lambda device=None: STATE.streams[-1],
        "default_stream": lambda device=None: STATE.streams[0],
        "set_stream": lambda stream: None,
        # random numbers
        "default_generators": (generator,),
        "manual_seed": lambda seed: generator.manual_seed(seed),
        "manual_seed_all": lambda seed: generator.manual_seed(seed),
        "get_rng_state": lambda device=None: generator.get_state(),
        "set_rng_state": lambda state, device=None: generator.set_state(state),
    }
