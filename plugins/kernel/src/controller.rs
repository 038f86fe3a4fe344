//! A link as a port: of a bridge, or in a VRF.
//!
//! The kernel calls the other link the master (IFLA_MASTER, include/uapi/linux/if_link.h). Putting a link into a VRF or
//! taking it out moves the link's routes between the VRF's table and the main one, and removes its global IPv6 addresses
//! (unless `keep_addr_on_down` is set), so it comes before the addresses.

use rtnetlink::LinkUnspec;

use crate::error::{Error, Result};
use crate::kernel::{At, Kernel, changed};
use crate::link;
use crate::plan::{Made, Object};

/// A link that should be a port of another.
#[derive(Clone, Debug)]
pub struct Controller {
    /// Where both are.
    pub at: At,
    /// The link's name.
    pub link: String,
    /// The name of the bridge or VRF.
    pub controller: String,
}

impl Object for Controller {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let controller = link::expect(kernel, self.at, &self.controller)?.index;
        let link = link::expect(kernel, self.at, &self.link)?;
        match link.controller {
            Some(found) if found == controller => return Ok(Made::Already),
            Some(other) => return Err(self.taken(other)),
            None => {}
        }
        let message = LinkUnspec::new_with_index(link.index).controller(controller).build();
        let doing = || format!("attaching interface {:?} {} to {:?}", self.link, self.at.words(), self.controller);
        link::set(kernel, self.at, message, &doing).map(|()| Made::New)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let controller = link::expect(kernel, self.at, &self.controller)?.index;
        match link::expect(kernel, self.at, &self.link)?.controller == Some(controller) {
            true => Ok(()),
            false => Err(changed(format!(
                "interface {:?} {} is not attached to {:?}",
                self.link,
                self.at.words(),
                self.controller
            ))),
        }
    }

    /// Takes the link out of this bridge or VRF. A link that is a port of another stays there.
    fn remove(&self, kernel: &Kernel) -> Result<()> {
        let Some(controller) = link::get(kernel, self.at, &self.controller)? else { return Ok(()) };
        let link = link::get(kernel, self.at, &self.link)?;
        let Some(link) = link.filter(|link| link.controller == Some(controller.index)) else { return Ok(()) };
        let message = LinkUnspec::new_with_index(link.index).nocontroller().build();
        let doing = || format!("detaching interface {:?} {} from {:?}", self.link, self.at.words(), self.controller);
        link::unless_gone(link::set(kernel, self.at, message, &doing))
    }
}

impl Controller {
    fn taken(&self, other: u32) -> Error {
        Error::NotOurs(format!(
            "interface {:?} {} is a port of another interface (index {other}), so it can't be attached to {:?}; detach it \
             first, or configure another interface",
            self.link,
            self.at.words(),
            self.controller
        ))
    }
}
