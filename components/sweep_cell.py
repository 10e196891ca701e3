"""The parameters of one cell of a sweep."""

from components.definition import ORCHESTRATION, component


@component(ORCHESTRATION)
def sweep_cell(params: dict, cell: str) -> dict:
    """Returns all parameters, with the beta and the threshold of the cell."""
    from v2a_dpo.orchestration.sweep import cell_params

    return cell_params(params, cell)
