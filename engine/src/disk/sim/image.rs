//! The whole simulated file system: directories and files by number, in both pictures.
//!
//! Everything sits behind shared pointers, so that a copy of the image costs little and thousands of crashes can be
//! tried from one state.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use super::{
    faults::Names,
    file::FileImage,
    names::{DirImage, NodeId},
    rng::Rng,
};
use crate::disk::{
    Entry,
    real::{check_path, check_rename, split_path},
};

#[derive(Clone, Debug)]
enum Node {
    File(Arc<FileImage>),
    Dir(Arc<DirImage>),
}

const ROOT: NodeId = 0;

/// A file system's state.
#[derive(Clone, Debug)]
pub(super) struct Image {
    nodes: BTreeMap<NodeId, Node>,
    next_node: NodeId,
    next_order: u64,
}

fn error(kind: io::ErrorKind, what: &str, path: &str) -> io::Error {
    io::Error::new(kind, format!("{what} path={path:?}"))
}

impl Image {
    pub(super) fn new() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Dir(Arc::default()))]), next_node: ROOT + 1, next_order: 0 }
    }

    fn find(&self, path: &str) -> io::Result<NodeId> {
        check_path(path)?;
        let mut node = ROOT;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let Some(Node::Dir(dir)) = self.nodes.get(&node) else {
                return Err(error(io::ErrorKind::NotADirectory, "a part of the path is a file", path));
            };
            node = dir.get(part).ok_or_else(|| error(io::ErrorKind::NotFound, "no such name", path))?;
        }
        Ok(node)
    }

    fn dir(&self, path: &str) -> io::Result<(NodeId, &DirImage)> {
        let node = self.find(path)?;
        match self.nodes.get(&node) {
            Some(Node::Dir(dir)) => Ok((node, dir)),
            _ => Err(error(io::ErrorKind::NotADirectory, "not a directory", path)),
        }
    }

    fn dir_mut(&mut self, node: NodeId) -> &mut DirImage {
        match self.nodes.get_mut(&node) {
            Some(Node::Dir(dir)) => Arc::make_mut(dir),
            _ => unreachable!("the caller has just found this directory"),
        }
    }

    /// The number of a file.
    pub(super) fn file_id(&self, path: &str) -> io::Result<NodeId> {
        let node = self.find(path)?;
        match self.nodes.get(&node) {
            Some(Node::File(_)) => Ok(node),
            _ => Err(error(io::ErrorKind::IsADirectory, "not a file", path)),
        }
    }

    /// A file that has a name or an open handle.
    pub(super) fn file(&self, node: NodeId) -> &FileImage {
        match self.nodes.get(&node) {
            Some(Node::File(file)) => file,
            _ => unreachable!("a file stays while a name or a handle needs it"),
        }
    }

    pub(super) fn file_mut(&mut self, node: NodeId) -> &mut FileImage {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Arc::make_mut(file),
            _ => unreachable!("a file stays while a name or a handle needs it"),
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        let id = self.next_node;
        self.next_node += 1;
        self.nodes.insert(id, node);
        id
    }

    fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    fn make(&mut self, path: &str, node: Node) -> io::Result<NodeId> {
        let (parent, name) = split_path(path);
        let (dir, names) = self.dir(parent)?;
        if names.get(name).is_some() {
            return Err(error(io::ErrorKind::AlreadyExists, "the name is taken", path));
        }
        let order = self.order();
        let id = self.add(node);
        self.dir_mut(dir).link(name, id, order);
        Ok(id)
    }

    pub(super) fn create(&mut self, path: &str) -> io::Result<NodeId> {
        self.make(path, Node::File(Arc::default()))
    }

    pub(super) fn create_dir(&mut self, path: &str) -> io::Result<()> {
        match self.make(path, Node::Dir(Arc::default())) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.dir(path).is_ok() => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    pub(super) fn has_dir(&self, path: &str) -> bool {
        self.dir(path).is_ok()
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        check_path(to)?;
        check_rename(from, to)?;
        let source = self.file_id(from)?;
        let (parent, target) = split_path(to);
        let (dir, names) = self.dir(parent)?;
        match names.get(target) {
            Some(node) if node == source => return Ok(()),
            Some(_) => drop(self.file_id(to)?),
            None => {}
        }
        let order = self.order();
        self.dir_mut(dir).rename(split_path(from).1, target, order);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        self.file_id(path)?;
        self.unlink(path)
    }

    pub(super) fn remove_dir(&mut self, path: &str) -> io::Result<()> {
        let (node, names) = self.dir(path)?;
        if node == ROOT {
            return Err(error(io::ErrorKind::InvalidInput, "the data directory stays", path));
        }
        if !names.cached().is_empty() {
            return Err(error(io::ErrorKind::DirectoryNotEmpty, "not empty", path));
        }
        self.unlink(path)
    }

    fn unlink(&mut self, path: &str) -> io::Result<()> {
        let (parent, name) = split_path(path);
        let dir = self.dir(parent)?.0;
        let order = self.order();
        self.dir_mut(dir).unlink(name, order);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        let node = self.dir(path)?.0;
        self.dir_mut(node).sync();
        Ok(())
    }

    pub(super) fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let entries = self.dir(path)?.1.cached().iter().map(|(name, node)| match &self.nodes[node] {
            Node::File(file) => Entry { name: name.clone(), is_dir: false, bytes: file.cached().bytes },
            Node::Dir(_) => Entry { name: name.clone(), is_dir: true, bytes: 0 },
        });
        Ok(entries.collect())
    }

    /// Paths and numbers of all files that processes see, sorted by path.
    pub(super) fn files(&self) -> Vec<(String, NodeId)> {
        let mut files = Vec::new();
        let mut open = vec![(String::new(), ROOT)];
        while let Some((path, node)) = open.pop() {
            match &self.nodes[&node] {
                Node::File(_) => files.push((path, node)),
                Node::Dir(dir) => open.extend(dir.cached().iter().map(|(name, node)| {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                    (path, *node)
                })),
            }
        }
        files.sort_unstable();
        files
    }

    /// Bytes taken by files that have a name or an open handle.
    pub(super) fn used(&self, open: &BTreeMap<NodeId, u32>) -> u64 {
        let named = self.files().into_iter().map(|(_, node)| node);
        let living: BTreeSet<NodeId> = named.chain(open.keys().copied()).collect();
        living.into_iter().map(|node| self.file(node).cached().allocated()).sum()
    }

    /// What a path holds on the disk, by durable names alone.
    pub(super) fn durable_file(&self, path: &str) -> Option<&FileImage> {
        let mut node = ROOT;
        for part in path.split('/') {
            let Some(Node::Dir(dir)) = self.nodes.get(&node) else {
                return None;
            };
            node = *dir.on_disk().get(part)?;
        }
        match self.nodes.get(&node) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    /// Puts a durable file, or none, at a path, with the directories above it.
    pub(super) fn set_durably(&mut self, path: &str, content: Option<&[u8]>) -> io::Result<()> {
        check_path(path)?;
        let (parents, name) = split_path(path);
        let mut dir = ROOT;
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            let child = match self.dir_mut(dir).get(part) {
                Some(child) => child,
                None => self.add(Node::Dir(Arc::default())),
            };
            self.dir_mut(dir).set_durably(part, Some(child));
            dir = child;
        }
        let node = content.map(|bytes| self.add(Node::File(Arc::new(FileImage::durable(bytes)))));
        self.dir_mut(dir).set_durably(name, node);
        Ok(())
    }

    /// The power fails. What comes out is durable and has one picture.
    pub(super) fn power(&mut self, names: Names, rng: &mut Rng) {
        let survivors = self.toss_names(names, rng);
        for node in self.nodes.values_mut() {
            if let Node::Dir(dir) = node
                && dir.orders().next().is_some()
            {
                Arc::make_mut(dir).power(&survivors);
            }
        }
        self.collect(&BTreeMap::new());
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node
                && !file.is_settled()
            {
                Arc::make_mut(file).power(rng);
            }
        }
    }

    fn toss_names(&self, names: Names, rng: &mut Rng) -> BTreeSet<u64> {
        let dirs = self.nodes.values().filter_map(|node| if let Node::Dir(dir) = node { Some(dir) } else { None });
        let pending: BTreeSet<u64> = dirs.flat_map(|dir| dir.orders()).collect();
        if pending.is_empty() {
            return pending;
        }
        match names {
            Names::Ordered => {
                let count = rng.below(pending.len() + 1);
                pending.into_iter().take(count).collect()
            }
            Names::Any => {
                let keep = rng.below(5);
                pending.into_iter().filter(|_| rng.below(4) < keep).collect()
            }
        }
    }

    /// Forgets what no name, no pending change and no handle can reach any more.
    pub(super) fn collect(&mut self, open: &BTreeMap<NodeId, u32>) {
        let mut reached: BTreeSet<NodeId> = open.keys().copied().collect();
        let mut next = vec![ROOT];
        while let Some(node) = next.pop() {
            if !reached.insert(node) {
                continue;
            }
            if let Some(Node::Dir(dir)) = self.nodes.get(&node) {
                next.extend(dir.nodes());
            }
        }
        self.nodes.retain(|node, _| reached.contains(node));
    }
}
