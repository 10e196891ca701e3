"""Commands about official weights and the models made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from v2a_dpo.cli.console import ProgressBars, err, show, table
from v2a_dpo.errors import UserError

if TYPE_CHECKING:
    from v2a_dpo.weights.store import Store

WEIGHTS = "Weights"
_GIB = 1 << 30
_PRECISIONS = ("float32", "bfloat16")

AcceptNoncommercial = Annotated[
    bool, typer.Option("--accept-noncommercial", help="Accept licences for non-commercial use only.")
]

weights = typer.Typer(
    no_args_is_help=True, help="Official weights: list, fetch, import, verify, and a generator's cost."
)


@weights.command("list")
def list_weights() -> None:
    """List every official file with its licence and size, and its state in WEIGHTS_DIR.

    Example: v2a-dpo weights list
    """
    from v2a_dpo.weights.catalog import FILES
    from v2a_dpo.weights.store import Store

    store = Store.default()
    rows = [
        (
            file.name,
            file.file_name,
            file.role,
            file.licence + (" (non-commercial)" if file.noncommercial else ""),
            "not known" if file.size_mib is None else f"{file.size_mib:.0f}",
            _state(store, file.name),
        )
        for file in FILES.values()
    ]
    show(table(f"Weights in {store.root}", ["Name", "File", "For", "Licence", "MiB", "In WEIGHTS_DIR"], rows))


@weights.command("fetch")
def fetch_weights(
    names: Annotated[
        list[str], typer.Argument(help="Files by name, or all that a model (large_44k) or `scorers` need.")
    ],
    accept_noncommercial: AcceptNoncommercial = False,
) -> None:
    """Download official files, check and convert them; resumes after a stop.

    Example: v2a-dpo weights fetch large_44k --accept-noncommercial
    """
    from v2a_dpo.weights.catalog import names_in, official_file
    from v2a_dpo.weights.importing import fetch
    from v2a_dpo.weights.store import Store, accept_licence

    selected = names_in(names)
    for name in selected:
        accept_licence(official_file(name), noncommercial=accept_noncommercial)
    store = Store.default()
    for name in selected:
        with ProgressBars() as progress:
            fetch(name, store, accept_noncommercial=accept_noncommercial, progress=progress)
        print(f"{name}: {store.folder(name)}")


@weights.command("import")
def import_weights(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The official file, downloaded manually.")],
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Which file it is, if renamed.")] = None,
    allow_unverified: Annotated[
        bool,
        typer.Option("--allow-unverified", help="Accept another checksum, if all keys and shapes fit."),
    ] = False,
    accept_noncommercial: AcceptNoncommercial = False,
) -> None:
    """Check a manually downloaded file and convert it into WEIGHTS_DIR; a generator's folder is then a model folder.

    Example: v2a-dpo weights import ~/Downloads/mmaudio_large_44k.pth --accept-noncommercial
    """
    from v2a_dpo.weights.importing import import_file
    from v2a_dpo.weights.store import Store

    store = Store.default()
    with ProgressBars() as progress:
        record = import_file(
            file,
            store,
            name=name,
            allow_unverified=allow_unverified,
            accept_noncommercial=accept_noncommercial,
            progress=progress,
        )
    if record.trust == "unverified":
        err.print(
            f"WARNING: {record.name} is UNVERIFIED: its checksum is not that of the official file. "
            "This is recorded; results made with it are not comparable with published ones."
        )
    if record.trust == "first import":
        err.print(f"No checksum of {record.name} is published: SHA-256 {record.source_sha256} is recorded.")
    print(f"{record.name}: {store.folder(record.name)} ({record.parameters:,} numbers in {record.tensors} tensors)")


@weights.command("verify")
def verify_weights(
    names: Annotated[list[str] | None, typer.Argument(help="Files by name [default: all imported files].")] = None,
) -> None:
    """Compare every byte of imported weights with the checksum of their import; exit status 2 if one is damaged.

    Example: v2a-dpo weights verify mmaudio_large_44k
    """
    from v2a_dpo.weights.catalog import FILES, names_in
    from v2a_dpo.weights.store import Store

    store = Store.default()
    selected = names_in(names) if names else [name for name in FILES if store.record(name) is not None]
    if not selected:
        raise UserError("No weights are imported.", where=str(store.root), remedy="See `v2a-dpo weights list`.")
    damaged = {}
    for name in selected:
        with ProgressBars() as progress:
            damage = store.damage(name, progress=progress)
        print(f"{name}: {damage or 'sound'}")
        if damage:
            damaged[name] = damage
    if damaged:
        remedy = "Fetch or import these files again."
        raise UserError(
            f"{len(damaged)} of {len(selected)} files are damaged or missing.", where=str(store.root), remedy=remedy
        )


@weights.command("info")
def model_info(
    name: Annotated[str, typer.Argument(help="small_16k, small_44k, medium_44k, large_44k or large_44k_v2.")],
    duration_s: Annotated[float, typer.Option(help="Duration of a clip in seconds.")] = 8.0,
    steps: Annotated[int, typer.Option(help="Euler steps per candidate, each in two guidance branches.")] = 25,
    lora_rank: Annotated[int, typer.Option(help="Rank of a LoRA adapter on the linear maps of all blocks.")] = 16,
) -> None:
    """Show a generator's parameters, memory, operations and files, without loading any weights.

    Example: v2a-dpo weights info large_44k
    """
    from v2a_dpo.models.catalog import cost_of
    from v2a_dpo.weights.catalog import NEEDED
    from v2a_dpo.weights.store import Store

    cost = cost_of(name, duration_s=duration_s)
    sizes, operations = cost.sizes(lora_rank=lora_rank), cost.operations()

    facts = {
        "parameters": f"{sizes.network:,}",
        "of these trained": f"{sizes.trainable:,}",
        f"LoRA adapter of rank {lora_rank}": f"{sizes.lora:,}",
        "frozen encoders and codec": f"{sizes.frozen:,}",
        "latent": f"{cost.latent_length} x {cost.config.latent_channels}",
        "one velocity call": _gflop(operations.velocity),
        "features, once per clip": _gflop(operations.features + operations.embedding),
        "autoencoder and vocoder": _gflop(operations.decoding),
        f"one candidate, {steps} guided steps": _gflop(operations.candidate(steps=steps)),
    }
    show(table(f"{name}, clips of {duration_s:g} s", ["", ""], facts.items()))
    memory = [cost.memory(precision, lora_rank=lora_rank) for precision in _PRECISIONS]
    parts = {
        "inference, all parts": [each.inference for each in memory],
        "LoRA": [each.lora for each in memory],
        "full training": [each.full_training for each in memory],
        "training, additional per pair": [2 * each.activations_per_row for each in memory],
    }
    rows = [(part, *(f"{num_bytes / _GIB:.2f}" for num_bytes in sizes)) for part, sizes in parts.items()]
    show(table("Memory: weights, gradients and optimizer", ["GiB", *_PRECISIONS], rows))
    store = Store.default()
    files = [(needed, _state(store, needed)) for needed in NEEDED[name]]
    show(table("Files", ["File needed", f"In {store.root}"], files))


def _state(store: Store, name: str) -> str:
    """Whether a file is imported, and how far it is trusted."""
    record = store.record(name)
    return "no" if record is None else f"yes, {record.trust}"


def _gflop(operations: int) -> str:
    return f"{operations / 1e9:,.1f} GFLOP"


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    app.add_typer(weights, name="weights", rich_help_panel=WEIGHTS)
