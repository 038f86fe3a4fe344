//! The kernel's errors in CNI's codes.

use dataplane::Error as KernelError;
use libcni::{Error, code};

/// An error of the kernel as a plugin reports it.
pub fn told(error: KernelError) -> Error {
    let (code, msg) = match &error {
        error if error.is_permission() => (code::NOT_PERMITTED, "not permitted"),
        KernelError::Exists(_) => (code::EXISTS_ALREADY, "exists already"),
        KernelError::NotOurs(_) => (code::NOT_OURS, "in use by something else"),
        KernelError::Differs(_) => (code::INVALID_CONFIG, "invalid network configuration"),
        KernelError::Busy(_) => (code::TRY_AGAIN_LATER, "try again later"),
        KernelError::Changed(_) => (code::CHECK_FAILED, "check failed"),
        KernelError::Lacks(_) => (code::KERNEL_LACKS, "the kernel lacks a feature"),
        KernelError::NoAnswer { .. } => (code::TRY_AGAIN_LATER, "no answer from the kernel"),
        KernelError::Refused { .. } | KernelError::File { .. } => (code::IO_FAILURE, "the kernel refused"),
    };
    let advice = match code {
        code::NOT_PERMITTED => "; plugins need CAP_NET_ADMIN, and CAP_SYS_ADMIN to enter a Pod's namespace",
        _ => "",
    };
    Error::new(code, msg, format!("{error}{advice}"))
}
