//! What goes on between two Pods while something happens to others: a packet a millisecond, none of which may get lost,
//! and a TCP connection, which may not break.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use conformance::network::Running;

use crate::Shown;

/// A packet that did not come back by then was lost: no machine is that slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pods that talk until somebody asks whether all went well.
pub struct Meanwhile {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    talks: Vec<(String, JoinHandle<std::io::Result<()>>)>,
}

impl Shown {
    /// Lets these Pods, by their numbers, talk to each other, pair by pair, in every family.
    #[track_caller]
    pub fn talking(&self, pairs: &[(usize, usize)]) -> Meanwhile {
        let mut meanwhile = Meanwhile { stop: Arc::default(), rounds: Arc::default(), talks: Vec::new() };
        for (from, to) in pairs {
            for ipv4 in self.families() {
                meanwhile.talk(&self.name, &self.pods[*from], &self.pods[*to], ipv4);
            }
        }
        meanwhile.wait_for_rounds();
        meanwhile
    }
}

impl Meanwhile {
    fn talk(&mut self, network: &str, from: &Running, to: &Running, ipv4: bool) {
        let (source, address) = (from.address(ipv4).unwrap(), to.address(ipv4).unwrap());
        let server = to.netns().inside(|| UdpSocket::bind((address, 0)).unwrap());
        let client = from.netns().inside(|| UdpSocket::bind((source, 0)).unwrap());
        from.netns().inside(|| client.connect(server.local_addr().unwrap()).unwrap());
        let listener = to.netns().listen(address);
        let stream = from.netns().connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();

        let stop = self.stop.clone();
        std::thread::spawn(move || echo_packets(&server, &stop));
        std::thread::spawn(move || echo_stream(accepted));
        let (stop, rounds) = (self.stop.clone(), self.rounds.clone());
        let talking = std::thread::spawn(move || ask(&client, stream, &stop, &rounds));
        self.talks.push((format!("{network}: {source} to {address}"), talking));
    }

    /// Until each pair was heard about twice more, or failed.
    fn wait_for_rounds(&self) {
        let enough = self.rounds.load(Ordering::SeqCst) + 2 * self.talks.len() as u64;
        while self.rounds.load(Ordering::SeqCst) < enough && !self.talks.iter().any(|(_, talk)| talk.is_finished()) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Nothing was lost, and nothing broke, until now.
    #[track_caller]
    pub fn went_on(self) {
        self.wait_for_rounds();
        self.stop.store(true, Ordering::SeqCst);
        for (who, talk) in self.talks {
            talk.join().unwrap().unwrap_or_else(|error| panic!("{who}, while something happened to others: {error}"));
        }
    }
}

fn ask(client: &UdpSocket, mut stream: TcpStream, stop: &AtomicBool, rounds: &AtomicU64) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    for round in 0u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let mut answer = [0; 8];
        client.send(&round.to_be_bytes()).map_err(|error| told("send a packet", round, &error))?;
        client.recv(&mut answer).map_err(|error| told("get a packet back", round, &error))?;
        assert_eq!(u64::from_be_bytes(answer), round);
        stream.write_all(&round.to_be_bytes()).map_err(|error| told("write to the stream", round, &error))?;
        stream.read_exact(&mut answer).map_err(|error| told("read from the stream", round, &error))?;
        assert_eq!(u64::from_be_bytes(answer), round);
        rounds.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn told(what: &str, round: u64, error: &std::io::Error) -> std::io::Error {
    std::io::Error::other(format!("{what}, round {round}: {error}"))
}

fn echo_packets(server: &UdpSocket, stop: &AtomicBool) {
    let _ = server.set_read_timeout(Some(Duration::from_millis(100)));
    let mut packet = [0; 8];
    while !stop.load(Ordering::SeqCst) {
        if let Ok((size, from)) = server.recv_from(&mut packet) {
            let _ = server.send_to(&packet[..size], from);
        }
    }
}

fn echo_stream(mut stream: TcpStream) {
    let mut block = [0; 8];
    while stream.read_exact(&mut block).is_ok() && stream.write_all(&block).is_ok() {}
}
