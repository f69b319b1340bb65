"""Child process that dies if a CPU backend cannot run here: one quantized matrix product.

Run as a script, `probe.py LIBGGML BACKEND`, because an illegal instruction takes the process
with it: CPUs advertise AMX on hosts whose kernel or hypervisor does not enable it. Weights go
through every buffer type of the backend, since the tile kernels sit behind one of their own.
Imports nothing but the standard library: it must start fast.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

# ggml_type and the bytes of a row of 256 values: F32's is only needed by its number.
_F32 = 0
_QUANTIZED = {2: 144, 8: 272, 12: 144}  # Q4_0, Q8_0, Q4_K
_WIDTH, _ROWS = 256, 64


class _InitParams(ctypes.Structure):
    _fields_ = [
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    ]


def _bind(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.restype, function.argtypes = result, list(arguments)
    return function


def main(libggml: str, backend: str) -> None:
    """Runs the products. Exits 1 when the backend says itself that it cannot run here."""
    p, i32, i64, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_size_t
    ggml = ctypes.CDLL(libggml)
    base = ctypes.CDLL(str(Path(libggml).parent / "libggml-base.so.0"))
    reg = _bind(ggml, "ggml_backend_load", p, ctypes.c_char_p)(backend.encode())
    if not reg:
        sys.exit(1)
    device = _bind(base, "ggml_backend_reg_dev_get", p, p, size)(reg, 0)
    engine = _bind(base, "ggml_backend_dev_init", p, p, ctypes.c_char_p)(device, None)
    init = _bind(base, "ggml_init", p, _InitParams)
    new_2d = _bind(base, "ggml_new_tensor_2d", p, p, i32, i64, i64)
    alloc = _bind(base, "ggml_backend_alloc_ctx_tensors_from_buft", p, p, p)
    fill = _bind(base, "ggml_backend_tensor_set", None, p, p, size, size)
    mul_mat = _bind(base, "ggml_mul_mat", p, p, p, p)
    supports = _bind(base, "ggml_backend_dev_supports_op", ctypes.c_bool, p, p)
    new_graph = _bind(base, "ggml_new_graph", p, p)
    expand = _bind(base, "ggml_build_forward_expand", None, p, p)
    compute = _bind(base, "ggml_backend_graph_compute", i32, p, p)
    default = _bind(base, "ggml_backend_dev_buffer_type", p, p)(device)

    for buffer_type in [default, *_extra_buffer_types(base, reg, device)]:
        for kind, row_bytes in _QUANTIZED.items():
            for columns in (1, 32):
                weights_context = init(_InitParams(2**16, None, True))
                context = init(_InitParams(2**20, None, True))
                weights = new_2d(weights_context, kind, _WIDTH, _ROWS)
                inputs = new_2d(context, _F32, _WIDTH, columns)
                product = mul_mat(context, weights, inputs)
                if not alloc(weights_context, buffer_type) or not alloc(context, default):
                    continue
                if not supports(device, product):
                    continue
                zeros = bytes(row_bytes * _ROWS)
                fill(weights, zeros, 0, len(zeros))
                ones = (ctypes.c_float * (_WIDTH * columns))(*[1.0] * (_WIDTH * columns))
                fill(inputs, ones, 0, ctypes.sizeof(ones))
                graph = new_graph(context)
                expand(graph, product)
                if compute(engine, graph) != 0:
                    sys.exit(1)


def _extra_buffer_types(base: ctypes.CDLL, reg: int, device: int) -> list[int]:
    """Buffer types with kernels of their own (AMX tiles, repacked weights)."""
    find = _bind(
        base, "ggml_backend_reg_get_proc_address", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p
    )
    address = find(reg, b"ggml_backend_dev_get_extra_bufts")
    if not address:
        return []
    prototype = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)
    found = prototype(address)(device)
    types: list[int] = []
    while found and found[len(types)]:
        types.append(found[len(types)])
    return types


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
