//! `model-lo`: sets `lo` up.

use libcni::{
    About, Attachment, AttachmentId, CniResult, Configuration, Error, Interface, IpConfig, Kind, Plugin, Request,
};

use crate::tools::{fault, link, sh_in};

pub struct Model;

#[derive(Configuration)]
pub struct Config {}

impl Plugin for Model {
    type Config = Config;
    const ABOUT: About = About { name: "model-lo", version: "1", summary: "lo", example: "{}" };
    const KIND: Kind = Kind::Interface;

    fn add(request: &Request, _: Config, attachment: &Attachment) -> Result<CniResult, Error> {
        sh_in(attachment.netns()?, if fault("does-nothing") { "true" } else { "ip link set lo up" })?;
        let mut result = request.config.prev_result()?.unwrap_or_default();
        let index = result.interfaces.len();
        let mac = "00:00:00:00:00:00".to_owned();
        result.interfaces.push(Interface {
            name: "lo".to_owned(),
            mac,
            sandbox: attachment.sandbox(),
            ..Interface::default()
        });
        let address = "127.0.0.1/8".parse().map_err(|error| Error::config("lo", "127.0.0.1/8", error))?;
        result.ips.push(IpConfig { address, gateway: None, interface: Some(index) });
        Ok(result)
    }

    fn check(_: &Request, _: Config, attachment: &Attachment) -> Result<(), Error> {
        let link = link(Some(attachment.netns()?), "lo")?;
        let up = link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP"));
        if up || fault("does-nothing") { Ok(()) } else { Err(Error::check("lo is down")) }
    }

    fn del(_: &Request, attachment: &Attachment) -> Result<(), Error> {
        if let (Ok(netns), false) = (attachment.netns(), fault("leaves-lo-up")) {
            let _ = sh_in(netns, "ip link set lo down");
        }
        Ok(())
    }

    fn gc(_: &Request, _: &[AttachmentId]) -> Result<(), Error> {
        Ok(())
    }

    fn status(_: &Request, _: Config) -> Result<(), Error> {
        Ok(())
    }
}
