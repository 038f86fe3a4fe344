//! A node, a Pod, and what every object has to do in them.
#![allow(dead_code)] // each test program uses a part of it

pub mod nft;

use conformance::lab::Netns;
use kernel::{Changes, Error, Kernel, Made, Object};

/// A node with a Pod, and a second node in which other programs do by themselves what is tested on the first.
pub struct Lab {
    pub node: Netns,
    pub pod: Netns,
    pub other: Netns,
}

impl Lab {
    /// Both nodes have a veth pair `n0`, `n1`, up, with index 2 and 3 or alike.
    pub fn new() -> Self {
        let lab = Lab { node: Netns::new("node"), pod: Netns::new("pod"), other: Netns::new("other") };
        for node in [&lab.node, &lab.other] {
            node.sh("ip link add n0 type veth peer name n1; ip link set n0 up; ip link set n1 up");
        }
        lab
    }

    /// Does `job` on the node, with a new kernel that has entered the Pod.
    pub fn kernel<T: Send>(&self, job: impl FnOnce(&Kernel) -> T + Send) -> T {
        self.node.inside(|| {
            let mut kernel = Kernel::open().expect("open a netlink socket");
            kernel.enter_pod(&self.pod.path()).expect("enter the Pod");
            job(&kernel)
        })
    }

    pub fn ensure<O: Object + Sync>(&self, object: &O) -> Result<Made, Error> {
        self.kernel(|kernel| object.ensure(kernel))
    }

    pub fn check<O: Object + Sync>(&self, object: &O) -> Result<(), Error> {
        self.kernel(|kernel| object.check(kernel))
    }

    /// The object is new, then it is there already, and its check passes.
    #[track_caller]
    pub fn makes<O: Object + Sync>(&self, object: &O) {
        assert_eq!(self.ensure(object).unwrap(), Made::New, "{object:?}");
        assert_eq!(self.ensure(object).unwrap(), Made::Already, "{object:?}");
        self.check(object).unwrap();
    }

    /// As [`Lab::makes`]; false, with the kernel's words, where it has no such objects.
    #[track_caller]
    pub fn makes_if_known<O: Object + Sync>(&self, object: &O) -> bool {
        match self.ensure(object) {
            Ok(made) => assert_eq!(made, Made::New, "{object:?}"),
            Err(Error::Lacks(why)) => {
                eprintln!("skipped: {why}");
                return false;
            }
            Err(error) => panic!("{object:?}: {error}"),
        }
        assert_eq!(self.ensure(object).unwrap(), Made::Already, "{object:?}");
        self.check(object).unwrap();
        true
    }

    /// The check fails with these words.
    #[track_caller]
    pub fn faults<O: Object + Sync>(&self, object: &O, words: &str) {
        match self.check(object) {
            Err(Error::Changed(why)) => assert!(why.contains(words), "{why}"),
            other => panic!("{object:?}: {other:?}"),
        }
    }

    /// What was changed by hand is as described again.
    #[track_caller]
    pub fn mends<O: Object + Sync>(&self, object: &O) {
        assert_eq!(self.ensure(object).unwrap(), Made::Changed(Changes { set: 1, removed: 0 }), "{object:?}");
        self.check(object).unwrap();
    }

    /// The object goes, a second removal is no error, and the check fails.
    #[track_caller]
    pub fn removes<O: Object + Sync>(&self, object: &O) {
        for _ in 0..2 {
            self.kernel(|kernel| object.remove(kernel)).unwrap();
        }
        assert!(matches!(self.check(object), Err(Error::Changed(_))), "{object:?}");
    }
}
