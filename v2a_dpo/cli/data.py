"""Commands that make data: the tiny world, clips, candidates, scores and ratings."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from v2a_dpo.cli.console import peak_memory
from v2a_dpo.cli.options import AT, Call, Stage, file, folder, register
from v2a_dpo.errors import UserError

DATA = "Data"

Name = Annotated[
    str,
    typer.Option(
        help="The candidates' name: annotation, preference, test-base, test-aligned, or a split of your own. NAME in "
        "the default paths; SPLIT is test for test-..., otherwise the same."
    ),
]


def world(output: Annotated[str, folder("Output for videos, captions and event times")] = AT.world) -> Stage:
    """Render the tiny profile's procedural videos, captions and event times.

    Example: v2a-dpo world
    """
    from v2a_dpo.stages.world import world as stage

    return stage


def pretrain(output: Annotated[str, folder("Output for `scorers` and `generator`")] = AT.pretrained) -> Stage:
    """Train the tiny profile's frozen scorers and its base generator.

    Example: v2a-dpo pretrain
    """
    from v2a_dpo.stages.pretrain import pretrain as stage

    return stage


def vggsound(
    call: Call,
    listing: Annotated[str, file("The official vggsound.csv", "--list")],
    videos: Annotated[str, folder("The clips, loose or in tar archives")],
    output: Annotated[str, folder("Output for the caption tables")] = AT.path("splits"),
    test_list: Annotated[
        str | None, file("MMAudio's test list (id<TAB>label) [default: the official test split]")
    ] = None,
    trained_on: Annotated[
        list[str] | None, file("Clips that a model was trained on, kept out of the test split. Repeatable")
    ] = None,
    held_out: Annotated[
        list[str] | None, file("Clips kept out of the annotation and preference splits. Repeatable")
    ] = None,
    unpack: Annotated[str | None, folder("Output for the selected clips of tar archives")] = None,
    allow_damaged: Annotated[
        bool, typer.Option("--allow-damaged", help="Exit with status 0 in spite of damaged archives.")
    ] = False,
) -> object:
    """Make the paper's splits of VGGSound: one caption table per split for `prepare`, and lists of missing and
    excluded clips.

    Example: v2a-dpo vggsound --list vggsound.csv --videos /data/vggsound --test-list vgg-test.tsv
    """
    from v2a_dpo.stages.vggsound import vggsound as stage

    summary = stage(
        call.params,
        listing=listing,
        videos=videos,
        output=output,
        test_list=test_list,
        trained_on=trained_on or [],
        held_out=held_out or [],
        unpack=unpack,
        progress=call.progress,
    )
    if not summary.damaged_archives or allow_damaged:
        return summary
    typer.echo(summary)
    raise UserError(
        f"The splits are complete, but {len(summary.damaged_archives)} archives are damaged.",
        where=f"{output}/damaged-archives.csv",
        remedy=(
            "Download these again and repeat the command: the others are not read again. "
            "Or repeat it with --allow-damaged."
        ),
    )


def prepare(
    split: Annotated[str, typer.Option(help="The clips' split; SPLIT of the default paths.")] = "preference",
    videos: Annotated[str, folder("The videos")] = AT.path("world", "SPLIT"),
    captions: Annotated[
        str | None,
        file(
            "CSV or TSV of captions: VGGSound's, MMAudio's, or clip_id,video,prompt,label. Without it and without "
            "the default file, clips have no text"
        ),
    ] = "VIDEOS/captions.csv",
    generator: Annotated[str, folder("The generator that computes the conditions")] = AT.base,
    clips: Annotated[str, folder("Output for the clips")] = AT.clips("SPLIT"),
    conditions: Annotated[str, folder("Output for the conditions")] = AT.conditions("SPLIT"),
) -> Stage:
    """Read videos and captions into a clips table and cached conditions; bad files go to quarantine.

    Example: v2a-dpo prepare --split mine --videos clips --captions clips/captions.tsv
    """
    from v2a_dpo.stages.prepare import prepare as stage

    return stage


def generate(
    call: Call,
    name: Name = "preference",
    conditions: Annotated[str, folder("Cached conditions of the clips")] = AT.conditions("SPLIT"),
    generator: Annotated[
        str | None, folder(f"The generator [default: {AT.aligned} for test-aligned, otherwise {AT.base}]")
    ] = None,
    output: Annotated[str, folder("Output for the candidates")] = AT.candidates("NAME"),
    video: Annotated[str | None, file("Generate for one video file instead; needs --out")] = None,
    prompt: Annotated[str, typer.Option(help="Text prompt for --video.")] = "",
    out_folder: Annotated[str | None, folder("Output for the wav and mp4 files of --video", "--out")] = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            min=1, help="Candidates per clip [default: 1 for test-... and --video, otherwise generate.candidates]."
        ),
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Scale of classifier-free guidance [default: generate.guidance_scale].")
    ] = None,
    use_text: Annotated[
        bool | None, typer.Option("--text/--no-text", help="Use or ignore prompts [default: generate.use_text].")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first clips of each shard.")] = None,
    shard: Annotated[list[int] | None, typer.Option(help="Make only this shard, without manifest. Repeatable.")] = None,
    devices: Annotated[int, typer.Option(min=1, help="Number of GPUs to use, one process each.")] = 1,
) -> object:
    """Sample candidates for prepared clips, or generate sound for one video.

    Examples:

    v2a-dpo generate --name test-aligned

    v2a-dpo generate --video dog.mp4 --prompt "dog barking" --generator artifacts/aligned --out sound/
    """
    from v2a_dpo.generation.one_video import generate_video
    from v2a_dpo.orchestration.devices import generate_on_devices
    from v2a_dpo.stages.generate import generate as stage

    generator = generator or (call.layout.aligned if name == "test-aligned" else call.layout.base)
    candidates = candidates or (1 if video or name.startswith("test-") else None)
    sampling: dict[str, Any] = {"candidates": candidates, "guidance_scale": guidance_scale, "use_text": use_text}
    if (video is None) != (out_folder is None):
        raise UserError("--video and --out belong together.", where="v2a-dpo generate", remedy="Give both, or neither.")
    if video is not None and out_folder is not None:
        files = generate_video(
            call.params,
            video=video,
            prompt=prompt,
            generator=generator,
            output=out_folder,
            progress=call.progress,
            **sampling,
        )
        return "\n".join([*map(str, files), f"Done; {peak_memory()}."])
    if devices > 1 and shard:
        raise UserError("Several devices share all shards.", where="--devices", remedy="Give --shard or --devices.")
    run = partial(generate_on_devices, devices=devices) if devices > 1 else partial(stage, shards=shard)
    summary = run(
        call.params,
        conditions=conditions,
        generator=generator,
        output=output,
        limit=limit,
        progress=call.progress,
        **sampling,
    )
    return f"{summary}; {peak_memory()}"


def score(
    call: Call,
    name: Name = "preference",
    clips: Annotated[str, folder("The clips")] = AT.clips("SPLIT"),
    candidates: Annotated[str, folder("Their candidates")] = AT.candidates("NAME"),
    scorers: Annotated[str, folder("The frozen scorers")] = AT.scorers,
    output: Annotated[str, folder("Output for the scores")] = AT.scores("NAME"),
) -> object:
    """Compute the five scores of every candidate; one that does not apply is null, with the reason.

    Example: v2a-dpo score --name test-aligned
    """
    from v2a_dpo.stages.score import score as stage

    return stage(
        call.params, clips=clips, candidates=candidates, scorers=scorers, output=output, progress=call.progress
    )


def annotate(
    candidates: Annotated[str, folder("The candidates to rate")] = AT.candidates("annotation"),
    events: Annotated[str, file("The procedural world's events.json")] = AT.events,
    output: Annotated[str, folder("Output for the ratings")] = AT.ratings,
) -> Stage:
    """Rate candidates Good, Medium or Bad with the SIMULATED rater of the tiny profile.

    Example: v2a-dpo annotate
    """
    from v2a_dpo.stages.annotate import annotate as stage

    return stage


def import_ratings(
    csv: Annotated[str, file("A table with the columns clip_id,sample,rating,rater,source")],
    candidates: Annotated[str, folder("The rated candidates")] = AT.candidates("annotation"),
    output: Annotated[str, folder("Output for the ratings")] = AT.ratings,
) -> Stage:
    """Import human ratings from a CSV file.

    Example: v2a-dpo import-ratings --csv ratings.csv
    """
    from v2a_dpo.stages.import_ratings import import_ratings as stage

    return stage


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    register(app, DATA, world, pretrain, keep_artifacts=True)
    register(app, DATA, vggsound)
    register(app, DATA, prepare, generate, score, annotate, import_ratings, keep_artifacts=True)
