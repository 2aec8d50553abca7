//! A road to the S3 server on which a request, or its answer, can be held for ever: that is how a test is there at the
//! very moment when a process has sent something and does not know yet what became of it.

use std::io::{Read, Write, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::weather::{Mishap, Weather};

/// Where a request is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The server never hears of it.
    Request,
    /// The server has done it, and nobody hears of that.
    Answer,
    /// Not at all: something between us and the server answers in its place, with this status.
    Refused(u16),
}

/// Which request is held, once.
#[derive(Clone, Debug)]
pub struct Trap {
    pub hold: Hold,
    pub method: &'static str,
    /// A part of its path and query.
    pub part: &'static str,
    /// Which of those that fit, from 1.
    pub nth: usize,
}

/// Requests that never pass: something between us and the server answers in its place, with this status.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub method: &'static str,
    /// A part of its path and query.
    pub part: &'static str,
    pub status: u16,
}

/// A proxy that understands just enough of HTTP: it lets one request pass on each connection.
pub struct Proxy {
    port: u16,
    road: Arc<Road>,
}

#[derive(Default)]
struct Road {
    state: Mutex<State>,
    moved: Condvar,
    /// Held by whoever's bytes are on the slow road.
    gate: Mutex<()>,
}

#[derive(Default)]
struct State {
    trap: Option<Trap>,
    refusal: Option<Refusal>,
    /// How many bytes a second get through to the server, of all connections together.
    bytes_a_second: Option<u32>,
    is_sprung: bool,
    /// Counts the traps that were taken away; whoever is held in an older one is let go.
    freed: u64,
    /// Every request that arrived: method, path and query.
    seen: Vec<String>,
    /// The same with all their headers, in lower case.
    heads: Vec<String>,
    /// A header, in lower case, that the server never hears of.
    hidden: Option<&'static str>,
    weather: Option<Weather>,
}

impl Proxy {
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, road) = (listener.local_addr().unwrap().port(), Arc::new(Road::default()));
        let on_the_road = Arc::clone(&road);
        // Ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, road) = (client.unwrap(), Arc::clone(&on_the_road));
                thread::spawn(move || drop(road.pass(client, server)));
            }
        });
        Self { port, road }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn set(&self, trap: Trap) {
        let mut state = self.road.lock();
        state.trap = Some(trap);
        state.is_sprung = false;
    }

    /// Refuses whatever fits, from now on.
    pub fn refuse(&self, refusal: Refusal) {
        self.road.lock().refusal = Some(refusal);
    }

    /// How many bytes a second get through to the server from now on; `None` for any number.
    pub fn slow_down(&self, bytes_a_second: Option<u32>) {
        self.road.lock().bytes_a_second = bytes_a_second;
    }

    /// Whether the trap holds something, looked at for at most so long.
    pub fn is_sprung_within(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut state = self.road.lock();
        while !state.is_sprung {
            let Some(left) = end.checked_duration_since(Instant::now()) else { return false };
            state = self.road.moved.wait_timeout(state, left).unwrap().0;
        }
        true
    }

    /// Takes the trap away. What it held is lost: its connection ends without a word.
    pub fn free(&self) {
        let mut state = self.road.lock();
        state.trap = None;
        state.is_sprung = false;
        state.freed += 1;
        self.road.moved.notify_all();
    }

    /// From now on the server never hears of this header, written in lower case: it is one that does not know it.
    pub fn hide(&self, header: &'static str) {
        self.road.lock().hidden = Some(header);
    }

    /// From now on there is weather. What happens depends on the seed and on the order in which requests come.
    pub fn set_weather(&self, weather: Weather) {
        self.road.lock().weather = Some(weather);
    }

    /// Makes the weather better or worse: something happens to so many requests of a hundred.
    pub fn turn_weather(&self, percent: usize) {
        self.road.lock().weather.as_mut().unwrap().turn(percent);
    }

    /// To how many requests something happened.
    pub fn mishaps(&self) -> usize {
        self.road.lock().weather.as_ref().map_or(0, Weather::happened)
    }

    /// The requests so far with their headers, each a text of lines in lower case.
    pub fn heads(&self) -> Vec<String> {
        self.road.lock().heads.clone()
    }

    /// What arrived so far, and forgets it.
    pub fn take_seen(&self) -> Vec<String> {
        std::mem::take(&mut self.road.lock().seen)
    }
}

impl Road {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn pass(self: &Arc<Self>, mut client: TcpStream, server: u16) -> std::io::Result<()> {
        let (head, rest) = read_head(&mut client)?;
        self.lock().heads.push(head.to_ascii_lowercase());
        let mut lines = head.lines();
        let request = lines.next().unwrap_or_default().to_owned();
        let hold = self.arrive(&request);
        match hold {
            Some(Hold::Request) => {
                self.wait_for_freedom();
                return Ok(());
            }
            Some(Hold::Refused(status)) => return client.write_all(refusal(status).as_bytes()),
            Some(Hold::Answer) | None => {}
        }
        let mishap = self.lock().weather.as_mut().and_then(Weather::next);
        match mishap {
            Some(Mishap::Lost) => return Ok(()),
            Some(Mishap::Refused(status)) => return client.write_all(refusal(status).as_bytes()),
            Some(Mishap::Late(delay)) => thread::sleep(delay),
            Some(Mishap::Unanswered | Mishap::DoneAndRefused(_) | Mishap::Twice | Mishap::Cut) | None => {}
        }
        // One request for each connection, so that every request comes by here.
        let hidden = self.lock().hidden;
        let kept = lines.filter(|line| {
            let line = line.to_ascii_lowercase();
            let name = line.split(':').next().unwrap_or_default();
            name != "connection" && Some(name) != hidden
        });
        let headers: String = kept.map(|line| format!("{line}\r\n")).collect();
        let request = format!("{request}\r\nConnection: close\r\n{headers}\r\n");
        match mishap {
            Some(mishap @ (Mishap::Unanswered | Mishap::DoneAndRefused(_) | Mishap::Twice | Mishap::Cut)) => {
                let body = read_body(&mut client, &request, rest)?;
                let exchange = || exchange(server, &request, &body);
                client.write_all(&answer_after(mishap, exchange)?)?;
                let _ = client.shutdown(Shutdown::Both);
                return Ok(());
            }
            Some(Mishap::Late(_) | Mishap::Lost | Mishap::Refused(_)) | None => {}
        }
        let mut server = TcpStream::connect(("127.0.0.1", server))?;
        server.write_all(request.as_bytes())?;
        server.write_all(&rest)?;
        let (from_client, to_server, road) = (client.try_clone()?, server.try_clone()?, Arc::clone(self));
        thread::spawn(move || drop(road.carry(from_client, to_server)));
        let passed = if hold == Some(Hold::Answer) {
            let read = server.read_to_end(&mut Vec::new());
            self.spring();
            self.wait_for_freedom();
            read.map(drop)
        } else {
            copy(&mut server, &mut client).map(drop)
        };
        let _ = client.shutdown(Shutdown::Both);
        passed
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) -> std::io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = from.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            let rate = self.lock().bytes_a_second;
            if let Some(rate) = rate {
                let _turn = self.gate.lock().unwrap();
                thread::sleep(Duration::from_secs_f64(count as f64 / f64::from(rate)));
            }
            to.write_all(&buffer[..count])?;
        }
    }

    /// Writes the request down, and says whether it is to be held.
    fn arrive(&self, request: &str) -> Option<Hold> {
        let mut state = self.lock();
        let (method, path) = request.split_once(' ').unwrap_or_default();
        state.seen.push(format!("{method} {}", path.trim_end_matches(" HTTP/1.1")));
        if let Some(Refusal { method: theirs, part, status }) = state.refusal
            && method.contains(theirs)
            && path.contains(part)
        {
            return Some(Hold::Refused(status));
        }
        let trap = state.trap.as_mut()?;
        if !(method.contains(trap.method) && path.contains(trap.part)) {
            return None;
        }
        trap.nth = trap.nth.saturating_sub(1);
        let hold = (trap.nth == 0).then_some(trap.hold)?;
        state.trap = None;
        drop(state);
        if hold != Hold::Answer {
            self.spring();
        }
        Some(hold)
    }

    fn spring(&self) {
        self.lock().is_sprung = true;
        self.moved.notify_all();
    }

    fn wait_for_freedom(&self) {
        let mut state = self.lock();
        let held_since = state.freed;
        while state.freed == held_since {
            state = self.moved.wait(state).unwrap();
        }
    }
}

/// What the client hears when this happens to a request that is carried out.
fn answer_after(mishap: Mishap, exchange: impl Fn() -> std::io::Result<Vec<u8>>) -> std::io::Result<Vec<u8>> {
    let mut answer = exchange()?;
    Ok(match mishap {
        Mishap::DoneAndRefused(status) => refusal(status).into_bytes(),
        Mishap::Twice => exchange()?,
        Mishap::Cut => {
            answer.truncate(answer.len() * 2 / 3);
            answer
        }
        Mishap::Unanswered | Mishap::Late(_) | Mishap::Lost | Mishap::Refused(_) => Vec::new(),
    })
}

/// One request with all its body, and the whole answer.
fn exchange(server: u16, request: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(("127.0.0.1", server))?;
    server.write_all(request.as_bytes())?;
    server.write_all(body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(answer)
}

/// All of a request's body, of which `begun` came with its head.
fn read_body(client: &mut TcpStream, request: &str, begun: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let header = |name: &str| {
        let of_line = |line: &str| Some(line.split_once(':')?.1.trim().to_owned());
        request.lines().find(|line| line.to_ascii_lowercase().starts_with(name)).and_then(of_line)
    };
    let len = header("content-length:").map_or(0, |len| len.parse().unwrap());
    if header("expect:").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = begun;
    let missing = len - body.len() as u64;
    client.take(missing).read_to_end(&mut body)?;
    Ok(body)
}

/// An answer that no S3 server gave.
fn refusal(status: u16) -> String {
    let page = "<html>it is not you, it is us</html>";
    format!("HTTP/1.1 {status} No\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{page}", page.len())
}

/// The lines of a request up to the empty one, and what came with them of its body.
fn read_head(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            bytes.truncate(end);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        match client.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}
