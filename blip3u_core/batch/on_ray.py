"""The same shards by Ray Data: actors that hold the model, one a GPU, on one machine or many.

A row of the dataset is a shard. An actor that dies is started again by Ray and its shard with it;
a run that is started again skips the shards that Ray's checkpoint names, and those that are there.
"""

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .plan import shard_names
from .run import ShardWorker
from .tasks import Job

FOLDER = ".ray"  # in the output folder, which all machines must see


class RayWorker:
    """A ShardWorker with the interface of `map_batches`."""

    def __init__(self, job: Mapping[str, Any], out: str) -> None:
        self.worker = ShardWorker(Job(**job), Path(out))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns what the log keeps of each shard; seconds by the wall and of the CPU."""
        wall, cpu = time.perf_counter(), time.process_time()
        counts = [self.worker.make(str(shard)) for shard in batch["shard"]]
        return {
            "shard": batch["shard"],
            "rows": np.array(counts),
            "seconds": np.array([time.perf_counter() - wall]),
            "cpu_seconds": np.array([time.process_time() - cpu]),
            "node": np.array([f"{platform.node()}:{os.getpid()}"]),
        }


def run_on_ray(out: Path, job: Job, actors: int, address: str | None) -> None:
    """Make all shards that are missing on a Ray cluster.

    Args:
        actors: how many models at once; one a GPU where the job's device is one.
        address: of a running cluster, "auto" for the one of this machine, None to start one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import ray
    from ray.data import ActorPoolStrategy, DataContext
    from ray.data.checkpoint import CheckpointConfig

    folder = (out / FOLDER).resolve()
    folder.mkdir(exist_ok=True)
    names = shard_names(out)
    # The checkpoint filters what is read, so the list of shards must be read, not made here.
    source = folder / "shards.parquet"
    pq.write_table(pa.table({"shard": names}), source)
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False)
    context = DataContext.get_current()
    context.checkpoint_config = CheckpointConfig("shard", str(folder / "checkpoint"))
    on_gpu = job.model["device"].startswith("cuda")
    shards = ray.data.read_parquet(str(source)).repartition(target_num_rows_per_block=1)
    dataset = shards.map_batches(
        RayWorker,
        fn_constructor_args=(json.loads(json.dumps(asdict(job))), str(out.resolve())),
        batch_size=1,
        # No CPU of Ray's: with all of them at the actors, reading and writing would never come.
        num_cpus=0,
        num_gpus=1 if on_gpu else 0,
        # One shard at a time: a slow actor must not sit on shards that others could make.
        compute=ActorPoolStrategy(size=min(actors, len(names)), max_tasks_in_flight_per_actor=1),
    )
    dataset.write_parquet(str(folder / "log"))
