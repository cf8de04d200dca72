"""What `--dry-run` needs to know: the fate of each clip, as the real run would decide it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from expotion_cli.scoring.sidecar import sidecar_path
from expotion_cli.scoring.standing import SCORE, Standing

if TYPE_CHECKING:
    from expotion_cli.music.identity import ModelIdentity
    from expotion_cli.music.model import Model
    from expotion_cli.scoring.plan import Plan


def look_ahead(
    planned: Plan, identity: ModelIdentity | None, composer: Mapping[str, Any], load: Callable[[], Model]
) -> dict[str, Standing]:
    """What the real run would do with each clip, by its name.

    Args:
        planned: the plan.
        identity: the model's, where it is known.
        composer: what the model is loaded with, under which its identity is remembered.
        load: gives the model; called only if results are there and nothing else can tell whose they are.
    """
    places = [path for job in planned.jobs for path in (job.destination, sidecar_path(job.destination))]
    if planned.settings.redo is None and not any(map(planned.files.exists, places)):
        return {job.name: Standing(SCORE) for job in planned.jobs}
    from expotion_cli.music.identity import ModelIdentity, remember
    from expotion_cli.scoring.account import Account, Listener

    if identity is None:
        identity = ModelIdentity.of(load())
        remember(composer, identity)
    return Account(planned, Listener()).standings(identity)
