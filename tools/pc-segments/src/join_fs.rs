//! Disks that were put together, as the kernel asks for them: one file each, for QEMU to read.

use std::ffi::OsStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyLseek, ReplyOpen, ReplyXattr, Request, TimeOrNow,
};

use crate::join::{Joined, Seek, told};

/// Sizes and names never change.
const FOR_EVER: Duration = Duration::from_secs(86_400 * 30);
/// An owner does: libvirt gives the disks of a guest to QEMU's user.
const NOW: Duration = Duration::ZERO;
const ROOT: u64 = 1;

/// Answers the kernel.
#[derive(Debug)]
pub struct JoinedFs {
    disks: Vec<(Joined, Mutex<Owner>)>,
    me: Owner,
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

impl JoinedFs {
    /// Files belong to whoever runs this, and nobody else may read them, until root says otherwise.
    pub fn new(disks: Vec<Joined>) -> JoinedFs {
        let me = Owner { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
        JoinedFs { disks: disks.into_iter().map(|disk| (disk, Mutex::new(me))).collect(), me }
    }

    fn disk(&self, inode: INodeNo) -> Option<&(Joined, Mutex<Owner>)> {
        self.disks.get(usize::try_from(inode.0.checked_sub(ROOT + 1)?).ok()?)
    }

    fn attributes(&self, inode: u64) -> Option<FileAttr> {
        let (kind, perm, nlink, size, owner) = if inode == ROOT {
            // Passed through on the way to a disk, and not listed.
            (FileType::Directory, 0o711, 2, 0, self.me)
        } else {
            let (disk, owner) = self.disk(INodeNo(inode))?;
            let owner = *owner.lock().unwrap_or_else(PoisonError::into_inner);
            (FileType::RegularFile, 0o400, 1, disk.geometry.size, owner)
        };
        let time = SystemTime::UNIX_EPOCH;
        Some(FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink,
            uid: owner.uid,
            gid: owner.gid,
            rdev: 0,
            blksize: 1 << 17,
            flags: 0,
        })
    }

    fn entry(&self, nth: u64) -> Option<(u64, FileType, &str)> {
        match nth {
            0 => Some((ROOT, FileType::Directory, ".")),
            1 => Some((ROOT, FileType::Directory, "..")),
            _ => {
                let (disk, _) = self.disks.get(usize::try_from(nth - 2).ok()?)?;
                Some((nth, FileType::RegularFile, &disk.name))
            }
        }
    }
}

impl Filesystem for JoinedFs {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let at = self.disks.iter().position(|(disk, _)| parent.0 == ROOT && name == disk.name.as_str());
        match at.and_then(|at| self.attributes(at as u64 + ROOT + 1)) {
            Some(attributes) => reply.entry(&NOW, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, inode: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode.0) {
            Some(attributes) if inode.0 == ROOT => reply.attr(&FOR_EVER, &attributes),
            Some(attributes) => reply.attr(&NOW, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    /// An owner, and nothing else: the kernel lets only root give a file away.
    fn setattr(
        &self,
        _req: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let Some((_, owner)) = self.disk(inode).filter(|_| mode.is_none() && size.is_none()) else {
            return reply.error(Errno::EROFS);
        };
        {
            let mut owner = owner.lock().unwrap_or_else(PoisonError::into_inner);
            owner.uid = uid.unwrap_or(owner.uid);
            owner.gid = gid.unwrap_or(owner.gid);
        }
        match self.attributes(inode.0) {
            Some(attributes) => reply.attr(&NOW, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _req: &Request, _inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() == OpenAccMode::O_RDONLY {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        } else {
            reply.error(Errno::EROFS);
        }
    }

    fn flush(&self, _req: &Request, _inode: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _req: &Request, _inode: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _req: &Request, _inode: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _req: &Request,
        inode: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some((disk, _)) = self.disk(inode) else { return reply.error(Errno::ENOENT) };
        match disk.read(offset, size.into()) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => {
                told(disk, &error);
                reply.error(Errno::EIO);
            }
        }
    }

    /// Where there is nothing, nobody has to read zeros.
    fn lseek(
        &self,
        _req: &Request,
        inode: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let Some((disk, _)) = self.disk(inode) else { return reply.error(Errno::ENOENT) };
        // lseek(2), of Linux on every architecture.
        let wanted = match whence {
            3 => Seek::Data,
            4 => Seek::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let found = u64::try_from(offset).ok().and_then(|offset| disk.seek(offset, wanted));
        match found.map(i64::try_from) {
            Some(Ok(offset)) => reply.offset(offset),
            _ => reply.error(Errno::ENXIO),
        }
    }

    fn readdir(
        &self,
        _req: &Request,
        inode: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if inode.0 != ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        for nth in offset.. {
            let Some((inode, kind, name)) = self.entry(nth) else { break };
            if reply.add(INodeNo(inode), nth + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
