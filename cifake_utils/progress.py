"""Progress bars: a widget in a notebook, a line in a terminal, nothing where ``TQDM_DISABLE`` is set."""

import os

from tqdm.auto import tqdm


def bar(*arguments, **options) -> tqdm:
    """Return a tqdm bar; takes what tqdm takes. (tqdm's own notebook bar does not look at ``TQDM_DISABLE``.)"""
    return tqdm(*arguments, unit="images", unit_scale=True, disable=bool(os.environ.get("TQDM_DISABLE")), **options)
