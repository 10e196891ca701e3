"""The paper's loop as Kubeflow components, one file a step.

| step | component |
| --- | --- |
| what the run was given is looked at | `check_run`, `take_existing`, `take_models` |
| the tiny profile's own videos and models | `world`, `pretrain` |
| videos to clips and conditions | `plan_shards`, `prepare` |
| N candidates a clip, five scores each | `generate`, `score` |
| people's (or simulated) ratings, AudioScore | `import_ratings`, `annotate`, `train_audioscore` |
| best against worst, curriculum, Flow-DPO | `mine`, `align` |
| base against aligned on held-out clips | `evaluate`, `report` |
| whether it is good enough, and the registry | `gate`, `register`, `promote` |
| Table 2: beta and threshold | `plan_sweep`, `sweep_cell`, `collect_sweep` |
| after the run, however it ended | `summarize_run` |

Every component is built by `definition.component`; `pipelines` puts them together.
"""
