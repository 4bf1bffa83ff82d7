"""What the paper claims and what was measured: every claim is a row, every number comes from a committed JSON file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..base.config import option
from ..base.folders import check_output_folder
from ..base.reporting import Table, write_report
from ..base.utils import read_json, write_json
from .converged_claims import FOLDERS, ConvergedRuns
from .effects import CONFIRMED, VERDICTS, Effect, Row, verdict_of
from .paper_claims import CLAIMS, Claim


@dataclass
class ClaimsArguments:
    """Where the results lie, and where the page goes.

    Raises:
        ValueError: if there is no folder of results.
    """

    results_dir: str = option("configs", "folder of the JSON files that the runs left")
    output_dir: str = option("runs/claims", "folder of report.md, report.html and claims.json")

    def __post_init__(self) -> None:
        if not Path(self.results_dir).is_dir():
            raise ValueError(f"`results_dir` must be a folder, got {self.results_dir!r}. Run it in a checkout.")


def claims(args: ClaimsArguments) -> Path:
    """Every claim of the paper beside what the committed runs show.

    Args:
        args (`ClaimsArguments`): folders.

    Returns:
        `Path`: the HTML page; `claims.json` holds its rows.
    """
    folder, rows = Path(args.output_dir), list(judge(Path(args.results_dir)))
    check_output_folder(folder, own=["claims.json", "report.md", "report.html"], mark="claims.json")
    write_json(folder / "claims.json", rows)
    return write_report(
        folder,
        "claims",
        table=claims_table(rows),
        rows=rows,
        effects=[effect_lines(row) for row in rows],
        sources=[source_line(row) for row in rows],
        verdicts=verdicts(rows),
    )


def judge(results_dir: Path) -> Iterator[dict[str, Any]]:
    """Yields the row of each claim."""
    return (judge_claim(claim, results_dir) for claim in CLAIMS)


def judge_claim(claim: Claim, results_dir: Path) -> dict[str, Any]:
    """Returns the row of a claim: what it says, the effects, and the verdict; without its files it has no effects."""
    evidence = _evidence(claim, results_dir)
    verdict = verdict_of(list(evidence.effects.values()))
    return {
        **{key: getattr(claim, key) for key in ("text", "source", "measured", "size")},
        "files": list(evidence.files),
        "effects": {name: asdict(effect) for name, effect in evidence.effects.items()},
        "verdict": verdict,
        "known": evidence.known if verdict != CONFIRMED else "",
    }


class _Evidence(NamedTuple):
    """What a claim is judged by: the files that were read, the effects, and what is known from these runs."""

    files: Sequence[str]
    effects: Mapping[str, Effect]
    known: str


def _evidence(claim: Claim, results_dir: Path) -> _Evidence:
    """Returns the evidence from converged runs, once there is any, else that of the claim's files."""
    if converged := claim.effects_of_converged_runs:
        for folder in FOLDERS:
            runs = ConvergedRuns(results_dir, folder)
            if effects := converged(runs):
                return _Evidence(runs.files, effects, claim.converged_known)
    paths = [results_dir / name for name in claim.files]
    found: Mapping[str, Effect] = {}
    if all(path.is_file() for path in paths):
        try:
            found = claim.effects(*map(read_json, paths))
        except (IndexError, KeyError, TypeError) as error:
            names = ", ".join(map(str, paths))
            raise ValueError(
                f"{names} must be results that hf_nat writes, but they lack what a claim needs: {error!r}."
            ) from error
    return _Evidence(claim.files, found, claim.known)


def verdicts(rows: Sequence[Row]) -> dict[str, int]:
    """Counts the claims by verdict."""
    found = [row["verdict"] for row in rows]
    return {verdict: found.count(verdict) for verdict in VERDICTS}


def claims_table(rows: Sequence[Row]) -> Table:
    """Makes the table of the claims, their verdicts, and whether the effects themselves are as claimed."""
    cells = []
    for number, row in enumerate(rows, start=1):
        sides = {Effect(**effect).as_claimed for effect in row["effects"].values()}
        values = {frozenset(): "", frozenset({True}): "as claimed", frozenset({False}): "not as claimed"}
        claim = f"{row['text']} ({row['source']})"
        cells.append([str(number), claim, row["verdict"], values.get(frozenset(sides), "in part as claimed")])
    return Table(["", "claim", "verdict", "value"], cells)


def effect_lines(row: Row) -> list[str]:
    """Prints the effects of a claim, and where the paper's size lies."""
    lines = []
    for name, values in row["effects"].items():
        effect = Effect(**values)
        size = "" if row["size"] is None else f"; {effect.beside(row['size'])}"
        lines.append(f"{name}: {effect}{size}")
    return lines


def source_line(row: Row) -> str:
    """Prints the files of a claim; the folder of several once."""
    paths = list(map(PurePosixPath, row["files"]))
    folders = {path.parent for path in paths}
    if len(paths) == 1 or len(folders) > 1:
        return ", ".join(f"`{path}`" for path in paths)
    return f"`{paths[0].parent}/`: " + ", ".join(f"`{path.name}`" for path in paths)
