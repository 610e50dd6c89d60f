//! Whatever comes instead of an answer of AWS's: no panic, no hang, no wrong success, and the next run goes on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use serde_json::Value as Json;

use super::crash::census;
use crate::support::{
    aws::{Mangler, Way, simulate},
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
}

impl Garbage {
    const ALL: [Self; 6] =
        [Self::Empty, Self::Page, Self::Half, Self::Hollow, Self::Unknown, Self::Absurd];

    fn of(self, body: &Bytes) -> Bytes {
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
                let states =
                    ["available", "active", "in-sync", "Enabled", "ACTIVE", "OK", "replicating"];
                if states.contains(&text) { "frobnicating".into() } else { text.into() }
            }),
            Self::Absurd => between(&|text| {
                let is_number = !text.is_empty() && text.bytes().all(|one| one.is_ascii_digit());
                if is_number { "99999999999999999999".into() } else { text.into() }
            }),
        }
    }
}

#[test]
fn whatever_aws_answers_a_refresh_nothing_breaks_and_nothing_is_forgotten() {
    simulate(async || {
        let (made, config) = User::with_cluster().await;
        let (world, state) = (made.sandbox.world(), made.state.clone());
        let mut calls = usize::MAX;
        for garbage in Garbage::ALL {
            let mut at = 0;
            while at < calls {
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
                at += if is_unreadable(garbage) { 7 } else { 3 };
            }
        }
    });
}

/// What cannot be read at all is treated the same everywhere: a sample will do.
fn is_unreadable(garbage: Garbage) -> bool {
    matches!(garbage, Garbage::Empty | Garbage::Page | Garbage::Half)
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
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut random = fastrand::Rng::with_seed(seed);
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
            let all_but_half = Garbage::ALL.into_iter().filter(|one| *one != Garbage::Half);
            for garbage in all_but_half {
                for _ in 0..times {
                    let at = random.usize(..all);
                    let (_, found) = with_garbage(deed, &from, garbage, at).await;
                    assert_eq!(found, calm, "{deed:?}, {garbage:?} instead of answer {at}");
                }
            }
        }
    });
}
