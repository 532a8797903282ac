"""Progress bars: a widget in a notebook, a line in a terminal, nothing where ``TQDM_DISABLE`` is set."""

import os

from tqdm.auto import tqdm


def bar(*arguments, shown: bool = True, **options) -> tqdm:
    """Return a tqdm bar, nothing unless ``shown``; takes what tqdm takes.

    (tqdm's own notebook bar does not look at ``TQDM_DISABLE``.)
    """
    disable = not shown or bool(os.environ.get("TQDM_DISABLE"))
    return tqdm(*arguments, unit="images", unit_scale=True, disable=disable, **options)
