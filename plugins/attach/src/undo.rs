//! The one undo of an ADD: what has been made so far, to be taken back if a later step fails.

use kernel::plan::Done;
use kernel::{Kernel, Plan};
use libcni::{Attachment, Error, Request, code};

use crate::error::told;
use crate::ipam::Ipam;
use crate::names;

/// What an ADD has made so far.
#[derive(Debug)]
pub struct Undo<'a> {
    request: &'a Request,
    attachment: &'a Attachment,
    kernel: &'a Kernel,
    plans: Vec<Plan>,
    /// IPAM, once it has given addresses.
    ipam: Option<&'a Ipam<'a>>,
    /// Removes what the attachment owns, by its names.
    anew: fn(&Request, &Attachment) -> Result<(), Error>,
}

impl<'a> Undo<'a> {
    /// Nothing has been made. `anew` removes what the attachment owns by its names, on sockets of its own.
    pub fn new(
        request: &'a Request,
        attachment: &'a Attachment,
        kernel: &'a Kernel,
        anew: fn(&Request, &Attachment) -> Result<(), Error>,
    ) -> Self {
        Undo { request, attachment, kernel, plans: Vec::new(), ipam: None, anew }
    }

    /// Makes what the plan says. If a later step fails it is taken back; what fails now has taken back itself.
    pub fn add(&mut self, plan: Plan) -> Result<Done, Error> {
        let done = plan.add(self.kernel).map_err(told)?;
        self.plans.push(plan);
        Ok(done)
    }

    /// From now on addresses are given back.
    pub fn has_addresses(&mut self, ipam: &'a Ipam<'a>) {
        self.ipam = Some(ipam);
    }

    /// Takes everything back because of `error`, which is returned.
    ///
    /// If the kernel did not answer, or refused in the middle, what was asked for may exist all the same, and the sockets
    /// that undo the rest may be of no use any more: then everything is taken back once more, on new sockets.
    pub fn because_of(self, error: Error) -> Error {
        self.plans.iter().rev().for_each(|plan| plan.undo(self.kernel));
        if matches!(error.code, code::TRY_AGAIN_LATER | code::IO_FAILURE) {
            self.once_more();
        }
        if let Some(ipam) = self.ipam {
            ipam.give_back();
        }
        error
    }

    fn once_more(&self) {
        match names::kernel(self.attachment) {
            Ok(kernel) => self.plans.iter().rev().for_each(|plan| plan.undo(&kernel)),
            Err(error) => log::error!("undoing: {error}"),
        }
        if let Err(error) = (self.anew)(self.request, self.attachment) {
            log::error!("undoing: {error}");
        }
    }
}
