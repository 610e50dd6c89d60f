//! A process that opens connections to a port as fast as it can, and says nothing, or nonsense.

use std::{
    collections::{BTreeSet, VecDeque},
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// How many connections it keeps open: more than a plugin lets shake hands at once.
const KEPT: usize = 600;
/// How long it waits for one: a port that is flooded takes no more for a while.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long until it looks for ports again when there is none.
const NO_PORT: Duration = Duration::from_millis(5);

/// Goes on until it is dropped.
pub struct Flood {
    stop: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Floods the ports that `find` names, which it is asked for again and again.
    pub fn start(mut find: impl FnMut() -> Vec<SocketAddr> + Send + 'static) -> Self {
        room_for_descriptors();
        let (stop, opened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&opened));
        let thread = std::thread::spawn(move || {
            let mut kept = VecDeque::new();
            while !stopped.load(Ordering::Relaxed) {
                let ports = find();
                for round in 0..100 {
                    for port in &ports {
                        let Ok(mut socket) = TcpStream::connect_timeout(port, PATIENCE) else {
                            break;
                        };
                        if round % 4 == 0 {
                            let _ = socket.write_all(b"GET / HTTP/1.1\r\n\r\n");
                        }
                        count.fetch_add(1, Ordering::Relaxed);
                        kept.push_back(socket);
                    }
                    while kept.len() > KEPT {
                        kept.pop_front();
                    }
                }
                if ports.is_empty() {
                    std::thread::sleep(NO_PORT);
                }
            }
        });
        Self { stop, opened, thread: Some(thread) }
    }

    /// How many connections it has opened.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Lets this process open as many files as it may: all tests share it, and often it begins with 1024.
fn room_for_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Where the plugins listen that somebody has started in a folder.
pub fn plugins_in(folder: &Path) -> Vec<SocketAddr> {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut sockets = BTreeSet::new();
    for process in entries(Path::new("/proc")).map(|one| one.path()) {
        let is_plugin = std::fs::read_link(process.join("exe"))
            .is_ok_and(|exe| exe.ends_with("terraform-provider-trading"));
        let is_there = std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == folder);
        if is_plugin && is_there {
            let open = entries(&process.join("fd")).filter_map(|one| one.path().read_link().ok());
            let name = |link: PathBuf| link.to_str().map(str::to_owned);
            sockets.extend(open.filter_map(name));
        }
    }
    // Local address, state (0A listens) and inode are the second, fourth and tenth word of a line.
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = lines.filter(|words| {
        words.len() > 9 && words[3] == "0A" && sockets.contains(&format!("socket:[{}]", words[9]))
    });
    let port = |words: Vec<&str>| u16::from_str_radix(words[1].rsplit(':').next()?, 16).ok();
    listening.filter_map(port).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
}
