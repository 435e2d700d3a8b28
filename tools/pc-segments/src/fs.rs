//! The view as the kernel asks for it.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};

use crate::layout::Node;
use crate::view::{Look, View};

/// Nothing in the view ever changes while it is mounted.
const FOR_EVER: Duration = Duration::from_secs(86_400 * 30);
/// Entries of a directory before the first of its own: `.` and `..`.
const DOTS: u64 = 2;

/// Answers the kernel.
#[derive(Debug)]
pub struct Fuse {
    view: Arc<View>,
    uid: u32,
    gid: u32,
}

impl Fuse {
    /// Files belong to whoever runs this.
    pub fn new(view: Arc<View>) -> Fuse {
        Fuse { view, uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() }
    }

    fn attributes(&self, node: Node, look: Look) -> FileAttr {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(look.stamp);
        let (kind, perm, nlink) =
            if look.directory { (FileType::Directory, 0o555, 2) } else { (FileType::RegularFile, 0o444, 1) };
        FileAttr {
            ino: INodeNo(node.inode()),
            size: look.size,
            blocks: look.size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: 1 << 17,
            flags: 0,
        }
    }

    fn known(&self, inode: INodeNo) -> Option<(Node, Look)> {
        let node = Node::of(inode.0)?;
        Some((node, self.view.look(node)?))
    }

    /// The entry with this number, dots included, and its attributes.
    fn entry(&self, directory: Node, nth: u64) -> Option<(String, FileAttr)> {
        let (node, name) = match nth {
            0 => (directory, ".".into()),
            1 => (Node::Root, "..".into()),
            _ => self.view.entry(directory, nth - DOTS)?,
        };
        Some((name, self.attributes(node, self.view.look(node)?)))
    }
}

impl Filesystem for Fuse {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Attributes come with the listing: no question for each segment. An old kernel without it asks more.
        let _ = config.add_capabilities(InitFlags::FUSE_DO_READDIRPLUS);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = Node::of(parent.0)
            .zip(name.to_str())
            .and_then(|(parent, name)| self.view.lookup(parent, name))
            .and_then(|node| Some((node, self.view.look(node)?)));
        match found {
            Some((node, look)) => reply.entry(&FOR_EVER, &self.attributes(node, look), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, inode: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.known(inode) {
            Some((node, look)) => reply.attr(&FOR_EVER, &self.attributes(node, look)),
            None => reply.error(Errno::ENOENT),
        }
    }

    /// "Not implemented" makes the kernel open by itself from then on: a million skipped segments cost no message each.
    fn open(&self, _req: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn flush(&self, _req: &Request, _inode: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _req: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
    }

    fn listxattr(&self, _req: &Request, _inode: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _req: &Request, _inode: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn statfs(&self, _req: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        let bytes: u64 = self.view.places().iter().map(|place| place.geometry.size).sum();
        let files: u64 = self.view.places().iter().map(|place| place.geometry.segments()).sum();
        reply.statfs(bytes.div_ceil(4096), 0, 0, files, 0, 4096, 255, 4096);
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
        let Some(node) = Node::of(inode.0) else { return reply.error(Errno::ENOENT) };
        let mut bytes = Vec::new();
        match self.view.read(node, offset, size.into(), |part| bytes.extend_from_slice(part)) {
            Ok(()) => reply.data(&bytes),
            Err(error) => {
                pc_cli::log::error(format_args!("reading {node:?}: {error}"));
                reply.error(Errno::EIO);
            }
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
        let Some((node, Look { directory: true, .. })) = self.known(inode) else {
            return reply.error(Errno::ENOTDIR);
        };
        for nth in offset.. {
            let Some((name, attributes)) = self.entry(node, nth) else { break };
            if reply.add(attributes.ino, nth + 1, attributes.kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _req: &Request,
        inode: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let Some((node, Look { directory: true, .. })) = self.known(inode) else {
            return reply.error(Errno::ENOTDIR);
        };
        for nth in offset.. {
            let Some((name, attributes)) = self.entry(node, nth) else { break };
            if reply.add(attributes.ino, nth + 1, name, &FOR_EVER, &attributes, Generation(0)) {
                break;
            }
        }
        reply.ok();
    }
}
