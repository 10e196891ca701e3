"""How busy this machine is, as MLflow measures it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from v2a_dpo.tracking.values import MetricPoint


def system_load(*, step: int) -> list[MetricPoint]:
    """Present use of processor, memory, network and GPUs, if any, under MLflow's `system/` names, at `step`."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    monitors: list[Any] = [CPUMonitor()]
    with suppress(ImportError, RuntimeError):  # no NVIDIA library, or no GPU that it can talk to
        monitors.append(GPUMonitor())
    points: list[MetricPoint] = []
    for monitor in monitors:
        monitor.collect_metrics()
        measured = monitor.aggregate_metrics()
        points += [MetricPoint(f"system/{name}", value, step) for name, value in measured.items()]
    return points
