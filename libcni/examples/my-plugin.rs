//! The smallest plugin, as the book shows it: it passes the previous result on.

use libcni::{About, Attachment, AttachmentId, CniResult, Configuration, Error, Kind, Plugin, Request};

struct MyPlugin;

/// Each field is a key, and its comment is what `--help` says about it.
#[derive(Configuration)]
struct Config {
    /// Text that the plugin logs at each ADD.
    greeting: String,
}

impl Plugin for MyPlugin {
    type Config = Config;
    const KIND: Kind = Kind::Interface;
    const ABOUT: About = About {
        name: "my-plugin",
        version: env!("CARGO_PKG_VERSION"),
        summary: "passes the previous result on",
        example: r#"{"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "bridge"}, {"type": "my-plugin"}]}"#,
    };

    fn add(request: &Request, config: Config, pod: &Attachment) -> Result<CniResult, Error> {
        eprintln!("{} {}", config.greeting, pod.id);
        request.config.required_prev_result()
    }

    fn check(request: &Request, _: Config, _: &Attachment) -> Result<(), Error> {
        request.config.required_prev_result().map(drop)
    }

    fn del(_: &Request, _: &Attachment) -> Result<(), Error> {
        Ok(())
    }

    fn gc(_: &Request, _: &[AttachmentId]) -> Result<(), Error> {
        Ok(())
    }

    fn status(_: &Request, _: Config) -> Result<(), Error> {
        Ok(())
    }
}

fn main() -> std::process::ExitCode {
    libcni::plugin::main::<MyPlugin>()
}
