//! The only program in the tests' container image.
//!
//! `pod` waits for ever (a sandbox's first process). `pod serve PORT` answers each TCP connection with one line,
//! `from ADDRESS`: where it came from. `pod get ADDRESS:PORT` connects and prints that line.
//! `pod addresses` prints its own.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", port] => serve(port.parse().expect("a port")),
        ["get", address] => get(address.parse().expect("ADDRESS:PORT")),
        ["addresses"] => addresses(),
        _ => loop {
            std::thread::park();
        },
    }
}

fn serve(port: u16) -> std::io::Result<()> {
    // IPv4 too, unless the kernel's bindv6only says otherwise; without IPv6, IPv4 alone.
    let listener =
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
    for connection in listener.incoming() {
        let mut connection = connection?;
        let peer = connection.peer_addr()?.ip().to_canonical();
        let _ = writeln!(connection, "from {peer}");
    }
    Ok(())
}

fn get(address: SocketAddr) -> std::io::Result<()> {
    let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    print!("{answer}");
    Ok(())
}

fn addresses() -> std::io::Result<()> {
    // What the kernel holds for local: lines of "|-- ADDRESS" before "/32 host LOCAL".
    print!("{}", std::fs::read_to_string("/proc/net/fib_trie")?);
    Ok(())
}
