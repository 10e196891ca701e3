"""The paper's loop as Kubeflow components, one file per step.

| file | components |
| --- | --- |
| `run` (inputs) | `check_run`, `take_models`, `take_set`, `take_existing`, `take_loop`, `fetch_model` |
| `run` (around the stages) | `plan_shards`, `summarize_run` |
| `tiny` | `world`, `pretrain`, `annotate` |
| `data` | `prepare` |
| `candidates` | `generate`, `score` |
| `preference` | `import_ratings`, `train_audioscore`, `mine` |
| `alignment` | `align`, `align_on_cluster` |
| `evaluation` | `evaluate`, `report` |
| `release` | `gate`, `register`, `promote` |
| `sweep_cells` | `plan_sweep`, `sweep_cell`, `collect_sweep` |

Every component is built by `definition.component`; `pipelines` connects them.
"""
