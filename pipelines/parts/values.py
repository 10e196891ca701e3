"""Values that are known only when a pipeline runs: what tasks return, and prefixes built from them.

Two habits of KFP 2.17 shape the parts. A prefix is built in the part that uses it, because only the arguments of tasks
that run in a pod may hold placeholders. And a part holds either conditions or a loop, never both: the compiler mixes up
groups of one kind that are nested across pipelines, and the local runner gives a loop's body nothing but the loop's
item and the pipeline's own inputs.
"""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from v2a_dpo.artifacts.layout import Layout

#: A pipeline used as a step of another one.
Part = Callable[..., dsl.PipelineTask]


def layout_of(root: Any) -> Layout:
    """The layout of a prefix that is known only when the pipeline runs."""
    return Layout(str(root))


def value(task: dsl.PipelineTask) -> Any:
    """What a task returned, beside its artifacts: for our components, the prefix it filled."""
    return task.outputs["Output"]
