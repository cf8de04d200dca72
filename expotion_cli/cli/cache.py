"""`expotion cache`: what is kept between runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expotion_cli.cli.say import handle_errors, say_json

cache_app = typer.Typer(
    no_args_is_help=True,
    help="Inspect and clean the cache: embedding streams, composed cues, copies of remote clips.",
)
_JSON = typer.Option("--json", help="Print JSON.")


@cache_app.command("info")
@handle_errors
def info(as_json: Annotated[bool, _JSON] = False) -> None:
    """Show where the cache is and what it holds."""
    from expotion_cli.scoring.cue_store import CueStore
    from expotion_cli.scoring.spools import spool_info
    from expotion_cli.storage import cache_root
    from expotion_cli.vision.cache import EmbeddingCache
    from expotion_cli.weights.manifest import weights_folder

    seen, spool = EmbeddingCache().info(), spool_info()
    weights = [path.stat().st_size for path in weights_folder().rglob("*") if path.is_file()]
    entries, num_bytes = CueStore(cache_root() / "cues").size()
    if as_json:
        say_json(
            {
                "root": str(cache_root()),
                "embeddings": {"entries": seen.entries, "bytes": seen.num_bytes, "by_encoder": seen.by_encoder},
                "cues": {"entries": entries, "bytes": num_bytes},
                "spool": {"folder": str(spool.folder), "files": spool.files, "bytes": spool.num_bytes},
                "weights": {"folder": str(weights_folder()), "bytes": sum(weights)},
            }
        )
        return
    print(f"cache       {cache_root()}")
    by_encoder = ", ".join(f"{name} {count}" for name, count in sorted(seen.by_encoder.items()))
    print(f"embeddings  {seen.entries} streams, {_size(seen.num_bytes)}" + (f" ({by_encoder})" if by_encoder else ""))
    print(f"cues        {entries} cues, {_size(num_bytes)}")
    print(f"spool       {spool.files} files, {_size(spool.num_bytes)} (copies of remote clips, results to be uploaded)")
    print(f"weights     {_size(sum(weights))} fetched, in {weights_folder()}; pruning leaves them")


@cache_app.command("verify")
@handle_errors
def verify(as_json: Annotated[bool, _JSON] = False) -> None:
    """Read and check every entry, and rehash clips known by size and times alone; remove what is damaged or wrong.

    Removed entries are made again when needed.
    """
    from expotion_cli.scoring.cue_store import CueStore
    from expotion_cli.storage import cache_root
    from expotion_cli.vision.cache import EmbeddingCache

    seen = EmbeddingCache().verify()
    checked, removed = CueStore(cache_root() / "cues").verify()
    _report(seen.checked + checked, [*seen.removed, *removed], "damaged", as_json, mistaken=list(seen.mistaken))


@cache_app.command("prune")
@handle_errors
def prune(
    max_size: Annotated[
        str,
        typer.Option(metavar="SIZE", help="Keep at most this much, for example 2GB or 500MB; 0 removes everything."),
    ],
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Remove the least recently used entries, and copies of remote clips that no run has used for an hour.

    Results and their sidecars are not touched, nor are fetched weights. Example: expotion cache prune --max-size 2GB
    """
    from expotion_cli.cli.flags import size
    from expotion_cli.scoring.cue_store import CueStore
    from expotion_cli.scoring.spools import prune_spool
    from expotion_cli.storage import cache_root
    from expotion_cli.vision.cache import EmbeddingCache

    room = size(max_size, "--max-size")
    embeddings, cues = EmbeddingCache(), CueStore(cache_root() / "cues")
    # Cues are small and embeddings large: cues get a tenth of the room, and what embeddings leave over.
    checked, removed = cues.prune(max(room // 10, room - embeddings.info().num_bytes))
    seen = embeddings.prune(room - cues.size()[1])
    copies, old = prune_spool()
    _report(seen.checked + checked + copies, [*seen.removed, *removed, *old], "unused", as_json)


def _report(checked: int, removed: list[Path], why: str, as_json: bool, mistaken: list[Path] | None = None) -> None:
    if as_json:
        said = {"checked": checked, "removed": [str(path) for path in removed]}
        say_json(said if mistaken is None else {**said, "mistaken": [str(path) for path in mistaken]})
        return
    print(f"{checked} entries, {len(removed)} {why} ones removed")
    for path in mistaken or ():
        print(f"changed although size and times are the same; it will be read again: {path}")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"
