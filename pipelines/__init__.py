"""The paper's loop on Kubeflow.

| file | holds |
| --- | --- |
| `full_loop.py` | the full loop, from videos to a promoted model |
| `candidates.py` | its first part alone: candidates for people to rate |
| `evaluate.py` | any model, or candidates made anywhere, against a base |
| `sweep.py` | Table 2: beta and curriculum threshold |
| `parts/` | the steps they share: sets of candidates, pairs, alignment, release, shards |
| `presets.py`, `placement.py` | where tasks run: GPUs, nodes, volumes, secrets by reference, retries, timeouts |
| `compilation.py` | names and compilation |

Every prefix under a run's root is that of `v2a_dpo.artifacts.layout.Layout`, as on one machine.
"""
