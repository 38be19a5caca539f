"""A replay buffer on disk, in segments that are written once: a checkpoint costs what is new, not what is stored.

Rows of a ring are numbered from its first; segment j holds rows [j * S, (j + 1) * S). Once the head has passed a
segment nothing in it changes, so the next checkpoint takes a hard link to the same file. A file is gone when the last
checkpoint that links to it is. Priorities of old steps do change, and have a file of their own in every checkpoint.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from algos.replay import TeamReplay
from algos.replay_settings import REPLAY_FOLDER, SHARED_ENDING
from algos.ring import Loan, Ring
from algos.tensor_files import safetensors_parts
from common.arrays import as_count
from common.errors import IncompatibleError, told
from common.paths import path_in

INDEX_FILE = "index.json"
OPEN_ENDING = ".open"
"""Of segments that are finished, and of the one that is still written to."""
PRIORITIES_FILE = f"priorities{OPEN_ENDING}"
"""Priorities of the steps that each ring holds, by its number: one float32 for each joint step."""
STEPS_PER_SEGMENT = 2_048
"""Joint steps in a segment, about, unless the buffer is large: the most that a checkpoint writes again of one runner's
although it is known."""
_MOST_SEGMENTS = 256
"""Segments in a full buffer, about: each costs every checkpoint a link, and its deletion one more."""


@dataclass
class ReplaySnapshot:
    """What a checkpoint will hold of a buffer: what is new, and where the rest already lies.

    Attributes:
        index: Content of the index file.
        new: Tensors of each file that is to be written, in pieces that follow one another along the first axis. Most
            are the buffer's own memory.
        known: Files of an earlier checkpoint that are to be linked.
        loans: Keep the buffer from changing what this reads.
    """

    index: dict[str, Any]
    new: dict[str, dict[str, list[Tensor]]]
    known: dict[str, str]
    loans: list[Loan] = field(default_factory=list)

    def contents(self) -> dict[str, Sequence[bytes | memoryview]]:
        """What is new, by path in the checkpoint, in parts that follow one another."""
        found: dict[str, Sequence[bytes | memoryview]] = {
            f"{REPLAY_FOLDER}/{name}": safetensors_parts({n: [p.numpy() for p in pieces] for n, pieces in new.items()})
            for name, new in self.new.items()
        }
        return found | {f"{REPLAY_FOLDER}/{INDEX_FILE}": [json.dumps(self.index).encode()]}

    def links(self) -> dict[str, str]:
        """Where the files lie that are known, by path in the checkpoint."""
        return {f"{REPLAY_FOLDER}/{name}": source for name, source in self.known.items()}


def segment_steps(capacity: int) -> int:
    """Joint steps in a segment of a buffer, about.

    Args:
        capacity: Joint steps that the buffer holds when it is full, those of all runners.
    """
    return max(STEPS_PER_SEGMENT, capacity // _MOST_SEGMENTS)


def snapshot_replay(replay: TeamReplay, *, previous: Path | None = None) -> ReplaySnapshot:
    """Take what a checkpoint holds of a buffer.

    Args:
        replay: The buffer.
        previous: The checkpoint that this buffer was last saved to or loaded from. Its finished segments are linked,
            so it must be there until the snapshot is written. A file system without hard links gets copies.
    """
    rings, known = {}, {}
    held = _names_in(previous)
    new: dict[str, dict[str, list[Tensor]]] = {}
    priorities, loans = {}, []
    for source, ring in sorted(replay.rings.items()):
        rows = max(1, segment_steps(replay.capacity) // ring.num_replicas)
        names = []
        for j in range(ring.oldest // rows, ring.written // rows + 1):
            is_finished = ring.written >= (j + 1) * rows
            name = f"{source}-{ring.number}-{rows}-{j:08d}{SHARED_ENDING if is_finished else OPEN_ENDING}"
            if is_finished and name in held:
                known[name] = f"{previous}/{REPLAY_FOLDER}/{name}"
            else:
                first, last = max(j * rows, ring.oldest), min((j + 1) * rows, ring.written + 1)
                new[name] = _segment(ring, first, last)
                loans.append(ring.lend(first))
            names.append(name)
        rings[str(source)] = {
            "number": ring.number,
            "num_rows": ring.num_rows,
            "written": ring.written,
            "size": ring.size,
            "segments": names,
        }
        if ring.priorities is not None:
            priorities[str(ring.number)] = [torch.from_numpy(ring.priorities.values[ring.live])]
    index = {"num_added": replay.num_added, "num_rings": replay.num_rings, "rings": rings}
    if priorities:
        index["max_priority"], new[PRIORITIES_FILE] = replay.max_priority, priorities
    return ReplaySnapshot(index, new, known, loans)


def _names_in(checkpoint: Path | None) -> set[str]:
    """Files that a checkpoint holds of a buffer; none where it is not there or has no buffer."""
    if checkpoint is None:
        return set()
    try:
        return set(os.listdir(checkpoint / REPLAY_FOLDER))
    except (FileNotFoundError, NotADirectoryError):
        return set()


def load_replay(replay: TeamReplay, checkpoint: Path) -> None:
    """Fill a buffer with what a checkpoint holds.

    Raises:
        IncompatibleError: if a file of it is missing or cannot be read.
    """
    folder = checkpoint / REPLAY_FOLDER
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        num_added, num_rings = as_count(index["num_added"]), as_count(index["num_rings"])
        most_rows = replay.capacity + 1
        rings = {int(source): _read_ring(folder, entry, most_rows) for source, entry in index["rings"].items()}
        has_priorities = "max_priority" in index
        priorities = load_file(folder / PRIORITIES_FILE) if has_priorities else {}
        replay.max_priority = float(index.get("max_priority", 1.0))
        replay.put(rings, {int(number): values for number, values in priorities.items()})
    except Exception as error:  # what is damaged, or was made to do harm, can raise anything
        raise IncompatibleError(f"{folder} holds no whole replay buffer ({told(error)})") from error
    replay.num_added, replay.num_rings = num_added, num_rings


def _segment(ring: Ring, first: int, last: int) -> dict[str, list[Tensor]]:
    """Rows [first, last) with the final observations that they point to; only what may still change is copied.

    The row at the head is rewritten when its step is taken, pointers whenever the final store grows.
    """
    start, num_lent = first % ring.num_rows, min(last, ring.written) - first

    def taken(values: Tensor) -> list[Tensor]:
        whole = [values[start : start + num_lent], values[: max(0, start + num_lent - ring.num_rows)]]
        at_head = [values[ring.head : ring.head + 1].clone()] if last > ring.written else []
        return [piece for piece in whole if len(piece)] + at_head

    found = {name: taken(values) for name, values in ring.rows.items()}
    pointers = torch.cat(found.pop("final"))
    ends = (pointers >= 0).nonzero()
    slots = pointers[ends[:, 0], ends[:, 1]]
    finals = {f"final_{name}": [values[slots]] for name, values in ring.finals.items()}
    return found | {**finals, "is_broken": taken(ring.is_broken), "ends": [ends], "first": [torch.tensor([first])]}


def _read_ring(folder: Path, entry: dict[str, Any], most_rows: int) -> Ring:
    num_rows, written = as_count(entry["num_rows"], most=most_rows), as_count(entry["written"])
    oldest = written - as_count(entry["size"], most=min(num_rows, written))
    ring, finals, pointers = None, [], []
    for name in entry["segments"]:
        part = load_file(path_in(folder, name, source=folder / INDEX_FILE))
        if ring is None:
            like = {n: v for n, v in part.items() if n not in ("ends", "first") and not n.startswith("final_")}
            ring = Ring.empty(like, num_rows, number=as_count(entry["number"]))
            ring.written, ring.size = written, entry["size"]
        first = int(part["first"])
        skip = max(0, oldest - first)  # rows that the ring has overwritten since the segment was written
        where = torch.arange(first + skip, first + len(part["is_broken"])) % ring.num_rows
        for column, values in ring.rows.items():
            if column != "final":
                values[where] = part[column][skip:]
        ring.is_broken[where] = part["is_broken"][skip:]
        live = part["ends"][:, 0] >= skip
        ends = part["ends"][live]
        pointers.append(torch.stack([(first + ends[:, 0]) % ring.num_rows, ends[:, 1]], dim=1))
        finals.append({n: part[f"final_{n}"][live] for n in ring.finals})
    if ring is None:
        raise KeyError("no segments")
    at = torch.cat(pointers)
    ring.put_finals(at[:, 0], at[:, 1], {n: torch.cat([f[n] for f in finals]) for n in ring.finals})
    return ring
