//! The VXLAN devices that a network has on this node and no longer wants, as objects of a plan.

use kernel::link::Link;
use kernel::vxlan::{self, Settings, Vxlan};
use kernel::{At, Changes, Error, Kernel, Made, Object, Result, link};

use crate::tag::NetworkTag;

/// What the alias of each of a network's VXLAN devices begins with.
pub fn mark(network: NetworkTag) -> String {
    format!("podwire-network {network}")
}

/// No device of the network has another name than the wanted one of its family: with the same VNI and port it would be in
/// the way.
#[derive(Debug)]
pub struct MisnamedDevices {
    /// The network.
    pub network: NetworkTag,
    /// The devices that it wants.
    pub wanted: Vec<Vxlan>,
}

impl Object for MisnamedDevices {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let misnamed = self.find(kernel)?;
        for device in &misnamed {
            log::warn!("device {:?} is to have another name: it is removed and made again", device.name);
            link::remove(kernel, At::Host, &device.name)?;
        }
        Ok(removed(misnamed.len()))
    }

    fn pending(&self, kernel: &Kernel) -> Result<Vec<String>> {
        Ok(self
            .find(kernel)?
            .iter()
            .map(|device| format!("device {:?} is to have another name", device.name))
            .collect())
    }

    fn possible(&self, kernel: &Kernel) -> Result<()> {
        self.find(kernel).map(drop)
    }
}

impl MisnamedDevices {
    /// An error if one has another VNI or port than the wanted device, and those must not be changed.
    fn find(&self, kernel: &Kernel) -> Result<Vec<Link>> {
        let mut misnamed = Vec::new();
        for there in vxlan::marked(kernel, &mark(self.network))? {
            let Some(Settings { vni, port, local: Some(local), .. }) = vxlan::settings(&there) else { continue };
            let same_family = |device: &&Vxlan| device.local.is_ipv4() == local.is_ipv4();
            let Some(device) = self.wanted.iter().find(same_family).filter(|device| device.name != there.name) else {
                continue;
            };
            if (vni, port) != (device.vni, device.port) && !device.renumber {
                return Err(Error::Differs(format!(
                    "this network has device {:?} with VNI {vni} and port {port}, not {} and {} as configured: other \
                     nodes that still have the old ones would lose this node. {}",
                    there.name, device.vni, device.port, device.advice
                )));
            }
            misnamed.push(there);
        }
        Ok(misnamed)
    }
}

/// No device for a family of the underlay that no peer has any more.
#[derive(Debug)]
pub struct IdleDevices {
    /// The network.
    pub network: NetworkTag,
    /// The names of the devices that it wants.
    pub wanted: Vec<String>,
}

impl Object for IdleDevices {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let mut count = 0;
        for there in vxlan::marked(kernel, &mark(self.network))? {
            if !self.wanted.contains(&there.name) {
                link::remove(kernel, At::Host, &there.name)?;
                count += 1;
            }
        }
        Ok(removed(count))
    }

    fn pending(&self, kernel: &Kernel) -> Result<Vec<String>> {
        let there = vxlan::marked(kernel, &mark(self.network))?.into_iter();
        let idle = there.filter(|device| !self.wanted.contains(&device.name));
        Ok(idle.map(|device| format!("device {:?} is stale", device.name)).collect())
    }
}

fn removed(count: usize) -> Made {
    if count == 0 { Made::Already } else { Made::Changed(Changes { set: 0, removed: count }) }
}

/// The network's devices among `names` that exist.
pub fn existing(kernel: &Kernel, network: NetworkTag, names: &[String]) -> Result<Vec<Link>> {
    let mut devices = Vec::new();
    for name in names {
        let device = link::get(kernel, At::Host, name)?;
        devices.extend(device.filter(|device| vxlan::is_marked(device, &mark(network))));
    }
    Ok(devices)
}
