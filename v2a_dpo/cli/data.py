"""Commands that make data: the tiny world, clips, candidates, scores and ratings."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from v2a_dpo.cli.command_or_subcommand import CommandOrSubcommand
from v2a_dpo.cli.console import ProgressBars, peak_memory
from v2a_dpo.cli.options import PARAMS_FILE, KeepArtifacts, Overrides, ParamsFile, folder, read_params
from v2a_dpo.errors import UserError

DATA = "Data"


def world(
    output: Annotated[str, folder("Where the videos go")],
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
    keep_artifacts: KeepArtifacts = False,
) -> None:
    """Render the tiny profile's procedural videos, captions and truth.

    Example: v2a-dpo world --output artifacts/world
    """
    from v2a_dpo.stages.world import world as stage

    with ProgressBars() as progress:
        typer.echo(
            stage(read_params(params, overrides, keep_artifacts=keep_artifacts), output=output, progress=progress)
        )


def pretrain(
    output: Annotated[str, folder("Where `scorers` and `generator` go")],
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
    keep_artifacts: KeepArtifacts = False,
) -> None:
    """Train the tiny profile's frozen scorers and its base generator.

    Example: v2a-dpo pretrain --output artifacts/pretrained
    """
    from v2a_dpo.stages.pretrain import pretrain as stage

    with ProgressBars() as progress:
        typer.echo(
            stage(read_params(params, overrides, keep_artifacts=keep_artifacts), output=output, progress=progress)
        )


def vggsound(
    listing: Annotated[str, typer.Option("--list", metavar="FILE", help="The official vggsound.csv.")],
    videos: Annotated[str, folder("The clips, loose or in tar archives")],
    output: Annotated[str, folder("Where the caption tables go")],
    test_list: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="MMAudio's test list (id<TAB>label). None: the official test split."),
    ] = None,
    trained_on: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Clips that a model was trained on, kept out of test. Repeatable."),
    ] = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Clips kept out of annotation and preference. Repeatable."),
    ] = None,
    unpack: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where chosen clips of tar archives are written.")
    ] = None,
    allow_damaged: Annotated[
        bool, typer.Option("--allow-damaged", help="Exit with status 0 although archives are damaged.")
    ] = False,
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
) -> None:
    """Make the paper's splits of VGGSound: a caption table each for `prepare`, and lists of missing and excluded clips.

    Example: v2a-dpo prepare vggsound --list vggsound.csv --videos /data/vggsound --test-list vgg-test.tsv --output artifacts/splits
    """
    from v2a_dpo.stages.vggsound import vggsound as stage

    with ProgressBars() as progress:
        summary = stage(
            read_params(params, overrides),
            listing=listing,
            videos=videos,
            output=output,
            test_list=test_list,
            trained_on=trained_on or [],
            held_out=held_out or [],
            unpack=unpack,
            progress=progress,
        )
    typer.echo(summary)
    if summary.damaged_archives and not allow_damaged:
        raise UserError(
            f"All is made, but {len(summary.damaged_archives)} archives are damaged.",
            where=f"{output}/damaged-archives.csv",
            remedy=(
                "Download these again and repeat the command: the others are not read again. "
                "Or repeat it with --allow-damaged."
            ),
        )


def prepare(
    context: typer.Context,
    videos: Annotated[str, folder("The videos")],
    generator: Annotated[str, folder("The generator whose conditions are cached")],
    clips: Annotated[str, folder("Where the clips table goes")],
    conditions: Annotated[str, folder("Where the conditions go")],
    captions: Annotated[
        str | None,
        typer.Option(
            help="CSV or TSV of captions: VGGSound's, MMAudio's, or clip_id,video,prompt,label. None: no text."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="The split these clips belong to.")] = "test",
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
    keep_artifacts: KeepArtifacts = False,
) -> None:
    """Read videos and captions into a clips table and cached conditions; bad files go to quarantine.

    Example: v2a-dpo prepare --videos clips/ --captions clips/captions.tsv --generator artifacts/pretrained/generator
    --clips artifacts/clips/mine --conditions artifacts/conditions/mine
    """
    if context.invoked_subcommand is not None:
        return
    from v2a_dpo.stages.prepare import prepare as stage

    with ProgressBars() as progress:
        summary = stage(
            read_params(params, overrides, keep_artifacts=keep_artifacts),
            videos=videos,
            captions=captions,
            split=split,
            generator=generator,
            clips=clips,
            conditions=conditions,
            progress=progress,
        )
    typer.echo(summary)


def generate(
    generator: Annotated[str, folder("The generator")],
    conditions: Annotated[str | None, typer.Option(metavar="FOLDER", help="Cached conditions of clips.")] = None,
    output: Annotated[str | None, typer.Option(metavar="FOLDER", help="Where the candidates go.")] = None,
    video: Annotated[str | None, typer.Option(metavar="FILE", help="One video instead of --conditions.")] = None,
    prompt: Annotated[str, typer.Option(help="Text prompt for --video.")] = "",
    out_folder: Annotated[str | None, typer.Option("--out", metavar="FOLDER", help="Where wav and mp4 go.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Candidates a clip instead of generate.candidates.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="Instead of generate.guidance_scale.")] = None,
    use_text: Annotated[
        bool | None,
        typer.Option("--text/--no-text", help="Use prompts or ignore them, instead of generate.use_text."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first clips of each shard.")] = None,
    shard: Annotated[list[int] | None, typer.Option(help="Make only this shard, without manifest. Repeatable.")] = None,
    devices: Annotated[int, typer.Option(min=1, help="Processes, a GPU each, that share the shards.")] = 1,
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
    keep_artifacts: KeepArtifacts = False,
) -> None:
    """Draw candidates for prepared clips, or sound for one video.

    Examples:

    v2a-dpo generate --conditions artifacts/conditions/test --generator artifacts/aligned --output artifacts/candidates/mine

    v2a-dpo generate --video dog.mp4 --prompt "dog barking" --generator artifacts/aligned --out sound/
    """
    settings = read_params(params, overrides, keep_artifacts=keep_artifacts)
    with ProgressBars() as progress:
        if video is not None and out_folder is not None:
            from v2a_dpo.generation.video_files import generate_video

            for path in generate_video(
                settings,
                video=video,
                prompt=prompt,
                generator=generator,
                output=out_folder,
                candidates=candidates or 1,
                guidance_scale=guidance_scale,
                use_text=use_text,
                progress=progress,
            ):
                typer.echo(path)
            typer.echo(f"Done; {peak_memory()}.")
        elif conditions is not None and output is not None:
            from v2a_dpo.stages.generate import generate as stage
            from v2a_dpo.stages.generate_devices import generate_on_devices

            if devices > 1 and shard:
                remedy = "Name shards or devices, not both."
                raise UserError("Several devices share all shards.", where="--devices", remedy=remedy)
            run = partial(generate_on_devices, devices=devices) if devices > 1 else partial(stage, shards=shard)
            summary = run(
                settings,
                conditions=conditions,
                generator=generator,
                output=output,
                candidates=candidates,
                guidance_scale=guidance_scale,
                use_text=use_text,
                limit=limit,
                progress=progress,
            )
            typer.echo(f"{summary}; {peak_memory()}")
        else:
            remedy = "Give --conditions and --output for prepared clips, or --video and --out for one video."
            raise UserError("Nothing to generate for.", where="v2a-dpo generate", remedy=remedy)


def score(
    clips: Annotated[str, folder("The clips")],
    candidates: Annotated[str, folder("Their candidates")],
    scorers: Annotated[str, folder("The frozen scorers")],
    output: Annotated[str, folder("Where the scores go")],
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
    keep_artifacts: KeepArtifacts = False,
) -> None:
    """Give every candidate its five scores; one that does not apply is null, with the reason.

    Example: v2a-dpo score --clips artifacts/clips/test --candidates artifacts/candidates/test-base
    --scorers artifacts/pretrained/scorers --output artifacts/scores/test-base
    """
    from v2a_dpo.stages.score import score as stage

    with ProgressBars() as progress:
        summary = stage(
            read_params(params, overrides, keep_artifacts=keep_artifacts),
            clips=clips,
            candidates=candidates,
            scorers=scorers,
            output=output,
            progress=progress,
        )
    typer.echo(summary)


def annotate(
    candidates: Annotated[str, folder("The candidates to rate")],
    truth: Annotated[str, typer.Option(metavar="FILE", help="The procedural world's truth.json.")],
    output: Annotated[str, folder("Where the ratings go")],
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
    keep_artifacts: KeepArtifacts = False,
) -> None:
    """Rate candidates Good, Medium or Bad with the SIMULATED rater of the tiny profile.

    Example: v2a-dpo annotate --candidates artifacts/candidates/annotation --truth artifacts/world/truth.json --output artifacts/ratings
    """
    from v2a_dpo.stages.annotate import annotate as stage

    with ProgressBars() as progress:
        summary = stage(
            read_params(params, overrides, keep_artifacts=keep_artifacts),
            candidates=candidates,
            truth=truth,
            output=output,
            progress=progress,
        )
    typer.echo(summary)


def import_ratings(
    csv: Annotated[
        str, typer.Option(metavar="FILE", help="A table with the columns clip_id,sample,rating,rater,source.")
    ],
    candidates: Annotated[str, folder("The candidates that were rated")],
    output: Annotated[str, folder("Where the ratings go")],
    params: ParamsFile = PARAMS_FILE,
    overrides: Overrides = None,
    keep_artifacts: KeepArtifacts = False,
) -> None:
    """Import human ratings from a CSV file.

    Example: v2a-dpo import-ratings --csv ratings.csv --candidates artifacts/candidates/annotation --output artifacts/ratings
    """
    from v2a_dpo.stages.import_ratings import import_ratings as stage

    typer.echo(
        stage(
            read_params(params, overrides, keep_artifacts=keep_artifacts), csv=csv, candidates=candidates, output=output
        )
    )


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    app.command(rich_help_panel=DATA)(world)
    app.command(rich_help_panel=DATA)(pretrain)
    preparation = typer.Typer(
        cls=CommandOrSubcommand, invoke_without_command=True, callback=prepare, subcommand_metavar="[vggsound ...]"
    )
    preparation.command()(vggsound)
    app.add_typer(preparation, name="prepare", rich_help_panel=DATA)
    for command in (generate, score, annotate, import_ratings):
        app.command(rich_help_panel=DATA)(command)
