//! A map that is named without a type: a text file, or a program if its owner may execute it.

use std::sync::Arc;

use super::{
    Answer, Ask, Bounded, Bounds, Description, Entries, FileMap, Freshness, MapSource, Notices, Pass, ProgramMap,
    SourceError, SourceId, Waiting,
};

/// A file whose permissions say what it is. They are looked at before each lookup.
#[derive(Debug)]
pub struct Untyped {
    file: FileMap,
    bounded: Bounded,
    program: ProgramMap,
}

impl Untyped {
    /// The map at the path that `file` and `program` share.
    pub(super) fn new(file: FileMap, program: ProgramMap, notices: &Arc<Notices>) -> Self {
        let bounded = Bounded::new(Arc::new(file.clone()), Bounds::default(), notices);
        Self { file, bounded, program }
    }

    /// What the file was when it was looked at last.
    fn last(&self) -> &dyn MapSource {
        if self.file.is_program() { &self.program } else { &self.bounded }
    }
}

impl MapSource for Untyped {
    fn id(&self) -> &SourceId {
        self.last().id()
    }

    fn cached(&self, key: &[u8]) -> Option<Answer> {
        if self.file.is_program() && self.file.may_differ() {
            return None;
        }
        self.last().cached(key)
    }

    fn known(&self, key: &[u8]) -> Option<Answer> {
        self.last().known(key)
    }

    fn lookup<'a>(&'a self, ask: &'a Ask) -> Waiting<'a, Answer> {
        Box::pin(async move {
            let answer = self.bounded.lookup(ask).await;
            if self.file.is_program() { self.program.lookup(ask).await } else { answer }
        })
    }

    fn entries<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<Arc<Entries>, Arc<SourceError>>> {
        Box::pin(async move {
            let entries = self.bounded.entries(pass).await;
            if self.file.is_program() { self.program.entries(pass).await } else { entries }
        })
    }

    fn prepare<'a>(&'a self, pass: &'a Pass) -> Waiting<'a, Result<(), Arc<SourceError>>> {
        Box::pin(async move {
            let prepared = self.bounded.prepare(pass).await;
            if self.file.is_program() { self.program.prepare(pass).await } else { prepared }
        })
    }

    fn known_entries(&self) -> Option<Arc<Entries>> {
        self.last().known_entries()
    }

    fn freshness(&self) -> Freshness {
        let file = if self.file.may_differ() { Freshness::MayHaveChanged } else { Freshness::Unchanged };
        if self.file.is_program() { file.and(self.program.freshness()) } else { self.bounded.freshness() }
    }

    fn exists(&self) -> bool {
        self.last().exists()
    }

    fn trouble(&self) -> Option<String> {
        self.last().trouble()
    }

    fn describe(&self) -> Description {
        self.last().describe()
    }

    fn forget(&self) {
        self.bounded.forget();
        self.program.forget();
    }
}
