"""The one place that speaks to pyfuse3: requests in, nodes asked, answers and errnos out.

A handler looks the inode up, asks the node (at once if it never waits, else in a thread through `waits.py`)
and converts.  Every handler runs inside `guarded`: what `errors.py` knows becomes an errno, anything else is
logged with its traceback and answered EIO; only trio.Cancelled passes.  So nothing that happens in here can
end the mount.
"""

from __future__ import annotations

import errno
import functools
import itertools
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast

import pyfuse3
import trio

from fusefs import eager, errors, xattrs
from fusefs.attributes import BLOCK_SIZE
from fusefs.errors import (
    FaultLog,
    InUse,
    NameTooLong,
    NoOwnFacts,
    NoSpecial,
    NoSuchName,
    Overdue,
    ReadOnlyTree,
    WrongKind,
    errno_of,
)
from fusefs.inodes import ROOT, Inode, InodeTable, number_of
from fusefs.listing import Listing
from fusefs.resident import NotResident
from fusefs.tree import Buffer, Changeable, Content, File, Folder, Link, Node, Who, Writing
from fusefs.waits import OVERDUE_S, Lane, Waits

logger = logging.getLogger(__name__)

FOREVER_S: Final = 365 * 86400.0
"""For what never changes: the kernel asks once."""
MAX_REQUESTS: Final = 512
"""Served at once: more than may wait for data (`Waits`), so that there is always somebody to answer `ls`."""
_NAME_MAX: Final = 255
_WITH_ATTRIBUTES: Final = 1 << 17
"""Entries of one listing that come with attributes.  The kernel holds, and so must we (600 bytes each), all that do,
until it is short of memory; of a longer listing the rest are names, looked up if somebody wants more."""
_P = ParamSpec("_P")
_R = TypeVar("_R")


def guarded(
    handler: Callable[Concatenate[Tree, _P], Awaitable[_R]],
) -> Callable[Concatenate[Tree, _P], Coroutine[Any, Any, _R]]:
    """Turns whatever a handler raises into the errno to answer."""

    @functools.wraps(handler)
    async def guard(self: Tree, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return await handler(self, *args, **kwargs)
        except NoSuchName:
            raise pyfuse3.FUSEError(errno.ENOENT) from None
        except Exception as error:
            raise self._refusal(error, handler.__name__, args[0]) from None

    return guard


class Tree(pyfuse3.Operations):
    """The mounted tree; made before the event loop runs, used inside of it only."""

    enable_writeback_cache = False
    supports_dot_lookup = False

    def __init__(self, root: Node, waits: Waits, *, faults: FaultLog | None = None) -> None:
        super().__init__()
        self._inodes = InodeTable(root)
        self._waits = waits
        self._faults = faults or FaultLog()
        self._handles = itertools.count(1 << 63)  # never an inode's number: those have 63 bits
        self._open: dict[int, tuple[Inode, Content]] = {}
        self._listings: dict[int, tuple[Inode, Listing]] = {}
        self._uid, self._gid = os.getuid(), os.getgid()
        self._overdue: dict[tuple[int, bytes], float] = {}  # folder and name of look-ups; until when
        self._reused = self._blank()  # listing copies it at once: one for all
        self.usage: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Bytes and blocks in all shards, for `statfs`."""
        self.room: Callable[[], tuple[int, int]] | None = None
        """Bytes and files that can be copied in; None where nothing can."""

    # Names and attributes

    @guarded
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = self._inodes[parent_inode]
        if len(name) > _NAME_MAX:
            raise NameTooLong(f"a name of {len(name)} bytes")
        if name in (b".", b".."):
            inode = parent if name == b"." or parent.parent is None else parent.parent
            inode.lookups += 1
            return self._entry(inode)
        folder = _folder(parent.node)
        # Before it is asked: what it becomes while it is must not make its answer final.
        settled = folder.settled
        try:
            node = folder.child_nowait(name)
        except NotResident:
            node = await self._wait_for_child(parent, folder, name)
        if node is None:
            return self._absent(settled)
        inode = self._inodes.meet(parent, name, node)
        inode.lookups += 1
        return self._entry(inode)

    async def _wait_for_child(self, parent: Inode, folder: Folder, name: bytes) -> Node | None:
        """Raises Overdue, and does so at once for a second after: the kernel lets all who look up one name ask one
        after the other, so that with a deadline each a hundred of them would hang for an hour."""
        place, now = (parent.number, name), trio.current_time()
        if now < self._overdue.get(place, 0.0):
            raise Overdue(f"{name!r} was waited for in vain a moment ago")
        assert folder.lane is not None
        try:
            return await self._waits.call(folder.lane, functools.partial(folder.child, name))
        except Overdue:
            self._overdue = {place: until for place, until in self._overdue.items() if until > now}
            self._overdue[place] = trio.current_time() + OVERDUE_S
            raise

    @staticmethod
    def _absent(settled: bool) -> pyfuse3.EntryAttributes:
        """ENOENT; that the name is not there is kept by the kernel where the directory never changes."""
        if not settled:
            raise NoSuchName
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = 0
        entry.entry_timeout = FOREVER_S
        return entry

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for number, count in inode_list:
            self._inodes.forget(number, count)  # raises nothing, whatever the numbers

    @guarded
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._entry(self._inodes[inode])

    def _entry(self, inode: Inode) -> pyfuse3.EntryAttributes:
        return self._fill(self._blank(), inode)

    def _blank(self) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_blksize = BLOCK_SIZE
        return entry

    def _fill(self, entry: pyfuse3.EntryAttributes, inode: Inode) -> pyfuse3.EntryAttributes:
        """`entry` with all that differs between inodes."""
        node = inode.node
        found = node.attributes()
        entry.st_ino = inode.number
        entry.st_mode = found.mode
        entry.st_nlink = found.links
        entry.st_uid = self._uid if found.uid is None else found.uid
        entry.st_gid = self._gid if found.gid is None else found.gid
        entry.st_size = found.size
        entry.st_blocks = found.sectors
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = found.mtime_ns
        # A shard's directory is taken back by events (`invalidate`), so its entry may be kept although
        # shards come and go.
        entry.entry_timeout = entry.attr_timeout = FOREVER_S if node.lasting else 0
        return entry

    @guarded
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        node = self._inodes[inode].node
        if not hasattr(node, "target"):
            raise WrongKind("not a symlink", errno.EINVAL)
        return cast(Link, node).target

    @guarded
    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        """Only asked without default_permissions."""
        if mode & os.W_OK:
            raise ReadOnlyTree
        permissions = self._inodes[inode].node.attributes().mode
        return not mode & os.X_OK or stat.S_ISDIR(permissions) or bool(permissions & 0o111)

    @guarded
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        return xattrs.listed(self._inodes[inode].node)

    @guarded
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        return xattrs.value(self._inodes[inode].node, name)

    @guarded
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        size, blocks = self.usage()
        room, files = (0, 0) if self.room is None else await trio.to_thread.run_sync(self.room)
        found = pyfuse3.StatvfsData()
        found.f_bsize = BLOCK_SIZE
        found.f_frsize = 512
        found.f_bfree = found.f_bavail = room // 512
        found.f_ffree = found.f_favail = files
        found.f_blocks = -(-size // 512) + found.f_bfree
        found.f_files = blocks + files
        found.f_namemax = _NAME_MAX
        return found

    # Files

    @guarded
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        found = self._inodes[inode]
        if hasattr(found.node, "open_for"):
            reads = functools.partial(found.node.open_for, flags, _who(ctx))
            return self._opened(found, await self._waits.call(_lane(found.node), reads))
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise InUse("it is being copied") if hasattr(found.node, "change") else ReadOnlyTree
        if not hasattr(found.node, "open"):
            raise WrongKind("not a file", errno.EISDIR)
        return self._opened(found, cast(File, found.node).open())

    def _opened(self, inode: Inode, content: Content) -> pyfuse3.FileInfo:
        handle = next(self._handles)
        self._open[handle] = (inode, content)
        return pyfuse3.FileInfo(fh=handle, keep_cache=content.cacheable, direct_io=not content.cacheable)

    @guarded
    async def read(self, fh: int, off: int, size: int) -> Buffer:  # type: ignore[override]  # any buffer is taken
        _, content = self._open[fh]
        data = content.read_nowait(off, size)
        return data if data is not None else await content.read(off, size)

    @guarded
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._writing(fh).write(off, buf)

    @guarded
    async def flush(self, fh: int) -> None:
        inode, content = self._open[fh]
        if hasattr(content, "flush"):
            await cast(Writing, content).flush(inode.number)

    @guarded
    async def release(self, fh: int) -> None:
        _, content = self._open[fh]
        try:
            if hasattr(content, "finish"):
                await cast(Writing, content).finish()
        finally:
            del self._open[fh]
            content.close()

    def _writing(self, handle: int) -> Writing:
        content = self._open[handle][1]
        if not hasattr(content, "write"):
            raise WrongKind("it was not opened to be written to", errno.EBADF)
        return cast(Writing, content)

    # Directories

    @guarded
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        found = self._inodes[inode]
        handle = next(self._handles)
        folder = _folder(found.node)
        self._listings[handle] = (found, Listing(folder, self._inodes.held(found)))
        return handle

    @guarded
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Positions 0 and 1 are `.` and `..`; the kernel gets attributes with every name (readdirplus)."""
        here, listing = self._listings[fh]
        for position, inode in enumerate((here, here.parent or here)):
            if start_id <= position and not pyfuse3.readdir_reply(
                token, (b".", b"..")[position], self._entry(inode), position + 1
            ):
                return
        position = max(start_id - 2, 0)
        added = 0
        while not listing.ends_at(position):
            batch = listing.ready(position)
            if batch is None:
                if added:
                    return  # answer what there is: the rest is asked for next, and an error then
                await self._fetch(listing, position)
                continue
            for name, node, number in batch:
                if position >= _WITH_ATTRIBUTES:
                    node = None
                if not self._reply(token, here, name, node, number, position + 3):
                    return
                position += 1
                added += 1

    async def _fetch(self, listing: Listing, position: int) -> None:
        lane = listing.folder.lane
        if lane is None:
            listing.fetch(position)
        else:
            await self._waits.call(lane, functools.partial(listing.fetch, position))

    def _reply(
        self,
        token: pyfuse3.ReaddirToken,
        here: Inode,
        name: bytes,
        node: Node | None,
        number: int,
        following: int,
    ) -> bool:
        if node is None:
            # No file type: the kernel lists the name and keeps nothing, so a look-up says what is wrong.
            entry = pyfuse3.EntryAttributes()
            entry.st_ino = number_of(here.number, name, b"unreadable")
            entry.st_mode = 0
            return pyfuse3.readdir_reply(token, name, entry, following)
        inode = self._inodes.meet(here, name, node, number)
        if pyfuse3.readdir_reply(token, name, self._fill(self._reused, inode), following):
            inode.lookups += 1
            return True
        if not inode.lookups:
            self._inodes.forget(inode.number, 0)
        return False

    @guarded
    async def releasedir(self, fh: int) -> None:
        _, listing = self._listings.pop(fh)
        listing.close()

    # What changes

    def invalidate(self, parents: Sequence[bytes], name: bytes, version: bytes, *, gone: bool = True) -> None:
        """Tells the kernel that the node at `parents`/`name` is no longer what it was; a thread of pyfuse3 sends it.

        Not `gone`: the name alone must be asked for anew, and whoever is inside of the node may stay there.
        """
        folder = ROOT
        for parent in parents:
            folder = number_of(folder, parent, b"")
        if folder in self._inodes:
            number = number_of(folder, name, version)
            deleted = number if gone and number in self._inodes else 0
            pyfuse3.invalidate_entry_async(folder, name, deleted=deleted, ignore_enoent=True)

    # What is changed through the mount; on one that is read-only, the kernel refuses it itself

    @guarded
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        parent, folder = self._changeable(parent_inode, name)
        make = functools.partial(folder.make_file, name, mode, _who(ctx))
        node, content = await self._waits.call(folder.writing, make)
        inode = self._inodes.meet(parent, name, node)
        inode.lookups += 1
        return self._opened(inode, content), self._entry(inode)

    @guarded
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        _, folder = self._changeable(parent_inode, name)
        return await self._made(
            parent_inode, name, functools.partial(folder.make_folder, name, mode, _who(ctx))
        )

    @guarded
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        _, folder = self._changeable(parent_inode, name)
        return await self._made(
            parent_inode, name, functools.partial(folder.make_link, name, target, _who(ctx))
        )

    @guarded
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        _, folder = self._changeable(new_parent_inode, new_name)
        node = self._inodes[inode].node
        return await self._made(
            new_parent_inode, new_name, functools.partial(folder.make_name, new_name, node)
        )

    @guarded
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        self._changeable(parent_inode, name)
        raise NoSpecial("devices, sockets and pipes cannot be imported")

    async def _made(
        self, parent_inode: int, name: bytes, make: Callable[[], Node]
    ) -> pyfuse3.EntryAttributes:
        parent, folder = self._changeable(parent_inode, name)
        inode = self._inodes.meet(parent, name, await self._waits.call(folder.writing, make))
        inode.lookups += 1
        return self._entry(inode)

    @guarded
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        _, folder = self._changeable(parent_inode, name)
        await self._waits.call(folder.writing, functools.partial(folder.remove_file, name))

    @guarded
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        _, folder = self._changeable(parent_inode, name)
        await self._waits.call(folder.writing, functools.partial(folder.remove_folder, name))

    @guarded
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        old, folder = self._changeable(parent_inode_old, name_old)
        new, into = self._changeable(parent_inode_new, name_new)
        if flags & pyfuse3.RENAME_EXCHANGE:
            raise WrongKind("names cannot be exchanged", errno.EINVAL)
        node = folder.child(name_old)
        replace = not flags & pyfuse3.RENAME_NOREPLACE
        move = functools.partial(folder.move, name_old, into, name_new, replace=replace)
        await self._waits.call(folder.writing, move)
        held = None if node is None else self._inodes.get(number_of(parent_inode_old, name_old, node.version))
        if held is not None and hasattr(old.node, "tree") and hasattr(held.node, "moved"):
            held.node.moved(new.node, os.fsdecode(name_new))

    @guarded
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Owners are not changed, and nobody is told so: `cp -p` and `tar` would fail over what an import has not."""
        found = self._inodes[inode]
        if not hasattr(found.node, "change"):
            raise ReadOnlyTree
        change = functools.partial(
            found.node.change,
            mode=attr.st_mode if fields.update_mode else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            size=attr.st_size if fields.update_size else None,
        )
        await self._waits.call(_lane(found.node), change)
        return self._entry(found)

    @guarded
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        raise NoOwnFacts if hasattr(self._inodes[inode].node, "change") else ReadOnlyTree

    @guarded
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        raise NoOwnFacts if hasattr(self._inodes[inode].node, "change") else ReadOnlyTree

    def _changeable(self, number: int, name: bytes) -> tuple[Inode, Changeable]:
        inode = self._inodes[number]
        if not hasattr(inode.node, "make_file"):
            raise ReadOnlyTree
        if len(name) > _NAME_MAX:
            raise NameTooLong(f"a name of {len(name)} bytes")
        return inode, cast(Changeable, inode.node)

    # The boundary

    def _refusal(self, error: Exception, what: str, number: object) -> pyfuse3.FUSEError:
        if isinstance(error, pyfuse3.FUSEError):
            return error
        found = errno_of(error)
        if found is None:
            logger.error("bug in %s, answered EIO", what, exc_info=error)
            return pyfuse3.FUSEError(errno.EIO)
        if isinstance(error, errors.FAULTS):
            inode = self._inode_behind(number)
            shard = getattr(inode.node, "shard", None) if inode is not None else None
            path = inode.path if inode is not None else f"inode {number}"
            self._faults.report(error, shard=getattr(shard, "label", ""), path=path)
        return pyfuse3.FUSEError(found)

    def _inode_behind(self, number: object) -> Inode | None:
        """The inode that a handle belongs to, or that has the number; handles and inodes never have the same one."""
        if not isinstance(number, int):
            return None
        opened = self._open.get(number) or self._listings.get(number)
        if opened is not None:
            return opened[0]
        return self._inodes.get(number)


def _who(ctx: pyfuse3.RequestContext) -> Who:
    return Who(ctx.uid, ctx.gid, ctx.pid)


def _lane(node: Node) -> Lane:
    """Of a node that can be changed."""
    return cast(Lane, node.lane)  # type: ignore[attr-defined]  # all of these have one


def _folder(node: Node) -> Folder:
    if not hasattr(node, "children"):  # isinstance of a Protocol costs as much as all the rest of a request
        raise WrongKind("not a directory", errno.ENOTDIR)
    return cast(Folder, node)


# The session: pyfuse3 has one for each process.


def mount(tree: Tree, mountpoint: Path, options: set[str]) -> None:
    """Makes the kernel's mount; raises RuntimeError, after libfuse or fusermount3 has said why on stderr."""
    pyfuse3.init(tree, str(mountpoint), options)
    eager.take_requests_at_once(pyfuse3)


async def serve() -> None:
    """Answers requests until the file system is unmounted or `stop` is called."""
    await pyfuse3.main(max_tasks=MAX_REQUESTS)


def stop() -> None:
    """Makes `serve` return."""
    pyfuse3.terminate()


def unmount() -> None:
    """Ends the session and unmounts, lazily where somebody is still inside."""
    pyfuse3.close(unmount=True)
