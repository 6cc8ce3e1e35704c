"""A worker that dies at some photos, as by a damaged file that crashes a decoder; processes import it by its name."""

import os
import signal
from collections.abc import Iterator
from typing import Any

from explainable_model.batch import BatchExplainer


class DyingExplainer(BatchExplainer):
    """Ends its process when it reaches a photo whose name begins with ``deadly``."""

    def explain(self, photos: Any, **options: Any) -> Iterator[Any]:
        def watch() -> Iterator[Any]:
            for photo in photos:
                tell = options.get("tell")
                if os.path.basename(photo.photo.uri).startswith("deadly"):
                    if tell is not None:
                        tell(photo.photo.id)
                    os.kill(os.getpid(), signal.SIGKILL)
                yield photo

        return super().explain(watch(), **options)
