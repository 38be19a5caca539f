"""A machine with a working folder of its own, and a store that is a folder too, so that it can be damaged by hand."""

import json
import os

from experiments.recovery.checkpoints import TrialCheckpoints
from experiments.remote.mirror import Mirror


class Machine:
    """A machine with a working folder of its own, and a run that makes checkpoints of nothing."""

    def __init__(self, root, address, keep=2, keep_every=None):
        self.mirror = Mirror(address, root / "dow", patience_s=0)
        self.folder, self.previous = root / "dow", None
        self.keep, self.keep_every = keep, keep_every
        self.checkpoints = TrialCheckpoints(self.folder / "trial_0")

    def start(self):
        self.folder.mkdir(parents=True)
        (self.folder / "config.json").write_text("{}")

    def save(self, step, *, reaches_store=True, is_best=False, value=None):
        """One due save: a replay buffer whose segments are finished one by one, weights, a line in the records."""
        records = self.folder / "trial_0" / "result.json"
        records.parent.mkdir(exist_ok=True)
        with records.open("a") as file:
            file.write(f"{step}\n")

        def write(folder):
            (folder / "replay").mkdir()
            for j in range(step):
                name = f"0-0-{j:08d}.safetensors"
                if self.previous is not None and (self.previous / "replay" / name).exists():
                    os.link(self.previous / "replay" / name, folder / "replay" / name)
                else:
                    (folder / "replay" / name).write_text(f"segment {j}" * 100)
            (folder / "replay" / "0-0-open.open").write_text(f"open at {step}")
            (folder / "weights").write_text(f"weights of {step}")
            meta = {"episode": step, "is_best": is_best, "timestamp": "2026-01-01T00:00:00+00:00"}
            meta["metric_value"] = value
            (folder / "checkpoint_meta.json").write_text(json.dumps(meta))

        self.previous = self.checkpoints.publish(write, previous=self.previous)
        if reaches_store:
            self.mirror.push_files()
            self.mirror.push_checkpoint(self.previous)
            self.checkpoints.prune(self.keep, keep_every=self.keep_every)
            self.mirror.prune("trial_0", self.keep, keep_every=self.keep_every)
        return self.previous

    def pull(self):
        told = []
        self.mirror.pull(told.append)
        return told

    def newest(self):
        path = self.checkpoints.newest_whole()
        return int((path / "weights").read_text().split()[-1]) if path else None


def objects(tmp_path, below=""):
    root = tmp_path / "store" / "dow" / below
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
