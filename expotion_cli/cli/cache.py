"""`expotion cache`: what is kept between runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expotion_cli.cli.say import honest, say_json

cache_app = typer.Typer(no_args_is_help=True, help="Look after the cache: embedding streams and composed cues.")
_JSON = typer.Option("--json", help="For programs.")


@cache_app.command("info")
@honest
def info(as_json: Annotated[bool, _JSON] = False) -> None:
    """Say where the cache is and what it holds."""
    from expotion_cli.artefact import CueStore
    from expotion_cli.storage import cache_root
    from expotion_cli.vision.cache import EmbeddingCache
    from expotion_cli.weights import weights_folder

    seen = EmbeddingCache().info()
    weights = [path.stat().st_size for path in weights_folder().rglob("*") if path.is_file()]
    entries, num_bytes = CueStore(cache_root() / "cues").size()
    if as_json:
        say_json(
            {
                "root": str(cache_root()),
                "embeddings": {"entries": seen.entries, "bytes": seen.num_bytes, "by_encoder": seen.by_encoder},
                "cues": {"entries": entries, "bytes": num_bytes},
                "weights": {"folder": str(weights_folder()), "bytes": sum(weights)},
            }
        )
        return
    print(f"cache       {cache_root()}")
    by_encoder = ", ".join(f"{name} {count}" for name, count in sorted(seen.by_encoder.items()))
    print(f"embeddings  {seen.entries} streams, {_size(seen.num_bytes)}" + (f" ({by_encoder})" if by_encoder else ""))
    print(f"cues        {entries} cues, {_size(num_bytes)}")
    print(f"weights     {_size(sum(weights))} fetched, in {weights_folder()}; pruning leaves them")


@cache_app.command("verify")
@honest
def verify(as_json: Annotated[bool, _JSON] = False) -> None:
    """Read every entry and remove damaged ones; they are made again when needed."""
    from expotion_cli.artefact import CueStore
    from expotion_cli.storage import cache_root
    from expotion_cli.vision.cache import EmbeddingCache

    seen = EmbeddingCache().verify()
    checked, removed = CueStore(cache_root() / "cues").verify()
    _report(seen.checked + checked, [*seen.removed, *removed], "damaged", as_json)


@cache_app.command("prune")
@honest
def prune(
    max_mb: Annotated[float, typer.Option(min=0, help="Keep at most so much; 0 empties the cache.")],
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Remove what was unused for longest. Results and their sidecars are not touched."""
    from expotion_cli.artefact import CueStore
    from expotion_cli.storage import cache_root
    from expotion_cli.vision.cache import EmbeddingCache

    # Cues are small and embeddings large, so each gets its part of the room: a tenth and the rest.
    seen = EmbeddingCache().prune(int(max_mb * 0.9e6))
    checked, removed = CueStore(cache_root() / "cues").prune(int(max_mb * 0.1e6))
    _report(seen.checked + checked, [*seen.removed, *removed], "unused", as_json)


def _report(checked: int, removed: list[Path], why: str, as_json: bool) -> None:
    if as_json:
        say_json({"checked": checked, "removed": [str(path) for path in removed]})
    else:
        print(f"{checked} entries, {len(removed)} {why} ones removed")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"
