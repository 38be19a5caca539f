"""SafeTensors files, written from the memory that the tensors lie in."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from common.disk import BLOCK

DTYPES = {
    **{f"float{n}": f"F{n}" for n in (16, 32, 64)},
    **{f"int{n}": f"I{n}" for n in (8, 16, 32, 64)},
    **{f"uint{n}": f"U{n}" for n in (8, 16, 32, 64)},
    "bool": "BOOL",
}
"""NumPy's name of a dtype -> that of SafeTensors."""


def safetensors_parts(tensors: Mapping[str, Sequence[np.ndarray]]) -> list[bytes | memoryview]:
    """What a SafeTensors file of these tensors holds, in parts: the header, then the memory of each tensor.

    The library's ``save`` copies everything once more; its ``save_file`` hides what the disk answers, and lets nobody
    but this user read the file.

    Args:
        tensors: Each in pieces that follow one another along the first axis; contiguous, and not to be changed before
            the parts are written. One without axes has one piece.

    Returns:
        Parts that follow one another: https://github.com/huggingface/safetensors#format.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name][0].itemsize, name))  # so that each stays aligned
    header, end = {}, 0
    for name in order:
        pieces, start = tensors[name], end
        first = pieces[0]
        shape = [sum(map(len, pieces)), *first.shape[1:]] if first.ndim else []
        end += sum(piece.nbytes for piece in pieces)
        header[name] = {"dtype": DTYPES[first.dtype.name], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    memory = [piece.reshape(-1).view(np.uint8).data for name in order for piece in tensors[name] if piece.size]
    return [len(text).to_bytes(8, "little") + text, *memory]


def safetensors_file(tensors: Mapping[str, Sequence[np.ndarray]]) -> memoryview:
    """A whole SafeTensors file in memory of its own, which begins where a disk takes it without another copy.

    Args:
        tensors: See ``safetensors_parts``; they may change afterwards.
    """
    parts = [np.frombuffer(part, np.uint8) for part in safetensors_parts(tensors)]
    memory = np.empty(sum(map(len, parts)) + BLOCK, np.uint8)
    file = memory[-memory.ctypes.data % BLOCK :][: len(memory) - BLOCK]
    return np.concatenate(parts, out=file).data
