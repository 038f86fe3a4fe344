//! Errors of the kernel and of a node map, in CNI's codes.

use kernel::{At, Errno, Error as KernelError};
use libcni::{Error, code};

/// An error of the kernel as a plugin reports it.
pub fn told(error: KernelError) -> Error {
    let (code, msg) = match &error {
        error if error.is_permission() => (code::NOT_PERMITTED, "not permitted"),
        KernelError::Exists { .. } => (code::EXISTS_ALREADY, "exists already"),
        KernelError::NotOurs(_) => (code::NOT_OURS, "in use by something else"),
        KernelError::Differs(_) => (code::INVALID_CONFIG, "invalid network configuration"),
        KernelError::Busy(_) => (code::TRY_AGAIN_LATER, "try again later"),
        KernelError::Changed(_) => (code::CHECK_FAILED, "check failed"),
        KernelError::Lacks(_) => (code::KERNEL_LACKS, "the kernel lacks a feature"),
        KernelError::Ipv6Off { .. } => (code::KERNEL_LACKS, "IPv6 is not available"),
        KernelError::NoAnswer { .. } => (code::TRY_AGAIN_LATER, "no answer from the kernel"),
        KernelError::Refused { .. } | KernelError::File { .. } => (code::IO_FAILURE, "the kernel refused"),
    };
    Error::new(code, msg, format!("{error}{}", advice(&error)))
}

fn advice(error: &KernelError) -> &'static str {
    match error {
        error if error.is_permission() => "; plugins need CAP_NET_ADMIN, and CAP_SYS_ADMIN to enter a Pod's namespace",
        KernelError::Exists { at: At::Pod, .. } => {
            "; another plugin made it, or a DEL is missing before this ADD, or a second interface needs a name of its own \
             (CNI_IFNAME)"
        }
        KernelError::Exists { at: At::Host, .. } => ": an earlier ADD of this attachment was not followed by DEL",
        error if error.is(Errno::EACCES) => "; a security policy of this machine (SELinux, for example) may forbid it",
        _ => "",
    }
}

/// The faults that CHECK found, as one error: each is listed. One that is no difference (no permission, no answer) is
/// reported alone.
pub fn check_failed(mut faults: Vec<KernelError>) -> Result<(), Error> {
    if let Some(at) = faults.iter().position(|fault| !matches!(fault, KernelError::Changed(_))) {
        return Err(told(faults.swap_remove(at)));
    }
    if faults.is_empty() {
        return Ok(());
    }
    let details: Vec<String> = faults.iter().map(KernelError::to_string).collect();
    Err(Error::new(code::CHECK_FAILED, "check failed", details.join("; ")))
}

/// An error of a node map, or of bringing a node to what it says.
pub fn of_cluster(error: cluster::Error) -> Error {
    match error {
        cluster::Error::Kernel(error) => told(error),
        cluster::Error::Map(error) => error.into(),
        cluster::Error::Config { key, value, why } => Error::config(key, value, why),
    }
}
