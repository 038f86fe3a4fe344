//! Say once what should exist.
//!
//! A [`Plan`] is a list of kernel objects in the order in which they depend on one another. To add is to make each exist,
//! to check is to look at each, to remove is to take the owned ones away in reverse. A *shared* object (a bridge,
//! forwarding) serves many users: the first one makes it, and no user takes it away, not even one that fails right after
//! making it, for another may rely on it already. An *owned* object belongs to one user.

use std::collections::HashSet;
use std::fmt::Debug;
use std::ops::AddAssign;

use crate::error::{Error, Result};
use crate::kernel::Kernel;

/// A kernel object that should exist.
pub trait Object: Debug {
    /// Makes it exist. When this returns, either the object is as described, or nothing of it is left.
    fn ensure(&self, kernel: &Kernel) -> Result<Made>;

    /// Is it there, as described? [`Error::Changed`] names what is missing.
    fn check(&self, _kernel: &Kernel) -> Result<()> {
        Ok(())
    }

    /// What brings it back if [`Object::check`] finds it missing or changed. `None`: what brings back others of its sort
    /// ([`Remedies`]). Empty: the fault says so itself.
    fn remedy(&self) -> Option<&'static str> {
        None
    }

    /// What [`Object::ensure`] would change, in words; nothing is touched.
    fn pending(&self, kernel: &Kernel) -> Result<Vec<String>> {
        match self.check(kernel) {
            Ok(()) => Ok(Vec::new()),
            Err(Error::Changed(words)) => Ok(vec![words]),
            Err(error) => Err(error),
        }
    }

    /// Waits until it can be used, if the kernel finishes it after acknowledging it. Called for new objects, after the
    /// whole plan is made: by then most are finished.
    fn settle(&self, _kernel: &Kernel) -> Result<()> {
        Ok(())
    }

    /// Takes it away; it need not be there.
    fn remove(&self, _kernel: &Kernel) -> Result<()> {
        Ok(())
    }

    /// Could it exist? Asked of shared objects; nothing is touched.
    fn possible(&self, _kernel: &Kernel) -> Result<()> {
        Ok(())
    }
}

/// What [`Object::ensure`] had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// The object is new: it is undone if a later step fails.
    New,
    /// The object existed, or cannot be undone.
    Already,
    /// Parts of an object that existed were added, corrected or removed.
    Changed(Changes),
}

/// How much of what existed was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Objects added or corrected.
    pub set: usize,
    /// Objects removed.
    pub removed: usize,
}

impl From<Changes> for Made {
    fn from(changes: Changes) -> Self {
        if changes == Changes::default() { Made::Already } else { Made::Changed(changes) }
    }
}

impl AddAssign for Changes {
    fn add_assign(&mut self, other: Changes) {
        self.set += other.set;
        self.removed += other.removed;
    }
}

/// What [`Plan::add`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// A shared object is new, as for the first Pod of a node.
    pub is_first: bool,
    /// Everything that was changed, new objects included.
    pub changes: Changes,
}

/// What brings back objects that are missing or changed, unless they say otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Remedies {
    /// Shared ones.
    pub shared: &'static str,
    /// Owned ones.
    pub owned: &'static str,
}

#[derive(Debug)]
struct Item {
    is_owned: bool,
    is_checked: bool,
    object: Box<dyn Object>,
}

/// Kernel objects, in the order in which they depend on one another.
#[derive(Debug, Default)]
pub struct Plan {
    items: Vec<Item>,
}

/// The object that was appended last.
#[derive(Debug)]
pub struct Appended<'a>(&'a mut Item);

impl Appended<'_> {
    /// [`Plan::check`] passes over it unless `checked`.
    pub fn checked_if(self, checked: bool) {
        self.0.is_checked = checked;
    }

    /// [`Plan::check`] passes over it.
    pub fn unchecked(self) {
        self.checked_if(false);
    }
}

impl Plan {
    /// Appends an object that serves many users.
    pub fn shared(&mut self, object: impl Object + 'static) -> Appended<'_> {
        self.append(false, Box::new(object))
    }

    /// Appends an object of one user.
    pub fn owned(&mut self, object: impl Object + 'static) -> Appended<'_> {
        self.append(true, Box::new(object))
    }

    /// Appends an object of one user that is boxed already.
    pub fn owned_box(&mut self, object: Box<dyn Object>) -> Appended<'_> {
        self.append(true, object)
    }

    fn append(&mut self, is_owned: bool, object: Box<dyn Object>) -> Appended<'_> {
        let at = self.items.len();
        self.items.push(Item { is_owned, is_checked: true, object });
        Appended(&mut self.items[at])
    }

    /// Makes each exist. On an error, the owned objects that this call made are gone again.
    pub fn add(&self, kernel: &Kernel) -> Result<Done> {
        let (mut new, mut done) = (Vec::new(), Done::default());
        let made = self.make(kernel, &mut new, &mut done);
        let made = made.and_then(|()| new.iter().try_for_each(|item| item.object.settle(kernel)));
        if let Err(error) = made {
            for item in new.iter().rev().filter(|item| item.is_owned) {
                if let Err(error) = item.object.remove(kernel) {
                    log::error!("undoing: {error}");
                }
            }
            return Err(error);
        }
        done.is_first = new.iter().any(|item| !item.is_owned);
        done.changes.set += new.len();
        Ok(done)
    }

    /// Makes each exist, and lists those that are new.
    fn make<'a>(&'a self, kernel: &Kernel, new: &mut Vec<&'a Item>, done: &mut Done) -> Result<()> {
        for item in &self.items {
            match item.object.ensure(kernel) {
                Ok(Made::New) => new.push(item),
                Ok(Made::Already) => {}
                Ok(Made::Changed(changes)) => done.changes += changes,
                Err(error) => {
                    // Without an answer the object may exist all the same.
                    if matches!(error, Error::NoAnswer { .. }) {
                        new.push(item);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Looks at each: everything that is not as described, each fault once, with what brings it back.
    pub fn faults(&self, kernel: &Kernel, remedies: Remedies) -> Vec<Error> {
        let (mut faults, mut said) = (Vec::new(), HashSet::new());
        for item in self.items.iter().filter(|item| item.is_checked) {
            let Err(fault) = item.object.check(kernel) else { continue };
            // Everything on a link that is missing says the same.
            if said.insert(fault.to_string()) {
                let usual = if item.is_owned { remedies.owned } else { remedies.shared };
                faults.push(fault.with_remedy(item.object.remedy().unwrap_or(usual)));
            }
        }
        faults
    }

    /// What [`Plan::add`] would change, in words, each once; nothing is touched.
    pub fn pending(&self, kernel: &Kernel) -> Result<Vec<String>> {
        let (mut all, mut said) = (Vec::new(), HashSet::new());
        for item in &self.items {
            all.extend(item.object.pending(kernel)?);
        }
        all.retain(|words: &String| said.insert(words.clone()));
        Ok(all)
    }

    /// Looks at each; the first that is not as described is the error.
    pub fn check(&self, kernel: &Kernel) -> Result<()> {
        self.items.iter().filter(|item| item.is_checked).try_for_each(|item| item.object.check(kernel))
    }

    /// Removes the owned ones in reverse, all that can be; returns what could not.
    pub fn remove(&self, kernel: &Kernel) -> Vec<Error> {
        let owned = self.items.iter().rev().filter(|item| item.is_owned);
        owned.filter_map(|item| item.object.remove(kernel).err()).collect()
    }

    /// Removes the owned ones because of an error that will be reported: what can't be removed goes to the log.
    pub fn undo(&self, kernel: &Kernel) {
        self.remove(kernel).iter().for_each(|error| log::error!("undoing: {error}"));
    }

    /// Could the shared ones exist? Nothing is touched.
    pub fn possible(&self, kernel: &Kernel) -> Result<()> {
        self.items.iter().filter(|item| !item.is_owned).try_for_each(|item| item.object.possible(kernel))
    }
}
