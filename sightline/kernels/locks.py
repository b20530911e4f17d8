"""A lock that a forked child finds open: the thread that held it does not run there."""

import os
import threading


class ForkSafeLock:
    """Holds a `threading.Lock` for the life of the process; use it as `with guard.lock:`."""

    def __init__(self):
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self.lock = threading.Lock()
