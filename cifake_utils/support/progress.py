"""Progress bars: a widget in a notebook, a line in a terminal, and none where ``TQDM_DISABLE`` is set."""

import os

from tqdm.auto import tqdm


def bar(*arguments, shown: bool = True, **options) -> tqdm:
    """Return a tqdm progress bar, which stays invisible unless ``shown``. All other arguments are those of tqdm.

    ``TQDM_DISABLE`` is read here, because tqdm's own notebook bar ignores it.
    """
    disable = not shown or bool(os.environ.get("TQDM_DISABLE"))
    return tqdm(*arguments, unit="images", unit_scale=True, disable=disable, **options)
