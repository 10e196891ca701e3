"""Looks at what a run was given before anything costly starts."""

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def check_run(
    params: dict,
    root: str,
    start_at: str = "videos",
    data_root: str = "",
    videos: str = "",
    generator: str = "",
    scorers: str = "",
    ratings_csv: str = "",
    to_be_rated: bool = False,
) -> str:
    """Refuses a run that cannot work, and returns the prefix of its clips, conditions and candidates."""
    from v2a_dpo.orchestration.checks import check_run as stage
    from v2a_dpo.orchestration.task import run_stage

    return run_stage(
        stage,
        params,
        {
            "root": root,
            "start_at": start_at,
            "data_root": data_root,
            "videos": videos,
            "generator": generator,
            "scorers": scorers,
            "ratings_csv": ratings_csv,
            "to_be_rated": to_be_rated,
        },
    )
