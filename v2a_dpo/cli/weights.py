"""Commands about official weights and the models made of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from v2a_dpo.cli.console import ProgressBars, err
from v2a_dpo.errors import UserError

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
    table = Table("Name", "File", "For", "Licence", "MiB", "In WEIGHTS_DIR", title=f"Weights in {store.root}")
    for file in FILES.values():
        record = store.record(file.name)
        state = "no" if record is None else f"yes, {record.trust}"
        licence = file.licence + (" (non-commercial)" if file.noncommercial else "")
        size = "not known" if file.size_mib is None else f"{file.size_mib:.0f}"
        table.add_row(file.name, file.file_name, file.role, licence, size, state)
    _show(table)


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
    from v2a_dpo.weights.fetching import fetch
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
        bool, typer.Option("--allow-unverified", help="Take a file whose checksum differs, if all keys and shapes fit.")
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
            "Its record says so, and results made with it are not comparable with published ones."
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

    facts = Table("", "", title=f"{name}, clips of {duration_s:g} s", show_header=False)
    facts.add_row("parameters", f"{sizes.network:,}")
    facts.add_row("of these trained", f"{sizes.trainable:,}")
    facts.add_row(f"LoRA adapter of rank {lora_rank}", f"{sizes.lora:,}")
    facts.add_row("frozen encoders and codec", f"{sizes.frozen:,}")
    facts.add_row("latent", f"{cost.latent_length} x {cost.config.latent_channels}")
    facts.add_row("one velocity call", _gflop(operations.velocity))
    facts.add_row("features, once per clip", _gflop(operations.features + operations.embedding))
    facts.add_row("autoencoder and vocoder", _gflop(operations.decoding))
    facts.add_row(f"one candidate, {steps} guided steps", _gflop(operations.candidate(steps=steps)))
    _show(facts)

    memory = Table("GiB", *_PRECISIONS, title="Memory: weights, gradients and optimizer")
    figures = [cost.memory(precision, lora_rank=lora_rank) for precision in _PRECISIONS]
    memory.add_row("inference, all parts", *(_gib(each.inference) for each in figures))
    memory.add_row("LoRA", *(_gib(each.lora) for each in figures))
    memory.add_row("full training", *(_gib(each.full_training) for each in figures))
    memory.add_row("training, additional per pair", *(_gib(2 * each.activations_a_row) for each in figures))
    _show(memory)

    store = Store.default()
    files = Table("File needed", f"In {store.root}", title="Files")
    for needed in NEEDED[name]:
        record = store.record(needed)
        files.add_row(needed, "no" if record is None else f"yes, {record.trust}")
    _show(files)


def _show(table: Table) -> None:
    """Prints a table on standard output, folded to the terminal's width and whole where there is none."""
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def _gflop(operations: int) -> str:
    return f"{operations / 1e9:,.1f} GFLOP"


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.2f}"


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    app.add_typer(weights, name="weights", rich_help_panel=WEIGHTS)
