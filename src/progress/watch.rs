//! Showing a run to whoever watches it: a tree that is drawn again and again on a terminal, a line per event elsewhere.

use std::{
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Run, State, file_name,
    run::{Item, duration},
};

/// How often the file is read again.
const OFTEN: Duration = Duration::from_millis(500);
/// Draws from the upper left corner, over what was there.
const HOME: &str = "\x1b[H\x1b[J";

/// What to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Of which cluster; of the one that was last written about, if not said.
    pub suffix: Option<String>,
    /// Once, as it is now.
    pub once: bool,
    /// Also what is done and what waits.
    pub all: bool,
}

/// How it is used.
pub const USAGE: &str = "\
Usage: terraform-provider-trading watch [--once] [--all] [SUFFIX]

Shows what an apply or a destroy is doing, from the folder where Terraform runs: what is under way in both regions,
for how long, how long that usually takes, and which chain of changes the end waits for. It waits for a run to begin,
and ends with it: 0 if the run has reached its end, 1 if it has not or nothing is heard of it for a minute, 2 if there
is nothing to show. Where the output is no terminal, it is a line per event.

  SUFFIX   of which cluster; the one whose run was last heard of, if not said
  --once   shows the last run as it is now, and ends
  --all    shows also what is done and what waits for others

It reads trading-dr-SUFFIX.jsonl in .terraform, or in the folder that TF_DATA_DIR names.
";

impl Options {
    /// From the arguments after `watch`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        for one in arguments {
            match one.as_str() {
                "--once" => options.once = true,
                "--all" => options.all = true,
                flag if flag.starts_with('-') => return Err(format!("there is no option {flag}")),
                suffix if options.suffix.is_none() => options.suffix = Some(suffix.to_owned()),
                more => return Err(format!("{more} is one argument too many")),
            }
        }
        Ok(options)
    }
}

/// Terraform's own folder, where the files are.
pub fn folder() -> PathBuf {
    let named = std::env::var_os("TF_DATA_DIR").filter(|one| !one.is_empty());
    named.map_or_else(|| PathBuf::from(".terraform"), PathBuf::from)
}

/// The file to read.
fn file(folder: &Path, options: &Options) -> Option<PathBuf> {
    if let Some(suffix) = &options.suffix {
        return Some(folder.join(file_name(suffix))).filter(|path| path.exists());
    }
    let all = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let ours = all.filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("trading-dr-") && name.ends_with(".jsonl")
    });
    ours.max_by_key(|path| path.metadata().and_then(|one| one.modified()).unwrap_or(UNIX_EPOCH))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Shows runs until the one that is under way, or the next one, ends. Whether it has reached its end.
///
/// # Errors
/// There is nothing to show, or nobody to show it to.
pub fn watch(options: &Options, folder: &Path) -> io::Result<bool> {
    let mut out = io::stdout();
    let mut reader = Reader::default();
    if options.once {
        let run = reader.read(file(folder, options)).ok_or_else(|| {
            let text = format!("no run has written to {} yet", folder.display());
            io::Error::new(io::ErrorKind::NotFound, text)
        })?;
        out.write_all(run.tree(now(), options.all).as_bytes())?;
        return Ok(run.ended == Some(true));
    }
    // A run that has ended is over: the next one is waited for.
    let over = reader.read(file(folder, options));
    let over = over.filter(|run| run.ended.is_some() || run.is_silent(now()));
    let over = over.map(|run| run.id().to_owned());
    let drawn = out.is_terminal();
    if !drawn {
        writeln!(out, "waiting for a run in {}", folder.display())?;
    }
    let mut told = Told::default();
    // That of the run that is shown: another cluster of the same folder may be written about meanwhile.
    let mut shown: Option<PathBuf> = None;
    loop {
        let path = shown.clone().or_else(|| file(folder, options));
        let run = reader.read(path.clone()).filter(|run| over.as_deref() != Some(run.id()));
        if run.is_some() {
            shown = path;
        }
        match &run {
            None if drawn => {
                writeln!(out, "{HOME}waiting for a run in {}", folder.display())?;
            }
            None => {}
            Some(run) if drawn => write!(out, "{HOME}{}", run.tree(now(), options.all))?,
            Some(run) => told.tell(&mut out, run)?,
        }
        out.flush()?;
        match run {
            Some(run) if run.ended.is_some() || run.is_silent(now()) => {
                return Ok(run.ended == Some(true));
            }
            _ => {}
        }
        std::thread::sleep(OFTEN);
    }
}

/// Reads a file again where it has grown.
#[derive(Debug, Default)]
struct Reader {
    of: Option<(PathBuf, u64)>,
    run: Option<Run>,
}

impl Reader {
    fn read(&mut self, path: Option<PathBuf>) -> Option<Run> {
        let path = path?;
        let of = (path.clone(), path.metadata().map_or(0, |one| one.len()));
        if self.of.as_ref() != Some(&of) {
            let bytes = std::fs::read(path).ok()?;
            self.run = Run::last(&String::from_utf8_lossy(&bytes));
            self.of = Some(of);
        }
        self.run.clone()
    }
}

/// What was told of a run, where each thing is told once.
#[derive(Debug, Default)]
struct Told {
    run: Option<Run>,
    is_silent: bool,
}

impl Told {
    fn tell(&mut self, out: &mut impl Write, run: &Run) -> io::Result<()> {
        let now = now();
        let before = self.run.take().filter(|one| one.id() == run.id());
        // When it begins, and when it is known what it will do.
        if before.as_ref().is_none_or(|one| one.items.is_empty() && !run.items.is_empty()) {
            writeln!(out, "{}", run.summary(now))?;
        }
        let ended = before.as_ref().and_then(|one| one.ended);
        let known = before.map(|one| one.items).unwrap_or_default();
        for (address, item) in &run.items {
            let known = known.get(address).map_or(&State::Waiting, |one| &one.state);
            if *known != item.state
                && let Some(text) = line(item)
            {
                writeln!(out, "[{:>7}] {address}: {text}", duration(run.elapsed(now)))?;
            }
        }
        if run.is_silent(now) != self.is_silent || run.ended != ended {
            self.is_silent = run.is_silent(now);
            writeln!(out, "{}", run.summary(now))?;
        }
        self.run = Some(run.clone());
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss)]
fn line(item: &Item) -> Option<String> {
    let (doing, about) = (&item.planned.doing, item.planned.expected as f64);
    match &item.state {
        State::Waiting => None,
        State::Running(_) => Some(format!("{doing} begins, usually {}", duration(about))),
        State::Done(seconds) => Some(format!("{doing} done after {}", duration(*seconds))),
        State::Failed(why) => {
            Some(format!("{doing} failed: {}", why.lines().next().unwrap_or_default()))
        }
        State::Left => Some(format!("{doing} goes on in AWS")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_taken_in_any_order_and_nothing_else() {
        let parse = |text: &str| {
            Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        let all = Options { suffix: Some("prod".into()), once: true, all: true };
        assert_eq!(parse("--all prod --once"), Ok(all));
        assert_eq!(parse(""), Ok(Options::default()));
        assert_eq!(parse("--twice"), Err("there is no option --twice".into()));
        assert_eq!(parse("one two"), Err("two is one argument too many".into()));
    }

    #[test]
    fn without_a_suffix_the_last_file_counts_and_others_are_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let any = Options::default();
        assert_eq!(file(folder.path(), &any), None);
        let write = |name: &str, at: u64| {
            let path = folder.path().join(name);
            let file = std::fs::File::create(&path).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(at)).unwrap();
            path
        };
        let old = write("trading-dr-old.jsonl", 1);
        let new = write("trading-dr-new.jsonl", 2);
        write("terraform.tfstate", 3);
        write("trading-dr-new.jsonl.old", 4);
        assert_eq!(file(folder.path(), &any), Some(new));
        let named = Options { suffix: Some("old".into()), ..any };
        assert_eq!(file(folder.path(), &named), Some(old));
        let nobody = Options { suffix: Some("nobody".into()), ..named };
        assert_eq!(file(folder.path(), &nobody), None);
    }
}
