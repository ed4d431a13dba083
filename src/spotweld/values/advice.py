"""What to do about what an operating system refuses."""

import errno

ADVICE = {
    errno.ENOSPC: "Free some space on that disk.",
    errno.EDQUOT: "Free some of your quota on that disk.",
    errno.EACCES: "Give the user that runs this the right to write there.",
    errno.EPERM: "Give the user that runs this the right to write there.",
    errno.EROFS: "The file system is mounted read-only; after a disk error the kernel does that by itself.",
    errno.EIO: "The disk reports an error; look at the kernel's log.",
    errno.EMFILE: "Let a process open more files: ulimit -n.",
    errno.ENFILE: "The whole machine has too many open files; end what has them.",
    errno.ENOMEM: "Free some memory, or give this more.",
}
"""By the number of the error: a sentence."""
