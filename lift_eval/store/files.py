"""Files that are written whole or not at all, and read without trust."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

TEMPORARY = ".tmp"


class NotAFileError(Exception):
    """What has a file's name is a link, a folder, a device or too large."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is never seen in part, whatever stops the process or the machine.

    The bytes go to a temporary file beside it, onto the disk, and under the name by one rename; the last of several
    writers wins.

    Args:
        path: The file; its folder exists.
        data: Its content.

    Raises:
        OSError: If it cannot be written; nothing is left behind then.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


def read_regular(path: Path, limit: int) -> tuple[bytes, int]:
    """Read a file that someone else may have put there: no link is followed, no device or pipe is waited for.

    Args:
        path: The file.
        limit: Most bytes.

    Returns:
        Its content and its inode.

    Raises:
        FileNotFoundError: If there is none.
        NotAFileError: If it is no regular file, or too large.
        OSError: If it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise NotAFileError("it is a link or a socket") from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFileError("it is no file")
        if status.st_size > limit:
            raise NotAFileError(f"it has {status.st_size} bytes, at most {limit} are read")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size), status.st_ino
    finally:
        os.close(descriptor)
