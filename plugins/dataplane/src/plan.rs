//! Say once what should exist.
//!
//! A [`Plan`] is a list of kernel objects in the order in which they stand on one another. To add is to make each
//! exist, to check is to look at each, to remove is to take the owned ones away in reverse. A *shared* object (a
//! bridge, forwarding) serves many attachments: whoever comes first makes it, and no attachment takes it away, not even
//! one that fails right after making it, for another may stand on it already. An *owned* object is one attachment's.

use std::fmt::Debug;

use crate::error::{Error, Result};
use crate::kernel::Kernel;

/// A kernel object that should exist.
pub trait Object: Debug {
    /// Makes it exist. Either it is there as described when this returns, or nothing of it is left.
    fn ensure(&self, kernel: &Kernel) -> Result<Made>;

    /// Is it there, as described? [`Error::Changed`] names what is missing.
    fn check(&self, kernel: &Kernel) -> Result<()>;

    /// Waits until it is of use, if the kernel finishes it after it said that it is there. Asked of what was made new,
    /// after the whole plan is made: by then it mostly is.
    fn settle(&self, _kernel: &Kernel) -> Result<()> {
        Ok(())
    }

    /// Takes it away; it need not be there.
    fn remove(&self, kernel: &Kernel) -> Result<()>;

    /// Could it exist? Asked of shared objects before there is any attachment.
    fn possible(&self, _kernel: &Kernel) -> Result<()> {
        Ok(())
    }
}

/// What [`Object::ensure`] had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// Made now: to be undone if a later step fails.
    New,
    /// It was there, or is nothing that could be undone.
    Already,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    Shared,
    Owned,
}

type Item = (Share, Box<dyn Object>);

/// Kernel objects, in the order in which they stand on one another.
#[derive(Debug, Default)]
pub struct Plan {
    items: Vec<Item>,
}

impl Plan {
    /// Appends an object that serves many attachments.
    pub fn shared(&mut self, object: impl Object + 'static) {
        self.items.push((Share::Shared, Box::new(object)));
    }

    /// Appends an object of one attachment.
    pub fn owned(&mut self, object: impl Object + 'static) {
        self.items.push((Share::Owned, Box::new(object)));
    }

    /// Makes each exist, and says whether a shared one is new, as for a node's first Pod. On an error, what this call made of the
    /// owned ones is gone again.
    pub fn add(&self, kernel: &Kernel) -> Result<Made> {
        let mut made = Vec::new();
        let done = self.make(kernel, &mut made).and_then(|()| settle(kernel, &made)).inspect_err(|_| {
            for (_, object) in made.iter().rev().filter(|(share, _)| *share == Share::Owned) {
                if let Err(error) = object.remove(kernel) {
                    log::error!("undoing: {error}");
                }
            }
        });
        let is_first = made.iter().any(|(share, _)| *share == Share::Shared);
        done.map(|()| if is_first { Made::New } else { Made::Already })
    }

    /// Makes each exist, and tells which of them are new.
    fn make<'a>(&'a self, kernel: &Kernel, made: &mut Vec<&'a Item>) -> Result<()> {
        for item in &self.items {
            match item.1.ensure(kernel) {
                Ok(Made::New) => made.push(item),
                Ok(Made::Already) => {}
                Err(error) => {
                    // Without an answer it may be there all the same.
                    if matches!(error, Error::NoAnswer { .. }) {
                        made.push(item);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Looks at each; the first that is not as described is the error.
    pub fn check(&self, kernel: &Kernel) -> Result<()> {
        self.items.iter().try_for_each(|(_, object)| object.check(kernel))
    }

    /// Removes the owned ones in reverse, all that can be; returns what could not.
    pub fn remove(&self, kernel: &Kernel) -> Vec<Error> {
        let owned = self.items.iter().rev().filter(|(share, _)| *share == Share::Owned);
        owned.filter_map(|(_, object)| object.remove(kernel).err()).collect()
    }

    /// Removes the owned ones because of an error that will be reported: what can't be removed goes to the log.
    pub fn undo(&self, kernel: &Kernel) {
        self.remove(kernel).iter().for_each(|error| log::error!("undoing: {error}"));
    }

    /// Could the shared ones exist?
    pub fn possible(&self, kernel: &Kernel) -> Result<()> {
        let mut shared = self.items.iter().filter(|(share, _)| *share == Share::Shared);
        shared.try_for_each(|(_, object)| object.possible(kernel))
    }
}

fn settle(kernel: &Kernel, made: &[&Item]) -> Result<()> {
    made.iter().try_for_each(|(_, object)| object.settle(kernel))
}
