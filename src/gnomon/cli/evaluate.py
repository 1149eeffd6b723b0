"""`gnomon eval ...`: compare results with ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gnomon.cli.output import as_json_option, print_json, print_table

if TYPE_CHECKING:
    from gnomon.evaluation.object_pose import Evaluation, Scores

METRICS = ("add", "mssd", "mspd", "vsd", "rotation")

_COLUMNS = {
    "ADD(-S) 10%": "recall_add_s",
    "MSSD 10%": "recall_mssd",
    "AUC ADD": "auc_add",
    "AUC ADD-S": "auc_adds",
    "AR_VSD": "ar_vsd",
    "AR_MSSD": "ar_mssd",
    "AR_MSPD": "ar_mspd",
    "AR": "ar",
}

_path = click.Path(path_type=Path)


@click.group("eval")
def evaluate() -> None:
    """Compare results with ground truth."""


@evaluate.command("object-pose")
@click.argument("results", type=_path)
@click.argument("truth", metavar="GT", type=_path)
@click.option("--models", type=_path, help="Folder of obj_000001.ply ...  [default: models_eval or models near GT]")
@click.option("--targets", type=_path, help="List of what counts, as test_targets_bop19.json.")
@click.option(
    "--metrics",
    multiple=True,
    type=click.Choice(METRICS),
    help="Compute only this; may be repeated.  [default: all that the data allow]",
)
@click.option(
    "--visib-min",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Least visible share of a true pose that counts; not used with --targets.",
)
@click.option(
    "--vsd-delta",
    "vsd_delta_m",
    type=click.FloatRange(0, min_open=True),
    default=0.015,
    show_default=True,
    help="VSD: tolerance of visibility, in metres.",
)
@as_json_option
def object_pose(
    results: Path,
    truth: Path,
    models: Path | None,
    targets: Path | None,
    metrics: tuple[Any, ...],
    visib_min: float,
    vsd_delta_m: float,
    as_json: bool,
) -> None:
    """Score object poses as the BOP challenge does.

    RESULTS is a CSV file in the BOP format or a poses.json of gnomon, GT a scene or a split in the BOP format.
    """
    from gnomon.evaluation import object_pose as scoring
    from gnomon.evaluation.estimates import read_estimates
    from gnomon.evaluation.targets import read_target_list, select
    from gnomon.formats import bop, bop_fields, bop_models

    estimates = read_estimates(results)
    scenes = bop.read_split(truth)
    folder = models or bop_models.find_models(truth)
    if folder is None:
        raise bop_fields.not_found(truth / "models", "folder of models near GT; name one with --models, not")
    target_list = read_target_list(targets) if targets is not None else None
    selection = select(scenes, estimates, visib_min=visib_min, target_list=target_list)
    evaluation = scoring.evaluate(
        selection, bop_models.read_models(folder), metrics=metrics or None, vsd_delta_m=vsd_delta_m
    )
    rule = f"listed in {targets.name}" if targets is not None else f"visible by {visib_min:g} or more"
    if as_json:
        options = {"visib_min": None if targets is not None else visib_min, "vsd_delta_m": vsd_delta_m}
        places = {"results": str(results), "gt": str(truth), "models": str(folder)}
        print_json(evaluation.to_dict() | {"options": options | places, "targets_are": rule})
        return
    _print(evaluation, rule)


def _print(evaluation: Evaluation, rule: str) -> None:
    rows = [_row(str(obj_id), scores) for obj_id, scores in evaluation.per_object.items()]
    columns = ["OBJECT", "TARGETS", "ESTIMATES", *_COLUMNS, "ROT deg", "TRANS mm"]
    print_table(columns, [*rows, _row("all", evaluation.total)])
    total = evaluation.total
    click.echo(f"\n{total.targets} targets ({rule}) in {evaluation.images} images, {total.estimates} estimates")
    if evaluation.seconds_per_image is not None:
        click.echo(f"{evaluation.seconds_per_image:.3g} s per image")
    for sentence in [*_left_out(evaluation), *evaluation.notes]:
        click.echo(sentence)


def _left_out(evaluation: Evaluation) -> list[str]:
    selection = evaluation.selection
    left_out = selection.left_out
    counted = [
        (left_out.truths_not_visible, "true poses that are not visible enough"),
        (left_out.truths_not_listed, "true poses that are not listed"),
        (left_out.estimates_without_pose, "entries that were lost or failed"),
        (left_out.estimates_of_other_images, "estimates of images that GT does not have"),
        (left_out.estimates_of_other_objects, "estimates of objects that are no target in their image"),
        (left_out.estimates_beyond_count, "estimates beyond the number of targets, those of the lowest score"),
    ]
    sentences = [f"left out: {count} {what}" for count, what in counted if count]
    if unknown := selection.truths_of_unknown_visibility:
        sentences.append(f"{unknown} targets count although GT does not say how far they can be seen")
    return sentences


def _row(name: str, scores: Scores) -> list[str]:
    shares = [_share(getattr(scores, field)) for field in _COLUMNS.values()]
    rotation, translation_m = scores.median_rotation_deg, scores.median_translation_m
    medians = [
        "-" if rotation is None else f"{rotation:.2f}",
        "-" if translation_m is None else f"{translation_m * 1000:.2f}",
    ]
    return [name, str(scores.targets), str(scores.estimates), *shares, *medians]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
