"""Public data sets through Hugging Face `datasets`, where no local folder holds them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FileError, extra


def table(repository: str, split: str) -> Any:
    """One split of a data set of the hub, or of a folder on this machine in the same form.

    Raises MissingExtraError without `datasets`, FileError where the set cannot be had, such as offline.
    """
    with extra("hub", f"there is no local folder of it, and reading {repository!r} from the hub needs datasets"):
        import datasets
    try:
        return datasets.load_dataset(repository, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        raise FileError(
            f"{repository!r} cannot be read from the hub: {str(error).splitlines()[0]}",
            why="no local folder under RHEOBASE_DATA holds it",
            instead="export RHEOBASE_DATA=/path/to/data",
        ) from error


def images(repository: str, split: str, image: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    """All images of a split, uint8 `[N, H, W]` or `[N, H, W, 3]`, and their labels.

    image, label: the columns. Raises FileError for another form.
    """
    rows = table(repository, split)
    missing = [name for name in (image, label) if name not in rows.column_names]
    if missing:
        columns = ", ".join(rows.column_names)
        raise FileError(f"{repository!r} has no column {' and '.join(missing)}", why=f"its columns are {columns}")
    pictures = [np.asarray(row) for row in rows[image]]
    if len({picture.shape for picture in pictures}) != 1:
        raise FileError(f"the images of {repository!r} differ in size", why="a data set of one size is expected")
    return np.stack(pictures), np.asarray(rows[label])
