"""Whether and how a stage is compiled."""

from __future__ import annotations

from lightning.fabric import Fabric

from svllreid.config import Config
from svllreid.runtime.gather import num_processes
from svllreid.training.compiling import MIN_STEPS, compile_stage1, compile_stage2, compiler_fault
from svllreid.training.stage1 import Stage1Task
from svllreid.training.stage2 import Stage2Task


def compile_task(config: Config, task: Stage1Task | Stage2Task, fabric: Fabric, steps: int) -> str:
    """Compile a stage's task as MODEL.COMPILE says.

    With `auto` it is compiled on CUDA, where torch.compile works and the stage has MIN_STEPS steps or more. An encoder
    whose weights are sharded is compiled only with `true`.

    Args:
        config: the run's configuration.
        task: changed in place.
        fabric: device and processes.
        steps: of the whole stage.
    Returns: a line for the log that says what was done; empty where nothing was to be done.
    """
    setting, processes = config.model.compile, num_processes()
    sharded = config.solver.shard and processes > 1
    if setting is False or (setting == "auto" and (fabric.device.type != "cuda" or steps < MIN_STEPS or sharded)):
        return ""
    fault = compiler_fault(fabric.device.type)
    if fault:
        return f"not compiled: torch.compile does not work here ({fault})"
    if isinstance(task, Stage1Task):
        batch = -(-config.solver.stage1.ims_per_batch // processes)
        copies = 1 if task.augment is None else 3
        compile_stage1(task, min(batch, task.model.num_classes) * copies)
        return "stage 1's text encoder is compiled in the first step"
    recomputed = config.model.grad_checkpointing or config.solver.stage2.micro_batch > 0
    compile_stage2(task, whole=processes == 1 and not recomputed)
    return "stage 2 is compiled in the first step"
