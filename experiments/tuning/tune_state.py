"""Tune's own files of an experiment, where the disk does not take them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from experiments.tuning.ray_internals import TuneController


@contextmanager
def unwritable_tune_state_is_borne() -> Iterator[None]:
    """While the block runs, go on where Tune cannot write its files: its staging folder may lie on a full disk.

    Tune itself would end the training, though nothing in them is newer than the checkpoints.
    """
    own, has_failed = TuneController.save_to_dir, False

    def save(controller: TuneController) -> None:
        nonlocal has_failed
        try:
            own(controller)
            has_failed = False
        except OSError as error:  # the next result tries again
            if not has_failed:
                print(f"Tune's own files cannot be written ({error}); training goes on", file=sys.stderr, flush=True)
            has_failed = True

    TuneController.save_to_dir = save
    try:
        yield
    finally:
        TuneController.save_to_dir = own
