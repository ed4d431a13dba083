"""``torchrun`` that ends with status 75 when all its ranks did: ``python -m spotweld.checkpoint.distributed.torchrun``.

``torchrun`` itself ends with status 1 whenever a rank ends with another one than 0, and when it is told to terminate.
Whoever starts it could not tell an interruption from a failure then.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from spotweld.checkpoint.session import EX_TEMPFAIL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def main(arguments: Sequence[str]) -> None:
    """Run ``torchrun`` with these arguments.

    Raises:
        SystemExit: 75: the ranks were interrupted, and can be resumed.
    """
    try:
        run.main([*arguments])
    except ChildFailedError as error:
        if interrupted(failure.exitcode for failure in error.failures.values()):
            raise SystemExit(EX_TEMPFAIL) from error
        raise
    except SignalException as error:
        if error.sigval == signal.SIGTERM:
            raise SystemExit(EX_TEMPFAIL) from error
        raise


def interrupted(codes: Iterable[int]) -> bool:
    """Whether ranks that ended so were interrupted: some say so, and the others were terminated after those."""
    found = set(codes)
    return EX_TEMPFAIL in found and found <= {EX_TEMPFAIL, -signal.SIGTERM}


if __name__ == "__main__":
    main(sys.argv[1:])
