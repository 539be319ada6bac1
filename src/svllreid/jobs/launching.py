"""Training in several processes on this machine: each runs the same command, and if one fails all are stopped."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from svllreid.errors import DeviceError


def launch(processes: int, device: str, words: Sequence[str]) -> int:
    """Run `svllreid WORDS` in several processes that train together.

    Args:
        processes: number of processes. Each has a GPU of its own; without GPUs they share the cores of the CPU.
        device: the value of --device.
        words: the arguments of the command, without the option --devices.
    Returns: the exit code of the first process that failed; 0 if none did.
    Raises: DeviceError: fewer than one process, more processes than GPUs, or a device with a number.
    """
    import torch
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    gpus = torch.cuda.device_count()
    if ":" in device:
        raise DeviceError(f"--device {device} names one device, --devices {processes} several; leave one of them out")
    if processes < 1 or (gpus and processes > gpus and device != "cpu"):
        raise DeviceError(f"--devices {processes}: this machine has {gpus} GPUs; ask for 1 to {max(gpus, 1)}")
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    try:
        elastic_launch(settings, sys.executable)("-m", "svllreid", *words)
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode not in (2, 130):  # with these codes the process has printed the reason itself
            print(
                f"svllreid: process {number} of {processes} ended with code {failure.exitcode}, so the others were "
                "stopped; its messages are above. The same command continues the run.",
                file=sys.stderr,
            )
        return failure.exitcode if failure.exitcode > 0 else 1
    return 0
