//! Whatever comes instead of an answer of AWS's: no panic, no hang, no wrong success, and the next run goes on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::{
    asked::is_open,
    crash::census,
    overview::{look_as, must_hold},
};
use crate::support::{
    agent::{EAST, WEST, begin, begin_misled, begin_the_others, lease, ledger, set_lost},
    aws::{Mangler, Way, pass, simulate},
    user::{Deed, State, User, change, configuration, errors},
};

/// What may come instead of an answer, although the status says that all is well.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Garbage {
    /// Nothing at all.
    Empty,
    /// A page of a proxy.
    Page,
    /// The first half.
    Half,
    /// Every text in it is empty.
    Hollow,
    /// Every status is one that nobody knows yet.
    Unknown,
    /// Every number is absurd.
    Absurd,
    /// One member is not there, the draw says which.
    Missing(usize),
    /// One text is a megabyte long.
    Huge(usize),
    /// One member of a list is there ten thousand times.
    Many(usize),
}

/// What things of AWS are said to be when all is well, each service in its own words.
const STATES: [&str; 16] = [
    "ACTIVE",
    "Active",
    "ENABLED",
    "Enabled",
    "INSYNC",
    "InSync",
    "OK",
    "Success",
    "Successful",
    "active",
    "applied",
    "available",
    "completed",
    "enabled",
    "in-sync",
    "replicating",
];

impl Garbage {
    /// All of them, drawn by a number where there is something to draw.
    fn all(draw: usize) -> [Self; 9] {
        [
            Self::Empty,
            Self::Page,
            Self::Half,
            Self::Hollow,
            Self::Unknown,
            Self::Absurd,
            Self::Missing(draw),
            Self::Huge(draw),
            Self::Many(draw),
        ]
    }

    fn of(self, body: &Bytes) -> Bytes {
        // What speaks CBOR has members as well; what cannot be read at all is no matter of members.
        let is_raw = matches!(self, Self::Empty | Self::Page | Self::Half);
        let is_cbor = body.first().is_some_and(|first| (0xa0..=0xbf).contains(first));
        if let (false, true, Some(tree)) = (is_raw, is_cbor, aws_sandbox::from_cbor(body)) {
            let changed = self.of(&Bytes::from(tree.to_string()));
            let changed: Json = serde_json::from_slice(&changed).expect("JSON stays JSON");
            return Bytes::from(aws_sandbox::to_cbor(&changed));
        }
        let text = String::from_utf8_lossy(body);
        let between = |inner: &dyn Fn(&str) -> String| {
            // The texts of XML are between tags, those of JSON behind colons.
            let xml = regex_lite::Regex::new(">([^<>]+)<").unwrap();
            let json = regex_lite::Regex::new("(:\\s*\")([^\"\\\\]*)\"").unwrap();
            let text = xml.replace_all(&text, |found: &regex_lite::Captures<'_>| {
                format!(">{}<", inner(&found[1]))
            });
            let text = json.replace_all(&text, |found: &regex_lite::Captures<'_>| {
                format!("{}{}\"", &found[1], inner(&found[2]))
            });
            Bytes::from(text.into_owned())
        };
        match self {
            Self::Empty => Bytes::new(),
            Self::Page => Bytes::from_static(b"<html><body>502 Bad Gateway</body></html>"),
            Self::Half => body.slice(..body.len() / 2),
            Self::Hollow => between(&|_| String::new()),
            Self::Unknown => between(&|text| {
                if STATES.contains(&text) { "frobnicating".into() } else { text.into() }
            }),
            Self::Absurd => {
                let texts = between(&|text| {
                    let is_number =
                        !text.is_empty() && text.bytes().all(|one| one.is_ascii_digit());
                    if is_number { "99999999999999999999".into() } else { text.into() }
                });
                let number = regex_lite::Regex::new("(:\\s*)[0-9]+([,}\\s])").unwrap();
                let text = String::from_utf8_lossy(&texts);
                Bytes::from(number.replace_all(&text, "${1}1e300${2}").into_owned())
            }
            Self::Missing(draw) if text.starts_with('<') => {
                let all = elements(&text);
                let gone = all.get(draw % all.len().max(1)).cloned().unwrap_or_default();
                Bytes::from([&text[..gone.start], &text[gone.end..]].concat())
            }
            Self::Missing(draw) => altered(&text, draw, |_| String::new()),
            Self::Huge(draw) => {
                altered(&text, draw, |leaf| leaf.replace(inner(leaf), &"x".repeat(1 << 20)))
            }
            Self::Many(draw) => altered(&text, draw, |leaf| leaf.repeat(10_000)),
        }
    }
}

/// Where the elements of XML are, structures and lists as well as texts; all but the outermost.
fn elements(text: &str) -> Vec<std::ops::Range<usize>> {
    let (mut open, mut all) = (Vec::new(), Vec::new());
    for (start, _) in text.match_indices('<') {
        let end = text[start..].find('>').map_or(text.len(), |at| start + at + 1);
        let tag = &text[start..end];
        if tag.starts_with("</") {
            let began = open.pop().unwrap_or(start);
            all.push(began..end);
        } else if tag.ends_with("/>") {
            all.push(start..end);
        } else if !tag.starts_with("<?") {
            open.push(start);
        }
    }
    all.pop();
    all
}

/// What is between an element's tags.
fn inner(leaf: &str) -> &str {
    let start = leaf.find('>').map_or(0, |at| at + 1);
    &leaf[start..leaf.rfind("</").unwrap_or(leaf.len()).max(start)]
}

/// Changes one of an answer's members: an element of XML that holds a text, or of JSON any member, whose value then
/// stands for the element's.
fn altered(text: &str, draw: usize, change: impl Fn(&str) -> String) -> Bytes {
    if let Ok(mut json) = serde_json::from_str::<Json>(text) {
        let mut count = 0;
        members(&mut json, &mut |_, _| {
            count += 1;
            false
        });
        let (chosen, mut at) = (draw % count.max(1), 0);
        members(&mut json, &mut |value, is_listed| {
            at += 1;
            if at - 1 != chosen {
                return false;
            }
            let leaf = format!("<v>{}</v>", value.as_str().unwrap_or("1"));
            let new = change(&leaf);
            match (new.len(), is_listed) {
                (0, _) => return true,
                (length, true) if length > leaf.len() && new.starts_with(&leaf) => {
                    *value = Json::from(vec![value.clone(); 10_000]);
                }
                _ if value.is_string() => *value = inner(&new).into(),
                _ => {}
            }
            false
        });
        return Bytes::from(json.to_string());
    }
    let leaf = regex_lite::Regex::new("<[A-Za-z0-9]+>[^<>]+</[A-Za-z0-9]+>").unwrap();
    let all: Vec<_> = leaf.find_iter(text).map(|one| one.range()).collect();
    let Some(range) = all.get(draw % all.len().max(1)) else {
        return Bytes::from(text.to_owned());
    };
    let (before, after) = (&text[..range.start], &text[range.end..]);
    Bytes::from([before, &change(&text[range.clone()]), after].concat())
}

/// Visits each member of objects, and those of lists with whether they are; what is wanted gone is removed.
fn members(json: &mut Json, visit: &mut impl FnMut(&mut Json, bool) -> bool) {
    match json {
        Json::Object(all) => {
            let names: Vec<_> = all.keys().cloned().collect();
            for name in names {
                if visit(&mut all[&name], false) {
                    all.remove(&name);
                } else {
                    members(&mut all[&name], visit);
                }
            }
        }
        Json::Array(all) => {
            let mut at = 0;
            while at < all.len() {
                if visit(&mut all[at], true) {
                    all.remove(at);
                } else {
                    members(&mut all[at], visit);
                    at += 1;
                }
            }
        }
        _ => {}
    }
}

#[test]
fn whatever_aws_answers_a_refresh_nothing_breaks_and_nothing_is_forgotten() {
    simulate(async || {
        let (made, config) = User::with_cluster().await;
        let (world, state) = (made.sandbox.world(), made.state.clone());
        let mut calls = usize::MAX;
        let mut random = fastrand::Rng::with_seed(seed());
        for kind in 0..Garbage::all(0).len() {
            let mut at = 0;
            while at < calls {
                let garbage = Garbage::all(random.usize(..))[kind];
                let (mangler, count) = instead_of(at, garbage);
                let way = Way { mangler: Some(mangler), ..Way::default() };
                let sandbox = aws_sandbox::Sandbox::with_world(world.clone(), 1.0);
                let mut user = User::by(sandbox, way).await;
                user.state = state.clone();
                let refused = user.refresh().await.has_errors();
                let state = user.state.value.clone();
                let state = state.unwrap_or_else(|| panic!("{garbage:?} {at}: all is forgotten"));
                for holds_data in ["us-east-1/db-instance", "us-west-2/db-instance"] {
                    let is_there = !state.get("components").get(holds_data).is_null();
                    assert!(refused || is_there, "{garbage:?} {at}: {holds_data} is forgotten");
                }
                let planned = user.plan(&config).await;
                let anew = &planned.requires_replace;
                assert!(anew.is_empty(), "{garbage:?} {at}: made anew because of {anew:?}");
                calls = calls.min(count.load(Ordering::Relaxed));
                at += garbage.step();
            }
        }
    });
}

impl Garbage {
    /// In place of which answers it is tried: what cannot be read at all is treated the same everywhere.
    fn step(self) -> usize {
        match self {
            Self::Empty | Self::Page | Self::Half => 7,
            Self::Missing(_) => 2,
            Self::Huge(_) | Self::Many(_) => 6,
            _ => 3,
        }
    }
}

/// What draws.
fn seed() -> u64 {
    std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Garbage instead of one answer; how many there were is counted.
fn instead_of(at: usize, garbage: Garbage) -> (Mangler, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let mangler = move |body: Bytes| {
        let now = counted.fetch_add(1, Ordering::Relaxed);
        if now == at { garbage.of(&body) } else { body }
    };
    (Arc::new(mangler), count)
}

/// A world, what Terraform knows of it, and what is wanted.
struct Beginning {
    world: aws_sandbox::World,
    state: State,
    config: Json,
}

/// Does it with one answer that is garbage, and then once more with honest ones; how many answers there were, and what
/// there is in the end.
async fn with_garbage(
    deed: Deed,
    from: &Beginning,
    garbage: Garbage,
    at: usize,
) -> (usize, BTreeMap<String, usize>) {
    let told = format!("{deed:?}, {garbage:?} instead of answer {at}");
    let (mangler, count) = instead_of(at, garbage);
    let way = Way { mangler: Some(mangler), ..Way::default() };
    let sandbox = aws_sandbox::Sandbox::with_world(from.world.clone(), 1.0);
    let mut honest = User::of(sandbox.clone()).await;
    honest.state = from.state.clone();
    let mut user = User::by(sandbox, way).await;
    user.state = from.state.clone();
    let found = match deed {
        // What is wrong in a plan shows in it, and Terraform compares it with the one that it makes to apply it.
        Deed::Create | Deed::Update => {
            let planned = honest.plan(&from.config).await;
            user.apply_planned(&from.config, planned).await
        }
        Deed::Destroy => user.destroy().await,
    };
    let refused = found.has_errors();
    let mut honest = User::of(user.sandbox.clone()).await;
    honest.state = user.state.clone();
    honest.state.tainted = false;
    if deed == Deed::Destroy {
        assert!(
            refused || honest.state.value.is_none(),
            "{told}: a success, and something is left"
        );
        if honest.state.value.is_some() {
            let found = errors(&honest.destroy().await);
            assert!(found.is_empty(), "{told}: {found:#?}");
        }
        assert_eq!(honest.leftovers(), Vec::<String>::new(), "{told}");
    } else {
        if !refused {
            honest.must_be_unchanged(&from.config).await;
        }
        let found = errors(&honest.apply(&from.config).await);
        assert!(found.is_empty(), "{told}: {found:#?}");
        honest.must_be_unchanged(&from.config).await;
    }
    (count.load(Ordering::Relaxed), census(&honest.sandbox))
}

#[test]
fn whatever_aws_answers_a_run_the_next_one_brings_the_same_about() {
    let mut random = fastrand::Rng::with_seed(seed());
    simulate(async || {
        let new = User::new().await;
        let config = configuration(&new.sandbox);
        let create = Beginning {
            world: new.sandbox.world(),
            state: State::default(),
            config: config.clone(),
        };
        let (made, config) = User::with_cluster().await;
        let mut other = config.clone();
        change(&mut other);
        let of =
            |config| Beginning { world: made.sandbox.world(), state: made.state.clone(), config };
        for (deed, from, times) in [
            (Deed::Create, create, 3),
            (Deed::Update, of(other), 2),
            (Deed::Destroy, of(config), 2),
        ] {
            // None of them, to know how many there are.
            let (all, calm) = with_garbage(deed, &from, Garbage::Empty, usize::MAX).await;
            assert!(all > 200, "{deed:?}: {all} answers");
            // Of half an XML, the SDK takes what there is; that a transfer breaks off, HTTP tells.
            for kind in 0..Garbage::all(0).len() {
                for _ in 0..times {
                    let garbage = Garbage::all(random.usize(..))[kind];
                    if garbage == Garbage::Half {
                        continue;
                    }
                    let at = random.usize(..all);
                    let (_, found) = with_garbage(deed, &from, garbage, at).await;
                    assert_eq!(found, calm, "{deed:?}, {garbage:?} instead of answer {at}");
                }
            }
        }
    });
}

/// Garbage of one kind instead of one in so many answers, drawn.
fn now_and_then(seed: u64, one_in: u32, kind: usize) -> Mangler {
    let random = std::sync::Mutex::new(fastrand::Rng::with_seed(seed));
    Arc::new(move |body: Bytes| {
        let mut random = random.lock().unwrap();
        if random.u32(0..one_in) > 0 {
            return body;
        }
        Garbage::all(random.usize(..))[kind].of(&body)
    })
}

/// Half of all answers to the functions are garbage, of one kind after the other: a writer that writes stays the writer,
/// and whatever they noted meanwhile, one that is lost afterwards is failed over.
#[test]
fn whatever_aws_answers_the_functions_nothing_breaks_down_and_no_writer_is_replaced() {
    simulate(async || {
        let (made, _) = User::with_cluster().await;
        let world = made.sandbox.world();
        for kind in 0..Garbage::all(0).len() {
            let sandbox = aws_sandbox::Sandbox::with_world(world.clone(), 1.0);
            begin(&sandbox);
            pass(200).await;
            let told = format!("{:?}", Garbage::all(0)[kind]);
            let broken = begin_misled(&sandbox, &now_and_then(seed(), 2, kind));
            pass(300).await;
            assert_eq!(broken.load(Ordering::Relaxed), 0, "{told}: functions broke down");
            let promotions = sandbox.calls();
            let promotions = promotions.iter().filter(|one| one.operation == "PromoteReadReplica");
            assert_eq!(promotions.count(), 0, "{told}");
            begin_the_others(&sandbox);
            pass(300).await;
            assert_eq!(ledger(&sandbox, WEST)["phase"], "normal", "{told}");
            assert_eq!(lease(&sandbox)["holder"]["S"], EAST, "{told}");
            assert!(is_open(&sandbox, EAST), "{told}: the writer is open");
            set_lost(&sandbox, EAST, true);
            pass(300).await;
            assert_eq!(ledger(&sandbox, WEST)["phase"], "promoted", "{told}");
        }
    });
}

#[test]
fn whatever_aws_answers_the_data_source_it_reads_or_says_why_not() {
    simulate(async || {
        let (made, _) = User::with_cluster().await;
        let world = made.sandbox.world();
        let config = || json!({"environment_suffix": "prod"});
        let honest = must_hold(look_as(&Way::default(), &made.sandbox, config()).await);
        let mut random = fastrand::Rng::with_seed(seed());
        for kind in 0..Garbage::all(0).len() {
            let (mut at, mut calls) = (0, usize::MAX);
            while at < calls {
                let garbage = Garbage::all(random.usize(..))[kind];
                let (mangler, count) = instead_of(at, garbage);
                let way = Way { mangler: Some(mangler), ..Way::default() };
                let sandbox = aws_sandbox::Sandbox::with_world(world.clone(), 1.0);
                let found = look_as(&way, &sandbox, config()).await;
                // Of what it reads in spite of it, one thing may be wrong, and never which cluster it is.
                if !found.diagnostics.has_errors() {
                    let seen = found.state.expect("a state");
                    assert_eq!(seen.get("id"), honest.get("id"), "{garbage:?} {at}");
                }
                calls = calls.min(count.load(Ordering::Relaxed));
                at += garbage.step();
            }
        }
    });
}

/// A mangler that does nothing would find nothing.
#[test]
fn each_kind_of_garbage_changes_answers_of_each_form() {
    let xml =
        "<?xml version=\"1.0\"?><R><Endpoint><Port>5432</Port></Endpoint><S>available</S></R>";
    let json = json!({"State": "Active", "Endpoint": {"Port": 5432}});
    let cbor = aws_sandbox::to_cbor(&json!({"StateValue": "OK", "Period": 60}));
    for body in [xml.as_bytes().to_vec(), json.to_string().into_bytes(), cbor] {
        let body = Bytes::from(body);
        for kind in Garbage::all(0) {
            assert_ne!(kind.of(&body), body, "{kind:?} {body:?}");
        }
    }
    let gone: Vec<_> = (0..3)
        .map(|draw| Garbage::Missing(draw).of(&Bytes::from_static(xml.as_bytes())))
        .map(|body| String::from_utf8(body.to_vec()).unwrap())
        .collect();
    assert!(gone.iter().any(|one| !one.contains("Endpoint") && one.contains("<S>")), "{gone:#?}");
}
